//! Why a record becomes a dead letter: a code with a page, a word, a place and a message for people.
//! In: what a stage could not accept. Out: one refusal per record, the first that was found.
//! Must never happen: a record that is in the table and refused, or in neither.

use std::collections::BTreeMap;
use std::fmt;

/// Why a record is refused: its code stands in a dead letter's `reason_code`, its word before the `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The record has no value, and the contract has no upsert.
    Tombstone,
    /// The value does not begin with the registry's framing.
    Framing,
    /// No schema with the value's id is registered.
    UnknownSchema,
    /// The writer's schema has a field that cannot become the contract's column.
    UncoveredSchema,
    /// The bytes are not one record of their format.
    Undecodable,
    /// A JSON field that a closed contract does not have.
    UnknownField,
    /// A value of another type than the column's.
    Type,
    /// A value that would lose digits.
    Cut,
    /// A value beyond the column's range.
    Overflow,
    /// Null or missing in a required column.
    Required,
    /// Not among the allowed values.
    Enum,
    /// Below the minimum.
    Minimum,
    /// Above the maximum.
    Maximum,
    /// No multiple.
    MultipleOf,
    /// Too short.
    MinLength,
    /// Too long.
    MaxLength,
    /// Does not match the pattern.
    Pattern,
    /// Not of the stated format.
    Format,
    /// Too few elements.
    MinItems,
    /// Too many elements.
    MaxItems,
    /// Elements are repeated.
    UniqueItems,
    /// Too few fields.
    MinProperties,
    /// Too many fields.
    MaxProperties,
}

impl Reason {
    /// The code, which names its page in `docs/errors/`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Tombstone => "MESH-INGEST-0101",
            Self::Framing => "MESH-INGEST-0102",
            Self::UnknownSchema => "MESH-INGEST-0103",
            Self::UncoveredSchema => "MESH-INGEST-0104",
            Self::Undecodable => "MESH-INGEST-0105",
            Self::UnknownField => "MESH-INGEST-0106",
            Self::Type => "MESH-INGEST-0107",
            Self::Cut | Self::Overflow => "MESH-INGEST-0108",
            Self::Required => "MESH-INGEST-0109",
            _ => "MESH-INGEST-0110",
        }
    }

    /// The word for metrics and people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::Framing => "framing",
            Self::UnknownSchema => "unknown-schema",
            Self::UncoveredSchema => "uncovered-schema",
            Self::Undecodable => "undecodable",
            Self::UnknownField => "unknown-field",
            Self::Type => "type",
            Self::Cut => "cut",
            Self::Overflow => "overflow",
            Self::Required => "required",
            Self::Enum => "enum",
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::MultipleOf => "multiple-of",
            Self::MinLength => "min-length",
            Self::MaxLength => "max-length",
            Self::Pattern => "pattern",
            Self::Format => "format",
            Self::MinItems => "min-items",
            Self::MaxItems => "max-items",
            Self::UniqueItems => "unique-items",
            Self::MinProperties => "min-properties",
            Self::MaxProperties => "max-properties",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why one record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For machines.
    pub reason: Reason,
    /// The column's path; empty when the record as a whole is refused.
    pub place: String,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal at a place.
    pub fn at(reason: Reason, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason, place: place.into(), message: message.into() }
    }

    /// A refusal of the whole record.
    pub fn whole(reason: Reason, message: impl Into<String>) -> Self {
        Self::at(reason, "", message)
    }
}

/// The refused records of a batch, by their index in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    by_record: BTreeMap<u32, Refusal>,
}

impl Refusals {
    /// Refuses a record; the first reason stands.
    pub fn add(&mut self, record: u32, refusal: Refusal) {
        self.by_record.entry(record).or_insert(refusal);
    }

    /// Forgets those of some records.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.by_record.retain(|record, _| keep(*record));
    }

    /// In the records' order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Refusal)> {
        self.by_record.iter().map(|(record, refusal)| (*record, refusal))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_record.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.by_record.is_empty()
    }
}
