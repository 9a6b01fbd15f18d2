//! How a product's table is partitioned.

use std::fmt;

use crate::types::Type;

/// An Iceberg partition transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    /// The value itself.
    Identity,
    /// Years since 1970.
    Year,
    /// Months since 1970-01.
    Month,
    /// Days since 1970-01-01.
    Day,
    /// Hours since the epoch.
    Hour,
    /// Murmur3 hash modulo this.
    Bucket(u32),
    /// Truncated to this width.
    Truncate(u32),
}

impl fmt::Display for Transform {
    /// Iceberg's own spelling: `identity`, `day`, `bucket[16]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Year => f.write_str("year"),
            Self::Month => f.write_str("month"),
            Self::Day => f.write_str("day"),
            Self::Hour => f.write_str("hour"),
            Self::Bucket(n) => write!(f, "bucket[{n}]"),
            Self::Truncate(w) => write!(f, "truncate[{w}]"),
        }
    }
}

impl std::str::FromStr for Transform {
    type Err = String;
    /// As it is displayed; `days`, `hours`, … and `bucket(16)` too.
    fn from_str(text: &str) -> Result<Self, String> {
        let folded = text.trim().to_lowercase();
        let unknown = || {
            format!(
                "`{text}` is no partition transform: write identity, year, month, day, hour, bucket[N] or truncate[W]"
            )
        };
        let (name, width) = match folded.split_once(['[', '(']) {
            None => (folded.as_str(), None),
            Some((name, rest)) => {
                let digits = rest.trim_end_matches([']', ')']).trim();
                // Other engines hold it in 32 signed bits.
                let width = digits.parse::<u32>().ok().filter(|width| (1..=i32::MAX.cast_unsigned()).contains(width));
                (name.trim(), Some(width.ok_or_else(unknown)?))
            }
        };
        match (name.trim_end_matches('s'), width) {
            ("identity", None) => Ok(Self::Identity),
            ("year", None) => Ok(Self::Year),
            ("month", None) => Ok(Self::Month),
            ("day", None) => Ok(Self::Day),
            ("hour", None) => Ok(Self::Hour),
            ("bucket", Some(n)) => Ok(Self::Bucket(n)),
            ("truncate", Some(w)) => Ok(Self::Truncate(w)),
            _ => Err(unknown()),
        }
    }
}

/// One partition field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionField {
    /// The folded name of the source column.
    pub column: String,
    /// The partition field's name: the column's for identity, else `<column>_<transform>`.
    pub name: String,
    /// The transform.
    pub transform: Transform,
}

/// In the order of `partitionKeyPosition`; empty if unpartitioned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PartitionSpec {
    /// The fields.
    pub fields: Vec<PartitionField>,
}

impl Transform {
    /// Whether a table can be partitioned by the transform of a column of a type: what `mesh_lakehouse::writer::can_write`
    /// says of the same pair.
    pub fn accepts(&self, ty: &Type) -> bool {
        let temporal = matches!(ty, Type::Timestamp | Type::TimestampTz);
        match self {
            // The Avro library that iceberg-rust writes manifests with cannot keep a uuid as a partition value.
            Self::Identity => ty.is_primitive() && *ty != Type::Uuid,
            Self::Year | Self::Month | Self::Day => temporal || *ty == Type::Date,
            Self::Hour => temporal,
            Self::Bucket(_) => ty.is_primitive() && !matches!(ty, Type::Boolean | Type::Float | Type::Double),
            Self::Truncate(_) => {
                matches!(ty, Type::Int | Type::Long | Type::Decimal { .. } | Type::String | Type::Binary)
            }
        }
    }

    /// The partition field's name for a column.
    pub fn field_name(&self, column: &str) -> String {
        match self {
            Self::Identity => column.to_owned(),
            Self::Bucket(n) => format!("{column}_bucket_{n}"),
            Self::Truncate(w) => format!("{column}_trunc_{w}"),
            other => format!("{column}_{other}"),
        }
    }
}
