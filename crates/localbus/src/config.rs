//! What the caller decides about a bus: where it listens, where it keeps its data, what it admits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one bus. [`LocalBusConfig::new`] gives the defaults that suit a laptop.
#[derive(Debug, Clone)]
pub struct LocalBusConfig {
    /// Where to listen; port 0 lets the system pick a free one (see [`crate::RunningBus::addr`]).
    pub listen: SocketAddr,
    /// The folder that holds everything; created if absent, used by one bus at a time.
    pub data: PathBuf,
    /// Listening beyond loopback is refused unless this is set: the bus has neither TLS nor authentication.
    pub allow_remote: bool,
    /// The `host:port` that clients connect to; `None` means the address listened on.
    pub advertised: Option<Advertised>,
    /// Producing to, or asking about, an unknown topic creates it with [`LocalBusConfig::default_partitions`].
    pub auto_create_topics: bool,
    /// Partitions of a topic created without a number.
    pub default_partitions: i32,
    /// A longer request closes its connection.
    pub max_request_bytes: usize,
    /// Further connections are closed at once.
    pub max_connections: usize,
    /// A connection on which no whole request comes for so long is closed.
    pub idle: Duration,
    /// Retention and compaction look at a segment no sooner than this after its last write.
    pub cleanup_delay: Duration,
}

/// The address in metadata answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Host name or address as clients reach it.
    pub host: String,
    /// Port as clients reach it.
    pub port: u16,
}

impl LocalBusConfig {
    /// Defaults for a bus at `listen` with its data in `data`.
    pub fn new(listen: SocketAddr, data: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            data: data.into(),
            allow_remote: false,
            advertised: None,
            auto_create_topics: true,
            default_partitions: 1,
            max_request_bytes: 100 * 1024 * 1024,
            max_connections: 1000,
            // As Kafka's connections.max.idle.ms.
            idle: Duration::from_secs(600),
            cleanup_delay: Duration::from_secs(10),
        }
    }
}
