//! Commits: a change to a table becomes new metadata files and one compare-and-swap of the catalog's pointer.
//!
//! In: a loaded table and a change. Out: the new table, or an error that says surely whether it happened.
//! A conflict is rebased (reload, decide the fence anew, build again); an unknown outcome is looked up.
//! What must never happen: a commit on a base whose offsets are not the writer's start; a deletion of files whose
//! commit may stand.
//!
//! - `snapshot`, `manifests`, `totals`: the snapshot of an append.
//! - `metadata`: a change on a base as new table metadata.
//! - `attempt`: the loop around the swap.

mod attempt;
mod manifests;
mod metadata;
mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
mod totals;

use std::collections::BTreeMap;

use iceberg::spec::{DataFile, Schema};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::offsets::OffsetRanges;
use crate::table::Table;

/// Adds data files (possibly none) and moves source offsets.
#[derive(Clone, Debug)]
pub struct Append {
    /// Files made by [`crate::TableWriter`] for this table.
    pub files: Vec<DataFile>,
    /// The source offsets this append moves; empty for a writer without a source, which is then not fenced.
    pub offset_ranges: OffsetRanges,
    /// Entries for the snapshot summary ([`crate::summary`]). Offsets, ranges and commit id are set by the commit.
    pub summary: BTreeMap<String, String>,
    /// Id of this commit; keep it when trying again after `LakehouseError::CommitUnknown`.
    pub commit_id: Uuid,
    /// The schema that the files were written with; `LakehouseError::SchemaChanged` if the table has moved on.
    pub schema_id: i32,
    /// The partition spec that the files were written by; likewise.
    pub spec_id: i32,
    /// An earlier try with these files ended unknown: look first, and delete none of them on a fence.
    pub tried_before: bool,
}

impl Append {
    /// An append of files written with the table's current schema.
    pub fn new(table: &Table, files: Vec<DataFile>) -> Self {
        Self {
            files,
            offset_ranges: OffsetRanges::default(),
            summary: BTreeMap::new(),
            commit_id: Uuid::now_v7(),
            schema_id: table.metadata().current_schema_id(),
            spec_id: table.metadata().default_partition_spec_id(),
            tried_before: false,
        }
    }

    /// With the source offsets it moves.
    #[must_use]
    pub fn with_offsets(mut self, offset_ranges: OffsetRanges) -> Self {
        self.offset_ranges = offset_ranges;
        self
    }

    /// With the id that its files carry in their names.
    #[must_use]
    pub fn with_commit_id(mut self, commit_id: Uuid) -> Self {
        self.commit_id = commit_id;
        self
    }

    /// With a summary entry.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.summary.insert(key.to_owned(), value.into());
        self
    }

    /// After `LakehouseError::CommitUnknown`: the same again.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.tried_before = true;
        self
    }
}

/// A change of schema and properties by the publisher: requires a lower `mesh.contract-revision` in the base.
/// A base that has this very revision means that it was done already.
#[derive(Clone, Debug, Default)]
pub struct Evolve {
    /// The revision to record.
    pub revision: i64,
    /// The new schema (field ids set, see [`crate::schema::evolve`]); `None` leaves it.
    pub schema: Option<Schema>,
    /// Properties to set.
    pub set: BTreeMap<String, String>,
    /// Properties to remove.
    pub remove: Vec<String>,
}

/// A change to a table. Every kind goes the same way through [`Catalog::commit`].
#[derive(Clone, Debug)]
pub enum Change {
    /// See [`Append`].
    Append(Append),
    /// See [`Evolve`].
    Evolve(Box<Evolve>),
    /// Forgets these snapshots, but never the current one, one that a ref names, or the one whose offsets count.
    Expire(Vec<i64>),
}

/// A change that stands.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The table with the change in it (a later version if others committed after).
    pub table: Table,
    /// The snapshot that this change made; `None` for changes without one.
    pub snapshot_id: Option<i64>,
    /// It was there already: an earlier attempt had succeeded.
    pub already: bool,
    /// Metadata files that fell out of the metadata log: they may be deleted once everything in them is announced
    /// ([`crate::maintenance::delete_files`]).
    pub retired_metadata: Vec<String>,
}

impl Catalog {
    /// Commits an append: fenced by its moves, rebased over foreign commits.
    ///
    /// Errors that decide what a caller does: `Fenced` (give up, reload), `SchemaChanged` (write the rows anew),
    /// `CommitUnknown` (try again with [`Append::again`]), `Conflict` (too many losses in a row: try again later).
    pub async fn append(&self, table: &Table, append: Append) -> Result<Committed> {
        self.commit(table, &Change::Append(append)).await
    }

    /// Commits a contract revision with schema and properties. `LakehouseError::RevisionNotNewer` if the table has a later one.
    pub async fn evolve(&self, table: &Table, evolve: Evolve) -> Result<Committed> {
        self.commit(table, &Change::Evolve(Box::new(evolve))).await
    }
}
