//! Types in Iceberg: our own enum over Iceberg's schema JSON (format v2), with field ids.
//! Ids are given once: a field keeps its id by path for ever, a dropped field's id is never given again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::types::{Field, Type, TypeError};

/// An Iceberg schema: fields and the id of each (nested) field by path (`a.b`, `a.element`, `m.key`, `m.value`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcebergSchema {
    /// The table's columns.
    pub fields: Vec<Field>,
    /// Field ids by path.
    pub ids: BTreeMap<String, i32>,
    /// Highest id ever given in this table: new ids go on from here.
    pub last_column_id: i32,
    /// Ids of the identifier fields (primary key), required columns only.
    pub identifier_field_ids: Vec<i32>,
}

/// A path one step deeper.
pub(crate) fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The fields directly inside a type: an object's, an array's element, a map's key and value.
fn inner(ty: &Type) -> Vec<&Field> {
    match ty {
        Type::Struct(fields) => fields.iter().collect(),
        Type::List(element) => vec![element],
        Type::Map(key, value) => vec![key, value],
        _ => Vec::new(),
    }
}

impl IcebergSchema {
    /// Gives ids: kept from `previous` by path, new ones after `previous.last_column_id`; a level at a time, as Iceberg does.
    pub fn assign(fields: Vec<Field>, previous: Option<&IcebergSchema>) -> Self {
        let mut ids = BTreeMap::new();
        let mut last = previous.map_or(0, |p| p.last_column_id);
        let mut level: Vec<(String, &Field)> = fields.iter().map(|f| (f.name.clone(), f)).collect();
        while !level.is_empty() {
            let mut next = Vec::new();
            for (at, field) in level {
                let id = previous.and_then(|p| p.id(&at)).unwrap_or_else(|| {
                    last += 1;
                    last
                });
                next.extend(inner(&field.ty).into_iter().map(|f| (path(&at, &f.name), f)));
                ids.insert(at, id);
            }
            level = next;
        }
        Self { fields, ids, last_column_id: last, identifier_field_ids: Vec::new() }
    }

    /// Names the identifier fields, by folded top-level column; optional ones cannot be.
    #[must_use]
    pub fn with_identifiers<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.identifier_field_ids = columns
            .into_iter()
            .filter(|name| self.fields.iter().any(|f| f.name == *name && f.required && f.ty.is_primitive()))
            .filter_map(|name| self.id(name))
            .collect();
        self
    }

    /// A field's id by path.
    pub fn id(&self, path: &str) -> Option<i32> {
        self.ids.get(path).copied()
    }

    /// Iceberg's schema JSON, as in table metadata.
    pub fn to_json(&self, schema_id: i32) -> Value {
        let mut json = self.struct_json(&self.fields, "");
        if let Some(object) = json.as_object_mut() {
            object.insert("schema-id".to_owned(), json!(schema_id));
            if !self.identifier_field_ids.is_empty() {
                object.insert("identifier-field-ids".to_owned(), json!(self.identifier_field_ids));
            }
        }
        json
    }

    fn struct_json(&self, fields: &[Field], at: &str) -> Value {
        let fields: Vec<Value> = fields
            .iter()
            .map(|field| {
                let at = path(at, &field.name);
                let mut json = json!({
                    "id": self.id(&at),
                    "name": field.name,
                    "required": field.required,
                    "type": self.type_json(&field.ty, &at),
                });
                if let (Some(doc), Some(object)) = (&field.doc, json.as_object_mut()) {
                    object.insert("doc".to_owned(), json!(doc));
                }
                json
            })
            .collect();
        json!({"type": "struct", "fields": fields})
    }

    fn type_json(&self, ty: &Type, at: &str) -> Value {
        match ty {
            Type::Struct(fields) => self.struct_json(fields, at),
            Type::List(element) => {
                let inside = path(at, "element");
                json!({
                    "type": "list",
                    "element-id": self.id(&inside),
                    "element-required": element.required,
                    "element": self.type_json(&element.ty, &inside),
                })
            }
            Type::Map(key, value) => {
                let key_at = path(at, "key");
                let value_at = path(at, "value");
                json!({
                    "type": "map",
                    "key-id": self.id(&key_at),
                    "key": self.type_json(&key.ty, &key_at),
                    "value-id": self.id(&value_at),
                    "value-required": value.required,
                    "value": self.type_json(&value.ty, &value_at),
                })
            }
            primitive => json!(primitive.to_string()),
        }
    }

    /// Reads Iceberg's schema JSON; `last_column_id` is the table's, if it is higher than any id in the schema.
    pub fn from_json(json: &Value, last_column_id: Option<i32>) -> Result<Self, TypeError> {
        let mut ids = BTreeMap::new();
        let fields = read_struct(json, "", &mut ids)?;
        let highest = ids.values().copied().max().unwrap_or(0);
        let identifiers = json.get("identifier-field-ids").and_then(Value::as_array).into_iter().flatten();
        let identifier_field_ids =
            identifiers.filter_map(|id| id.as_i64().and_then(|id| i32::try_from(id).ok())).collect();
        Ok(Self { fields, ids, last_column_id: highest.max(last_column_id.unwrap_or(0)), identifier_field_ids })
    }
}

fn bad(at: &str, reason: impl Into<String>) -> TypeError {
    TypeError::Iceberg { path: at.to_owned(), reason: reason.into() }
}

fn read_id(json: &Value, name: &str, at: &str) -> Result<i32, TypeError> {
    json.get(name)
        .and_then(Value::as_i64)
        .and_then(|id| i32::try_from(id).ok())
        .ok_or_else(|| bad(at, format!("no integer `{name}`")))
}

fn read_struct(json: &Value, at: &str, ids: &mut BTreeMap<String, i32>) -> Result<Vec<Field>, TypeError> {
    let fields = json.get("fields").and_then(Value::as_array).ok_or_else(|| bad(at, "a struct without `fields`"))?;
    let mut out = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| bad(at, "a field without `name`"))?;
        let inside = path(at, name);
        let id = read_id(field, "id", &inside)?;
        ids.insert(inside.clone(), id);
        let required = field.get("required").and_then(Value::as_bool).unwrap_or(false);
        let doc = field.get("doc").and_then(Value::as_str).map(str::to_owned);
        let ty = read_type(field.get("type").unwrap_or(&Value::Null), &inside, ids)?;
        out.push(Field { name: name.to_owned(), ty, required, doc });
    }
    Ok(out)
}

fn read_type(json: &Value, at: &str, ids: &mut BTreeMap<String, i32>) -> Result<Type, TypeError> {
    if let Some(word) = json.as_str() {
        return Type::from_word(word).ok_or_else(|| bad(at, format!("type `{word}` is not one of the table's")));
    }
    let part = |name: &str, side: &str, required: bool, ids: &mut BTreeMap<String, i32>| {
        let inside = path(at, name);
        let id = read_id(json, side, &inside)?;
        ids.insert(inside.clone(), id);
        let ty = read_type(json.get(name).unwrap_or(&Value::Null), &inside, ids)?;
        Ok::<_, TypeError>(Box::new(Field { name: name.to_owned(), ty, required, doc: None }))
    };
    let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
    match json.get("type").and_then(Value::as_str) {
        Some("struct") => read_struct(json, at, ids).map(Type::Struct),
        Some("list") => Ok(Type::List(part("element", "element-id", flag("element-required"), ids)?)),
        Some("map") => {
            let key = part("key", "key-id", true, ids)?;
            Ok(Type::Map(key, part("value", "value-id", flag("value-required"), ids)?))
        }
        _ => Err(bad(at, format!("`{json}` is no type"))),
    }
}
