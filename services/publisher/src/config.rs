//! What `publisher.toml` says.

use std::time::Duration;

use mesh_bus::BusConfig;
use mesh_lakehouse::CatalogConfig;
use mesh_runtime::config::HttpConfig;
use serde::{Deserialize, Serialize};

use crate::error::PublisherError;

/// The publisher's configuration, beside the runtime's own sections.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherConfig {
    pub bus: BusConfig,
    pub catalog: CatalogConfig,
    #[serde(default)]
    pub http: HttpConfig,
    #[serde(default)]
    pub bootstrap: Bootstrap,
    #[serde(default)]
    pub door: ListenerConfig,
    #[serde(default)]
    pub provision: Provision,
    #[serde(default)]
    pub topics: Topics,
    #[serde(default)]
    pub announce: Announce,
}

/// `[bootstrap]`: how the first admin of a new mesh comes in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Hex SHA-256 of the key of `admin`, which is made if no principal has the role `admin`.
    pub admin_key_sha256: Option<String>,
}

/// `[door]`: bounds of the HTTP listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerConfig {
    /// The longest document.
    pub max_body_bytes: usize,
    /// How long a request may take to send it.
    #[serde(with = "humantime_serde")]
    pub body_wait: Duration,
    /// How long an answer may wait: for Kafka to take the document, and for its verdict.
    #[serde(with = "humantime_serde")]
    pub verdict_wait: Duration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self { max_body_bytes: 1 << 20, body_wait: Duration::from_secs(10), verdict_wait: Duration::from_secs(30) }
    }
}

/// `[provision]`: how an admitted document is carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provision {
    /// How long topic and table may take, tries included; after that the document is refused, and the next one's turn.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
}

impl Default for Provision {
    fn default() -> Self {
        Self { patience: Duration::from_secs(20) }
    }
}

/// `[topics]`: what a product's topic is made like, where it does not exist yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    pub partitions: i32,
}

impl Default for Topics {
    fn default() -> Self {
        Self { partitions: 4 }
    }
}

/// `[announce]`: how often the catalog is read for changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Announce {
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
}

impl Default for Announce {
    fn default() -> Self {
        Self { poll: Duration::from_secs(1) }
    }
}

impl PublisherConfig {
    /// What the types cannot say.
    pub fn validate(&self) -> Result<(), PublisherError> {
        let invalid = |key, why| Err(PublisherError::Config { key, why });
        match &self.bootstrap.admin_key_sha256 {
            Some(hash) if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
                return invalid("bootstrap.admin_key_sha256", "it must be the 64 hex digits of a SHA-256");
            }
            _ => {}
        }
        if self.topics.partitions < 1 {
            return invalid("topics.partitions", "a topic has at least one partition");
        }
        if self.provision.patience >= self.door.verdict_wait {
            return invalid(
                "provision.patience",
                "it must be shorter than `door.verdict_wait`, so that its end is heard",
            );
        }
        if self.announce.poll < Duration::from_millis(10) {
            return invalid("announce.poll", "read the catalog at most a hundred times a second");
        }
        Ok(())
    }
}
