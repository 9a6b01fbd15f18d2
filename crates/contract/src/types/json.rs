//! Types in JSON: how a record's fields are written.
//!
//! | Type | JSON | Note |
//! |---|---|---|
//! | boolean, int, long, float, double | true/false, number | numbers in strings are read as well |
//! | decimal | number or string | a string keeps every digit |
//! | date | `"2013-01-31"` | |
//! | time | `"23:59:59.123456"` | |
//! | timestamptz | `"2013-01-31T12:00:00Z"` | any offset, kept in UTC |
//! | timestamp | `"2013-01-31T12:00:00"` | |
//! | string, uuid | string | |
//! | binary | base64 string | |
//! | object, array, map | object, array, object with string keys | other keys: their text, or a list of `{"key": …, "value": …}` |

use serde_json::{Value, json};

use crate::types::{Field, Type};

/// A JSON schema of records with these fields: what a producer of JSON can check against.
pub fn schema(fields: &[Field]) -> Value {
    let mut schema = object(fields);
    if let Some(map) = schema.as_object_mut() {
        map.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    }
    schema
}

fn object(fields: &[Field]) -> Value {
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|field| (field.name.clone(), of_field(field))).collect();
    let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn of_field(field: &Field) -> Value {
    let mut schema = of_type(&field.ty);
    if let (false, Some(map)) = (field.required, schema.as_object_mut())
        && let Some(ty) = map.get("type").cloned()
    {
        let mut types = ty.as_array().cloned().unwrap_or_else(|| vec![ty]);
        types.push(json!("null"));
        map.insert("type".to_owned(), Value::Array(types));
    }
    schema
}

fn of_type(ty: &Type) -> Value {
    match ty {
        Type::Boolean => json!({"type": "boolean"}),
        Type::Int => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        Type::Long => json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}),
        Type::Float | Type::Double => json!({"type": "number"}),
        Type::Decimal { .. } => json!({"type": ["number", "string"]}),
        Type::Date => json!({"type": "string", "format": "date"}),
        Type::Time => json!({"type": "string", "format": "time"}),
        Type::Timestamp | Type::TimestampTz => json!({"type": "string", "format": "date-time"}),
        Type::String => json!({"type": "string"}),
        Type::Uuid => json!({"type": "string", "format": "uuid"}),
        Type::Binary => json!({"type": "string", "contentEncoding": "base64"}),
        Type::Struct(fields) => object(fields),
        Type::List(element) => json!({"type": "array", "items": of_field(element)}),
        Type::Map(key, value) if key.ty == Type::String => {
            json!({"type": "object", "additionalProperties": of_field(value)})
        }
        Type::Map(key, value) => json!({"type": "array", "items": object(&[(**key).clone(), (**value).clone()])}),
    }
}
