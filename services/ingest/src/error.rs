//! What stops ingest, or one of its tables. A dead letter is no error: it has a reason ([`crate::pipeline::refusal`]).

use arrow_schema::ArrowError;
use mesh_bus::BusError;
use mesh_contract::ContractError;
use mesh_runtime::Coded;

/// An error of ingest.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A setting out of range.
    #[error("`{key}` {why}; correct it in the configuration")]
    Config { key: &'static str, why: &'static str },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Catalog, files or a commit failed.
    #[error(transparent)]
    Lakehouse(#[from] mesh_lakehouse::LakehouseError),
    /// An active contract that this version cannot read.
    #[error("the active contract {contract} cannot be read; its table {table} is not fed. Submit a corrected revision")]
    Contract {
        contract: String,
        table: String,
        #[source]
        source: Box<ContractError>,
    },
    /// A constraint that cannot be compiled.
    #[error("the constraint at `{place}` cannot be run: {why}; correct the contract")]
    Constraint { place: String, why: String },
    /// A contract that asks for what ingest does not do yet.
    #[error("table {table} is stopped: {what} is not supported yet; change the contract")]
    Unsupported { table: String, what: &'static str },
    /// The topic is another one than the table was fed from.
    #[error(
        "table {table} is stopped: its offsets are of topic id {recorded}, but `{topic}` now has the id {found}: it was deleted and created again, or is on another cluster. To read the new one from its beginning: `mesh ingest rebase {product}`"
    )]
    TopicRecreated { product: String, table: String, topic: String, recorded: String, found: String },
    /// The log no longer holds what comes next.
    #[error(
        "table {table} is stopped: record {offset} of `{topic}` partition {partition} comes next, but the log holds [{low}, {high}): records were deleted unread, or the topic was cut. To go on with what is there: `mesh ingest rebase {product}`"
    )]
    OffsetGone { product: String, table: String, topic: String, partition: i32, offset: i64, low: i64, high: i64 },
    /// A writer's schema has more than a closed contract.
    #[error(
        "table {table} is stopped: schema {schema} has fields that the closed contract lacks ({fields}); add them to the contract, or write without them"
    )]
    ClosedContract { table: String, schema: u32, fields: String },
    /// The entry that names a commit's dead letters cannot be read.
    #[error("table {table} is stopped: its summary's mesh.dead-letters-pending cannot be read")]
    Pending {
        table: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The dead-letter table was set back, or replaced.
    #[error(
        "the dead-letter table {table} records {found} for partition {partition}, but its table has committed dead letters up to {wanted}: it was rolled back or replaced. Set its main branch forward again, or accept the loss: `mesh ingest rebase`"
    )]
    DeadLettersBehind { table: String, partition: i32, found: String, wanted: i64 },
    /// A kernel failed on a batch: a defect.
    #[error("a batch for table {table} could not be made; this is a defect in Meshwork, please report it")]
    Columns {
        table: String,
        #[source]
        source: ArrowError,
    },
    /// The table has fewer columns than the contract.
    #[error(
        "table {table} in the catalog has no column `{column}`, which revision {revision} of its contract has: another program dropped it, or the catalog is older than the contract. Submit a new revision of the contract"
    )]
    ColumnMissing { table: String, column: String, revision: i64 },
    /// The door does not know the key.
    #[error(
        "the request carries no key of a principal of this mesh; send `Authorization: Bearer KEY`, as `mesh --as NAME` does"
    )]
    UnknownKey,
    /// The door knows who it is, and that this is not enough.
    #[error(
        "{principal} may not give {product} a new start; ask an admin of the domain `{domain}`, or of the platform"
    )]
    Forbidden { principal: String, product: String, domain: String },
    /// No active contract of that name.
    #[error("there is no active product {product}; `mesh products` lists what there is")]
    NoSuchProduct { product: String },
    /// A new start that cannot be.
    #[error("table {table} cannot start there: {why}")]
    Start { table: String, why: String },
    /// A request that cannot be read.
    #[error("the request cannot be read: {why}; send JSON such as {{\"product\": \"domain.name\"}}")]
    Request { why: String },
    /// A message of the bus that cannot be written.
    #[error(transparent)]
    Proto(#[from] mesh_proto::ProtoError),
    /// The door cannot listen.
    #[error(transparent)]
    Runtime(#[from] mesh_runtime::RuntimeError),
    /// A task of ours ended before its time.
    #[error("{what} has ended; restart the service")]
    Stopped { what: &'static str },
}

impl IngestError {
    /// The error's code, which names its page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bus(error) => error.code(),
            Self::Lakehouse(error) => error.code(),
            Self::Proto(error) => error.code(),
            Self::Runtime(error) => error.code(),
            Self::Config { .. } => "MESH-INGEST-0001",
            Self::Contract { .. } => "MESH-INGEST-0002",
            Self::Constraint { .. } => "MESH-INGEST-0003",
            Self::Unsupported { .. } => "MESH-INGEST-0004",
            Self::TopicRecreated { .. } => "MESH-INGEST-0005",
            Self::OffsetGone { .. } => "MESH-INGEST-0006",
            Self::ClosedContract { .. } => "MESH-INGEST-0007",
            Self::Pending { .. } => "MESH-INGEST-0008",
            Self::Columns { .. } => "MESH-INGEST-0009",
            Self::Stopped { .. } => "MESH-INGEST-0011",
            Self::ColumnMissing { .. } => "MESH-INGEST-0012",
            Self::DeadLettersBehind { .. } => "MESH-INGEST-0013",
            Self::UnknownKey => "MESH-INGEST-0020",
            Self::Forbidden { .. } => "MESH-INGEST-0021",
            Self::NoSuchProduct { .. } => "MESH-INGEST-0022",
            Self::Start { .. } => "MESH-INGEST-0023",
            Self::Request { .. } => "MESH-INGEST-0024",
        }
    }
}

impl Coded for IngestError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Bus(error) => error.is_usage(),
            Self::Lakehouse(error) => error.is_usage(),
            Self::Runtime(error) => error.is_usage(),
            Self::Config { .. } => true,
            _ => false,
        }
    }
}
