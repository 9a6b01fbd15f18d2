//! Every way a query can end without its answer, each with a code, a page and an HTTP status.

use axum::http::StatusCode;
use mesh_runtime::Coded;

use crate::barrier::{BarrierError, Sealed};

/// An error of the query service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    #[error("no principal has this key; send it as `Authorization: Bearer <key>`, or ask an admin for one")]
    UnknownKey,
    #[error("the mesh's {what} are not loaded yet, so no query is answered; try again shortly")]
    NotReady { what: &'static str },
    #[error("{principal} may not read {product}: {reason}; ask its owners")]
    NotAllowed { principal: String, product: String, reason: String },
    #[error("there is no table {table}{}", hint(.suggestions))]
    UnknownTable { table: String, suggestions: Vec<String> },
    #[error("the statement is no SQL at {line}:{column}: {message}")]
    Syntax { line: u64, column: u64, message: String },
    #[error("{what} is not for this endpoint, which only reads; use SELECT, EXPLAIN, SHOW or DESCRIBE")]
    Refused { what: String },
    #[error("the statement cannot be planned: {message}")]
    Plan { message: String },
    #[error("the query failed: {message}")]
    Execution { message: String },
    #[error("the query ran longer than {}; ask for less, or for fewer columns and a narrower filter", humantime::format_duration(*.after))]
    Deadline { after: std::time::Duration },
    #[error(
        "the query needs more memory than the {megabytes} MB a query may have; group by less, or select fewer columns"
    )]
    Memory { megabytes: usize },
    #[error("the audit record was not taken by the bus, so the query is refused; try again when Kafka answers")]
    Audit(#[source] Box<mesh_bus::BusError>),
    #[error("the policies cannot be evaluated for {product}; its owners must correct them")]
    Policy {
        product: String,
        #[source]
        source: Box<mesh_policy::PolicyError>,
    },
    #[error("the policies' answer about {product} cannot be applied; its owners must correct them")]
    Restriction {
        product: String,
        #[source]
        source: Box<BarrierError>,
    },
    #[error("table {table} cannot be read")]
    Table {
        table: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the table is not what its contract says: {source}")]
    Differs {
        #[source]
        source: Box<mesh_lakehouse::scan::ScanError>,
    },
    #[error(
        "no answer can be written as {accept}; accept application/json, text/csv or application/vnd.apache.arrow.stream"
    )]
    NotAcceptable { accept: String },
    #[error("CSV cannot hold the nested column `{column}`; accept JSON or Arrow, or select its parts")]
    NestedCsv { column: String },
    #[error("the request's body is not a statement: {why}; send SQL as text, or {{\"sql\": \"…\"}}")]
    Body { why: String },
    #[error("the contract of {product} cannot be understood by this version; its owners must apply it again")]
    Contract { product: String, message: String },
    #[error("a column of this answer has no form in {format}; accept an Arrow stream, or cast it")]
    Encode {
        format: &'static str,
        #[source]
        source: arrow_schema::ArrowError,
    },
    #[error("error id {id}: {}", Sealed { id: *.id })]
    Sealed { id: uuid::Uuid },
    #[error("the query broke the engine, which goes on without it; give its id to an operator")]
    Crashed,
    #[error("the statement has {found} {what}, more than the {limit} that a statement may have; ask in parts")]
    TooComplex { what: &'static str, found: usize, limit: usize },
    #[error("there is no {method} {path} here; use POST /v1/sql or GET /v1/products")]
    NoEndpoint { method: String, path: String },
    #[error("the threads that run queries cannot be started")]
    Engine(#[source] std::io::Error),
    #[error("invalid configuration: `{key}` {why}")]
    Config { key: &'static str, why: &'static str },
    #[error("the masking key {path} cannot be used: {why}; `mesh up` makes one, or write 32 random bytes in hex")]
    MaskKey { path: String, why: String },
    #[error("cannot listen on {address} for SQL; stop what uses it or choose another `http.listen`")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: mesh_runtime::RuntimeError,
    },
    #[error(transparent)]
    Runtime(#[from] mesh_runtime::RuntimeError),
    #[error(transparent)]
    Bus(#[from] mesh_bus::BusError),
    #[error(transparent)]
    Lakehouse(#[from] mesh_lakehouse::LakehouseError),
}

fn hint(suggestions: &[String]) -> String {
    match suggestions {
        [] => "; see `GET /v1/products`".to_owned(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

impl QueryError {
    /// The code of this error's page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey => "MESH-QUERY-0001",
            Self::NotReady { .. } => "MESH-QUERY-0002",
            Self::NotAllowed { .. } => "MESH-QUERY-0003",
            Self::UnknownTable { .. } => "MESH-QUERY-0004",
            Self::Syntax { .. } => "MESH-QUERY-0005",
            Self::Refused { .. } => "MESH-QUERY-0006",
            Self::Plan { .. } => "MESH-QUERY-0007",
            Self::Execution { .. } => "MESH-QUERY-0008",
            Self::Deadline { .. } => "MESH-QUERY-0009",
            Self::Memory { .. } => "MESH-QUERY-0010",
            Self::Audit(_) => "MESH-QUERY-0011",
            Self::Policy { .. } => "MESH-QUERY-0012",
            Self::Restriction { .. } => "MESH-QUERY-0013",
            Self::Table { .. } => "MESH-QUERY-0014",
            Self::NotAcceptable { .. } => "MESH-QUERY-0015",
            Self::NestedCsv { .. } => "MESH-QUERY-0016",
            Self::Body { .. } => "MESH-QUERY-0017",
            Self::Contract { .. } => "MESH-QUERY-0018",
            Self::Encode { .. } => "MESH-QUERY-0019",
            Self::Sealed { .. } => Sealed::CODE,
            Self::Config { .. } => "MESH-QUERY-0020",
            Self::MaskKey { .. } => "MESH-QUERY-0021",
            Self::Listen { .. } => "MESH-QUERY-0022",
            Self::Crashed => "MESH-QUERY-0023",
            Self::TooComplex { .. } => "MESH-QUERY-0024",
            Self::Engine(_) => "MESH-QUERY-0025",
            Self::NoEndpoint { .. } => "MESH-QUERY-0026",
            Self::Differs { .. } => "MESH-QUERY-0027",
            Self::Runtime(error) => error.code(),
            Self::Bus(error) => error.code(),
            Self::Lakehouse(error) => error.code(),
        }
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::NotAllowed { .. } => StatusCode::FORBIDDEN,
            Self::UnknownTable { .. } | Self::NoEndpoint { .. } => StatusCode::NOT_FOUND,
            Self::Syntax { .. }
            | Self::Refused { .. }
            | Self::Plan { .. }
            | Self::TooComplex { .. }
            | Self::Body { .. } => StatusCode::BAD_REQUEST,
            Self::Execution { .. } | Self::Memory { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotAcceptable { .. } | Self::NestedCsv { .. } | Self::Encode { .. } => StatusCode::NOT_ACCEPTABLE,
            Self::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::NotReady { .. } | Self::Audit(_) | Self::Bus(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the mesh is at fault, and its operators must see it in the log.
    pub fn is_ours(&self) -> bool {
        self.status().is_server_error() && !matches!(self, Self::Deadline { .. } | Self::NotReady { .. })
    }
}

impl Coded for QueryError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Config { .. } | Self::MaskKey { .. } | Self::Listen { .. } => true,
            Self::Bus(error) => Coded::is_usage(error),
            _ => false,
        }
    }
}
