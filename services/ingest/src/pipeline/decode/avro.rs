//! Avro in the registry's framing: `00`, the schema's id in four bytes, one record.
//!
//! In: values and the registered schemas. Out: per schema id a batch in the writer's own Arrow types.
//! Must never happen: values decoded by another schema than the one they name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use mesh_proto::registry::FRAME;
pub use mesh_proto::registry::{SchemaId, schema_id};

use crate::pipeline::decode::{Decoded, DecodedRows, RowDecoder, Value, decode_all, guarded};
use crate::pipeline::refusal::{Reason, Refusal, Refusals};

mod claims;
mod logical;

/// The schemas that a batch needs, by id.
pub type Schemas = BTreeMap<SchemaId, Arc<str>>;

/// Decodes values, each by the schema it names. Rows come grouped by schema id, in their records' order.
pub fn decode(values: &[Value<'_>], schemas: &Schemas, refusals: &mut Refusals) -> Vec<(SchemaId, Vec<DecodedRows>)> {
    let mut by_schema: BTreeMap<SchemaId, Vec<Value<'_>>> = BTreeMap::new();
    for (record, value) in values {
        match schema_id(value) {
            Some(id) => by_schema.entry(id).or_default().push((*record, value)),
            None => refusals.add(*record, no_frame(value)),
        }
    }
    let mut decoded = Vec::with_capacity(by_schema.len());
    for (id, values) in by_schema {
        let Some(text) = schemas.get(&id) else {
            values.iter().for_each(|(record, _)| refusals.add(*record, unknown(id)));
            continue;
        };
        let mut rows = Vec::new();
        match guarded(|| store(id, text)) {
            Ok(store) => decode_all(&values, &|count| Message::new(store.clone(), count), &mut rows, refusals),
            Err(refusal) => values.iter().for_each(|(record, _)| refusals.add(*record, refusal.clone())),
        }
        decoded.push((id, rows));
    }
    decoded
}

fn store(id: SchemaId, text: &str) -> Result<SchemaStore, Refusal> {
    if let Some(why) = claims::refused(text) {
        return Err(unusable(id, &why));
    }
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let schema = logical::as_read(text).map_err(|error| unusable(id, &error))?;
    store.set(Fingerprint::Id(id.0), AvroSchema::new(schema)).map_err(|error| unusable(id, &error))?;
    Message::new(store.clone(), 1)?;
    Ok(store)
}

fn unusable(id: SchemaId, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::whole(Reason::UncoveredSchema, format!("schema {id} cannot be read as columns: {error}"))
}

fn unknown(id: SchemaId) -> Refusal {
    Refusal::whole(Reason::UnknownSchema, format!("no schema has the id {id}; register it with the publisher first"))
}

fn no_frame(value: &[u8]) -> Refusal {
    let found = match value.first() {
        None => "an empty value".to_owned(),
        Some(0) => format!("{} bytes", value.len()),
        Some(first) => format!("a first byte of {first:#04x}"),
    };
    Refusal::whole(
        Reason::Framing,
        format!("expected the registry's framing (byte 00, a schema id of 4 bytes, one record), found {found}"),
    )
}

/// arrow-avro's decoder, held to one row per message.
struct Message {
    decoder: Decoder,
    count: usize,
}

impl Message {
    fn new(store: SchemaStore, count: usize) -> Result<Self, Refusal> {
        // Room for one row more than is coming: a message with two records must show.
        let builder = ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(count + 1);
        let decoder =
            builder.build_decoder().map_err(|error| Refusal::whole(Reason::UncoveredSchema, error.to_string()))?;
        Ok(Self { decoder, count: 0 })
    }
}

impl RowDecoder for Message {
    fn push(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let undecodable = |message: String| Refusal::whole(Reason::Undecodable, message);
        let before = self.decoder.capacity();
        let read = self.decoder.decode(value).map_err(|error| undecodable(error.to_string()))?;
        let rows = before.saturating_sub(self.decoder.capacity());
        match (read == value.len(), rows) {
            (true, 1) => {
                self.count += 1;
                Ok(())
            }
            (true, 0) => Err(undecodable("the value ends within its record".into())),
            (true, rows) => Err(undecodable(format!("the value holds {rows} records, not one"))),
            (false, 0) => Err(undecodable(format!(
                "the value ends within its record: {} of {} bytes could be read",
                read.max(FRAME.min(value.len())),
                value.len()
            ))),
            (false, _) => Err(undecodable(format!("{} bytes follow the record", value.len() - read))),
        }
    }

    fn finish(mut self) -> Result<Decoded, Refusal> {
        let undecodable = |message: String| Refusal::whole(Reason::Undecodable, message);
        let batch = self.decoder.flush().map_err(|error| undecodable(error.to_string()))?;
        let batch = batch.ok_or_else(|| undecodable(format!("{} messages gave no rows", self.count)))?;
        Ok(Decoded { batch, bad: Vec::new() })
    }
}
