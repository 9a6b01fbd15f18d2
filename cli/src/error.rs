//! What can keep a command from its answer; each names the thing, the place and the remedy.

use std::io;
use std::path::PathBuf;

use mesh_runtime::Coded;

use crate::exit::Exit;

/// An error of the command line, or one of a crate below, boxed with its own code.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("there is no mesh at {} (no mesh.toml in it); start one with `mesh up --data {}`, or name its folder with --mesh", dir.display(), dir.display())]
    NoMesh { dir: PathBuf },
    #[error("{} is not what this version of mesh wrote; {remedy}", path.display())]
    MeshFile {
        path: PathBuf,
        remedy: &'static str,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("no key for `{name}`: {} has none under [keys], and MESH_KEY is not set; known there: {known}", path.display())]
    NoKey { name: String, path: PathBuf, known: String },
    #[error(
        "cannot reach the {what} at {url}; is the mesh running? `mesh up` starts it, its logs are in the data folder's logs/"
    )]
    Unreachable {
        what: &'static str,
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service's own refusal, passed on with its code.
    #[error("{message}")]
    Refused { code: String, message: String, exit: Exit },
    #[error("there is no product `{name}`; {hint}")]
    UnknownProduct { name: String, hint: String },
    #[error(
        "no query with the id `{id}` is on mesh.spans or mesh.lineage; `mesh sql` prints the id of each answer, and what you named is no product (`domain.name`) either"
    )]
    UnknownQuery { id: String },
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}:{line}: {problem}; correct the row: {sent} rows before it were sent, no other was", path.display())]
    BadRow { path: PathBuf, line: u64, problem: String, sent: u64 },
    #[error("the {service} {what}; the end of its log ({}) says:\n{tail}", log.display())]
    ChildFailed { service: String, what: String, log: PathBuf, tail: String },
    #[error("{}:{line}: not a property; write `key=value`, and `#` before a comment", path.display())]
    BadProperty { path: PathBuf, line: usize },
    #[error("{} is not empty, and no demo made it; the demo starts a new mesh in a folder of its own: choose another with --data", dir.display())]
    DataInUse { dir: PathBuf },
    #[error(
        "the Kafka at {address} holds a mesh already, so none can begin on it in {}; run that one again with `mesh up` and its --data folder, or name a Kafka without `mesh.*` topics", dir.display()
    )]
    KafkaInUse { address: String, dir: PathBuf },
    #[error("there is no policy below {} (a `.rego` file that is no `_test.rego`), so none can judge; name a folder with policies, or leave --policies out", dir.display())]
    NoPolicies { dir: PathBuf },
    #[error("a mesh runs in {} already; stop it first (Ctrl-C where it runs), or choose another folder with --data", dir.display())]
    AlreadyUp { dir: PathBuf },
    #[error("{step} did not happen within {seconds} s; the services' logs are in {}", logs.display())]
    DemoStalled { step: String, seconds: u64, logs: PathBuf },
    #[error("the demo's {what} is {found}, where the data gives {wanted}: Meshwork is at fault, please report it with the folder {}", logs.display())]
    DemoWrong { what: String, found: String, wanted: String, logs: PathBuf },
    #[error("a service answered what this command does not understand: {problem}; are both of one version?")]
    BadAnswer { problem: String },
    #[error("the schema registry (the publisher) gave no schema id: {problem}")]
    Registry { problem: String, exit: Exit },
    #[error("{source}")]
    Pure { code: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// An error of a crate below.
    #[error("{0}")]
    Below(Box<dyn Coded + Send + Sync>),
}

impl CliError {
    /// The error's code, which names its page in `docs/errors/`.
    pub fn code(&self) -> &str {
        match self {
            Self::NoMesh { .. } => "MESH-CLI-0001",
            Self::MeshFile { .. } => "MESH-CLI-0002",
            Self::NoKey { .. } => "MESH-CLI-0003",
            Self::Unreachable { .. } => "MESH-CLI-0004",
            Self::Refused { code, .. } => code,
            Self::UnknownProduct { .. } => "MESH-CLI-0005",
            Self::UnknownQuery { .. } => "MESH-CLI-0014",
            Self::File { .. } => "MESH-CLI-0006",
            Self::BadRow { .. } => "MESH-CLI-0007",
            Self::ChildFailed { .. } => "MESH-CLI-0008",
            Self::DataInUse { .. } => "MESH-CLI-0009",
            Self::BadProperty { .. } => "MESH-CLI-0016",
            Self::KafkaInUse { .. } => "MESH-CLI-0017",
            Self::AlreadyUp { .. } => "MESH-CLI-0015",
            Self::NoPolicies { .. } => "MESH-CLI-0018",
            Self::DemoStalled { .. } => "MESH-CLI-0010",
            Self::DemoWrong { .. } => "MESH-CLI-0011",
            Self::BadAnswer { .. } => "MESH-CLI-0012",
            Self::Registry { .. } => "MESH-CLI-0013",
            Self::Pure { code, .. } => code,
            Self::Below(error) => error.code(),
        }
    }

    /// The same error; a bad row also says how many rows were sent before it.
    pub(crate) fn after(self, rows: u64) -> Self {
        match self {
            Self::BadRow { path, line, problem, .. } => Self::BadRow { path, line, problem, sent: rows },
            other => other,
        }
    }

    /// How the process ends for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoMesh { .. }
            | Self::NoKey { .. }
            | Self::DataInUse { .. }
            | Self::KafkaInUse { .. }
            | Self::AlreadyUp { .. }
            | Self::NoPolicies { .. }
            | Self::BadProperty { .. } => Exit::Usage,
            Self::UnknownProduct { .. } | Self::UnknownQuery { .. } | Self::BadRow { .. } | Self::Pure { .. } => {
                Exit::No
            }
            Self::File { .. } => Exit::Usage,
            Self::Refused { exit, .. } | Self::Registry { exit, .. } => *exit,
            Self::Below(error) if error.is_usage() => Exit::Usage,
            _ => Exit::Fault,
        }
    }
}

/// An error of a crate that knows nothing of the runtime: the pure ones.
pub trait PureError: std::error::Error + Send + Sync + 'static {
    fn page(&self) -> &'static str;
}

impl PureError for mesh_contract::ContractError {
    fn page(&self) -> &'static str {
        self.code()
    }
}

impl PureError for mesh_policy::PolicyError {
    fn page(&self) -> &'static str {
        self.code()
    }
}

/// Passes on an error of a pure crate; what they are given comes from people.
pub fn pure<E: PureError>(error: E) -> CliError {
    CliError::Pure { code: error.page(), source: Box::new(error) }
}

/// Wraps a coded error of a crate below; its source chain stays visible.
pub fn below<E: Coded + Send + Sync + 'static>(error: E) -> CliError {
    CliError::Below(Box::new(error))
}
