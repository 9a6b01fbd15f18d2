//! Types in Avro: what producers write.
//! A record's Avro schema is a function of the contract alone, so that every producer registers the same text.

use serde::Serialize;
use serde_json::{Value, json};

use crate::types::{Field, Type, TypeError, avro_cover, avro_parse};

/// Whether a contract covers a writer's schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AvroVerdict {
    /// Every record of the schema can be decoded into the contract's columns.
    pub covered: bool,
    /// Why not, one line each, with the field's path.
    pub problems: Vec<String>,
    /// Fields that the schema has and the contract lacks (by path): dropped, and one incident per schema id.
    pub unknown: Vec<String>,
}

/// Whether a name can be a field's or record's in Avro.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A record schema. Optional fields are unions with null first and default null. `namespace` and `name` must be Avro names.
pub fn schema(namespace: &str, name: &str, fields: &[Field]) -> Value {
    let mut record = record(name, fields);
    if let Some(object) = record.as_object_mut() {
        object.insert("namespace".to_owned(), json!(namespace));
    }
    record
}

fn record(name: &str, fields: &[Field]) -> Value {
    let fields: Vec<Value> = fields.iter().map(|f| field(f, name)).collect();
    json!({"type": "record", "name": name, "fields": fields})
}

fn field(field: &Field, owner: &str) -> Value {
    let mut json = json!({"name": field.name, "type": of_field(field, &format!("{owner}_{}", field.name))});
    if let Some(object) = json.as_object_mut() {
        if let Some(doc) = &field.doc {
            object.insert("doc".to_owned(), json!(doc));
        }
        if !field.required {
            object.insert("default".to_owned(), Value::Null);
        }
    }
    json
}

/// Names of nested records are the path to them, so that none is given twice.
fn of_field(field: &Field, name: &str) -> Value {
    let ty = of_type(&field.ty, name);
    if field.required { ty } else { json!(["null", ty]) }
}

fn of_type(ty: &Type, name: &str) -> Value {
    match ty {
        Type::Boolean => json!("boolean"),
        Type::Int => json!("int"),
        Type::Long => json!("long"),
        Type::Float => json!("float"),
        Type::Double => json!("double"),
        Type::Decimal { precision, scale } => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        Type::Date => json!({"type": "int", "logicalType": "date"}),
        Type::Time => json!({"type": "long", "logicalType": "time-micros"}),
        Type::Timestamp => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        Type::TimestampTz => json!({"type": "long", "logicalType": "timestamp-micros"}),
        Type::String => json!("string"),
        Type::Uuid => json!({"type": "string", "logicalType": "uuid"}),
        Type::Binary => json!("bytes"),
        Type::Struct(fields) => record(name, fields),
        Type::List(element) => json!({"type": "array", "items": of_field(element, &format!("{name}_element"))}),
        Type::Map(key, value) if key.ty == Type::String => {
            json!({"type": "map", "values": of_field(value, &format!("{name}_value"))})
        }
        // Iceberg's convention for maps whose keys are not strings.
        Type::Map(key, value) => {
            let entry = record(&format!("{name}_entry"), &[(**key).clone(), (**value).clone()]);
            json!({"type": "array", "logicalType": "map", "items": entry})
        }
    }
}

/// The fields of an Avro record schema in the type table. Enums read as strings, fixed as binary.
pub fn fields(schema: &str) -> Result<Vec<Field>, TypeError> {
    match avro_parse::parse(schema)? {
        avro_parse::Avro::Record(fields) => fields.iter().map(|f| avro_cover::to_field(f, "")).collect(),
        _ => Err(TypeError::Avro { path: String::new(), reason: "the schema is not a record".to_owned() }),
    }
}

/// Whether every record of a writer's schema can be decoded into these fields. Names must be the fields' own.
pub fn covers(fields: &[Field], writer: &str) -> Result<AvroVerdict, TypeError> {
    avro_cover::covers(fields, &avro_parse::parse(writer)?)
}
