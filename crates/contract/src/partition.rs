//! How a product's table is partitioned.

use std::fmt;

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
