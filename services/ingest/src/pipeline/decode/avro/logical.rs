//! The logical types that are read as such.
//!
//! In: a schema's text. Out: the same schema without the logical types that the columns take by their base: a `uuid` of text
//! is text until its column says otherwise, a `duration` is its twelve bytes. arrow-avro 58.4 would make types of them
//! that no column of a contract has, and types of its own of `arrow.*`.
//! Never: another encoding than the writer's.

use serde_json::{Map, Value};

/// Logical types that arrow-avro reads as the contract's types.
const READ: [&str; 10] = [
    "decimal",
    "date",
    "time-millis",
    "time-micros",
    "timestamp-millis",
    "timestamp-micros",
    "timestamp-nanos",
    "local-timestamp-millis",
    "local-timestamp-micros",
    "local-timestamp-nanos",
];

/// The schema to decode by.
pub(super) fn as_read(schema: &str) -> Result<String, serde_json::Error> {
    let mut schema: Value = serde_json::from_str(schema)?;
    strip(&mut schema);
    Ok(schema.to_string())
}

fn strip(schema: &mut Value) {
    // A type within a type of its own: `{"type": {"type": "string"}}`, which arrow-avro does not read.
    while let Some(inner) = schema.get_mut("type").filter(|inner| !inner.is_string()) {
        *schema = inner.take();
    }
    match schema {
        Value::Array(branches) => branches.iter_mut().for_each(strip),
        Value::Object(object) => strip_object(object),
        _ => {}
    }
}

fn strip_object(object: &mut Map<String, Value>) {
    let logical = object.get("logicalType").and_then(Value::as_str);
    if logical.is_some_and(|logical| !READ.contains(&logical)) {
        object.remove("logicalType");
    }
    for part in ["items", "values"] {
        object.get_mut(part).into_iter().for_each(strip);
    }
    for field in object.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
        field.get_mut("type").into_iter().for_each(strip);
    }
}
