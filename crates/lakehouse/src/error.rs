//! What can go wrong with tables, each with a code and a page in `docs/errors/`.

use std::io::ErrorKind as Io;

use iceberg::TableIdent;
use uuid::Uuid;

use crate::table::Table;

/// Result of this crate.
pub type Result<T, E = LakehouseError> = std::result::Result<T, E>;

/// Any cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error of the lakehouse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakehouseError {
    /// The catalog's or the warehouse's address cannot be used.
    #[error("{what} `{value}` cannot be used: {why}; write {what} like `{example}`")]
    Config { what: &'static str, value: String, why: &'static str, example: &'static str },
    /// No right to write there.
    #[error("cannot write {path}; give this user the right to write there or choose another folder")]
    Unwritable {
        path: String,
        #[source]
        source: Cause,
    },
    /// No room.
    #[error("no room left to write {path}; free some and the work goes on where it stopped")]
    DiskFull {
        path: String,
        #[source]
        source: Cause,
    },
    /// A file operation failed otherwise.
    #[error("cannot {operation} {path}; mend what the cause names, and the work goes on where it stopped")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: Cause,
    },
    /// A file that table metadata names is not there.
    #[error(
        "{path} is missing though the table needs it; restore it from a backup, or drop the table and ingest it again"
    )]
    MissingFile {
        path: String,
        #[source]
        source: Cause,
    },
    /// A file is there but cannot be read as what it must be.
    #[error("{path} is not {expected}; restore it from a backup")]
    Corrupt {
        path: String,
        expected: &'static str,
        #[source]
        source: Cause,
    },
    /// The catalog database stayed locked.
    #[error(
        "the catalog {path} is locked by another process; find who holds a transaction open (`fuser {path}`) and end it"
    )]
    CatalogLocked {
        path: String,
        #[source]
        source: Cause,
    },
    /// The catalog database failed.
    #[error("the catalog {path} failed to {operation}")]
    Catalog {
        path: String,
        operation: &'static str,
        #[source]
        source: Cause,
    },
    /// The database holds something else.
    #[error("the catalog {path} has no Iceberg layout: {why}; name another file in `catalog.uri`")]
    ForeignLayout { path: String, why: String },
    /// No such table.
    #[error("there is no table {table} in the catalog; see `mesh products`")]
    NoSuchTable { table: TableIdent },
    /// The name is another table's now.
    #[error(
        "the table {table} in the catalog has the uuid {found}, not {wanted}: it was dropped and created again by another program. Drop or rename that table, then `mesh apply` the contract again: the product's table is made again and filled from its topic"
    )]
    OtherTable { table: TableIdent, found: Uuid, wanted: Uuid },
    /// No such namespace.
    #[error("there is no namespace {namespace} in the catalog; create it before its tables")]
    NoSuchNamespace { namespace: String },
    /// The table is there already.
    #[error("the table {table} exists already; load it, or drop it first")]
    TableExists { table: TableIdent },
    /// Another writer moved the offsets.
    #[error(
        "the table {table} records {found} for {partition} where this writer started from {mine}: another writer was here, and this one gives up"
    )]
    Fenced { table: TableIdent, partition: String, mine: String, found: String },
    /// Lost the race too often.
    #[error(
        "the table {table} changed {attempts} times while this commit was tried; try again when fewer writers commit to it"
    )]
    Conflict { table: TableIdent, attempts: usize },
    /// The outcome of a commit is unknown.
    #[error(
        "whether the commit {commit} of {table} stands could not be found out; try it again with the same id and files"
    )]
    CommitUnknown {
        table: TableIdent,
        commit: String,
        #[source]
        source: Cause,
    },
    /// The table's source offsets are unknown.
    #[error(
        "the table {table} is stopped, for its source offsets cannot be recovered: {why}; see the page of this code for how to go on"
    )]
    OffsetsLost { table: TableIdent, why: String },
    /// The schema or the partition spec moved on under a writer.
    #[error(
        "the {what} of {table} went from {from} to {to} since these files were written; write the rows again with the new one"
    )]
    SchemaChanged { table: TableIdent, what: &'static str, from: i32, to: i32 },
    /// An older contract revision than the table's.
    #[error("the table {table} has contract revision {have}, so revision {offered} comes too late")]
    RevisionNotNewer { table: TableIdent, have: i64, offered: i64 },
    /// A schema that cannot be.
    #[error("{what} cannot be made; correct the contract")]
    Schema {
        what: String,
        #[source]
        source: Option<Cause>,
    },
    /// Offsets that go backwards.
    #[error("the offsets of {partition} would go from {from} back to {to}; this is a defect of the writer")]
    BackwardMove { partition: String, from: i64, to: i64 },
    /// Rows that do not fit the table.
    #[error("the rows do not fit the table {table}; write them with the table's own Arrow schema")]
    Rows {
        table: TableIdent,
        #[source]
        source: Cause,
    },
    /// A change that Iceberg's rules refuse.
    #[error("the change to {table} is not a valid one ({what})")]
    Invalid {
        table: TableIdent,
        what: &'static str,
        #[source]
        source: Cause,
    },
}

impl LakehouseError {
    /// The error's code, the name of its page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "MESH-LAKEHOUSE-0001",
            Self::Unwritable { .. } => "MESH-LAKEHOUSE-0002",
            Self::DiskFull { .. } => "MESH-LAKEHOUSE-0003",
            Self::File { .. } => "MESH-LAKEHOUSE-0004",
            Self::MissingFile { .. } => "MESH-LAKEHOUSE-0005",
            Self::Corrupt { .. } => "MESH-LAKEHOUSE-0006",
            Self::CatalogLocked { .. } => "MESH-LAKEHOUSE-0007",
            Self::Catalog { .. } => "MESH-LAKEHOUSE-0008",
            Self::ForeignLayout { .. } => "MESH-LAKEHOUSE-0009",
            Self::NoSuchTable { .. } => "MESH-LAKEHOUSE-0010",
            Self::NoSuchNamespace { .. } => "MESH-LAKEHOUSE-0011",
            Self::TableExists { .. } => "MESH-LAKEHOUSE-0012",
            Self::Fenced { .. } => "MESH-LAKEHOUSE-0013",
            Self::Conflict { .. } => "MESH-LAKEHOUSE-0014",
            Self::CommitUnknown { .. } => "MESH-LAKEHOUSE-0015",
            Self::OffsetsLost { .. } => "MESH-LAKEHOUSE-0016",
            Self::SchemaChanged { .. } => "MESH-LAKEHOUSE-0017",
            Self::RevisionNotNewer { .. } => "MESH-LAKEHOUSE-0018",
            Self::Schema { .. } => "MESH-LAKEHOUSE-0019",
            Self::BackwardMove { .. } => "MESH-LAKEHOUSE-0020",
            Self::Rows { .. } => "MESH-LAKEHOUSE-0021",
            Self::Invalid { .. } => "MESH-LAKEHOUSE-0022",
            Self::OtherTable { .. } => "MESH-LAKEHOUSE-0023",
        }
    }

    /// A file operation's error, by what a person can do about it.
    pub(crate) fn file(operation: &'static str, path: impl Into<String>, error: std::io::Error) -> Self {
        Self::of_kind(Some(error.kind()), operation, path.into(), Box::new(error))
    }

    /// The same of an object store's error, which has the system's own somewhere below.
    pub(crate) fn object(operation: &'static str, path: &str, error: object_store::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut kind = None;
        while let (Some(below), None) = (cause, kind) {
            kind = below.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            cause = below.source();
        }
        if matches!(error, object_store::Error::NotFound { .. }) {
            kind = Some(Io::NotFound);
        }
        Self::of_kind(kind, operation, path.to_owned(), Box::new(error))
    }

    fn of_kind(kind: Option<Io>, operation: &'static str, path: String, source: Cause) -> Self {
        match kind {
            Some(Io::StorageFull | Io::QuotaExceeded) => Self::DiskFull { path, source },
            Some(Io::PermissionDenied | Io::ReadOnlyFilesystem) => Self::Unwritable { path, source },
            Some(Io::NotFound) => Self::MissingFile { path, source },
            _ => Self::File { operation, path, source },
        }
    }

    /// A table that is not the one that was meant.
    pub(crate) fn other_table(found: &Table, wanted: Uuid) -> Self {
        Self::OtherTable { table: found.ident().clone(), found: found.uuid(), wanted }
    }

    /// A schema that Iceberg refuses.
    pub(crate) fn schema(what: &str, source: impl Into<Cause>) -> Self {
        Self::Schema { what: what.to_owned(), source: Some(source.into()) }
    }

    /// A change that Iceberg refuses.
    pub(crate) fn invalid(table: &TableIdent, what: &'static str, source: impl Into<Cause>) -> Self {
        Self::Invalid { table: table.clone(), what, source: source.into() }
    }
}

impl mesh_runtime::Coded for LakehouseError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Config { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error as IoError;

    use super::LakehouseError;

    #[test]
    fn file_errors_say_what_a_person_can_do() {
        let code = |os: i32| LakehouseError::file("write", "file:///w/x", IoError::from_raw_os_error(os)).code();
        // ENOSPC, EDQUOT, EACCES, EROFS, ENOENT, EIO
        let codes = [28, 122, 13, 30, 2, 5].map(code);
        assert_eq!(codes.map(|c| &c[15..]), ["0003", "0003", "0002", "0002", "0005", "0004"]);
    }
}
