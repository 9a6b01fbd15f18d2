//! In: what two policies let a principal see. Out: what both do. Never: more than the first.

use std::collections::BTreeMap;

use crate::facts::ProductFacts;
use crate::mask::MaskAction;

/// A condition that rows must meet: an SQL expression over the product's own, unmasked columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowFilter {
    pub expression: String,
    /// The package that says so.
    pub package: String,
}

/// What a principal sees of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingRights {
    pub allow: bool,
    /// Why not, for the audit and the refusal's message; empty where `allow`.
    pub reason: String,
    /// All must hold: a row for which one is false or null is not there.
    pub row_filters: Vec<RowFilter>,
    /// By column. Applied after the row filters.
    pub column_masks: BTreeMap<String, MaskAction>,
}

impl ReadingRights {
    /// Nothing is seen.
    pub fn denied(reason: impl Into<String>) -> Self {
        Self { allow: false, reason: reason.into(), row_filters: Vec::new(), column_masks: BTreeMap::new() }
    }

    /// Whether the reader needs a barrier between them and the rows.
    pub fn is_restricted(&self) -> bool {
        !self.row_filters.is_empty() || !self.column_masks.is_empty()
    }

    /// What a reader sees under both: allowed by both, rows that pass all filters, and of two masks the stricter
    /// ([`MaskAction::stricter`]).
    #[must_use]
    pub fn narrowed_by(mut self, other: Self, product: &ProductFacts) -> Self {
        if !self.allow {
            return self;
        }
        if !other.allow {
            return Self::denied(other.reason);
        }
        self.row_filters.extend(other.row_filters);
        self.row_filters.sort();
        self.row_filters.dedup_by(|a, b| a.expression == b.expression);
        for (column, action) in other.column_masks {
            let required = product.columns.iter().any(|c| c.name == column && c.required);
            self.column_masks
                .entry(column)
                .and_modify(|mine| *mine = mine.stricter(action, required))
                .or_insert(action);
        }
        self
    }
}
