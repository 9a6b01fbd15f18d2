//! The loop around the swap: build on a base, swap, and find out what happened.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use iceberg::spec::TableMetadataRef;
use mesh_runtime::fault;

use super::metadata::{Built, New};
use super::{Append, Change, Committed};
use crate::catalog::{Catalog, Swap};
use crate::error::{LakehouseError, Result};
use crate::store::Store;
use crate::summary;
use crate::table::Table;

/// Conflicts in a row before a commit gives up.
const ATTEMPTS: usize = 60;
/// Looks at the catalog after an unknown outcome.
const LOOKS: usize = 8;

/// How a swap ended.
enum Outcome {
    /// It stands; here is the table.
    Stands(Table),
    /// Surely not: what was written for it may go.
    Lost,
    /// Not that anybody could see, but files must stay.
    Unknown,
}

impl Catalog {
    /// Commits a change on the newest version of a table.
    pub async fn commit(&self, table: &Table, change: &Change) -> Result<Committed> {
        let tried_before = matches!(change, Change::Append(append) if append.tried_before);
        let mut base = if tried_before { self.reload(table).await? } else { table.clone() };
        let mut unknown = tried_before;
        let mut delays = delays(ATTEMPTS);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut written = Vec::new();
            let built = match self.build(&base, change, unknown, &mut written).await {
                Ok(Built::New(new)) => *new,
                Ok(Built::Already(snapshot_id)) => return Ok(already(base, snapshot_id)),
                Err(error) => {
                    self.clean_up(&error, change, unknown, written).await;
                    return Err(error);
                }
            };
            match self.swap_and_settle(&base, &built, change, &written).await? {
                Outcome::Stands(table) => return Ok(built.committed(table)),
                Outcome::Lost => delete_all(self.store(), &written).await,
                Outcome::Unknown => unknown = true,
            }
            let Some(delay) = delays.next() else {
                let conflict = LakehouseError::Conflict { table: base.ident().clone(), attempts };
                return Err(if unknown { outcome_unknown(&base, change, conflict) } else { conflict });
            };
            tokio::time::sleep(delay).await;
            base = match self.reload(table).await {
                Err(error) if unknown => return Err(outcome_unknown(&base, change, error)),
                base => base?,
            };
        }
    }

    /// The newest version of this very table: one that was created anew under its name takes no commit meant for it.
    async fn reload(&self, table: &Table) -> Result<Table> {
        let now = self.load(table.ident()).await?;
        if now.uuid() == table.uuid() {
            return Ok(now);
        }
        let (mine, found) = (table.uuid().to_string(), format!("the uuid {}", now.uuid()));
        Err(LakehouseError::Fenced { table: table.ident().clone(), partition: "itself".to_owned(), mine, found })
    }

    /// Builds the change and writes all its files but the pointer.
    async fn build(&self, base: &Table, change: &Change, unknown: bool, written: &mut Vec<String>) -> Result<Built> {
        if let (true, Change::Append(append)) = (unknown, change)
            && let Some(snapshot_id) = committed_as(base, append)
        {
            return Ok(Built::Already(Some(snapshot_id)));
        }
        fault::point("lakehouse.commit.before_manifests");
        let built = super::metadata::build(base, change, written).await?;
        if let Built::New(new) = &built {
            fault::point("lakehouse.commit.before_metadata");
            written.push(new.location.clone());
            self.store().write_new(&new.location, new.bytes.clone()).await?;
        }
        Ok(built)
    }

    async fn swap_and_settle(&self, base: &Table, new: &New, change: &Change, written: &[String]) -> Result<Outcome> {
        fault::point("lakehouse.commit.before_cas");
        let (from, to) = (base.metadata_location(), new.location.as_str());
        let swapped = self.swap(base.ident(), from, to).await;
        fault::point("lakehouse.commit.after_cas");
        match swapped {
            Ok(Swap::Done) => Ok(Outcome::Stands(self.now(base, new.metadata.clone(), to).await)),
            Ok(Swap::Lost) => Ok(Outcome::Lost),
            // SQLite says this before it does anything, so nothing refers to what was written.
            Err(error @ LakehouseError::CatalogLocked { .. }) => {
                delete_all(self.store(), written).await;
                Err(error)
            }
            Err(error) => self.settle(base, new, change, error).await,
        }
    }

    /// After an error of the swap: looks whether it took effect all the same.
    async fn settle(&self, base: &Table, new: &New, change: &Change, error: LakehouseError) -> Result<Outcome> {
        let mut last = None;
        for delay in delays(LOOKS) {
            match self.pointer(base.ident()).await {
                Ok(Some(now)) if now == new.location => {
                    return Ok(Outcome::Stands(self.now(base, new.metadata.clone(), &now).await));
                }
                // The statement failed for what its error says; its files stay, as a torn log may yet bring it back.
                Ok(Some(now)) if now == base.metadata_location() => return Err(error),
                Ok(Some(now)) => {
                    let seen = self.look_behind(base, new, now).await;
                    return seen.map_err(|look| outcome_unknown(base, change, look));
                }
                Ok(None) => return Err(LakehouseError::NoSuchTable { table: base.ident().clone() }),
                Err(look) => last = Some(look),
            }
            tokio::time::sleep(delay).await;
        }
        Err(outcome_unknown(base, change, last.unwrap_or(error)))
    }

    /// Another version is there now: it came after ours if its log knows ours.
    async fn look_behind(&self, base: &Table, new: &New, now: String) -> Result<Outcome> {
        let pointer = crate::Pointer { ident: base.ident().clone(), metadata_location: now };
        let table = self.load_at(&pointer).await?;
        let stands = table.metadata().metadata_log().iter().any(|entry| entry.metadata_file == new.location);
        Ok(if stands { Outcome::Stands(table) } else { Outcome::Unknown })
    }

    async fn now(&self, base: &Table, metadata: TableMetadataRef, location: &str) -> Table {
        self.store().remember_metadata(location, &metadata).await;
        Table::new(base.ident().clone(), metadata, location, self.store().clone())
    }

    /// A build that failed was never swapped in: what it wrote may go. Data files go on a fence that leaves no doubt.
    async fn clean_up(&self, error: &LakehouseError, change: &Change, unknown: bool, mut written: Vec<String>) {
        if let (LakehouseError::Fenced { .. }, Change::Append(append), false) = (error, change, unknown) {
            written.extend(append.files.iter().map(|file| file.file_path().to_owned()));
        }
        delete_all(self.store(), &written).await;
    }
}

impl Change {
    fn id(&self) -> String {
        match self {
            Self::Append(append) => append.commit_id.to_string(),
            Self::Evolve(evolve) => format!("of contract revision {}", evolve.revision),
            Self::Expire(snapshots) => format!("that expires {} snapshots", snapshots.len()),
        }
    }
}

impl New {
    fn committed(self, table: Table) -> Committed {
        Committed { table, snapshot_id: self.snapshot_id, already: false, retired_metadata: self.retired }
    }
}

fn already(table: Table, snapshot_id: Option<i64>) -> Committed {
    Committed { table, snapshot_id, already: true, retired_metadata: Vec::new() }
}

fn outcome_unknown(base: &Table, change: &Change, last: LakehouseError) -> LakehouseError {
    LakehouseError::CommitUnknown { table: base.ident().clone(), commit: change.id(), source: Box::new(last) }
}

/// The snapshot in `main` that this very commit made.
fn committed_as(base: &Table, append: &Append) -> Option<i64> {
    let id = append.commit_id.to_string();
    let made = |s: &&iceberg::spec::SnapshotRef| s.summary().additional_properties.get(summary::COMMIT_ID) == Some(&id);
    base.ancestors().find(made).map(|s| s.snapshot_id())
}

/// Deletes what nothing refers to; what stays is an orphan and goes with those.
async fn delete_all(store: &Store, locations: &[String]) {
    for location in locations {
        if let Err(error) = store.delete(location).await {
            tracing::debug!(%error, location, "left for orphan removal");
        }
    }
}

fn delays(times: usize) -> impl Iterator<Item = Duration> {
    let backoff = ExponentialBuilder::default().with_jitter().with_factor(1.5).with_max_times(times);
    backoff.with_min_delay(Duration::from_millis(5)).with_max_delay(Duration::from_millis(400)).build()
}
