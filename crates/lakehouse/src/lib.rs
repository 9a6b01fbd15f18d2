//! Iceberg tables of a mesh: where they are (catalog), how they change (commit), what they remember of
//! their source (offsets), how rows become files (writer), how rows are read (scan), what keeps them small (maintenance).
//!
//! Every catalog mutation of the mesh is in `commit`: metadata is built from iceberg's public parts and becomes
//! the table's by one compare-and-swap. What must never happen: a snapshot that loses or doubles source
//! offsets (EXACTLY-ONCE, OFFSETS-TRAVEL), a stale writer that wins (FENCED), a file deleted whose commit may stand.

pub mod catalog;
pub mod columns;
pub mod commit;
pub mod error;
pub mod maintenance;
pub mod offsets;
mod outcome;
pub mod scan;
pub mod schema;
pub mod store;
pub mod summary;
pub mod table;
#[cfg(test)]
mod testing;
pub mod writer;

pub use catalog::{Catalog, CatalogConfig, Pointer, Requirement, TableSpec, Taken};
pub use columns::RecordedColumns;
pub use commit::{Change, Committed};
pub use error::{LakehouseError, Result};
pub use offsets::{OffsetRanges, RangeStart, SourceOffsets};
pub use outcome::CommitOutcome;
pub use store::Store;
pub use table::Table;
pub use writer::{TableWriter, WriterOptions, Written};

/// Where the fault tests may kill a process that commits (`mesh_runtime::fault`).
pub const FAULT_POINTS: &[&str] = &[
    "lakehouse.commit.before_manifests",
    "lakehouse.commit.before_metadata",
    "lakehouse.commit.before_cas",
    "lakehouse.commit.after_cas",
];
