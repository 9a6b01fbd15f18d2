//! Schemas by which a few bytes would take time or memory without end.
//!
//! In: a schema's text. Out: why nothing is decoded by it, if so. An array begins with the number of its items: items that take no
//! bytes may be any number. A null takes the room of the `fixed` that it stands for. A type that is named twice stands
//! there twice.
//! Must never happen: a record that its own length does not bound, or a schema refused that producers do write.

use std::collections::HashMap;

use serde_json::Value;

/// Bytes of a record's `fixed`s that may be null, together.
const IN_A_RECORD: u64 = 16 << 10;
/// The same in an item of an array or a map.
const IN_AN_ITEM: u64 = 64;
/// Columns that a schema may come to, nested ones included.
const COLUMNS: u64 = 10_000;

/// What values of a type cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// They take no bytes at all.
    free: bool,
    /// Bytes of `fixed`, what arrays and maps hold aside.
    fixed: u64,
    /// Those of them that may be null.
    nullable: u64,
    columns: u64,
}

/// Why a schema is not decoded by; nothing if it is sound.
pub(super) fn refused(schema: &str) -> Option<String> {
    // What is no JSON is the decoder's to refuse.
    let schema = serde_json::from_str::<Value>(schema).ok()?;
    let cost = match Walk::default().of(&schema) {
        Ok(cost) => cost,
        Err(why) => return Some(why),
    };
    match cost {
        Cost { columns, .. } if columns > COLUMNS => Some(format!("it has {columns} columns, {COLUMNS} are the most")),
        Cost { nullable, .. } if nullable > IN_A_RECORD => {
            Some(format!("it has {nullable} bytes of `fixed` that may be null, {IN_A_RECORD} are the most"))
        }
        _ => None,
    }
}

/// Named types by their last name: of those that share it, the dearest counts.
#[derive(Default)]
struct Walk {
    named: HashMap<String, Cost>,
}

impl Walk {
    fn of(&mut self, schema: &Value) -> Result<Cost, String> {
        match schema {
            Value::String(name) => Ok(self.by_name(name)),
            Value::Array(branches) => self.union(branches),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, schema),
                Some(nested) => self.of(nested),
                None => Ok(Cost::default()),
            },
            _ => Ok(Cost::default()),
        }
    }

    fn by_name(&self, name: &str) -> Cost {
        let known = self.named.get(last(name)).copied();
        known.unwrap_or(Cost { free: name == "null", columns: 1, ..Cost::default() })
    }

    /// A union has a byte of its own for the branch that follows.
    fn union(&mut self, branches: &[Value]) -> Result<Cost, String> {
        let sum = self.sum(branches)?;
        let null = branches.iter().any(|branch| branch == "null");
        Ok(Cost { free: false, nullable: if null { sum.fixed } else { sum.nullable }, ..sum })
    }

    fn complex(&mut self, kind: &str, schema: &Value) -> Result<Cost, String> {
        let part = |name: &str| schema.get(name).unwrap_or(&Value::Null);
        let cost = match kind {
            "record" | "error" => self.sum(part("fields").as_array().into_iter().flatten())?,
            "fixed" => {
                let fixed = part("size").as_u64().unwrap_or(u64::MAX);
                Cost { free: fixed == 0, fixed, nullable: 0, columns: 1 }
            }
            "array" => self.items(part("items"), true)?,
            "map" => self.items(part("values"), false)?,
            name => return Ok(self.by_name(name)),
        };
        if let Some(name) = schema.get("name").and_then(Value::as_str) {
            let known = self.named.entry(last(name).to_owned()).or_insert(cost);
            *known = Cost {
                free: known.free || cost.free,
                fixed: known.fixed.max(cost.fixed),
                nullable: known.nullable.max(cost.nullable),
                columns: known.columns.max(cost.columns),
            };
        }
        Ok(cost)
    }

    /// Fields of a record, or branches of a union: what they cost together.
    fn sum<'a>(&mut self, parts: impl IntoIterator<Item = &'a Value>) -> Result<Cost, String> {
        let mut sum = Cost { free: true, columns: 1, ..Cost::default() };
        for part in parts {
            let cost = self.of(part)?;
            sum = Cost {
                free: sum.free && cost.free,
                fixed: sum.fixed.saturating_add(cost.fixed),
                nullable: sum.nullable.saturating_add(cost.nullable),
                columns: sum.columns.saturating_add(cost.columns),
            };
        }
        Ok(sum)
    }

    /// Of a map each item has a key, so it takes at least a byte.
    fn items(&mut self, schema: &Value, may_be_free: bool) -> Result<Cost, String> {
        let item = self.of(schema)?;
        if may_be_free && item.free {
            return Err("it has an array whose items take no bytes".to_owned());
        }
        if item.nullable > IN_AN_ITEM {
            let found = item.nullable;
            return Err(format!("items have {found} bytes of `fixed` that may be null, {IN_AN_ITEM} are the most"));
        }
        Ok(Cost { columns: item.columns.saturating_add(1), ..Cost::default() })
    }
}

/// A name without its namespace.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(field: &Value, expected: Option<&str>) {
        let schema = json!({"type": "record", "name": "r", "fields": [{"name": "v", "type": field}]});
        let found = refused(&schema.to_string());
        match expected {
            Some(part) => assert!(found.as_ref().is_some_and(|why| why.contains(part)), "{field}: {found:?}"),
            None => assert_eq!(found, None, "{field}"),
        }
    }

    #[test]
    fn items_take_bytes() {
        let expected = Some("take no bytes");
        let array = |items: Value| json!({"type": "array", "items": items});
        check(&array(json!("null")), expected);
        check(&array(json!({"type": "null"})), expected);
        check(&array(json!({"type": "record", "name": "e", "fields": []})), expected);
        check(&array(json!({"type": "record", "name": "e", "fields": [{"name": "n", "type": "null"}]})), expected);
        check(&array(json!({"type": "fixed", "name": "f", "size": 0})), expected);
        check(&json!({"type": "map", "values": array(json!("null"))}), expected);
        check(&array(json!(["null", "long"])), None);
        check(&array(array(json!("string"))), None);
        check(&json!({"type": "map", "values": "null"}), None);
        // By name, defined beside.
        let record = json!({"type": "record", "name": "a.b.Empty", "fields": []});
        check(
            &json!({"type": "record", "name": "two", "fields": [
                {"name": "one", "type": record}, {"name": "many", "type": {"type": "array", "items": "Empty"}},
            ]}),
            expected,
        );
    }

    #[test]
    fn a_null_is_small() {
        let fixed = |size: u64| json!({"type": "fixed", "name": format!("f{size}"), "size": size});
        check(&json!(["null", fixed(1_000_000_000)]), Some("may be null"));
        check(
            &json!(["null", {"type": "record", "name": "n", "fields": [{"name": "f", "type": fixed(20_000)}]}]),
            Some("may be null"),
        );
        check(&json!({"type": "array", "items": ["null", fixed(65)]}), Some("items have 65 bytes"));
        check(&json!({"type": "array", "items": ["null", fixed(64)]}), None);
        check(&json!(["null", fixed(1024)]), None);
        check(&fixed(1_000_000), None);
        check(&json!({"type": "array", "items": fixed(1000)}), None);
    }

    #[test]
    fn names_do_not_multiply() {
        let mut deep = json!("long");
        for level in 0..40 {
            let again = if level == 0 { json!("long") } else { json!(format!("r{}", level - 1)) };
            deep = json!({"type": "record", "name": format!("r{level}"), "fields": [
                {"name": "a", "type": deep}, {"name": "b", "type": again},
            ]});
        }
        check(&deep, Some("columns"));
    }
}
