//! Keeps tables small: expires snapshots, deletes the files that this leaves over, removes orphans.
//! Never: an unannounced snapshot expired, a file removed that a reader or a commit may still need.
//!
//! - `upkeep`: the rounds that a table gets while it is fed.
//! - `orphans`: what nothing names, anywhere under a table's location.

mod orphans;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
mod upkeep;

use std::collections::HashSet;
use std::time::Duration;

use iceberg::spec::{ManifestFile, Operation, SnapshotRef};

pub use orphans::remove_orphans;
pub use upkeep::{TableUpkeep, UpkeepRound};

use crate::catalog::Catalog;
use crate::commit::Change;
use crate::error::{LakehouseError, Result};
use crate::store::Store;
use crate::summary;
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

impl ExpirePolicy {
    /// With as many snapshots as the table's own property says (`history.expire.min-snapshots-to-keep`).
    #[must_use]
    pub fn of(mut self, table: &Table) -> Self {
        let own = table.property(summary::KEPT_SNAPSHOTS).and_then(|text| text.parse().ok());
        self.keep = own.filter(|keep| *keep > 0).unwrap_or(self.keep);
        self
    }
}

/// How far a table's snapshots are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncedUpTo {
    /// The table's snapshots are not announced at all (dead letters): none has to wait.
    NotAnnounced,
    /// Nothing yet.
    Nothing,
    /// Up to this snapshot, of this sequence number.
    Snapshot { id: i64, sequence_number: i64 },
}

impl AnnouncedUpTo {
    /// The number up to which sequence numbers are announced. One that was rolled back is announced with the head.
    fn sequence_number(self, table: &Table) -> i64 {
        let head = table.metadata().current_snapshot_id();
        match self {
            Self::NotAnnounced => i64::MAX,
            Self::Snapshot { id, .. } if head == Some(id) => table.metadata().last_sequence_number(),
            Self::Snapshot { sequence_number, .. } => sequence_number,
            Self::Nothing => 0,
        }
    }
}

/// What an expiry did.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The table after it.
    pub table: Table,
    /// Snapshots that are expired.
    pub snapshots: Vec<i64>,
    /// Files that nothing in the table names any more: for [`delete_files`], after [`ExpirePolicy::delete_after`].
    /// If the process dies before that, the next one finds them again: it looks for files that nothing names.
    pub unreferenced: Vec<String>,
}

/// Expires snapshots of `main` beyond the newest [`ExpirePolicy::keep`], but not the last announced one nor any after it
/// (an announced one that `main` does not descend from keeps all). Snapshots outside `main` that are older than all that
/// stays expire with them. What refs name and the snapshot whose offsets count stay too.
pub async fn expire(
    catalog: &Catalog,
    table: &Table,
    policy: &ExpirePolicy,
    announced: AnnouncedUpTo,
) -> Result<Expired> {
    let expiring = beyond(table, policy.keep, announced);
    if expiring.is_empty() {
        return Ok(Expired { table: table.clone(), snapshots: Vec::new(), unreferenced: Vec::new() });
    }
    let after = catalog.apply(table, &Change::expire(expiring.clone())).await.into_result()?.table;
    let expired = |id: &i64| after.metadata().snapshot_by_id(*id).is_none();
    let snapshots: Vec<i64> = expiring.into_iter().filter(expired).collect();
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

fn beyond(table: &Table, keep: usize, announced: AnnouncedUpTo) -> Vec<i64> {
    let chain: Vec<&SnapshotRef> = table.ancestors().collect();
    let announced = match announced {
        AnnouncedUpTo::NotAnnounced => Some(0),
        AnnouncedUpTo::Nothing => None,
        AnnouncedUpTo::Snapshot { id, .. } => chain.iter().position(|ancestor| ancestor.snapshot_id() == id),
    };
    let Some(announced) = announced else { return Vec::new() };
    let kept = keep.max(1).max(announced + 1);
    let Some(oldest) = chain.get(kept - 1).map(|s| s.sequence_number()) else { return Vec::new() };
    let on_main: HashSet<i64> = chain.iter().map(|s| s.snapshot_id()).collect();
    let beside = |s: &&SnapshotRef| s.sequence_number() < oldest && !on_main.contains(&s.snapshot_id());
    let beside = table.metadata().snapshots().filter(beside).map(|s| s.snapshot_id());
    chain.iter().skip(kept).map(|s| s.snapshot_id()).chain(beside).collect()
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
    let with_data = removed_data(before, expired);
    let mut files = Vec::new();
    let mut dropped = HashSet::new();
    for snapshot in expired.iter().filter_map(|id| before.metadata().snapshot_by_id(*id)) {
        files.push(snapshot.manifest_list().to_owned());
        for manifest in manifests(before, snapshot).await? {
            if !kept.contains(&manifest.manifest_path) && dropped.insert(manifest.manifest_path.clone()) {
                if with_data {
                    files.extend(data_files(before, &manifest).await?);
                }
                files.push(manifest.manifest_path);
            }
        }
    }
    let mut alive = HashSet::new();
    if with_data {
        for manifest in &kept_manifests {
            alive.extend(data_files(after, manifest).await?);
        }
    }
    let mut listed = HashSet::new();
    files.retain(|file| !alive.contains(file) && listed.insert(file.clone()));
    Ok(files)
}

/// Whether a data file may be left over. In a history of appends alone every file is still in the table: then manifests
/// need not be read, of which a large table has many.
fn removed_data(before: &Table, expired: &[i64]) -> bool {
    let mut on_main = HashSet::new();
    let mut appends = true;
    for snapshot in before.ancestors() {
        on_main.insert(snapshot.snapshot_id());
        appends &= snapshot.summary().operation == Operation::Append;
    }
    !appends || expired.iter().any(|id| !on_main.contains(id))
}

/// A snapshot's manifests; none if another expiry was quicker and its list is deleted already.
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
