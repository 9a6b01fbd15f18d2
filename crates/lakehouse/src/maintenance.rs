//! Keeps tables small: expires snapshots, drops old metadata files, removes orphans.
//! What must never happen: an unannounced snapshot expired, a file removed that a commit may still bring in.

use std::time::Duration;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::table::Table;

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpirePolicy {
    /// Snapshots of `main` to keep at most.
    pub keep: usize,
    /// Files of expired snapshots are deleted this long after (longer than any query may run).
    pub delete_after: Duration,
}

impl Default for ExpirePolicy {
    fn default() -> Self {
        Self { keep: 600, delete_after: Duration::from_secs(30 * 60) }
    }
}

/// What an expiry did.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The table after it.
    pub table: Table,
    /// Snapshots that went.
    pub snapshots: Vec<i64>,
    /// Files nothing in the table names any more; delete them after `delete_after`.
    pub unreferenced: Vec<String>,
}

/// Expires snapshots older than the newest `keep`, none later than `last_announced` (a snapshot id of this table; `None` keeps all).
pub async fn expire(_catalog: &Catalog, _table: &Table, _policy: &ExpirePolicy, _last_announced: Option<i64>) -> Result<Expired> {
    unimplemented!()
}

/// Deletes files under the table's location that no metadata names and that are older than `older_than` (at least 24 h).
pub async fn remove_orphans(_table: &Table, _older_than: Duration) -> Result<Vec<String>> {
    unimplemented!()
}
