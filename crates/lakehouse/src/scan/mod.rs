//! Reading: a table at one pinned snapshot becomes rows.
//!
//! manifests → [`files`] (which files, with what bounds) → [`prune`] (which of them can hold a row of the answer)
//! → [`groups`] (which reader reads which) → DataFusion's Parquet source, whose columns [`adapter`] resolves by field
//! id. [`table`] is the `TableProvider` around that, [`added`] the plain read of what a range of snapshots added,
//! [`contract`] says which table and which fields a contract means.
//!
//! What must never happen: a row of another snapshot; a file, delete or column that cannot be read and is left out
//! silently (NEVER-SILENT); a file pruned that holds a row of the answer.

pub mod adapter;
pub mod added;
pub mod contract;
pub mod error;
pub mod files;
pub mod groups;
mod name_mapping;
mod nested;
pub mod prune;
pub mod statistics;
pub mod table;

pub use added::{SnapshotRange, read_added};
pub use contract::{check_identity, contract_schema, with_foreign_columns};
pub use error::ScanError;
pub use files::{FileSet, ScanFile};
pub use table::MeshTable;

#[cfg(test)]
mod tests;
