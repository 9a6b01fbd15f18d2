//! What `quality.toml` says.

use std::time::Duration;

use mesh_bus::BusConfig;
use mesh_lakehouse::CatalogConfig;
use serde::{Deserialize, Serialize};

use crate::error::QualityError;

/// The service's configuration, beside the runtime's own sections.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    pub bus: BusConfig,
    pub catalog: CatalogConfig,
    #[serde(default)]
    pub judge: Judge,
}

/// `[judge]`: how often, and with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Judge {
    /// A table is judged at most this often: snapshots in between are judged together.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Checks that must look at the whole table (duplicates) run at most this often, where the rule's own
    /// customProperty `interval` does not say otherwise.
    #[serde(with = "humantime_serde")]
    pub table_wide_interval: Duration,
    /// How often the clock looks at freshness.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// Tables judged at once.
    pub workers: usize,
    /// Bytes that look-ups of duplicates may hold, all tables together, before they spill to disk.
    pub memory_bytes: usize,
    /// Records of each partition of `mesh.quality` that are read back at the start. A check whose last verdict is older
    /// is judged again, under the same event id.
    pub recover_records: u32,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            table_wide_interval: Duration::from_secs(5),
            tick: Duration::from_secs(1),
            workers: 2,
            memory_bytes: 256 << 20,
            recover_records: 200_000,
        }
    }
}

impl QualityConfig {
    /// What the types cannot say.
    pub(crate) fn validate(&self) -> Result<(), QualityError> {
        let invalid = |key, why| Err(QualityError::Config { key, why });
        if self.judge.workers == 0 {
            return invalid("judge.workers", "somebody must judge: use 1 or more");
        }
        if self.judge.tick < Duration::from_millis(10) {
            return invalid("judge.tick", "look at the clock at most a hundred times a second");
        }
        if self.judge.memory_bytes < 16 << 20 {
            return invalid("judge.memory_bytes", "look-ups of duplicates need 16 MiB (16777216) at least");
        }
        Ok(())
    }
}
