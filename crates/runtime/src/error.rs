//! The errors of this crate, and the trait by which every crate's errors show their code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An error that can reach a person: it has a code, and the code has a page in `docs/errors/`.
///
/// Every error enum of the workspace has an inherent `code()`; this trait lets the runtime print any of them.
pub trait Coded: std::error::Error {
    /// `MESH-<COMPONENT>-<4 digits>`.
    fn code(&self) -> &'static str;

    /// True if the caller's input or configuration is to blame (exit code 2), not the mesh (exit code 3).
    fn is_usage(&self) -> bool {
        false
    }
}

/// Any crate's error, with its code.
#[derive(Debug)]
pub struct AnyError(Box<dyn Coded + Send + Sync>);

impl AnyError {
    pub fn new(error: impl Coded + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl std::fmt::Display for AnyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for AnyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Coded for AnyError {
    fn code(&self) -> &'static str {
        self.0.code()
    }

    fn is_usage(&self) -> bool {
        self.0.is_usage()
    }
}

/// What can go wrong around a service.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot read the configuration file {}; create it or name another with --config", path.display())]
    ConfigUnreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("unknown key `{key}` in {place}; {hint}")]
    ConfigUnknownKey {
        key: String,
        place: String,
        /// `did you mean …?` or the keys known there.
        hint: String,
    },
    #[error("invalid configuration: {message} (in {place})")]
    ConfigInvalid { message: String, place: String },
    #[error("`--set {given}` is not of the form key=value, such as --set bus.bootstrap=127.0.0.1:9092")]
    SetMalformed { given: String },
    #[error(
        "cannot listen on {address} for the {what}; stop what uses it or choose another `{key}` (port 0 picks a free one)"
    )]
    Listen {
        address: SocketAddr,
        what: &'static str,
        key: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the drain took longer than {}; cut off: {unfinished}. Work since the last commit is done again after the restart", humantime(*deadline))]
    DrainDeadline { deadline: Duration, unfinished: String },
    #[error(
        "the drain was cut off by a second signal. Work since the last commit is done again after the restart; one signal is enough if there is time"
    )]
    DrainCutOff,
    #[error("task `{task}` panicked: {message}; this is a defect in Meshwork, please report it with the lines above")]
    TaskPanicked { task: String, message: String },
    #[error(
        "task `{task}` ended though nothing stopped it; this is a defect in Meshwork, please report it with the lines above"
    )]
    TaskEnded { task: String },
    #[error("task `{task}` failed and is not restarted")]
    TaskFailed {
        task: String,
        #[source]
        source: AnyError,
    },
    #[error("spans cannot be exported: {message}; correct the OTEL_* variables or unset them")]
    Telemetry { message: String },
    #[error("the operating system refused {what}")]
    System {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl RuntimeError {
    /// The error's code, which names its page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ConfigUnreadable { .. } => "MESH-RUNTIME-0001",
            Self::ConfigUnknownKey { .. } => "MESH-RUNTIME-0002",
            Self::ConfigInvalid { .. } => "MESH-RUNTIME-0003",
            Self::SetMalformed { .. } => "MESH-RUNTIME-0004",
            Self::Listen { .. } => "MESH-RUNTIME-0005",
            Self::DrainDeadline { .. } => "MESH-RUNTIME-0006",
            Self::TaskPanicked { .. } => "MESH-RUNTIME-0007",
            Self::TaskFailed { .. } => "MESH-RUNTIME-0008",
            Self::Telemetry { .. } => "MESH-RUNTIME-0009",
            Self::System { .. } => "MESH-RUNTIME-0010",
            Self::DrainCutOff => "MESH-RUNTIME-0011",
            Self::TaskEnded { .. } => "MESH-RUNTIME-0012",
        }
    }
}

impl Coded for RuntimeError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::ConfigUnreadable { .. }
                | Self::ConfigUnknownKey { .. }
                | Self::ConfigInvalid { .. }
                | Self::SetMalformed { .. }
                | Self::Telemetry { .. }
        )
    }
}

fn humantime(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
