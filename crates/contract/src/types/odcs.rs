//! Types in ODCS: `logicalType`, its options, and what `physicalType` adds.
//! In: a schema property. Out: a type, or the reason why there is none.
//! Rules (DESIGN §5): integer without format is a long, number a double; a decimal only when precision is stated;
//! unsigned 64 bits are decimal(20,0); a timestamp is in UTC unless `timezone: false`.

use serde_json::Value;

use crate::types::Type;

/// A property's type, nested ones still to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain(Type),
    Object,
    Array,
    Map,
}

/// The meaning of a `physicalType`, as far as source systems agree on the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Physical {
    /// At most so long, if stated.
    Text(Option<u16>),
    Integer,
    /// Precision and scale, if stated.
    Decimal(Option<(u16, u16)>),
    Float,
    Boolean,
    Date,
    Time,
    Timestamp {
        zone: Option<bool>,
    },
    Binary,
    Uuid,
    Array,
    Map,
    Struct,
    Json,
}

/// Reads a `physicalType`; `None` for words of one system only, such as user-defined types.
pub(crate) fn physical(text: &str) -> Option<Physical> {
    let text = text.trim().to_lowercase();
    if text.ends_with("[]") || text.ends_with(" array") || text.starts_with("repeated ") {
        return Some(Physical::Array);
    }
    let end = text.find(['(', '[', '<']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let word = word.trim().trim_end_matches(" unsigned");
    Some(match word {
        "string" | "text" | "varchar" | "nvarchar" | "varchar2" | "nvarchar2" | "char" | "nchar" | "bpchar"
        | "clob" | "character" | "character varying" | "utf8" | "tinytext" | "mediumtext" | "longtext" | "xml"
        | "enum" | "keyword" => Physical::Text(precision(rest).map(|(length, _)| length)),
        "int" | "integer" | "bigint" | "smallint" | "tinyint" | "mediumint" | "long" | "short" | "byteint" | "int2"
        | "int4" | "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" | "serial"
        | "bigserial" | "smallserial" => Physical::Integer,
        "decimal" | "numeric" | "number" | "dec" | "bignumeric" => Physical::Decimal(precision(rest)),
        "float" | "double" | "real" | "double precision" | "float4" | "float8" | "float32" | "float64" => {
            Physical::Float
        }
        "boolean" | "bool" => Physical::Boolean,
        "date" | "date32" => Physical::Date,
        "time" | "time without time zone" => Physical::Time,
        "timestamp" | "datetime2" => Physical::Timestamp { zone: None },
        "timestamptz" | "timestamp with time zone" | "timestamp_tz" | "timestamp_ltz" | "datetimeoffset" => {
            Physical::Timestamp { zone: Some(true) }
        }
        "timestamp without time zone" | "timestamp_ntz" | "datetime" => Physical::Timestamp { zone: Some(false) },
        "bytes" | "binary" | "varbinary" | "blob" | "bytea" | "raw" | "longblob" | "fixed" => Physical::Binary,
        "uuid" | "uniqueidentifier" | "guid" => Physical::Uuid,
        "array" | "list" | "repeated" => Physical::Array,
        "map" => Physical::Map,
        "struct" | "record" | "row" | "object" => Physical::Struct,
        "json" | "jsonb" | "variant" | "super" => Physical::Json,
        _ => return None,
    })
}

fn precision(rest: &str) -> Option<(u16, u16)> {
    let (open, close) = if rest.starts_with('[') { ('[', ']') } else { ('(', ')') };
    let inner = rest.strip_prefix(open)?.split_once(close)?.0;
    let (p, s) = inner.split_once(',').unwrap_or((inner, "0"));
    Some((p.trim().parse().ok()?, s.trim().parse().ok()?))
}

impl Physical {
    /// Whether a source system may keep a logical type so. Text may hold dates, short text flags, numbers epochs and flags.
    pub(crate) fn fits(self, logical: &str) -> bool {
        use Physical as P;
        match logical {
            "string" => matches!(self, P::Text(_) | P::Uuid | P::Binary | P::Json),
            "integer" => matches!(self, P::Integer | P::Decimal(_)),
            "number" => matches!(self, P::Integer | P::Decimal(_) | P::Float),
            "boolean" => matches!(self, P::Boolean | P::Integer | P::Decimal(_) | P::Text(Some(..=5))),
            "date" | "time" | "timestamp" => {
                matches!(self, P::Date | P::Time | P::Timestamp { .. } | P::Text(_) | P::Integer | P::Decimal(_))
            }
            "object" => matches!(self, P::Struct | P::Json | P::Map | P::Text(_) | P::Binary),
            // BigQuery's repeated records are called as one record is.
            "array" => matches!(self, P::Array | P::Json | P::Text(_) | P::Binary | P::Struct),
            "map" => matches!(self, P::Map | P::Json | P::Struct | P::Text(_) | P::Binary),
            _ => true,
        }
    }
}

/// The type that a property states.
pub(crate) fn type_of(property: &Value) -> Result<Shape, String> {
    let word = |name: &str| property.get(name).and_then(Value::as_str);
    let options = property.get("logicalTypeOptions");
    let format = options.and_then(|o| o.get("format")).and_then(Value::as_str);
    let zone = options.and_then(|o| o.get("timezone")).and_then(Value::as_bool);
    let physical = word("physicalType").and_then(physical);
    let plain = match word("logicalType") {
        Some("object") => return Ok(Shape::Object),
        Some("array") => return Ok(Shape::Array),
        Some("map") => return Ok(Shape::Map),
        Some("string") => string(format, physical),
        Some("integer") => integer(format, physical)?,
        Some("number") => number(format, physical)?,
        Some("boolean") => Type::Boolean,
        Some("date") => Type::Date,
        Some("time") => Type::Time,
        Some("timestamp") => timestamp(zone),
        Some(other) => return Err(format!("`logicalType: {other}` is not known")),
        None => return from_physical(word("physicalType"), physical),
    };
    Ok(Shape::Plain(plain))
}

fn string(format: Option<&str>, physical: Option<Physical>) -> Type {
    match (format, physical) {
        (_, Some(Physical::Uuid)) => Type::Uuid,
        (_, Some(Physical::Binary)) | (Some("binary" | "byte"), _) => Type::Binary,
        _ => Type::String,
    }
}

fn integer(format: Option<&str>, physical: Option<Physical>) -> Result<Type, String> {
    Ok(match (format, physical) {
        (Some("i8" | "i16" | "i32" | "u8" | "u16"), _) => Type::Int,
        (Some("u64"), _) => Type::Decimal { precision: 20, scale: 0 },
        (Some("i128" | "u128"), _) => Type::Decimal { precision: 38, scale: 0 },
        (Some(_), _) => Type::Long,
        (None, Some(Physical::Decimal(Some((precision, 0))))) => decimal(precision, 0)?,
        (None, Some(Physical::Decimal(Some((precision, scale))))) => {
            return Err(format!("an integer kept as decimal({precision},{scale}): use `logicalType: number`"));
        }
        (None, _) => Type::Long,
    })
}

fn number(format: Option<&str>, physical: Option<Physical>) -> Result<Type, String> {
    Ok(match (format, physical) {
        (Some("f32"), _) => Type::Float,
        (Some(_), _) => Type::Double,
        (None, Some(Physical::Decimal(Some((precision, scale))))) => decimal(precision, scale)?,
        (None, _) => Type::Double,
    })
}

fn decimal(precision: u16, scale: u16) -> Result<Type, String> {
    let shown = format!("decimal({precision},{scale})");
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => Ok(Type::Decimal { precision, scale }),
        _ if scale > precision || precision == 0 => {
            Err(format!("{shown}: write a precision of 1 or more, and a scale up to it"))
        }
        _ => Err(format!("{shown}: tables hold up to 38 digits: write a smaller precision")),
    }
}

fn timestamp(zone: Option<bool>) -> Type {
    if zone == Some(false) { Type::Timestamp } else { Type::TimestampTz }
}

fn from_physical(text: Option<&str>, physical: Option<Physical>) -> Result<Shape, String> {
    let plain = match physical {
        Some(Physical::Text(_) | Physical::Uuid | Physical::Binary) => string(None, physical),
        Some(Physical::Integer) => Type::Long,
        Some(Physical::Decimal(_) | Physical::Float) => number(None, physical)?,
        Some(Physical::Boolean) => Type::Boolean,
        Some(Physical::Date) => Type::Date,
        Some(Physical::Time) => Type::Time,
        Some(Physical::Timestamp { zone }) => timestamp(zone),
        _ => {
            let shown = text.map(|text| format!(" (`physicalType: {text}` does not tell)")).unwrap_or_default();
            return Err(format!("no type{shown}: add `logicalType`"));
        }
    };
    Ok(Shape::Plain(plain))
}
