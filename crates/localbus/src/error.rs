//! What can go wrong with a bus as a whole. What goes wrong with one request is a Kafka error code to its client.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a bus could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalBusError {
    /// Another process listens there.
    #[error("cannot listen on {addr}: choose another port, port 0 for any free one, or stop the process that has it")]
    Listen {
        /// The configured address.
        addr: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The address is reachable from other machines and the caller did not ask for that.
    #[error(
        "{addr} is reachable from other machines, and the local bus has no authentication: listen on 127.0.0.1, or allow remote clients explicitly"
    )]
    NotLoopback {
        /// The configured address.
        addr: SocketAddr,
    },
    /// A file or folder of the bus cannot be created, read or written.
    #[error("cannot {action} {path}: check that the folder exists, is yours and has space")]
    Folder {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Another bus has the folder.
    #[error("{path} is in use by another local bus: stop that one, or choose another folder")]
    Locked {
        /// The data folder.
        path: PathBuf,
    },
    /// Bytes in the middle of a log do not match their checksum.
    #[error(
        "{path} is damaged at byte {position} of {size}: restore the file, or delete the topic's folder to give up its records"
    )]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where the first bad batch starts.
        position: u64,
        /// Length of the file.
        size: u64,
    },
    /// A description file of the bus cannot be understood.
    #[error("{path} cannot be read as a local bus description: restore it, or start with an empty folder")]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The system gave the bus no threads.
    #[error("cannot start the threads of the local bus: raise the limit of processes or stop some")]
    Thread(#[source] std::io::Error),
    /// The bus's own thread died.
    #[error("the local bus stopped before it was ready: see the log for the first error")]
    Stopped,
}

impl LocalBusError {
    /// The code under which `docs/errors/` explains this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "MESH-LOCALBUS-0001",
            Self::NotLoopback { .. } => "MESH-LOCALBUS-0002",
            Self::Folder { .. } => "MESH-LOCALBUS-0003",
            Self::Locked { .. } => "MESH-LOCALBUS-0004",
            Self::Damaged { .. } => "MESH-LOCALBUS-0005",
            Self::Description { .. } => "MESH-LOCALBUS-0006",
            Self::Thread(_) => "MESH-LOCALBUS-0011",
            Self::Stopped => "MESH-LOCALBUS-0007",
        }
    }
}

impl mesh_runtime::Coded for LocalBusError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Listen { .. } | Self::NotLoopback { .. } | Self::Locked { .. })
    }
}
