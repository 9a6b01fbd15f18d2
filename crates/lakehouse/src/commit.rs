//! Commits: a change to a table becomes files, requirements and updates, which the catalog takes or refuses.
//!
//! In: a loaded table and a change. Out: an outcome that says surely whether the change is in the table, or that this
//! is unknown. A conflict is rebased: the table is loaded again, the fence decides again, the snapshot is built again.
//! Never: a commit on a base whose offsets are not the writer's start; a file deleted whose commit may stand.
//!
//! - `snapshot`, `manifests`, `totals`: the snapshot of a change.
//! - `metadata`: a change on a base as requirements and updates.
//! - `attempt`: tries until the outcome is known.

mod attempt;
mod avro;
mod manifests;
mod metadata;
mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
mod totals;

use std::collections::BTreeMap;

use iceberg::spec::{DataFile, Operation, Schema};
use uuid::Uuid;

use crate::offsets::OffsetRanges;
use crate::table::Table;

/// A change to a table: append, contract revision, expiry, a new start, and what upkeep adds later, are one path
/// through [`crate::Catalog::apply`]. (Files to remove and delete files come in beside `add`, with their operation.)
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// How the change is recognised in the table's snapshots; keep it when the same change is tried again.
    pub commit_id: Uuid,
    /// The operation of the snapshot that it makes; `None` makes none and changes metadata only.
    pub operation: Option<Operation>,
    /// Files made by [`crate::TableWriter`] for this table. They are the caller's: the lakehouse never deletes them.
    pub add: Vec<DataFile>,
    /// The source offsets that move with the snapshot; empty for a writer without a source, which is then not fenced.
    pub offsets: OffsetRanges,
    /// Entries for the snapshot summary ([`crate::summary`]). Offsets, ranges and commit id are set by the commit.
    pub summary: BTreeMap<String, String>,
    /// The schema that the files were written with; `LakehouseError::SchemaChanged` if the table has another now.
    pub schema_id: i32,
    /// The partition spec that the files were written by; likewise.
    pub spec_id: i32,
    /// The contract revision to record: requires a lower `mesh.contract-revision` in the base. A base that has this
    /// very revision has the change already.
    pub revision: Option<i64>,
    /// The new schema (field ids set, see [`crate::schema::evolve`]); `None` leaves it.
    pub schema: Option<Schema>,
    /// Properties to set, or with `None` to remove.
    pub properties: BTreeMap<String, Option<String>>,
    /// Snapshots to expire, but never the current one, one that a ref names, or the one whose offsets count.
    pub expire: Vec<i64>,
    /// The outcome of an earlier try of this change is unknown: a failure of this one does not free its files either.
    pub tried_before: bool,
}

impl Change {
    /// Adds files (possibly none) that were written with the table's current schema, in a snapshot of its own.
    pub fn append(table: &Table, add: Vec<DataFile>) -> Self {
        Self {
            commit_id: Uuid::now_v7(),
            operation: Some(Operation::Append),
            add,
            schema_id: table.metadata().current_schema_id(),
            spec_id: table.metadata().default_partition_spec_id(),
            ..Self::default()
        }
    }

    /// Records a contract revision, with what it changes.
    pub fn revision(revision: i64) -> Self {
        Self { commit_id: Uuid::now_v7(), revision: Some(revision), ..Self::default() }
    }

    /// Forgets these snapshots.
    pub fn expire(snapshots: Vec<i64>) -> Self {
        Self { commit_id: Uuid::now_v7(), expire: snapshots, ..Self::default() }
    }

    /// With the source offsets that it moves.
    #[must_use]
    pub fn with_offsets(mut self, offsets: OffsetRanges) -> Self {
        self.offsets = offsets;
        self
    }

    /// With the id that its files carry in their names.
    #[must_use]
    pub fn with_commit_id(mut self, commit_id: Uuid) -> Self {
        self.commit_id = commit_id;
        self
    }

    /// With the schema that its files were written with, where the table's may be a later one.
    #[must_use]
    pub fn with_schema_id(mut self, schema_id: i32) -> Self {
        self.schema_id = schema_id;
        self
    }

    /// With a summary entry.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.summary.insert(key.to_owned(), value.into());
        self
    }

    /// With a new schema.
    #[must_use]
    pub fn with_schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// With a property that is set.
    #[must_use]
    pub fn with_property(mut self, key: &str, value: impl Into<String>) -> Self {
        self.properties.insert(key.to_owned(), Some(value.into()));
        self
    }

    /// After `CommitOutcome::Unknown`: the same change again.
    #[must_use]
    pub fn after_unknown(mut self) -> Self {
        self.tried_before = true;
        self
    }
}

/// A change that stands.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The table with the change in it (a later version if others committed after).
    pub table: Table,
    /// The snapshot that this change made; `None` for changes without one.
    pub snapshot_id: Option<i64>,
    /// It is there already, by an earlier attempt.
    pub already: bool,
    /// Metadata files that fell out of the metadata log: they may be deleted once everything in them is announced.
    pub retired_metadata: Vec<String>,
}
