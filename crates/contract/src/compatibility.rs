//! May one contract follow another? Field by field.
//! Compatible means: no record once accepted is now refused, no query once valid fails or changes type.

mod fields;
mod layout;

use serde::Serialize;

use crate::product::ProductContract;
use crate::version::{self, Bump, VersionError};

/// What changed about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// A column is new.
    Added,
    /// A column is removed.
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
    /// Quality rules or service levels differ.
    Promise,
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

impl Compatibility {
    /// Whether the new version's number says as much as the changes do.
    pub fn check_version(&self, old: &str, new: &str) -> Result<(), VersionError> {
        version::follows(old, new, self.required_bump)
    }
}

/// Compares what was with what shall be.
///
/// What a JSON record carried beside the contract's fields is unknown here, so a new optional column counts as
/// compatible although earlier records may carry a field of that name and another type (ADR 0011).
pub fn compare(old: &ProductContract, new: &ProductContract) -> Compatibility {
    let mut changes = Vec::new();
    layout::compare(old, new, &mut changes);
    fields::compare(old.columns(), new.columns(), "", &mut changes);
    promises(old, new, &mut changes);
    if changes.is_empty() && old.contract().document != new.contract().document {
        changes.push(FieldChange {
            path: String::new(),
            kind: ChangeKind::Documentation,
            breaking: false,
            reason: "words, owners or links differ".to_owned(),
        });
    }
    let required_bump = changes.iter().map(bump).max().unwrap_or(Bump::Patch);
    Compatibility { changes, required_bump }
}

fn bump(change: &FieldChange) -> Bump {
    match (change.breaking, change.kind) {
        (true, _) => Bump::Major,
        (false, ChangeKind::Documentation) => Bump::Patch,
        (false, _) => Bump::Minor,
    }
}

/// Quality rules and service levels judge a product; they refuse no record and fail no query.
fn promises(old: &ProductContract, new: &ProductContract, changes: &mut Vec<FieldChange>) {
    let mut changed = |what: &str| {
        changes.push(FieldChange {
            path: String::new(),
            kind: ChangeKind::Promise,
            breaking: false,
            reason: format!("{what} differ"),
        });
    };
    if old.quality() != new.quality() {
        changed("quality rules");
    }
    if old.contract().sla != new.contract().sla {
        changed("service levels");
    }
    if old.upkeep() != new.upkeep() {
        changed("commit interval, start or snapshots kept");
    }
}
