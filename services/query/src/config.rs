//! Configuration of query: `[bus]`, `[catalog]`, `[http]`, `[masking]`, `[limits]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_bus::BusConfig;
use mesh_lakehouse::CatalogConfig;
use mesh_runtime::config::HttpConfig;
use serde::{Deserialize, Serialize};

use crate::error::QueryError;

/// The service's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Where Kafka is.
    pub bus: BusConfig,
    /// Where the tables are.
    pub catalog: CatalogConfig,
    /// Where SQL is taken.
    #[serde(default)]
    pub http: HttpConfig,
    /// How columns are hashed.
    pub masking: MaskingConfig,
    /// What one query may take.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// `[masking]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskingConfig {
    /// A file with the mesh's key: 64 hex digits. Who has it can undo hashes by trying values.
    pub key_file: PathBuf,
}

/// Leaves room in a record of a megabyte.
const STATEMENT_BYTES: usize = 256 << 10;

/// `[limits]`: of one query.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// How long it may run. Files of expired snapshots live twice as long, so keep it at 15 minutes or less.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Bytes of memory it may hold; sorts and joins beyond it spill or fail.
    pub memory_bytes: usize,
    /// Bytes of disk that its sorts, groups and joins may spill to.
    pub spill_bytes: u64,
    /// Bytes of the statement's text, as JSON has it: audit, lineage and spans carry it, and Kafka takes a megabyte.
    pub statement_bytes: usize,
    /// Queries at a time; more wait.
    pub concurrent: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(15 * 60),
            memory_bytes: 1 << 30,
            spill_bytes: 4 << 30,
            statement_bytes: STATEMENT_BYTES,
            concurrent: 16,
        }
    }
}

impl QueryConfig {
    /// What a type cannot say.
    pub fn validate(&self) -> Result<(), QueryError> {
        let refuse = |key, why| Err(QueryError::Config { key, why });
        match &self.limits {
            limits if limits.deadline.is_zero() => refuse("limits.deadline", "must be longer than 0"),
            limits if limits.deadline > Duration::from_secs(15 * 60) => {
                refuse("limits.deadline", "must be at most 15min: files of expired snapshots go after 30")
            }
            limits if limits.memory_bytes < 1 << 20 => refuse("limits.memory_bytes", "must be at least 1048576"),
            limits if !(1..=STATEMENT_BYTES).contains(&limits.statement_bytes) => {
                refuse("limits.statement_bytes", "must be from 1 to 262144")
            }
            limits if limits.concurrent == 0 => refuse("limits.concurrent", "must be at least 1"),
            _ => Ok(()),
        }
    }
}

impl MaskingConfig {
    /// Reads the mesh's key.
    pub fn key(&self) -> Result<Arc<[u8]>, QueryError> {
        let path = self.key_file.display().to_string();
        let text = std::fs::read_to_string(&self.key_file)
            .map_err(|source| QueryError::MaskKey { path: path.clone(), why: source.to_string() })?;
        match hex::decode(text.trim()) {
            Ok(key) if key.len() == 32 => Ok(key.into()),
            _ => Err(QueryError::MaskKey { path, why: "it does not hold 64 hex digits".to_owned() }),
        }
    }
}
