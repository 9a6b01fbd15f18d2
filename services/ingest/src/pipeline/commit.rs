//! One snapshot with rows, offsets and the names of dead-letter files.
//!
//! In: finished files and how far each partition came. Out: the table with the snapshot, or why not.
//! An unknown outcome is tried again with the same id and files until it is known; a lost race is rebased by the
//! lakehouse; a base that another writer moved is given up.
//! Must never happen: the same records in two snapshots, or an offset moved without one.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_lakehouse::offsets::{Recorded, Source};
use mesh_lakehouse::{Append, Catalog, Error, Moves, Start, Table, summary};
use mesh_runtime::{fault, report, telemetry};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::error::IngestError;
use crate::pipeline::dead_letters::Pending;
use crate::pipeline::plan::Plan;
use crate::pipeline::write::{Files, Summary};

/// Summary entry: how many records of this commit's ranges are dead letters. Absent means none.
pub const DEAD_LETTERS: &str = "mesh.dead-letters";

const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where a table stands: its version, its source, and what it records.
#[derive(Debug, Clone)]
pub struct Base {
    /// As loaded or committed last.
    pub table: Table,
    /// Cluster and topic.
    pub source: Source,
    /// What the table records.
    pub recorded: Recorded,
}

impl Base {
    /// Loads a table with what it records.
    pub async fn load(table: Table, source: Source) -> Result<Self, IngestError> {
        let recorded = table.recorded().await?;
        Ok(Self { table, source, recorded })
    }

    /// Where reading starts in a partition.
    pub fn start(&self, partition: i32) -> Start {
        self.recorded.offsets.get(&self.source, partition).map_or(Start::First(0), Start::Recorded)
    }

    /// The moves to these next offsets.
    pub fn moves(&self, next: &BTreeMap<i32, i64>) -> Result<Moves, IngestError> {
        let mut moves = Moves::default();
        for (partition, next) in next {
            moves.add(&self.source, *partition, self.start(*partition), *next)?;
        }
        Ok(moves)
    }
}

/// Commits; returns the table after it. `Error::Fenced` and `Error::SchemaChanged` mean: load anew.
pub async fn commit(
    catalog: &Catalog,
    base: &Base,
    dead_letters: &Table,
    plan: &Plan,
    summary: &Summary,
    files: Files,
) -> Result<Base, IngestError> {
    let span = tracing::info_span!(
        "ingest.commit",
        "mesh.product" = plan.product,
        "mesh.table" = plan.table,
        "mesh.rows" = summary.rows.to_string(),
        "mesh.dead_letters" = summary.dead.to_string(),
        "mesh.snapshot_id" = Empty,
        "mesh.links_dropped" = Empty,
    );
    summary.links.apply(&span);
    let dropped = summary.links.distinct().saturating_sub(32);
    if dropped > 0 {
        span.record("mesh.links_dropped", dropped.to_string());
    }
    let pending = Pending::new(dead_letters, &base.source, summary, &files)?;
    let append = append(base, plan, summary, files, pending.as_ref(), &span)?;
    fault::point("ingest.commit.before");
    let committed = until_known(catalog, &base.table, append).instrument(span.clone()).await?;
    fault::point("ingest.commit.after");
    if let Some(snapshot) = committed.snapshot_id {
        span.record("mesh.snapshot_id", snapshot.to_string());
    }
    Base::load(committed.table, base.source.clone()).await
}

fn append(
    base: &Base,
    plan: &Plan,
    summary: &Summary,
    files: Files,
    pending: Option<&Pending>,
    span: &tracing::Span,
) -> Result<Append, IngestError> {
    let mut append = Append::new(&base.table, files.rows.files)
        .with_commit_id(summary.commit_id)
        .moving(base.moves(&summary.next)?)
        .with(summary::CONTRACT_REVISION, plan.revision.to_string());
    append.schema_id = summary.schema_id;
    if let Some(trace) = telemetry::trace_context(span) {
        append = append.with(summary::TRACEPARENT, trace.to_string());
    }
    if let Some(watermark) = watermark(base, summary) {
        append = append.with(summary::WATERMARK, watermark.to_string());
    }
    if let Some(pending) = pending {
        append =
            append.with(summary::DEAD_LETTERS_PENDING, pending.encode()).with(DEAD_LETTERS, summary.dead.to_string());
    }
    Ok(append)
}

/// Highest event time so far, but not later than now.
fn watermark(base: &Base, summary: &Summary) -> Option<i64> {
    let before = base.recorded.summary.get(summary::WATERMARK).and_then(|text| text.parse::<i64>().ok());
    let highest = before.max(summary.watermark)?;
    Some(highest.min(chrono::Utc::now().timestamp_micros()))
}

/// Appends, again and again while nobody can say whether it stands.
pub(crate) async fn until_known(
    catalog: &Catalog,
    table: &Table,
    mut append: Append,
) -> Result<mesh_lakehouse::Committed, Error> {
    let mut pause = PAUSE;
    loop {
        match catalog.append(table, append.clone()).await {
            Err(error @ (Error::CommitUnknown { .. } | Error::CatalogLocked { .. } | Error::Conflict { .. })) => {
                // Whatever this error says, an earlier try may be the one that nobody could look up.
                append = append.again();
                if pause == PAUSE {
                    tracing::warn!(code = error.code(), error = report::chain(&error), "the commit is tried again");
                }
            }
            decided => return decided,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
