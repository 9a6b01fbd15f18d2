//! The one type table: ODCS ↔ Avro ↔ Arrow ↔ Iceberg ↔ JSON.

use std::fmt;

pub mod arrow;
pub mod avro;
mod avro_cover;
mod avro_parse;
pub mod calendar;
pub mod iceberg;
pub mod json;
pub mod number;
pub(crate) mod odcs;

/// A column's type. Its variants are Iceberg's; every other system maps to and from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// true, false.
    Boolean,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// 32 bits.
    Float,
    /// 64 bits.
    Double,
    /// Precision at most 38.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds, no zone.
    Timestamp,
    /// Microseconds in UTC.
    TimestampTz,
    /// UTF-8.
    String,
    /// 16 bytes.
    Uuid,
    /// Bytes.
    Binary,
    /// Fields by name.
    Struct(Vec<Field>),
    /// Elements.
    List(Box<Field>),
    /// Keys (always required) and values.
    Map(Box<Field>, Box<Field>),
}

/// A name, its type, and whether it may be null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Folded.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Never null.
    pub required: bool,
    /// What it holds.
    pub doc: Option<String>,
}

impl Field {
    /// A field that may be null.
    pub fn optional(name: impl Into<String>, ty: Type) -> Self {
        Self { name: name.into(), ty, required: false, doc: None }
    }
    /// A field that is never null.
    pub fn required(name: impl Into<String>, ty: Type) -> Self {
        Self { name: name.into(), ty, required: true, doc: None }
    }
}

impl Type {
    /// Neither object, array nor map.
    pub fn is_primitive(&self) -> bool {
        !matches!(self, Self::Struct(_) | Self::List(_) | Self::Map(..))
    }
}

/// Iceberg's spelling: `long`, `decimal(10, 2)`, `list<string>`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", field.name, field.ty)?;
                }
                f.write_str(">")
            }
            Self::List(element) => write!(f, "list<{}>", element.ty),
            Self::Map(key, value) => write!(f, "map<{}, {}>", key.ty, value.ty),
            primitive => f.write_str(primitive.word()),
        }
    }
}

impl Type {
    /// Iceberg's word for it, without parameters.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal { .. } => "decimal",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::String => "string",
            Self::Uuid => "uuid",
            Self::Binary => "binary",
            Self::Struct(_) => "struct",
            Self::List(_) => "list",
            Self::Map(..) => "map",
        }
    }

    /// A primitive type by Iceberg's spelling; `None` for what the table lacks (`fixed[n]`, format v3's types).
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            "binary" => Self::Binary,
            other => {
                let inner = other.strip_prefix("decimal(")?.strip_suffix(')')?;
                let (precision, scale) = inner.split_once(',')?;
                Self::Decimal { precision: precision.trim().parse().ok()?, scale: scale.trim().parse().ok()? }
            }
        })
    }
}

/// Why a foreign schema cannot be read as types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// An Avro schema that is none, or has what the table lacks.
    #[error("avro schema{}: {reason}", at(path))]
    Avro {
        /// Where, by field path.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// An Iceberg schema that is none, or has what the table lacks.
    #[error("iceberg schema{}: {reason}", at(path))]
    Iceberg {
        /// Where, by field path.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(", field {path}") }
}

impl TypeError {
    /// The error's page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Avro { .. } => "MESH-CONTRACT-0050",
            Self::Iceberg { .. } => "MESH-CONTRACT-0051",
        }
    }
}
