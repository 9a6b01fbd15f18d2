//! How far a table has come in its topic, and the records that are not committed yet.
//!
//! In: the active contract, the topic's id and partitions, transformed records. Out: commits to the table and its
//! dead-letter table, step by step: close the files, commit, settle, look whether the table is where this session is.
//! Nothing here talks to the bus, so that tests drive these very steps with a log of their own.
//! Must never happen: a commit from another position than where the records in hand begin; pending dead letters of
//! another writer that are overwritten; a session that goes on though the table records other offsets than its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{Catalog, LakehouseError, RangeStart, SourceOffsets, Table, summary};
use mesh_proto::v1::ActiveContract;
use uuid::Uuid;

use crate::error::IngestError;
use crate::pipeline::commit::{Base, CommitRanges, commit};
use crate::pipeline::dead_letters::pending::{Gap, complete};
use crate::pipeline::dead_letters::{PendingDeadLetters, StoredDeadLetters};
use crate::pipeline::plan::{TablePlan, table_ident};
use crate::pipeline::positions::Positions;
use crate::pipeline::source_batch::SourceBatch;
use crate::pipeline::transform::Transformed;
use crate::pipeline::write::{CommitFiles, PendingRows, Summary, WriterBudget};

/// A table's progress from one loading to the next.
#[derive(Debug)]
pub struct TableProgress {
    catalog: Catalog,
    plan: Arc<TablePlan>,
    base: Base,
    dead_letters: Table,
    /// What the dead-letter table has of the records that are read again.
    stored: StoredDeadLetters,
    positions: Positions,
    /// The pending dead letters that this session has settled, as the summary holds them.
    settled: Option<String>,
    pending: Option<PendingRows>,
}

/// Files that are whole, and what their commit records.
#[derive(Debug)]
pub struct ClosedCommit {
    /// What the commit says about its files.
    pub summary: Summary,
    files: CommitFiles,
}

/// What became of a commit.
#[derive(Debug)]
pub enum CommitVerdict {
    /// It stands.
    Stands,
    /// Another writer or a schema change was first: the table is to be loaded again.
    Fenced(LakehouseError),
}

impl TableProgress {
    /// Loads a table with its dead letters, settles what is pending, and takes the positions that it records.
    pub async fn open(
        catalog: &Catalog,
        active: &ActiveContract,
        source: TopicSource,
        partitions: i32,
    ) -> Result<Self, IngestError> {
        let table = load(catalog, active).await?;
        let dead_letters = catalog.load(&table_ident(active.dead_letters.as_ref())).await?;
        let plan = Arc::new(TablePlan::new(active, &table)?);
        let base = Base::load(table, source.clone()).await?;
        same_topic(&base, &plan)?;
        let positions = Positions::new(source, &base.recorded.offsets, partitions);
        let (stored, settled, pending) = (StoredDeadLetters::default(), None, None);
        let catalog = catalog.clone();
        let mut progress = Self { catalog, plan, base, dead_letters, stored, positions, settled, pending };
        progress.settle().await?;
        progress.look_at_dead_letters().await?;
        Ok(progress)
    }

    async fn look_at_dead_letters(&mut self) -> Result<(), IngestError> {
        match self.dead_letters.recorded().await {
            Ok(recorded) => complete(&self.dead_letters, &recorded.offsets, &self.base.recorded.summary)?,
            // It stops the table when dead letters come.
            Err(LakehouseError::OffsetsLost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let next = self.positions.next();
        self.stored = StoredDeadLetters::load(&self.dead_letters, self.positions.source(), &next).await?;
        Ok(())
    }

    /// The contract, compiled for this table.
    pub fn plan(&self) -> &Arc<TablePlan> {
        &self.plan
    }

    /// The table as loaded or committed last.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Where the session stands.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Partitions of which the table records nothing are read from these offsets.
    pub fn start_at(&mut self, first: &BTreeMap<i32, i64>) {
        self.positions.start_at(first);
    }

    /// Rows and dead letters that are not committed.
    pub fn pending(&self) -> Option<&PendingRows> {
        self.pending.as_ref()
    }

    /// Takes records to files; how many of them are refused, by reason.
    pub async fn take(
        &mut self,
        records: &SourceBatch,
        mut done: Transformed,
    ) -> Result<BTreeMap<&'static str, u64>, IngestError> {
        let mut stored = BTreeMap::new();
        for (index, _) in done.refusals.iter() {
            let record = records.record(index);
            if self.stored.has(record) {
                let next: &mut i64 = stored.entry(record.partition()).or_default();
                *next = (*next).max(record.offset() + 1);
            }
        }
        done.refusals.retain(|index| !self.stored.has(records.record(index)));
        let mut refused = BTreeMap::new();
        for (_, refusal) in done.refusals.iter() {
            *refused.entry(refusal.reason.word()).or_default() += 1;
        }
        let mut pending = self.begin()?;
        pending.stored.extend(stored);
        pending.take(records, done, &self.plan, &self.dead_letters).await?;
        self.pending = Some(pending);
        Ok(refused)
    }

    /// Everything before these offsets was read: what lies between the last record and them are no records (control
    /// records, aborted transactions). They are committed like records, so that the table is not behind for ever.
    pub fn reach(&mut self, reached: &BTreeMap<i32, i64>) -> Result<(), IngestError> {
        let next = self.positions.next();
        let further = reached.iter().filter(|(partition, to)| next.get(partition).is_some_and(|next| next < to));
        let further: Vec<(i32, i64)> = further.map(|(partition, to)| (*partition, *to)).collect();
        if !further.is_empty() {
            let mut pending = self.begin()?;
            further.into_iter().for_each(|(partition, to)| pending.reach(partition, to));
            self.pending = Some(pending);
        }
        Ok(())
    }

    /// Counts what the writers hold now against the budget of the process.
    pub fn account(&mut self, budget: &WriterBudget) {
        if let Some(pending) = &mut self.pending {
            pending.account(budget);
        }
    }

    fn begin(&mut self) -> Result<PendingRows, IngestError> {
        self.pending.take().map_or_else(|| PendingRows::new(&self.base.table), Ok)
    }

    /// Finishes the files of what is pending; `None` if nothing is.
    pub async fn close(&mut self) -> Result<Option<ClosedCommit>, IngestError> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let (summary, files) = pending.close().await?;
        Ok(Some(ClosedCommit { summary, files }))
    }

    /// Commits closed files from where this session stands. After it, [`settle`](Self::settle).
    pub async fn commit(&mut self, closed: ClosedCommit) -> Result<CommitVerdict, IngestError> {
        let ClosedCommit { summary, files } = closed;
        let ranges = self.positions.ranges(&summary.next)?.with_settled(self.settled.clone());
        let mut stored = SourceOffsets::default();
        summary.stored.iter().for_each(|(partition, next)| stored.set(self.positions.source(), *partition, *next));
        let ranges = ranges.with_stored_dead_letters(stored);
        let carried = CommitRanges { started_at: started_at(&ranges), ranges, stored: &self.stored };
        let done = commit(&self.catalog, &self.base, &self.dead_letters, &self.plan, &summary, files, carried).await;
        match done {
            Ok(base) => {
                self.positions.committed(&summary.next);
                self.base = base;
                Ok(CommitVerdict::Stands)
            }
            Err(IngestError::Lakehouse(
                error @ (LakehouseError::Fenced { .. } | LakehouseError::SchemaChanged { .. }),
            )) => Ok(CommitVerdict::Fenced(error)),
            Err(error) => Err(error),
        }
    }

    /// Commits the dead letters that the table names as pending. What the table says counts, not what this session
    /// wrote: another writer may have committed the same range.
    pub async fn settle(&mut self) -> Result<(), IngestError> {
        let text = self.base.recorded.summary.get(summary::DEAD_LETTERS_PENDING);
        if text == self.settled.as_ref() {
            return Ok(());
        }
        if let Some(pending) = PendingDeadLetters::of(&self.base.table, &self.base.recorded.summary)? {
            self.dead_letters = pending.settle(&self.catalog, &self.dead_letters, Gap::Refuse).await?;
            self.stored.advance(&pending.next(self.positions.source()));
        }
        self.settled = text.cloned();
        Ok(())
    }

    /// Why this session cannot go on with the table as it is after a commit: another writer or a rollback moved a
    /// partition, or the schema is another one than the plan's.
    pub fn outdated(&self, schema_id: i32) -> Option<&'static str> {
        if self.positions.differing(&self.base.recorded.offsets).is_some() {
            return Some("the table records other offsets than this session");
        }
        (self.base.table.metadata().current_schema_id() != schema_id).then_some("the schema changed")
    }

    /// Whether the catalog's table still records what this session believes. For the time in which nothing is committed:
    /// a table that was rolled back is read again although nothing new comes.
    pub async fn is_current(&mut self) -> Result<bool, IngestError> {
        let now = self.catalog.load(self.base.table.ident()).await?;
        if now.metadata_location() == self.base.table.metadata_location() {
            return Ok(true);
        }
        let same = now.uuid() == self.base.table.uuid();
        Ok(same && self.positions.differing(&now.recorded().await?.offsets).is_none())
    }
}

/// Partitions that these ranges begin, elsewhere than at 0.
fn started_at(ranges: &mesh_lakehouse::OffsetRanges) -> BTreeMap<i32, i64> {
    let first = ranges.iter().filter_map(|(_, partition, range)| match range.start {
        RangeStart::First(offset) if offset > 0 => Some((partition, offset)),
        _ => None,
    });
    first.collect()
}

/// The table that a contract names, if it is that one still.
pub(crate) async fn load(catalog: &Catalog, active: &ActiveContract) -> Result<Table, IngestError> {
    let ident = table_ident(active.table.as_ref());
    let wanted = active.table.as_ref().map_or("", |table| table.uuid.as_str());
    match Uuid::parse_str(wanted) {
        Ok(uuid) => Ok(catalog.load_table(&ident, uuid).await?),
        // No catalog has a table of such an id.
        Err(_) => Err(LakehouseError::NoSuchTable { table: ident }.into()),
    }
}

/// Offsets of another topic than the one to be read stop the table.
fn same_topic(base: &Base, plan: &TablePlan) -> Result<(), IngestError> {
    let mut others = base.recorded.offsets.iter().map(|(source, ..)| source).filter(|source| *source != base.source);
    let known = base.recorded.offsets.iter().any(|(source, ..)| source == base.source);
    match others.next() {
        Some(other) if !known => Err(recreated(plan, &other.topic, &base.source.topic)),
        _ => Ok(()),
    }
}

/// The topic is another one than the table's offsets are of.
pub(crate) fn recreated(plan: &TablePlan, recorded: &str, found: &str) -> IngestError {
    IngestError::TopicRecreated {
        product: plan.product.clone(),
        table: plan.table.clone(),
        topic: plan.topic.clone(),
        recorded: recorded.to_owned(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
