//! The configuration of ingest: `[bus]`, `[catalog]`, `[http]`, `[ingest]`.

use std::time::Duration;

use mesh_bus::BusConfig;
use mesh_lakehouse::CatalogConfig;
use mesh_runtime::config::HttpConfig;
use serde::{Deserialize, Serialize};

use crate::error::IngestError;

/// The service's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// Where Kafka is.
    pub bus: BusConfig,
    /// Where the tables are.
    pub catalog: CatalogConfig,
    /// Where requests for a new start come in.
    #[serde(default)]
    pub http: HttpConfig,
    /// How records become commits.
    #[serde(default)]
    pub ingest: IngestSettings,
}

/// `[ingest]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// How long after its first record a commit is made at the latest.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    /// Records after which a commit is made at once.
    pub commit_rows: usize,
    /// How long a value waits for the schema it names to be registered before it is a dead letter.
    #[serde(with = "humantime_serde")]
    pub schema_wait: Duration,
    /// How often a table looks whether its topic has new partitions, or was recreated.
    #[serde(with = "humantime_serde")]
    pub topic_check: Duration,
    /// Bytes that the reader may hold ready for all tables together.
    pub prefetch_bytes: usize,
    /// Bytes that the writers of all tables may hold together before they commit early.
    pub writer_bytes: usize,
    /// A name for this process that survives restarts: it gets its tables back at once. Unique among ingest processes.
    pub instance: Option<String>,
    /// How often a table that commits is tidied at most: snapshots expired, files deleted.
    #[serde(with = "humantime_serde")]
    pub upkeep_interval: Duration,
    /// How long after its snapshot expired a file is deleted: longer than any query runs.
    #[serde(with = "humantime_serde")]
    pub expired_files_after: Duration,
    /// How long after a process vanished its tables go to others.
    #[serde(with = "humantime_serde")]
    pub session: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(1),
            commit_rows: 65_536,
            schema_wait: Duration::from_secs(10),
            topic_check: Duration::from_secs(15),
            prefetch_bytes: 32 << 20,
            writer_bytes: 512 << 20,
            upkeep_interval: Duration::from_secs(10),
            expired_files_after: Duration::from_secs(30 * 60),
            instance: None,
            session: Duration::from_secs(6),
        }
    }
}

impl IngestConfig {
    /// What a type cannot say.
    pub fn validate(&self) -> Result<(), IngestError> {
        let refuse = |key, why| Err(IngestError::Config { key, why });
        match &self.ingest {
            ingest if ingest.commit_rows == 0 => refuse("ingest.commit_rows", "must be at least 1"),
            ingest if ingest.commit_interval.is_zero() => refuse("ingest.commit_interval", "must be longer than 0"),
            ingest if ingest.topic_check.is_zero() => refuse("ingest.topic_check", "must be longer than 0"),
            ingest if ingest.upkeep_interval.is_zero() => refuse("ingest.upkeep_interval", "must be longer than 0"),
            _ => Ok(()),
        }
    }
}
