//! What the registry admits, ingest takes: every writer's type against every contract's, plain and nested.
#![allow(clippy::unwrap_used)]

use arrow_array::RecordBatch;
use serde_json::{Value, json};

use crate::pipeline::decode::avro::{SchemaId, Schemas};
use crate::pipeline::fixtures::{chunk, contract, outcome, plan};
use crate::pipeline::transform::transform;

/// A writer's type and a value of it in Avro.
struct Written {
    ty: Value,
    bytes: Vec<u8>,
}

fn written(ty: Value, bytes: &[u8]) -> Written {
    Written { ty, bytes: bytes.to_vec() }
}

fn logical(base: &str, logical: &str) -> Value {
    json!({"type": base, "logicalType": logical})
}

fn fixed(size: usize, logical: Value) -> Value {
    let mut ty = json!({"type": "fixed", "name": format!("f{size}"), "size": size});
    if !logical.is_null() {
        ty["logicalType"] = logical;
    }
    ty
}

fn plain() -> Vec<Written> {
    let uuid = [&[0x48][..], b"6f9619ff-8b86-d011-b42d-00c04fc964ff"].concat();
    let decimal = |base: Value, precision: u8, scale: u8| {
        let mut ty = if base.is_string() { json!({"type": base}) } else { base };
        ty["logicalType"] = json!("decimal");
        ty["precision"] = json!(precision);
        ty["scale"] = json!(scale);
        ty
    };
    vec![
        written(json!("null"), &[]),
        written(json!("boolean"), &[1]),
        written(json!("int"), &[2]),
        written(json!("long"), &[2]),
        written(json!("float"), &1.5_f32.to_le_bytes()),
        written(json!("double"), &1.5_f64.to_le_bytes()),
        written(json!("bytes"), &[4, 1, 2]),
        written(json!("string"), &[2, b'a']),
        written(json!({"type": "string"}), &[2, b'a']),
        written(json!({"type": {"type": "string"}}), &[2, b'a']),
        written(json!({"type": "string", "avro.java.string": "String"}), &[2, b'a']),
        written(json!({"type": "enum", "name": "e", "symbols": ["A", "B"], "default": "A"}), &[2]),
        written(fixed(3, Value::Null), &[1, 2, 3]),
        written(fixed(16, Value::Null), &[7; 16]),
        written(logical("string", "uuid"), &uuid),
        written(fixed(16, json!("uuid")), &[7; 16]),
        written(fixed(12, json!("duration")), &[7; 12]),
        written(logical("int", "date"), &[2]),
        written(logical("int", "time-millis"), &[2]),
        written(logical("long", "time-micros"), &[2]),
        written(logical("long", "timestamp-millis"), &[2]),
        written(logical("long", "timestamp-micros"), &[2]),
        written(logical("long", "timestamp-nanos"), &[0]),
        written(logical("long", "local-timestamp-millis"), &[2]),
        written(logical("long", "local-timestamp-micros"), &[2]),
        written(logical("long", "local-timestamp-nanos"), &[0]),
        // A logical type on a base that is not its own, and ones that are not defined.
        written(logical("string", "date"), &[2, b'a']),
        written(logical("long", "date"), &[2]),
        written(logical("int", "timestamp-micros"), &[2]),
        written(logical("bytes", "uuid"), &[4, 1, 2]),
        written(logical("int", "arrow.int8"), &[2]),
        written(logical("long", "arrow.duration-nanos"), &[2]),
        written(logical("string", "json"), &[2, b'a']),
        written(decimal(json!("bytes"), 5, 2), &[2, 100]),
        written(decimal(json!("bytes"), 38, 10), &[2, 100]),
        written(decimal(json!("bytes"), 60, 2), &[2, 100]),
        written(decimal(fixed(3, Value::Null), 5, 2), &[0, 0, 100]),
        written(decimal(fixed(16, Value::Null), 38, 10), &[0; 16]),
        written(decimal(fixed(32, Value::Null), 5, 2), &[0; 32]),
        written(json!({"type": "record", "name": "r", "fields": []}), &[]),
    ]
}

/// The same within unions, arrays, maps and records.
fn nested(of: &Written) -> Vec<Written> {
    let with = |before: &[u8], after: &[u8]| [before, &of.bytes, after].concat();
    let ty = &of.ty;
    let null = *ty == json!("null");
    let mut nested = vec![
        Written { ty: ty.clone(), bytes: of.bytes.clone() },
        Written { ty: json!([ty]), bytes: with(&[0], &[]) },
        Written { ty: json!({"type": "map", "values": ty}), bytes: with(&[2, 2, b'k'], &[0]) },
        Written {
            ty: json!({"type": "record", "name": "x", "fields": [{"name": "x", "type": ty}]}),
            bytes: of.bytes.clone(),
        },
        Written {
            ty: json!({"type": "array", "logicalType": "map", "items": {"type": "record", "name": "kv", "fields": [
                {"name": "key", "type": "long"}, {"name": "value", "type": ty}]}}),
            bytes: with(&[2, 8], &[0]),
        },
    ];
    if !of.bytes.is_empty() {
        nested.push(Written { ty: json!({"type": "array", "items": ty}), bytes: with(&[2], &[0]) });
        nested.push(Written { ty: json!({"type": "array", "items": ["null", ty]}), bytes: with(&[2, 2], &[0]) });
    }
    if !null {
        nested.push(Written { ty: json!(["null", ty]), bytes: with(&[2], &[]) });
        nested.push(Written { ty: json!([ty, "null"]), bytes: with(&[0], &[]) });
        nested.push(Written { ty: json!(["null", ty, {"type": "array", "items": "int"}]), bytes: with(&[2], &[]) });
    }
    nested
}

const PLAIN: [&str; 15] = [
    "logicalType: boolean",
    "logicalType: integer",
    "logicalType: integer, logicalTypeOptions: {format: i32}",
    "logicalType: number",
    "logicalType: number, logicalTypeOptions: {format: f32}",
    "logicalType: number, physicalType: 'decimal(5,2)'",
    "logicalType: number, physicalType: 'decimal(38,10)'",
    "logicalType: date",
    "logicalType: time",
    "logicalType: timestamp",
    "logicalType: timestamp, logicalTypeOptions: {timezone: false}",
    "logicalType: string",
    "logicalType: string, physicalType: uuid",
    "logicalType: string, physicalType: binary",
    "logicalType: integer, logicalTypeOptions: {format: u64}",
];

fn columns() -> Vec<String> {
    let mut columns: Vec<String> = PLAIN.iter().map(|plain| (*plain).to_owned()).collect();
    for plain in PLAIN {
        columns.push(format!("logicalType: array, items: {{{plain}}}"));
        columns.push(format!("logicalType: map, map: {{key: {{logicalType: string}}, value: {{{plain}}}}}"));
        columns.push(format!("logicalType: map, map: {{key: {{logicalType: integer}}, value: {{{plain}}}}}"));
        columns.push(format!("logicalType: object, properties: [{{name: x, {plain}}}]"));
    }
    columns
}

#[test]
fn what_the_registry_admits_is_taken() {
    let mut admitted = 0;
    let mut pairs = 0;
    let mut problems = Vec::new();
    let written: Vec<Written> = plain().iter().flat_map(nested).collect();
    for column in columns() {
        let contract = contract("avro", &[&format!("{{name: v, {column}}}")], "");
        let plan = plan(&contract);
        for of in &written {
            pairs += 1;
            let schema =
                json!({"type": "record", "name": "thing", "fields": [{"name": "v", "type": of.ty}]}).to_string();
            // What is no schema to the registry is not registered.
            let Ok(verdict) = contract.covers(&schema) else { continue };
            if !verdict.covered {
                continue;
            }
            admitted += 1;
            let value = [&[0, 0, 0, 0, 1][..], &of.bytes].concat();
            let schemas = Schemas::from([(SchemaId(1), schema.as_str().into())]);
            let done = transform(&chunk(&[Some(value)]), &plan, &schemas).unwrap();
            let rows: usize = done.batches.iter().map(RecordBatch::num_rows).sum();
            if rows != 1 {
                let why: Vec<_> = done.refusals.iter().map(|(_, refusal)| refusal.clone()).collect();
                problems.push(format!("{} for {column}: {why:?}", of.ty));
            }
        }
    }
    assert!(admitted > 300, "{admitted} of {pairs} admitted");
    assert!(problems.is_empty(), "{} of {admitted}: {:#?}", problems.len(), &problems[..problems.len().min(30)]);
}

/// Through every container: the registry refuses it, and a record by it is a dead letter.
#[test]
fn a_schema_within_itself_is_refused_by_both() {
    let contract = contract("avro", &["{name: v, logicalType: integer}"], "");
    for own in [
        json!("thing"),
        json!(["null", "thing"]),
        json!({"type": "array", "items": "thing"}),
        json!({"type": "map", "values": "thing"}),
        json!({"type": "array", "items": ["null", "thing"]}),
        json!({"type": "map", "values": {"type": "array", "items": ["null", "thing"]}}),
        json!({"type": "record", "name": "inner", "fields": [{"name": "x", "type": {"type": "map", "values": "thing"}}]}),
    ] {
        let schema = json!({"type": "record", "name": "thing", "fields": [
            {"name": "v", "type": "long"}, {"name": "own", "type": own}]});
        let schema = schema.to_string();
        assert!(contract.covers(&schema).is_err(), "{schema}");
        let schemas = Schemas::from([(SchemaId(1), schema.as_str().into())]);
        let value = [&[0, 0, 0, 0, 1, 2][..], &[0; 40]].concat();
        let done = transform(&chunk(&[Some(value)]), &plan(&contract), &schemas).unwrap();
        assert_eq!(outcome(&done).1, ["0 uncovered-schema"], "{schema}");
    }
}
