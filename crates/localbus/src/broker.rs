//! What all connections share: identity, topics, groups, and the word that there is housekeeping to do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::group::coordinator::Coordinator;
use crate::log::state;
use crate::topics::Topics;
use crate::{Advertised, LocalBusConfig, LocalBusError};

/// The id of the only node.
pub(crate) const NODE_ID: i32 = 1;
/// Ids are reserved in steps, so that handing one out seldom writes a file.
const PRODUCER_ID_STEP: i64 = 1000;

/// The state behind every request.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) config: LocalBusConfig,
    pub(crate) cluster_id: StrBytes,
    pub(crate) advertised: Advertised,
    pub(crate) topics: Topics,
    pub(crate) groups: Arc<Coordinator>,
    /// Woken when a segment was begun or settings changed: deadlines of housekeeping may have moved.
    pub(crate) housekeeping: Notify,
    producer_ids: ProducerIds,
    storage_failing: AtomicBool,
}

/// The bus's description file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    cluster_id: String,
    /// Producer ids below this one may have been handed out.
    next_producer_id: i64,
}

fn description_path(data: &Path) -> PathBuf {
    data.join("bus.json")
}

impl Broker {
    /// Opens everything in the data folder. `addr` is the address listened on.
    pub(crate) fn open(config: LocalBusConfig, addr: SocketAddr) -> Result<Self, LocalBusError> {
        let path = description_path(&config.data);
        let fresh = || Description { cluster_id: new_cluster_id(), next_producer_id: 0 };
        let description: Description = state::load(&path)?.unwrap_or_else(fresh);
        let store = state::store(&path, &description);
        store.map_err(|source| LocalBusError::Folder { action: "write", path: path.clone(), source })?;
        let topics = Topics::open(config.data.join("topics"))?;
        let groups = Arc::new(Coordinator::open(config.data.join("offsets"))?);
        let local = Advertised { host: addr.ip().to_string(), port: addr.port() };
        Ok(Self {
            cluster_id: StrBytes::from_string(description.cluster_id.clone()),
            advertised: config.advertised.clone().unwrap_or(local),
            producer_ids: ProducerIds::new(path, description, topics.highest_producer_id()),
            topics,
            groups,
            housekeeping: Notify::new(),
            storage_failing: AtomicBool::new(false),
            config,
        })
    }

    /// A producer id that was never given before.
    pub(crate) fn next_producer_id(&self) -> std::io::Result<i64> {
        self.producer_ids.next()
    }

    /// Logs that storage fails once, and that it works again once, however many requests notice.
    pub(crate) fn note_storage<T>(&self, result: Result<T, &std::io::Error>) {
        match result {
            Ok(_) => {
                if self.storage_failing.load(Ordering::Relaxed) && self.storage_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("log write recovered");
                }
            }
            Err(source) => {
                if !self.storage_failing.swap(true, Ordering::Relaxed) {
                    let code = "MESH-LOCALBUS-0008";
                    tracing::error!(code, error = %source, "log write failed");
                }
            }
        }
    }
}

/// A new id the way Kafka writes them: a UUID as 22 characters of URL-safe base64, never mistaken for an option.
fn new_cluster_id() -> String {
    let id = URL_SAFE_NO_PAD.encode(Uuid::new_v4());
    if id.starts_with('-') { new_cluster_id() } else { id }
}

#[derive(Debug)]
struct ProducerIds {
    path: PathBuf,
    next: AtomicI64,
    reserved: std::sync::Mutex<Description>,
}

impl ProducerIds {
    fn new(path: PathBuf, description: Description, highest_seen: Option<i64>) -> Self {
        let next = description.next_producer_id.max(highest_seen.map_or(0, |id| id + 1));
        let reserved = std::sync::Mutex::new(Description { next_producer_id: next, ..description });
        Self { path, next: AtomicI64::new(next), reserved }
    }

    fn next(&self) -> std::io::Result<i64> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut reserved = crate::log::lock(&self.reserved);
        if id >= reserved.next_producer_id {
            let more = Description { next_producer_id: id + PRODUCER_ID_STEP, ..reserved.clone() };
            state::store(&self.path, &more)?;
            *reserved = more;
        }
        Ok(id)
    }
}
