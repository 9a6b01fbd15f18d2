//! The rounds that keep one table's metadata folder small.
//!
//! In: the table, and how far its snapshots are announced. Out: snapshots expired, files deleted, and when to come again.
//! - Retired metadata files, those that the log names no more, are deleted once all that they hold is announced.
//! - Files of expired snapshots are deleted [`ExpirePolicy::delete_after`] later. What is due is remembered in memory only:
//!   a process that starts looks for files that nothing names, and waits as long again.
//! - Of files that no snapshot ever named (crashes, lost and unknown commits), those with our names are deleted likewise
//!   once the table has moved on: a commit that stands on an earlier version is refused. Others wait for 24 hours, since
//!   foreign engines use manifests again when they retry.
//!
//! Never: a file deleted that this version of the table names, or that a commit under way may name.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use iceberg::MetadataLocation;
use object_store::path::Path;
use uuid::Uuid;

use super::orphans::{YOUNGEST, named, versions};
use super::{AnnouncedUpTo, ExpirePolicy, expire};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::store::Listed;
use crate::table::Table;

/// How often all files that nothing names are looked for: reading every manifest list costs more than a round.
const SEARCH_EVERY: Duration = Duration::from_secs(60 * 60);

/// What is remembered of a table between two rounds.
#[derive(Debug)]
pub struct TableUpkeep {
    policy: ExpirePolicy,
    /// Files of the metadata folder that nothing names.
    left_over: HashMap<Path, LeftOver>,
    /// Retired metadata files, with the table's sequence number when they were found.
    retired: HashMap<Path, i64>,
    searched: Option<Instant>,
    /// The version after the last round, and how far it was announced then.
    last: Option<(String, AnnouncedUpTo)>,
}

/// A file that nothing names.
#[derive(Debug)]
struct LeftOver {
    since: Instant,
    /// The table's version when it was found; `None` for a file of an expired snapshot.
    found_at: Option<String>,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct UpkeepRound {
    /// Snapshots that were expired.
    pub expired: usize,
    /// Files that were deleted.
    pub deleted: usize,
    /// When the next file is due, if any is known.
    pub next: Option<Duration>,
    /// Metadata files wait for snapshots to be announced.
    pub waits: bool,
}

impl TableUpkeep {
    /// Nothing is known yet.
    pub fn new(policy: ExpirePolicy) -> Self {
        Self { policy, left_over: HashMap::new(), retired: HashMap::new(), searched: None, last: None }
    }

    /// One round. Running it twice, or from two processes, does no harm.
    pub async fn round(&mut self, catalog: &Catalog, table: &Table, announced: AnnouncedUpTo) -> Result<UpkeepRound> {
        let started = Instant::now();
        if !self.has_work(table, announced, started) {
            return Ok(UpkeepRound { next: self.next_due(started), ..UpkeepRound::default() });
        }
        let policy = self.policy.clone().of(table);
        let expired = expire(catalog, table, &policy, announced).await?;
        let now = Instant::now();
        for file in &expired.unreferenced {
            let path = table.store().object_path(file)?;
            self.left_over.insert(path, LeftOver { since: now, found_at: None });
        }
        let folder = format!("{}/metadata", table.metadata().location());
        let listed = table.store().list(&folder).await?;
        // Loaded after the list: whatever is in the list and not named by this version was not committed so far.
        let table = catalog.load_table(table.ident(), table.uuid()).await?;
        self.find_retired(&table, &listed)?;
        self.search(&table, &listed, now).await?;
        let mut deleted = self.delete_retired(&table, announced).await?;
        deleted += self.delete_left_over(&table, &listed, now).await?;
        self.last = Some((table.metadata_location().to_owned(), announced));
        let (next, waits) = (self.next_due(now), !self.retired.is_empty());
        Ok(UpkeepRound { expired: expired.snapshots.len(), deleted, next, waits })
    }

    /// A table that did not change needs nothing but what is due.
    fn has_work(&self, table: &Table, announced: AnnouncedUpTo, now: Instant) -> bool {
        let changed = self.last.as_ref().is_none_or(|last| *last != (table.metadata_location().to_owned(), announced));
        let search = self.searched.is_none_or(|searched| now.duration_since(searched) >= SEARCH_EVERY);
        changed || search || !self.retired.is_empty() || self.next_due(now) == Some(Duration::ZERO)
    }

    /// When the next file of an expired snapshot is due. Others wait for the table to move on, or for a day.
    fn next_due(&self, now: Instant) -> Option<Duration> {
        let expired = self.left_over.values().filter(|left| left.found_at.is_none());
        expired.map(|left| (left.since + self.policy.delete_after).saturating_duration_since(now)).min()
    }

    /// Metadata files that are older than all that the log names.
    fn find_retired(&mut self, table: &Table, listed: &[Listed]) -> Result<()> {
        let named = versions(table)?;
        let oldest = named.iter().filter_map(version).min().unwrap_or_default();
        let sequence_number = table.metadata().last_sequence_number();
        let files = listed.iter().map(|file| &file.path).filter(|path| !named.contains(*path));
        let retired = files.filter(|path| version(path).is_some_and(|version| version < oldest));
        let found: HashMap<Path, i64> =
            retired.map(|path| (path.clone(), self.retired.get(path).copied().unwrap_or(sequence_number))).collect();
        self.retired = found;
        Ok(())
    }

    async fn delete_retired(&mut self, table: &Table, announced: AnnouncedUpTo) -> Result<usize> {
        let announced = announced.sequence_number(table);
        let due: Vec<Path> =
            self.retired.iter().filter(|(_, number)| **number <= announced).map(|(path, _)| path.clone()).collect();
        for path in &due {
            table.store().delete_path(path).await?;
            self.retired.remove(path);
        }
        Ok(due.len())
    }

    /// Now and then: files that nothing names, such as those that an earlier process did not come to delete.
    async fn search(&mut self, table: &Table, listed: &[Listed], now: Instant) -> Result<()> {
        if self.searched.is_some_and(|searched| now.duration_since(searched) < SEARCH_EVERY) {
            return Ok(());
        }
        let named = named(table, false).await?;
        for file in listed.iter().filter(|file| !named.contains(&file.path) && !self.retired.contains_key(&file.path)) {
            let found_at = Some(table.metadata_location().to_owned());
            self.left_over.entry(file.path.clone()).or_insert(LeftOver { since: now, found_at });
        }
        self.searched = Some(now);
        Ok(())
    }

    async fn delete_left_over(&mut self, table: &Table, listed: &[Listed], now: Instant) -> Result<usize> {
        let there: HashMap<&Path, SystemTime> = listed.iter().map(|file| (&file.path, file.modified)).collect();
        let metadata_folder = |path: &Path| listed.is_empty() || there.contains_key(path) || !in_metadata(path);
        self.left_over.retain(|path, _| metadata_folder(path));
        let after = self.policy.delete_after;
        let is_due = |path: &Path, left: &LeftOver| {
            let old = there
                .get(path)
                .is_some_and(|modified| SystemTime::now().duration_since(*modified).is_ok_and(|age| age > YOUNGEST));
            let moved_on = left.found_at.as_deref().is_none_or(|at| at != table.metadata_location() && is_ours(path));
            now.duration_since(left.since) >= after && (moved_on || old)
        };
        let due: Vec<Path> =
            self.left_over.iter().filter(|(path, left)| is_due(path, left)).map(|(path, _)| path.clone()).collect();
        if due.is_empty() {
            return Ok(0);
        }
        // A foreign engine may have made an old manifest part of a new snapshot.
        let data = due.iter().any(|path| !in_metadata(path));
        let named: HashSet<Path> = named(table, data).await?;
        let mut deleted = 0;
        for path in due {
            if !named.contains(&path) {
                table.store().delete_path(&path).await?;
                deleted += 1;
            }
            self.left_over.remove(&path);
        }
        Ok(deleted)
    }
}

fn in_metadata(path: &Path) -> bool {
    path.as_ref().ends_with(".avro") || path.as_ref().ends_with(".metadata.json")
}

/// The number in a metadata file's name.
fn version(path: &Path) -> Option<i32> {
    MetadataLocation::from_str(path.as_ref()).ok()?;
    path.filename()?.split_once('-')?.0.parse().ok()
}

/// Whether we gave a file its name: our manifests and manifest lists are written for one attempt alone.
fn is_ours(path: &Path) -> bool {
    let Some(name) = path.filename().and_then(|name| name.strip_suffix(".avro")) else { return false };
    let commit = match name.strip_prefix("snap-") {
        Some(rest) => rest.split_once("-0-").map(|(_, commit)| commit),
        None => name.strip_suffix("-m0").and_then(|rest| rest.get(..36)).filter(|uuid| name.len() > uuid.len() + 4),
    };
    // Java and pyiceberg name theirs with uuids of version 4.
    commit.and_then(|commit| Uuid::parse_str(commit).ok()).is_some_and(|id| id.get_version_num() == 7)
}
