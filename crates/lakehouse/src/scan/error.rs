//! What can keep a table from being read, each with a code and a page in `docs/errors/`.

/// A table, snapshot or file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The snapshot is not in the table's metadata: it was expired, or belongs to another table.
    #[error("table {table} has no snapshot {snapshot_id}; it may have been expired")]
    NoSuchSnapshot {
        /// `namespace.name`.
        table: String,
        /// The snapshot of the request.
        snapshot_id: i64,
    },
    /// `from` is no ancestor of `to`, or a snapshot between them was expired.
    #[error(
        "table {table}: snapshot {from} is no ancestor of {to} that can still be reached; \
         read from the table's start, or from a snapshot that its history still has"
    )]
    BrokenRange {
        /// `namespace.name`.
        table: String,
        /// Exclusive start of the range.
        from: i64,
        /// Inclusive end.
        to: i64,
    },
    /// Row-level deletes are not applied yet, so a table that has them cannot be read rightly.
    #[error(
        "table {table} has delete file {path}, which this version cannot apply; \
         compact the table with the engine that wrote it"
    )]
    DeleteFile {
        /// `namespace.name`.
        table: String,
        /// The delete file.
        path: String,
    },
    /// A data file that is not Parquet.
    #[error("table {table}: data file {path} is {format}; only Parquet is read")]
    NotParquet {
        /// `namespace.name`.
        table: String,
        /// The data file.
        path: String,
        /// What it is.
        format: String,
    },
    /// A data file without field ids: after a rename its columns could be mixed up.
    #[error(
        "a data file's columns {columns:?} carry no Iceberg field ids, and the table has no name mapping; \
         set `schema.name-mapping.default`, or rewrite the file with an Iceberg writer"
    )]
    NoFieldIds {
        /// The columns as the file names them.
        columns: Vec<String>,
    },
    /// A file's column has a type that Iceberg does not allow to become the table's.
    #[error(
        "column `{column}` is {found} in a data file and {wanted} in the table, which is no promotion that Iceberg knows"
    )]
    NoPromotion {
        /// The table's name for it.
        column: String,
        /// The file's type.
        found: String,
        /// The table's type.
        wanted: String,
    },
    /// A column that must have a value is in the table's schema but not in an older file.
    #[error("required column `{column}` is missing in a data file; make it optional, or rewrite the file")]
    RequiredMissing {
        /// The table's name for it.
        column: String,
    },
    /// A column that the table does not have.
    #[error("table {table} has no column `{column}`")]
    NoSuchColumn {
        /// `namespace.name`.
        table: String,
        /// The name of the request.
        column: String,
    },
    /// A column of the contract is not in the table any more.
    #[error(
        "table {table}: another engine dropped the contract's column `{column}`; roll the table back to a schema that \
         has it, or publish the contract as a new major version"
    )]
    ColumnDropped {
        /// `namespace.name`.
        table: String,
        /// The contract's name for it.
        column: String,
    },
    /// Another field has the name of a contract's column.
    #[error(
        "table {table}: another engine renamed the contract's column `{column}`, which is called `{called}` there; \
         rename `{called}` back to `{column}`"
    )]
    ColumnMoved {
        /// `namespace.name`.
        table: String,
        /// The contract's name for it.
        column: String,
        /// The table's name for its field.
        called: String,
    },
    /// A value of a widened column does not fit the contract's type.
    #[error(
        "another engine widened column `{column}` to {found} and wrote a value that the contract's {wanted} cannot \
         hold; correct the value, or apply a contract with the wider type"
    )]
    TooWide {
        /// The contract's name for it.
        column: String,
        /// The file's type.
        found: String,
        /// The contract's type.
        wanted: String,
    },
    /// The table's name mapping cannot be read.
    #[error("table {table}: the property `schema.name-mapping.default` is no name mapping; correct or remove it")]
    NameMapping {
        /// `namespace.name`.
        table: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The schema cannot be expressed in Arrow.
    #[error("table {table}: its schema has no Arrow form")]
    Schema {
        /// `namespace.name`.
        table: String,
        /// What Iceberg's conversion says.
        #[source]
        source: Box<iceberg::Error>,
    },
    /// Planning or reading failed.
    #[error("table {table} cannot be read")]
    Engine {
        /// `namespace.name`.
        table: String,
        /// What DataFusion says.
        #[source]
        source: Box<datafusion::error::DataFusionError>,
    },
    /// Manifests or paths could not be read.
    #[error(transparent)]
    Lakehouse(#[from] Box<crate::LakehouseError>),
}

impl ScanError {
    /// The error's code, the name of its page.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchSnapshot { .. } => "MESH-LAKEHOUSE-0050",
            Self::BrokenRange { .. } => "MESH-LAKEHOUSE-0051",
            Self::DeleteFile { .. } => "MESH-LAKEHOUSE-0052",
            Self::NotParquet { .. } => "MESH-LAKEHOUSE-0053",
            Self::NoFieldIds { .. } => "MESH-LAKEHOUSE-0054",
            Self::NoPromotion { .. } => "MESH-LAKEHOUSE-0055",
            Self::RequiredMissing { .. } => "MESH-LAKEHOUSE-0056",
            Self::NoSuchColumn { .. } => "MESH-LAKEHOUSE-0057",
            Self::Schema { .. } => "MESH-LAKEHOUSE-0058",
            Self::Engine { .. } => "MESH-LAKEHOUSE-0059",
            Self::ColumnDropped { .. } => "MESH-LAKEHOUSE-0061",
            Self::ColumnMoved { .. } => "MESH-LAKEHOUSE-0062",
            Self::TooWide { .. } => "MESH-LAKEHOUSE-0063",
            Self::NameMapping { .. } => "MESH-LAKEHOUSE-0064",
            Self::Lakehouse(error) => error.code(),
        }
    }
}

impl From<crate::LakehouseError> for ScanError {
    fn from(error: crate::LakehouseError) -> Self {
        Self::Lakehouse(Box::new(error))
    }
}

impl From<ScanError> for datafusion::error::DataFusionError {
    fn from(error: ScanError) -> Self {
        Self::External(Box::new(error))
    }
}
