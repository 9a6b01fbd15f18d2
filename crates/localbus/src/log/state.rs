//! What a partition knows beyond its batches: where it starts and how far it is compacted. One small file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::LocalBusError;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PartitionState {
    /// Records before this offset were deleted.
    pub(crate) log_start: i64,
    /// No two records before this offset share a key.
    pub(crate) cleaned_to: i64,
    /// The tombstones that go once their time is over.
    pub(crate) tombstones: Option<Tombstones>,
}

/// Tombstones that outlived a compaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstones {
    /// All before this offset.
    pub(crate) before: i64,
    /// Since when everything before that offset is compacted.
    pub(crate) since_ms: i64,
}

pub(crate) fn state_path(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Reads a description; `None` if there is no such file.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LocalBusError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LocalBusError::Folder { action: "read", path: path.to_owned(), source }),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| LocalBusError::Description { path: path.to_owned(), source })
}

/// Replaces a description in one step: a crash leaves the old or the new one.
pub(crate) fn store<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.sync_data()?;
    std::fs::rename(&next, path)
}
