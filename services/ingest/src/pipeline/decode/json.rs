//! JSON: one object per value.
//!
//! In: values and the contract's columns. Out: batches in wire types, which keep what JSON says exactly enough for
//! the next stage to see a cut: integers as decimals with 18 places, moments and bytes as their text.
//! Must never happen: a value that arrow-json rounds or cuts unseen (it reads 3.7 into an integer column as 3).

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use mesh_contract::model::Column;
use mesh_contract::types::{self, Type};

use crate::pipeline::decode::{DecodedRows, RowDecoder, Value, decode_all};
use crate::pipeline::refusal::{Reason, Refusal, Refusals};

mod exact;

/// Places of an integer on the wire: with 19 digits before them they fit a 128-bit decimal.
const GUARD: i8 = 18;

/// What JSON values are decoded into.
#[derive(Debug, Clone)]
pub struct Wire {
    schema: SchemaRef,
    closed: bool,
}

impl Wire {
    /// The wire types of a contract's columns, by the names that records use. A closed contract refuses other names.
    pub fn new(columns: &[Column], closed: bool) -> Self {
        let fields: Vec<Field> = columns.iter().map(|column| wire_field(&column.original, column)).collect();
        Self { schema: Arc::new(Schema::new(fields)), closed }
    }
}

/// Decodes values.
pub fn decode(values: &[Value<'_>], wire: &Wire, refusals: &mut Refusals) -> Vec<DecodedRows> {
    let mut rows = Vec::new();
    decode_all(values, &|count| Object::new(wire, count), &mut rows, refusals);
    rows
}

fn wire_field(name: &str, column: &Column) -> Field {
    Field::new(name, wire_type(&column.ty, &column.children), true)
}

fn wire_type(ty: &Type, children: &[Column]) -> DataType {
    let child = |at: usize, name: &str, field: &types::Field| match children.get(at) {
        Some(column) => wire_field(name, column),
        None => Field::new(name, wire_type(&field.ty, &[]), true),
    };
    match ty {
        Type::Boolean => DataType::Boolean,
        Type::Int | Type::Long => DataType::Decimal128(38, GUARD),
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        // Every digit that 256 bits have room for: what is cut then can be seen.
        Type::Decimal { precision, scale } => DataType::Decimal256(76, (76 - precision + scale).cast_signed()),
        Type::Date | Type::Time | Type::Timestamp | Type::TimestampTz | Type::String | Type::Uuid | Type::Binary => {
            DataType::Utf8
        }
        Type::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .enumerate()
                .map(|(at, field)| child(at, children.get(at).map_or(&field.name, |c| &c.original), field))
                .collect(),
        ),
        Type::List(element) => DataType::List(Arc::new(child(0, "element", element))),
        Type::Map(_, value) => {
            let value = child(1, "value", value);
            let entries = DataType::Struct(vec![Field::new("key", DataType::Utf8, false), value].into());
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
    }
}

/// arrow-json's decoder, held to one row per message.
struct Object {
    decoder: Decoder,
    fields: Fields,
    rows: usize,
}

impl Object {
    fn new(wire: &Wire, count: usize) -> Result<Self, Refusal> {
        // Room for one row more than is coming: a message with two objects must show.
        let builder = ReaderBuilder::new(wire.schema.clone()).with_batch_size(count + 1).with_strict_mode(wire.closed);
        let decoder = builder.build_decoder().map_err(|error| undecodable(error.to_string()))?;
        Ok(Self { decoder, fields: wire.schema.fields().clone(), rows: 0 })
    }
}

impl RowDecoder for Object {
    fn push(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let text = std::str::from_utf8(value).map_err(|error| undecodable(error.to_string()))?;
        exact::check(text, &self.fields)?;
        let read = self.decoder.decode(value).map_err(|error| undecodable(strip(&error.to_string()).to_owned()))?;
        if self.decoder.has_partial_record() {
            return Err(undecodable("the value ends within its object".into()));
        }
        match self.decoder.len() - self.rows {
            1 if read == value.len() => {
                self.rows += 1;
                Ok(())
            }
            0 => Err(undecodable("the value is empty".into())),
            _ => Err(undecodable("the value holds more than one object".into())),
        }
    }

    fn finish(mut self) -> Result<RecordBatch, Refusal> {
        let batch = self.decoder.flush().map_err(|error| explain(&error.to_string()))?;
        batch.ok_or_else(|| undecodable("no object".into()))
    }
}

fn undecodable(message: String) -> Refusal {
    Refusal::whole(Reason::Undecodable, message)
}

/// arrow-json's message as reason, place and text: `Json error: whilst decoding field 'a': expected …`.
fn explain(message: &str) -> Refusal {
    const FIELD: &str = "whilst decoding field '";
    let mut rest = strip(message);
    let mut place: Vec<&str> = Vec::new();
    while let Some((name, after)) = rest.strip_prefix(FIELD).and_then(|tail| tail.split_once("': ")) {
        place.push(name);
        rest = strip(after);
    }
    if let Some(name) = rest.strip_prefix("column '").and_then(|tail| tail.strip_suffix("' missing from schema")) {
        place.push(name);
        return Refusal::at(Reason::UnknownField, place.join("."), "the contract is closed and has no such field");
    }
    let reason = match () {
        () if rest.contains("overflow") => Reason::Overflow,
        () if place.is_empty() => Reason::Undecodable,
        () => Reason::Type,
    };
    Refusal::at(reason, place.join("."), rest)
}

fn strip(message: &str) -> &str {
    message.trim_start_matches("Json error: ").trim_start_matches("Parser error: ")
}
