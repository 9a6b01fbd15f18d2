//! Rows and dead letters into files, for one commit.
//!
//! In: transformed batches. Out: data files of the table, files of its dead-letter table, and what a commit must say
//! about them: how far each partition came, rows, event time, producers' spans. Files that no commit names are orphans.
//! Must never happen: a partition's next offset beyond a record that is in neither file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_lakehouse::writer::Written;
use mesh_lakehouse::{Table, TableWriter, WriterOptions};
use mesh_runtime::fault;
use mesh_runtime::telemetry::Links;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::IngestError;
use crate::pipeline::dead_letters;
use crate::pipeline::plan::TablePlan;
use crate::pipeline::source_batch::SourceBatch;
use crate::pipeline::transform::Transformed;

/// Producers' spans that a commit links at most; the others are counted.
const LINKS: usize = 32;

/// Rows and dead letters that are not committed yet.
#[derive(Debug)]
pub struct PendingRows {
    /// Names files and commit.
    pub commit_id: Uuid,
    /// When its first record came.
    pub since: Instant,
    /// The schema that the files are written with.
    pub schema_id: i32,
    /// The next offset of each partition that moved.
    pub next: BTreeMap<i32, i64>,
    /// Records taken.
    pub records: usize,
    /// Of which dead letters.
    pub dead: u64,
    /// Up to where the dead-letter table has dead letters of these records already, by partition.
    pub stored: BTreeMap<i32, i64>,
    /// Highest event time.
    pub watermark: Option<i64>,
    /// The producers' spans.
    pub links: Links,
    rows: TableWriter,
    dead_rows: Option<TableWriter>,
    store: mesh_lakehouse::Store,
    share: Option<BudgetShare>,
}

/// What the writers of all tables of a process may hold in memory together; cheap to clone. A table that adds rows while
/// it is exceeded commits at once, so that what is held shrinks.
#[derive(Debug, Clone)]
pub struct WriterBudget {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

/// What one writer holds of the budget, until it is dropped.
#[derive(Debug)]
struct BudgetShare {
    budget: WriterBudget,
    bytes: usize,
}

impl WriterBudget {
    pub fn new(bytes: usize) -> Self {
        Self { bytes, held: Arc::default() }
    }

    /// Whether the writers hold more than they may.
    pub fn is_exceeded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.bytes
    }
}

impl BudgetShare {
    fn set(&mut self, bytes: usize) {
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Files that are whole and on disk.
#[derive(Debug)]
pub struct CommitFiles {
    /// The table's.
    pub rows: Written,
    /// The dead-letter table's.
    pub dead: Written,
}

impl PendingRows {
    /// No rows yet.
    pub fn new(table: &Table) -> Result<Self, IngestError> {
        let commit_id = Uuid::now_v7();
        Ok(Self {
            commit_id,
            since: Instant::now(),
            schema_id: table.metadata().current_schema_id(),
            next: BTreeMap::new(),
            records: 0,
            dead: 0,
            stored: BTreeMap::new(),
            watermark: None,
            links: Links::at_most(LINKS),
            rows: TableWriter::new(table, commit_id, WriterOptions::default())?,
            dead_rows: None,
            store: table.store().clone(),
            share: None,
        })
    }

    /// Writes the rows and dead letters of some records.
    pub async fn take(
        &mut self,
        records: &SourceBatch,
        done: Transformed,
        plan: &TablePlan,
        dead_letters: &Table,
    ) -> Result<(), IngestError> {
        for batch in done.batches {
            self.rows.write(batch).await?;
        }
        if !done.refusals.is_empty() {
            let batch = dead_letters::batch(records, &done.refusals, plan);
            let batch = batch.map_err(|source| IngestError::Columns { table: plan.table.clone(), source })?;
            let mut writer = match self.dead_rows.take() {
                Some(writer) => writer,
                None => TableWriter::new(dead_letters, self.commit_id, WriterOptions::default())?,
            };
            writer.write(batch).await?;
            self.dead_rows = Some(writer);
        }
        fault::point("ingest.write.chunk_written");
        self.dead += done.refusals.len() as u64;
        self.watermark = self.watermark.max(done.watermark);
        self.records += records.len();
        for (_, record) in records.records() {
            self.reach(record.partition(), record.offset() + 1);
            record.trace().into_iter().for_each(|trace| self.links.add(trace));
        }
        Ok(())
    }

    /// Counts what the writers hold now against the budget.
    pub fn account(&mut self, budget: &WriterBudget) {
        let held = self.rows.memory() + self.dead_rows.as_ref().map_or(0, TableWriter::memory);
        self.share.get_or_insert_with(|| BudgetShare { budget: budget.clone(), bytes: 0 }).set(held);
    }

    /// Everything before this offset of a partition was read, whether or not there are records.
    pub fn reach(&mut self, partition: i32, next: i64) {
        let known = self.next.entry(partition).or_default();
        *known = (*known).max(next);
    }

    /// Finishes the files. A writer that fails takes its own with it, and the other's go too: on a full disk what every
    /// try leaves would take the room that an operator makes.
    pub async fn close(self) -> Result<(Summary, CommitFiles), IngestError> {
        let dead = match self.dead_rows {
            Some(writer) => writer.close().await?,
            None => Written::default(),
        };
        let rows = match self.rows.close().await {
            Ok(rows) => rows,
            Err(error) => {
                let paths = dead.files.iter().map(|file| file.file_path().to_owned()).collect::<Vec<_>>();
                self.store.discard(&paths).await;
                return Err(error.into());
            }
        };
        fault::point("ingest.write.files_closed");
        let summary = Summary {
            commit_id: self.commit_id,
            schema_id: self.schema_id,
            next: self.next,
            rows: rows.rows,
            dead: self.dead,
            stored: self.stored,
            watermark: self.watermark,
            links: self.links,
        };
        Ok((summary, CommitFiles { rows, dead }))
    }
}

/// What a commit says about its files.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Names files and commit.
    pub commit_id: Uuid,
    /// The schema that the files were written with.
    pub schema_id: i32,
    /// The next offset of each partition that moved.
    pub next: BTreeMap<i32, i64>,
    /// Rows.
    pub rows: u64,
    /// Dead letters.
    pub dead: u64,
    /// Up to where the dead-letter table had dead letters of these records already, by partition.
    pub stored: BTreeMap<i32, i64>,
    /// Highest event time.
    pub watermark: Option<i64>,
    /// The producers' spans.
    pub links: Links,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_share_one_budget_and_give_back_what_they_held() {
        let budget = WriterBudget::new(100);
        let share = |bytes| {
            let mut share = BudgetShare { budget: budget.clone(), bytes: 0 };
            share.set(bytes);
            share
        };
        let (one, mut two) = (share(60), share(40));
        assert!(!budget.is_exceeded());
        two.set(41);
        assert!(budget.is_exceeded());
        drop(one);
        assert!(!budget.is_exceeded());
        drop(two);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
