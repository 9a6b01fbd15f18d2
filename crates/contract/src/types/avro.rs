//! Types in Avro: what producers write, and whether a contract covers it.

use serde::Serialize;

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
