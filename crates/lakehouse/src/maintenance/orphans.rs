//! Orphans: files under a table's location that nothing names. Crashes and unknown commits leave them.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use object_store::path::Path;

use crate::error::Result;
use crate::table::Table;

/// A file younger than this may belong to a commit under way.
pub(super) const YOUNGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes files under the table's location that none of its metadata names and that are older than `older_than`
/// (at least 24 hours), but for `pending`: files that are to be committed yet, such as pending dead letters.
/// Returns what was deleted.
pub async fn remove_orphans(table: &Table, older_than: Duration, pending: &[String]) -> Result<Vec<String>> {
    remove(table, older_than.max(YOUNGEST), pending).await
}

async fn remove(table: &Table, older_than: Duration, pending: &[String]) -> Result<Vec<String>> {
    let store = table.store();
    // Listed before anything is looked up: what is committed meanwhile is not in the list.
    let mut old = store.list(table.metadata().location()).await?;
    let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    old.retain(|file| file.modified <= before);
    let mut named = named(table, true).await?;
    for file in pending {
        named.insert(store.object_path(file)?);
    }
    let mut removed = Vec::new();
    for file in old.into_iter().filter(|file| !named.contains(&file.path)) {
        store.delete_path(&file.path).await?;
        removed.push(format!("/{}", file.path));
    }
    Ok(removed)
}

/// Every file that the table's metadata names, its log and all snapshots included; data files if `data`.
pub(super) async fn named(table: &Table, data: bool) -> Result<HashSet<Path>> {
    let (store, metadata) = (table.store(), table.metadata());
    let mut named = versions(table)?;
    let statistics = metadata.statistics_iter().map(|s| &s.statistics_path);
    for file in statistics.chain(metadata.partition_statistics_iter().map(|s| &s.statistics_path)) {
        named.insert(store.object_path(file)?);
    }
    for snapshot in metadata.snapshots() {
        named.insert(store.object_path(snapshot.manifest_list())?);
        for file in table.manifests(snapshot).await?.iter() {
            if named.insert(store.object_path(&file.manifest_path)?) && data {
                for entry in store.manifest(file).await?.entries() {
                    named.insert(store.object_path(entry.file_path())?);
                }
            }
        }
    }
    Ok(named)
}

/// The table's metadata file, and those of its log.
pub(super) fn versions(table: &Table) -> Result<HashSet<Path>> {
    let log = table.metadata().metadata_log().iter().map(|entry| entry.metadata_file.as_str());
    log.chain([table.metadata_location()]).map(|file| table.store().object_path(file)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{Lake, rows};

    #[tokio::test]
    async fn what_nothing_names_goes_and_the_rest_stays() {
        let lake = Lake::new().await;
        let table = lake.append(&lake.table("t").await, rows(0..10)).await;
        let stray = format!("{}/data/stray.parquet", table.metadata().location());
        let pending = format!("{}/data/pending.parquet", table.metadata().location());
        for file in [&stray, &pending] {
            table.store().write_new(file, "x".into()).await.unwrap();
        }
        assert_eq!(remove_orphans(&table, Duration::ZERO, &[]).await.unwrap(), Vec::<String>::new(), "too young");
        let removed = remove(&table, Duration::ZERO, std::slice::from_ref(&pending)).await.unwrap();
        assert_eq!(removed, [crate::store::local_path(&stray).display().to_string()]);
        assert_eq!(lake.count("t").await, 10);
    }
}
