//! Keeps tables small: expires snapshots, drops the files that this leaves over, removes orphans.
//! What must never happen: an unannounced snapshot expired, a file removed that a reader or a commit may still need.

mod orphans;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use iceberg::spec::{ManifestFile, SnapshotRef};

pub use orphans::remove_orphans;

use crate::catalog::Catalog;
use crate::commit::Change;
use crate::error::{LakehouseError, Result};
use crate::store::Store;
use crate::table::Table;

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpirePolicy {
    /// Snapshots of `main` to keep at most, as long as the older ones are announced.
    pub keep: usize,
    /// Delete the files of expired snapshots this long after: longer than any query may run.
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
    /// Files that nothing in the table names any more: for [`delete_files`], after [`ExpirePolicy::delete_after`].
    /// If the process dies before that, they are orphans and go with those.
    pub unreferenced: Vec<String>,
}

/// Expires snapshots of `main` beyond the newest [`ExpirePolicy::keep`], but not the last announced one nor any after it
/// (`None`, or one that `main` does not descend from, keeps all). What refs name and the snapshot whose offsets count stay too.
pub async fn expire(
    catalog: &Catalog,
    table: &Table,
    policy: &ExpirePolicy,
    last_announced: Option<i64>,
) -> Result<Expired> {
    let going = beyond(table, policy.keep, last_announced);
    if going.is_empty() {
        return Ok(Expired { table: table.clone(), snapshots: Vec::new(), unreferenced: Vec::new() });
    }
    let after = catalog.commit(table, &Change::Expire(going.clone())).await?.table;
    let gone = |id: &i64| after.metadata().snapshot_by_id(*id).is_none();
    let snapshots: Vec<i64> = going.into_iter().filter(gone).collect();
    let unreferenced = unreferenced(table, &after, &snapshots).await?;
    Ok(Expired { table: after, snapshots, unreferenced })
}

/// Deletes files; missing ones are fine.
pub async fn delete_files(store: &Store, locations: &[String]) -> Result<()> {
    for location in locations {
        store.delete(location).await?;
    }
    Ok(())
}

fn beyond(table: &Table, keep: usize, last_announced: Option<i64>) -> Vec<i64> {
    let chain: Vec<i64> = table.ancestors().map(|s| s.snapshot_id()).collect();
    let announced = last_announced.and_then(|id| chain.iter().position(|ancestor| *ancestor == id));
    match announced {
        Some(announced) => chain.into_iter().skip(keep.max(1).max(announced + 1)).collect(),
        None => Vec::new(),
    }
}

/// Manifest lists, manifests and data files that only the expired snapshots named.
async fn unreferenced(before: &Table, after: &Table, expired: &[i64]) -> Result<Vec<String>> {
    let mut kept = HashSet::new();
    let mut kept_manifests = Vec::new();
    for snapshot in after.metadata().snapshots() {
        for manifest in manifests(after, snapshot).await? {
            if kept.insert(manifest.manifest_path.clone()) {
                kept_manifests.push(manifest);
            }
        }
    }
    let mut files = Vec::new();
    let mut dropped = HashSet::new();
    for snapshot in expired.iter().filter_map(|id| before.metadata().snapshot_by_id(*id)) {
        files.push(snapshot.manifest_list().to_owned());
        for manifest in manifests(before, snapshot).await? {
            if !kept.contains(&manifest.manifest_path) && dropped.insert(manifest.manifest_path.clone()) {
                files.extend(data_files(before, &manifest).await?);
                files.push(manifest.manifest_path);
            }
        }
    }
    let mut alive = HashSet::new();
    if files.len() > expired.len() {
        for manifest in &kept_manifests {
            alive.extend(data_files(after, manifest).await?);
        }
    }
    let mut seen = HashSet::new();
    files.retain(|file| !alive.contains(file) && seen.insert(file.clone()));
    Ok(files)
}

/// A snapshot's manifests; none if another expiry was quicker and its list is gone already.
async fn manifests(table: &Table, snapshot: &SnapshotRef) -> Result<Vec<ManifestFile>> {
    match table.manifests(snapshot).await {
        Ok(manifests) => Ok(manifests.as_ref().clone()),
        Err(LakehouseError::MissingFile { .. })
            if table.metadata().current_snapshot_id() != Some(snapshot.snapshot_id()) =>
        {
            Ok(Vec::new())
        }
        Err(other) => Err(other),
    }
}

async fn data_files(table: &Table, manifest: &ManifestFile) -> Result<Vec<String>> {
    let manifest = table.store().manifest(manifest).await?;
    Ok(manifest.entries().iter().map(|entry| entry.file_path().to_owned()).collect())
}
