//! Contracts, plans and records for the tests of the stages.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use apache_avro::writer::datum::GenericDatumWriter;
use mesh_contract::{ProductContract, ValueFormat};
use serde_json::Value;

use crate::pipeline::check::Checks;
use crate::pipeline::decode::avro::{SchemaId, Schemas};
use crate::pipeline::decode::json::Wire;
use crate::pipeline::plan::{RecordFormat, TablePlan};
use crate::pipeline::resolve::TargetColumn;
use crate::pipeline::source_batch::SourceBatch;
use crate::pipeline::transform::{Transformed, transform};

/// A contract with these properties, one line of YAML each.
pub(crate) fn contract(format: &str, properties: &[&str], extra: &str) -> ProductContract {
    let properties: String = properties.iter().map(|property| format!("      - {property}\n")).collect();
    let text = format!(
        "apiVersion: v3.2.0\nkind: DataContract\nid: urn:test\nversion: 1.0.0\nstatus: active\ndomain: testing\n\
         dataProduct: things\nservers:\n  - {{server: mesh, type: kafka, host: 'mesh:9092', format: {format}}}\n\
         schema:\n  - name: things\n    physicalName: testing.things.v1\n    physicalType: topic\n    logicalType: object\n\
         {extra}    properties:\n{properties}"
    );
    ProductContract::parse("test.yaml", &text).unwrap()
}

/// The plan of a contract, on the table that it would have.
pub(crate) fn plan(contract: &ProductContract) -> TablePlan {
    let arrow = contract.arrow_schema();
    TablePlan {
        product: contract.product().to_string(),
        table: contract.table().to_string(),
        topic: contract.topic().to_owned(),
        revision: 7,
        format: match contract.value_format() {
            ValueFormat::Avro => RecordFormat::Avro,
            ValueFormat::Json => RecordFormat::Json(Wire::new(contract.columns(), contract.is_closed())),
        },
        target: TargetColumn::new(arrow.fields().iter()),
        checks: Checks::compile(&contract.hard_constraints()).unwrap(),
        event_time: contract.event_time_column().map(str::to_owned),
        closed: contract.is_closed(),
        commit_interval: None,
        from_earliest: false,
    }
}

/// Values as records of partition 0, offsets from 0.
pub(crate) fn chunk(values: &[Option<Vec<u8>>]) -> SourceBatch {
    let mut source = SourceBatch::default();
    for (offset, value) in (0i64..).zip(values) {
        source.add((0, offset, 1_000 + offset), Some(b"key"), value.as_deref(), [("h", Some(b"v".as_slice()))]);
    }
    source
}

/// JSON as Avro's generic value; numbers are longs or doubles.
fn avro(json: &Value) -> apache_avro::types::Value {
    use apache_avro::types::Value as Avro;
    match json {
        Value::Null => Avro::Null,
        Value::Bool(v) => Avro::Boolean(*v),
        Value::Number(v) => v.as_i64().map_or_else(|| Avro::Double(v.as_f64().unwrap()), Avro::Long),
        Value::String(v) => Avro::String(v.clone()),
        Value::Array(v) => Avro::Array(v.iter().map(avro).collect()),
        Value::Object(v) => Avro::Record(v.iter().map(|(name, v)| (name.clone(), avro(v))).collect()),
    }
}

/// A value in the registry's framing.
pub(crate) fn framed(id: u32, schema: &Value, record: &Value) -> Vec<u8> {
    let schema = apache_avro::Schema::parse(schema).unwrap();
    let value = avro(record).resolve(&schema).unwrap();
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    bytes.extend(writer.write_value_to_vec(value).unwrap());
    bytes
}

/// Schemas by id.
pub(crate) fn schemas(known: &[(u32, &Value)]) -> Schemas {
    known.iter().map(|(id, schema)| (SchemaId(*id), Arc::from(schema.to_string()))).collect()
}

/// What becomes of JSON values: the rows of the contract's columns as JSON, the refusals as `index reason place`.
pub(crate) fn json_outcome(contract: &ProductContract, values: &[&str]) -> (Vec<Value>, Vec<String>) {
    let values: Vec<Option<Vec<u8>>> = values.iter().map(|value| Some(value.as_bytes().to_vec())).collect();
    outcome(&transform(&chunk(&values), &plan(contract), &Schemas::new()).unwrap())
}

/// Rows without `_mesh`, refusals.
pub(crate) fn outcome(done: &Transformed) -> (Vec<Value>, Vec<String>) {
    let mut rows = Vec::new();
    for batch in &done.batches {
        let mut writer = arrow_json::ArrayWriter::new(Vec::new());
        let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
        writer.write(&batch.project(&columns).unwrap()).unwrap();
        writer.finish().unwrap();
        let batch: Vec<Value> = serde_json::from_slice(&writer.into_inner()).unwrap();
        rows.extend(batch);
    }
    let refusals = done.refusals.iter();
    let refusals =
        refusals.map(|(at, refusal)| format!("{at} {} {}", refusal.reason, refusal.place).trim_end().to_owned());
    (rows, refusals.collect())
}
