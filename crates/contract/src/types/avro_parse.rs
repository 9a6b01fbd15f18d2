//! An Avro schema, read as far as the type table needs: named types resolved, recursion refused.

use std::collections::HashMap;

use serde_json::Value;

use crate::types::TypeError;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;
/// Most types of a schema, those behind names as often as they are used: a name in a name in a name doubles each time.
const MAX_TYPES: usize = 10_000;

/// An Avro type with its references resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Avro {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Enum,
    Fixed(u64),
    Decimal {
        precision: u64,
        scale: u64,
    },
    Date,
    TimeMillis,
    TimeMicros,
    /// Unit and whether it is in UTC.
    Timestamp {
        unit: Unit,
        utc: bool,
    },
    /// Of 36 characters, or of 16 bytes.
    Uuid {
        text: bool,
    },
    Record(Vec<AvroField>),
    Array(Box<Avro>),
    Map(Box<Avro>),
    /// Iceberg's map with keys that are not strings: an array of these two.
    Entries(Box<Avro>, Box<Avro>),
    Union(Vec<Avro>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AvroField {
    pub(crate) name: String,
    pub(crate) ty: Avro,
    pub(crate) doc: Option<String>,
}

/// Reads a schema's text.
pub(crate) fn parse(text: &str) -> Result<Avro, TypeError> {
    let json: Value = serde_json::from_str(text).or_else(|error| {
        // A bare type name is a schema too.
        if text.trim().chars().all(|c| c.is_ascii_alphanumeric()) && !text.trim().is_empty() {
            Ok(Value::String(text.trim().to_owned()))
        } else {
            Err(bad("", format!("not JSON: {error}")))
        }
    })?;
    Parser { named: HashMap::new(), types: 0 }.schema(&json, "", "", 0)
}

fn bad(path: &str, reason: impl Into<String>) -> TypeError {
    TypeError::Avro { path: path.to_owned(), reason: reason.into() }
}

struct Parser {
    /// Full name → type; `None` while it is being read.
    named: HashMap<String, Option<(Avro, usize)>>,
    /// So many have been read, those behind names included.
    types: usize,
}

impl Parser {
    fn schema(&mut self, json: &Value, namespace: &str, path: &str, depth: usize) -> Result<Avro, TypeError> {
        if depth > MAX_DEPTH {
            return Err(bad(path, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.count(1, path)?;
        match json {
            Value::String(name) => self.by_name(name, namespace, path),
            Value::Array(branches) => {
                let branches: Result<Vec<_>, _> =
                    branches.iter().map(|b| self.schema(b, namespace, path, depth + 1)).collect();
                branches.map(Avro::Union)
            }
            Value::Object(_) => self.complex(json, namespace, path, depth),
            other => Err(bad(path, format!("`{other}` is no schema"))),
        }
    }

    fn count(&mut self, more: usize, path: &str) -> Result<(), TypeError> {
        self.types += more;
        match self.types > MAX_TYPES {
            true => {
                Err(bad(path, format!("more than {MAX_TYPES} types, those behind names as often as they are used")))
            }
            false => Ok(()),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str, path: &str) -> Result<Avro, TypeError> {
        if let Some(primitive) = primitive(name) {
            return Ok(primitive);
        }
        let known = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
        let size = known.and_then(|known| known.as_ref()).map_or(0, |(_, size)| *size);
        self.count(size, path)?;
        match self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name)) {
            Some(Some((ty, _))) => Ok(ty.clone()),
            Some(None) => Err(bad(path, format!("`{name}` contains itself: a table cannot hold that"))),
            None => Err(bad(path, format!("`{name}` is not defined before it is used"))),
        }
    }

    fn complex(&mut self, json: &Value, namespace: &str, path: &str, depth: usize) -> Result<Avro, TypeError> {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let kind = match json.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(nested) => return self.schema(nested, namespace, path, depth + 1),
            None => return Err(bad(path, "a schema without `type`")),
        };
        let part = |name: &str| json.get(name).ok_or_else(|| bad(path, format!("`{kind}` without `{name}`")));
        match kind {
            "record" | "error" => self.record(json, namespace, path, depth),
            "enum" => self.define(json, namespace, path, Avro::Enum),
            "fixed" => {
                let size = part("size")?.as_u64().ok_or_else(|| bad(path, "`size` is no number"))?;
                let ty = annotate(Avro::Fixed(size), json, path)?;
                self.define(json, namespace, path, ty)
            }
            "array" => {
                let items = self.schema(part("items")?, namespace, path, depth + 1)?;
                if takes_no_bytes(&items) {
                    return Err(bad(path, "items that take no bytes: a few bytes could claim any number of them"));
                }
                Ok(if text("logicalType") == Some("map") { entries(items) } else { Avro::Array(Box::new(items)) })
            }
            "map" => Ok(Avro::Map(Box::new(self.schema(part("values")?, namespace, path, depth + 1)?))),
            name => annotate(self.by_name(name, namespace, path)?, json, path),
        }
    }

    fn define(&mut self, json: &Value, namespace: &str, path: &str, ty: Avro) -> Result<Avro, TypeError> {
        let name = defined_name(json, namespace, path)?;
        self.named.insert(name, Some((ty.clone(), 1)));
        Ok(ty)
    }

    fn record(&mut self, json: &Value, namespace: &str, path: &str, depth: usize) -> Result<Avro, TypeError> {
        let name = defined_name(json, namespace, path)?;
        self.named.insert(name.clone(), None);
        let before = self.types;
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let fields =
            json.get("fields").and_then(Value::as_array).ok_or_else(|| bad(path, "a record without `fields`"))?;
        let mut out: Vec<AvroField> = Vec::with_capacity(fields.len());
        for field in fields {
            let name = field.get("name").and_then(Value::as_str).ok_or_else(|| bad(path, "a field without `name`"))?;
            let at = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            if out.iter().any(|f| f.name == name) {
                return Err(bad(&at, "the field is there twice"));
            }
            let ty = field.get("type").ok_or_else(|| bad(&at, "a field without `type`"))?;
            // Some tools put the logical type beside the field's type: Avro reads it inside only.
            let ty = self.schema(ty, &inner, &at, depth + 1)?;
            out.push(AvroField {
                name: name.to_owned(),
                ty,
                doc: field.get("doc").and_then(Value::as_str).map(str::to_owned),
            });
        }
        let record = Avro::Record(out);
        self.named.insert(name, Some((record.clone(), self.types - before + 1)));
        Ok(record)
    }
}

fn primitive(name: &str) -> Option<Avro> {
    Some(match name {
        "null" => Avro::Null,
        "boolean" => Avro::Boolean,
        "int" => Avro::Int,
        "long" => Avro::Long,
        "float" => Avro::Float,
        "double" => Avro::Double,
        "bytes" => Avro::Bytes,
        "string" => Avro::String,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn defined_name(json: &Value, namespace: &str, path: &str) -> Result<String, TypeError> {
    let name = json.get("name").and_then(Value::as_str).ok_or_else(|| bad(path, "a named type without `name`"))?;
    let namespace = json.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    Ok(full_name(name, namespace))
}

fn takes_no_bytes(ty: &Avro) -> bool {
    match ty {
        Avro::Null | Avro::Fixed(0) => true,
        Avro::Record(fields) => fields.iter().all(|field| takes_no_bytes(&field.ty)),
        _ => false,
    }
}

fn entries(items: Avro) -> Avro {
    if let Avro::Record(fields) = &items
        && let [key, value] = fields.as_slice()
        && (key.name.as_str(), value.name.as_str()) == ("key", "value")
    {
        return Avro::Entries(Box::new(key.ty.clone()), Box::new(value.ty.clone()));
    }
    Avro::Array(Box::new(items))
}

/// A logical type that does not fit its base is ignored, as Avro has it; a decimal beyond 38 digits is an error later.
fn annotate(base: Avro, json: &Value, path: &str) -> Result<Avro, TypeError> {
    let number = |name: &str| json.get(name).and_then(Value::as_u64);
    let Some(logical) = json.get("logicalType").and_then(Value::as_str) else {
        return Ok(base);
    };
    let timestamp = |unit, utc| Avro::Timestamp { unit, utc };
    Ok(match (logical, &base) {
        ("decimal", Avro::Bytes | Avro::Fixed(_)) => Avro::Decimal {
            precision: number("precision").ok_or_else(|| bad(path, "a decimal without `precision`"))?,
            scale: number("scale").unwrap_or(0),
        },
        ("uuid", Avro::String) => Avro::Uuid { text: true },
        ("uuid", Avro::Fixed(16)) => Avro::Uuid { text: false },
        ("date", Avro::Int) => Avro::Date,
        ("time-millis", Avro::Int) => Avro::TimeMillis,
        ("time-micros", Avro::Long) => Avro::TimeMicros,
        ("timestamp-millis", Avro::Long) => timestamp(Unit::Millis, true),
        ("timestamp-micros", Avro::Long) => timestamp(Unit::Micros, true),
        ("timestamp-nanos", Avro::Long) => timestamp(Unit::Nanos, true),
        ("local-timestamp-millis", Avro::Long) => timestamp(Unit::Millis, false),
        ("local-timestamp-micros", Avro::Long) => timestamp(Unit::Micros, false),
        ("local-timestamp-nanos", Avro::Long) => timestamp(Unit::Nanos, false),
        _ => base,
    })
}
