//! May one contract follow another? Field by field.
//! Compatible means: no record once accepted is now refused, no query once valid fails or changes type.

use serde::Serialize;

use crate::product::ProductContract;

/// The least version step a set of changes needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bump {
    /// Nothing that a program sees.
    Patch,
    /// Additions.
    Minor,
    /// A breaking change.
    Major,
}

/// What changed about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// A column is new.
    Added,
    /// A column is gone.
    Removed,
    /// Another type.
    Type,
    /// `required` differs.
    Required,
    /// A hard constraint is tighter.
    Narrowed,
    /// A hard constraint is looser.
    Widened,
    /// Record key, partition, topic, format or table differ.
    Layout,
    /// Words only.
    Documentation,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// `passenger.bags[].weight`; empty for the contract itself.
    pub path: String,
    /// What differs.
    pub kind: ChangeKind,
    /// Whether it needs a new major.
    pub breaking: bool,
    /// In words, with old and new.
    pub reason: String,
}

/// The verdict on two contracts of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compatibility {
    /// Every difference.
    pub changes: Vec<FieldChange>,
    /// What the version must be raised by at least.
    pub required_bump: Bump,
}

impl Compatibility {
    /// No change is breaking.
    pub fn is_compatible(&self) -> bool {
        self.changes.iter().all(|change| !change.breaking)
    }
    /// The changes that need a new major.
    pub fn breaking(&self) -> impl Iterator<Item = &FieldChange> {
        self.changes.iter().filter(|change| change.breaking)
    }
}

/// Compares what was with what shall be.
pub fn compare(_old: &ProductContract, _new: &ProductContract) -> Compatibility {
    todo!()
}
