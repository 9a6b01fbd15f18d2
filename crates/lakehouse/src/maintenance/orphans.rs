//! Orphans: files under a table's location that nothing names. Crashes and unknown commits leave them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{LakehouseError, Result};
use crate::store::{self, blocking};
use crate::table::Table;

/// A file younger than this may belong to a commit under way.
const YOUNGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes files under the table's location that none of its metadata names and that are older than `older_than`
/// (at least 24 hours), but for `pending`: files that are to be committed yet, such as pending dead letters.
/// Returns what went.
pub async fn remove_orphans(table: &Table, older_than: Duration, pending: &[String]) -> Result<Vec<String>> {
    remove(table, older_than.max(YOUNGEST), pending).await
}

async fn remove(table: &Table, older_than: Duration, pending: &[String]) -> Result<Vec<String>> {
    let location = table.metadata().location().to_owned();
    // Listed before anything is looked up: what is committed meanwhile is not in the list.
    let root = store::local_path(&location);
    let old = blocking("list", &location, move || old_files(&root, older_than)).await?;
    let mut named = named(table).await?;
    named.extend(pending.iter().map(|file| store::local_path(file)));
    let mut removed = Vec::new();
    for path in old.into_iter().filter(|path| !named.contains(path)) {
        let location = path.display().to_string();
        table.store().delete(&location).await?;
        removed.push(location);
    }
    Ok(removed)
}

/// Every file that the table's metadata names, its log and all snapshots included.
async fn named(table: &Table) -> Result<HashSet<PathBuf>> {
    let metadata = table.metadata();
    let mut named = HashSet::from([store::local_path(table.metadata_location())]);
    named.extend(metadata.metadata_log().iter().map(|entry| store::local_path(&entry.metadata_file)));
    named.extend(metadata.statistics_iter().map(|s| store::local_path(&s.statistics_path)));
    named.extend(metadata.partition_statistics_iter().map(|s| store::local_path(&s.statistics_path)));
    for snapshot in metadata.snapshots() {
        named.insert(store::local_path(snapshot.manifest_list()));
        for file in table.manifests(snapshot).await?.iter() {
            if named.insert(store::local_path(&file.manifest_path)) {
                let manifest = table.store().manifest(file).await?;
                named.extend(manifest.entries().iter().map(|entry| store::local_path(entry.file_path())));
            }
        }
    }
    Ok(named)
}

fn old_files(root: &Path, older_than: Duration) -> Result<Vec<PathBuf>> {
    let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut old = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |e| LakehouseError::file("list", folder.display().to_string(), e);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let meta = entry.metadata().map_err(failed)?;
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.modified().map_err(failed)? < before {
                old.push(entry.path());
            }
        }
    }
    Ok(old)
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
        assert_eq!(removed, [store::local_path(&stray).display().to_string()]);
        assert_eq!(lake.count("t").await, 10);
    }
}
