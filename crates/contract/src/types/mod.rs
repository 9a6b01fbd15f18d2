//! The one type table: ODCS ↔ Avro ↔ Arrow ↔ Iceberg ↔ JSON.

pub mod arrow;
pub mod avro;
pub mod iceberg;

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
