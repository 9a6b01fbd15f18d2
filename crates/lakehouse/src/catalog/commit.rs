//! The catalog's side of a commit: requirements and updates in, an outcome out.
//!
//! In: what the table must be like, and what is to change. Out: the table with the change, or a sure or unsure no.
//! The SQL catalog checks the requirements against the version that its row names, applies the updates, writes the
//! next metadata file and swaps the row from the version that it checked. A REST catalog takes the same two lists.
//! Never: `Lost` for a swap that may have taken effect.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::{MetadataLocation, TableIdent, TableRequirement, TableUpdate};
use mesh_runtime::fault;

use super::Catalog;
use super::sql::Swap;
use crate::error::{LakehouseError, Result};
use crate::outcome::CommitOutcome;
use crate::table::Table;

/// Looks at the catalog after a swap whose answer was an error.
const LOOKS: usize = 8;

/// What must hold of the table for a commit to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Requirement {
    /// One of Iceberg's own, which every catalog checks.
    Table(TableRequirement),
    /// A table property has this value, or is not there. Only a catalog that applies the updates itself can check it.
    /// A REST catalog cannot: its client has to fence a contract revision with an empty snapshot, on whose parent
    /// `assert-ref-snapshot-id` then stands.
    Property {
        /// The property.
        key: String,
        /// What it must be.
        is: Option<String>,
    },
}

/// A commit that the catalog took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The table with it.
    pub table: Table,
    /// Metadata files that fell out of the metadata log: they may go once everything in them is announced.
    pub retired_metadata: Vec<String>,
}

/// The next version of a table: in a file, not yet the table's.
struct Next {
    metadata: TableMetadataRef,
    location: String,
    retired: Vec<String>,
    /// The snapshots that it adds, by which it is recognised later.
    adds: Vec<i64>,
}

impl Catalog {
    /// Commits updates if the requirements hold. `Lost` with `LakehouseError::Conflict` says that the table is another
    /// by now: load it and decide again.
    pub async fn commit(
        &self,
        ident: &TableIdent,
        requirements: &[Requirement],
        updates: Vec<TableUpdate>,
    ) -> CommitOutcome<Taken> {
        match self.take(ident, requirements, updates).await {
            Ok(outcome) => outcome,
            // Nothing was swapped yet.
            Err(error) => CommitOutcome::Lost(error),
        }
    }

    /// Errors come from before the swap only.
    async fn take(
        &self,
        ident: &TableIdent,
        requirements: &[Requirement],
        updates: Vec<TableUpdate>,
    ) -> Result<CommitOutcome<Taken>> {
        let base = self.load(ident).await?;
        for requirement in requirements {
            requirement.check(&base)?;
        }
        let (next, bytes) = next(&base, updates).await?;
        fault::point("lakehouse.commit.before_metadata");
        self.store.write_new(&next.location, bytes).await?;
        fault::point("lakehouse.commit.before_cas");
        let swapped = self.sql.swap(ident, base.metadata_location(), &next.location).await;
        fault::point("lakehouse.commit.after_cas");
        let error = match swapped {
            Ok(Swap::Done) => return Ok(CommitOutcome::Stands(self.taken(&base, next).await)),
            Ok(Swap::Lost) => LakehouseError::Conflict { table: ident.clone(), attempts: 1 },
            Err(error) => error,
        };
        if is_certain(&error) {
            self.store.discard(std::slice::from_ref(&next.location)).await;
            return Err(error);
        }
        Ok(self.settle(&base, next, error).await)
    }

    /// After an error of the swap: looks whether it took effect all the same.
    async fn settle(&self, base: &Table, next: Next, error: LakehouseError) -> CommitOutcome<Taken> {
        let mut last = None;
        for delay in delays(LOOKS) {
            match self.sql.pointer(base.ident()).await {
                Ok(Some(now)) if now == next.location => return CommitOutcome::Stands(self.taken(base, next).await),
                // The statement failed for what its error says; yet a torn log may bring it back.
                Ok(Some(now)) if now == base.metadata_location() => return CommitOutcome::Unknown(error),
                Ok(Some(now)) => return self.look_behind(base, &next, now, error).await,
                // The commit may have been in the table before it was dropped.
                Ok(None) => return CommitOutcome::Unknown(error),
                Err(look) => last = Some(look),
            }
            tokio::time::sleep(delay).await;
        }
        CommitOutcome::Unknown(last.unwrap_or(error))
    }

    /// Another version is there now: it came after ours if it has our snapshot, or its log our metadata file.
    async fn look_behind(&self, base: &Table, next: &Next, now: String, error: LakehouseError) -> CommitOutcome<Taken> {
        let pointer = super::Pointer { ident: base.ident().clone(), metadata_location: now };
        let table = match self.load_at(&pointer).await {
            Ok(table) => table,
            Err(look) => return CommitOutcome::Unknown(look),
        };
        let logged = table.metadata().metadata_log().iter().any(|entry| entry.metadata_file == next.location);
        let added = next.adds.iter().any(|id| table.metadata().snapshot_by_id(*id).is_some());
        if logged || added {
            return CommitOutcome::Stands(Taken { table, retired_metadata: Vec::new() });
        }
        CommitOutcome::Unknown(error)
    }

    async fn taken(&self, base: &Table, next: Next) -> Taken {
        self.store.remember_metadata(&next.location, &next.metadata).await;
        let table = Table::new(base.ident().clone(), next.metadata, &next.location, self.store.clone());
        Taken { table, retired_metadata: next.retired }
    }
}

impl Requirement {
    fn check(&self, base: &Table) -> Result<()> {
        let holds = match self {
            Self::Table(TableRequirement::UuidMatch { uuid }) if *uuid != base.uuid() => {
                return Err(LakehouseError::other_table(base, *uuid));
            }
            Self::Table(requirement) => requirement.check(Some(base.metadata())).is_ok(),
            Self::Property { key, is } => base.property(key) == is.as_deref(),
        };
        holds.then_some(()).ok_or_else(|| LakehouseError::Conflict { table: base.ident().clone(), attempts: 1 })
    }
}

impl From<TableRequirement> for Requirement {
    fn from(requirement: TableRequirement) -> Self {
        Self::Table(requirement)
    }
}

/// Errors of a swap after which the row is surely as it was: SQLite reports these before it writes.
fn is_certain(error: &LakehouseError) -> bool {
    matches!(
        error,
        LakehouseError::Conflict { .. } | LakehouseError::CatalogLocked { .. } | LakehouseError::Unwritable { .. }
    )
}

async fn next(base: &Table, updates: Vec<TableUpdate>) -> Result<(Next, Bytes)> {
    let refused = |e| LakehouseError::invalid(base.ident(), "build its metadata", e);
    removes_no_ref(base, &updates)?;
    let adds = updates.iter().filter_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot.snapshot_id()),
        _ => None,
    });
    let adds = adds.collect();
    let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_location().to_owned()));
    let builder = updates.into_iter().try_fold(builder, |builder, update| update.apply(builder)).map_err(refused)?;
    let result = builder.build().map_err(refused)?;
    let retired = result.expired_metadata_logs.into_iter().map(|entry| entry.metadata_file).collect();
    let metadata = Arc::new(result.metadata);
    let (location, bytes) = encode(base, &metadata).await?;
    Ok((Next { metadata, location, retired, adds }, bytes))
}

/// iceberg-rust drops the refs of a removed snapshot without a word: a tag set meanwhile would be lost.
fn removes_no_ref(base: &Table, updates: &[TableUpdate]) -> Result<()> {
    let removed = updates.iter().filter_map(|update| match update {
        TableUpdate::RemoveSnapshots { snapshot_ids } => Some(snapshot_ids),
        _ => None,
    });
    let removed: Vec<i64> = removed.flatten().copied().collect();
    if removed.is_empty() || !base.ref_snapshots()?.iter().any(|id| removed.contains(id)) {
        return Ok(());
    }
    Err(LakehouseError::Conflict { table: base.ident().clone(), attempts: 1 })
}

/// The metadata's bytes and where they go: the next number, in the folder of the file before.
async fn encode(base: &Table, metadata: &TableMetadata) -> Result<(String, Bytes)> {
    let refused = |e| LakehouseError::invalid(base.ident(), "write its metadata", e);
    // Foreign engines name metadata files otherwise: then the numbering starts at the beginning.
    let place = MetadataLocation::from_str(base.metadata_location());
    let place = place.unwrap_or_else(|_| MetadataLocation::new_with_metadata(metadata.location(), metadata));
    let place = place.with_next_version().with_new_metadata(metadata);
    let memory = FileIO::new_with_memory();
    metadata.write_to(&memory, &place).await.map_err(refused)?;
    let location = place.to_string();
    let bytes = memory.new_input(&location).map_err(refused)?.read().await.map_err(refused)?;
    Ok((location, bytes))
}

fn delays(times: usize) -> impl Iterator<Item = Duration> {
    let (first, longest) = if cfg!(test) { (1, 10) } else { (5, 400) };
    let backoff = ExponentialBuilder::default().with_jitter().with_factor(1.5).with_max_times(times);
    backoff.with_min_delay(Duration::from_millis(first)).with_max_delay(Duration::from_millis(longest)).build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::{Lake, ident, rows};

    /// Ours written and swapped in, then others on top: known by its metadata file, and later by its snapshot.
    #[tokio::test]
    async fn a_commit_under_later_ones_stands() {
        let lake = Lake::new().await;
        let base = lake.append(&lake.table("t").await, rows(0..1)).await;
        let snapshot = base.current_snapshot().unwrap().as_ref().clone();
        let properties = [("k".to_owned(), "v".to_owned())].into();
        let (mut ours, bytes) = next(&base, vec![TableUpdate::SetProperties { updates: properties }]).await.unwrap();
        // As if the snapshot at hand came with it.
        ours.adds = vec![snapshot.snapshot_id()];
        base.store().write_new(&ours.location, bytes).await.unwrap();
        let error = || LakehouseError::NoSuchTable { table: ident("t") };
        let look = async |ours: &Next| {
            let ours = Next {
                metadata: ours.metadata.clone(),
                location: ours.location.clone(),
                retired: Vec::new(),
                adds: ours.adds.clone(),
            };
            lake.catalog.settle(&base, ours, error()).await
        };
        assert!(matches!(look(&ours).await, CommitOutcome::Unknown(_)), "it is not there yet");
        lake.catalog.point(&ident("t"), base.metadata_location(), &ours.location).await.unwrap();
        let mut table = lake.catalog.load(&ident("t")).await.unwrap();
        for n in 1..9 {
            let CommitOutcome::Stands(found) = look(&ours).await else { panic!("after {n} commits") };
            assert_eq!(found.table.metadata_location(), table.metadata_location());
            table = lake.append(&table, rows(n..n + 1)).await;
        }
        ours.adds.clear();
        assert!(matches!(look(&ours).await, CommitOutcome::Unknown(_)), "nothing tells any more");
    }
}
