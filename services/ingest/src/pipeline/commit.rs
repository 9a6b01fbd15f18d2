//! One snapshot with rows, offsets and the names of dead-letter files.
//!
//! In: finished files and how far each partition came. Out: the table with the snapshot, or why not.
//! An unknown outcome is tried again with the same id and files, for some seconds; a lost race is rebased by the
//! lakehouse; a base that another writer moved is given up. After any error the table is loaded anew, and what it
//! records says how far it came.
//! Must never happen: the same records in two snapshots, an offset moved without one, or a file deleted whose commit
//! may stand.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_lakehouse::offsets::{Recorded, TopicSource};
use mesh_lakehouse::{Append, Catalog, LakehouseError, OffsetRanges, RangeStart, Table, summary};
use mesh_runtime::{fault, report, telemetry};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::error::IngestError;
use crate::pipeline::dead_letters::PendingDeadLetters;
use crate::pipeline::plan::TablePlan;
use crate::pipeline::write::{CommitFiles, Summary};

/// Between tries of a commit that nobody can look up; twice as long each time.
const PAUSE: Duration = Duration::from_millis(200);
const TRIES: u32 = 5;

/// Where a table stands: its version, its source, and what it records.
#[derive(Debug, Clone)]
pub struct Base {
    /// As loaded or committed last.
    pub table: Table,
    /// Cluster and topic.
    pub source: TopicSource,
    /// What the table records.
    pub recorded: Recorded,
}

impl Base {
    /// Loads a table with what it records.
    pub async fn load(table: Table, source: TopicSource) -> Result<Self, IngestError> {
        let recorded = table.recorded().await?;
        Ok(Self { table, source, recorded })
    }

    /// Where reading starts in a partition.
    pub fn start(&self, partition: i32) -> RangeStart {
        self.recorded.offsets.get(&self.source, partition).map_or(RangeStart::First(0), RangeStart::Recorded)
    }

    /// What comes next in each partition.
    pub fn next(&self) -> BTreeMap<i32, i64> {
        let ours = self.recorded.offsets.iter().filter(|(source, ..)| *source == self.source);
        ours.map(|(_, partition, next)| (partition, next)).collect()
    }

    /// The moves to these next offsets.
    pub fn offset_ranges(&self, next: &BTreeMap<i32, i64>) -> Result<OffsetRanges, IngestError> {
        let mut offset_ranges = OffsetRanges::default();
        for (partition, next) in next {
            offset_ranges.add(&self.source, *partition, self.start(*partition), *next)?;
        }
        Ok(offset_ranges)
    }
}

/// Commits; returns the table after it. `LakehouseError::Fenced` and `LakehouseError::SchemaChanged` mean: load anew.
pub async fn commit(
    catalog: &Catalog,
    base: &Base,
    dead_letters: &Table,
    plan: &TablePlan,
    summary: &Summary,
    files: CommitFiles,
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
    let pending = PendingDeadLetters::new(dead_letters, &base.source, summary, &files)?;
    let written = files.rows.files.iter().chain(&files.dead.files).map(|file| file.file_path().to_owned());
    let written: Vec<String> = written.collect();
    let append = append(base, plan, summary, files, pending.as_ref(), &span)?;
    fault::point("ingest.commit.before");
    let committed = match until_known(catalog, &base.table, append).instrument(span.clone()).await {
        Ok(committed) => committed,
        Err(NotCommitted { error, sure }) => {
            if sure {
                abandon(catalog.store(), &written).await;
            }
            return Err(error.into());
        }
    };
    fault::point("ingest.commit.after");
    if let Some(snapshot) = committed.snapshot_id {
        span.record("mesh.snapshot_id", snapshot.to_string());
    }
    Base::load(committed.table, base.source.clone()).await
}

fn append(
    base: &Base,
    plan: &TablePlan,
    summary: &Summary,
    files: CommitFiles,
    pending: Option<&PendingDeadLetters>,
    span: &tracing::Span,
) -> Result<Append, IngestError> {
    let mut append = Append::new(&base.table, files.rows.files)
        .with_commit_id(summary.commit_id)
        .with_offsets(base.offset_ranges(&summary.next)?)
        .with(summary::CONTRACT_REVISION, plan.revision.to_string());
    append.schema_id = summary.schema_id;
    if let Some(trace) = telemetry::trace_context(span) {
        append = append.with(summary::TRACEPARENT, trace.to_string());
    }
    if let Some(watermark) = watermark(base, summary) {
        append = append.with(summary::WATERMARK, watermark.to_string());
    }
    if let Some(pending) = pending {
        append = append
            .with(summary::DEAD_LETTERS_PENDING, pending.encode())
            .with(summary::DEAD_LETTERS, summary.dead.to_string());
    }
    Ok(append)
}

/// Highest event time so far, but not later than now.
fn watermark(base: &Base, summary: &Summary) -> Option<i64> {
    let before = base.recorded.summary.get(summary::WATERMARK).and_then(|text| text.parse::<i64>().ok());
    let highest = before.max(summary.watermark)?;
    Some(highest.min(chrono::Utc::now().timestamp_micros()))
}

/// Why there is no commit.
#[derive(Debug)]
pub(crate) struct NotCommitted {
    pub(crate) error: LakehouseError,
    /// It does not stand and never will: its files are nobody's.
    sure: bool,
}

/// Appends; again, a few times, while nobody can say whether it stands. Other errors, a locked catalog too, are the
/// caller's: its table is loaded anew, which is shown and paced.
pub(crate) async fn until_known(
    catalog: &Catalog,
    table: &Table,
    mut append: Append,
) -> Result<mesh_lakehouse::Committed, NotCommitted> {
    let (mut pause, mut tries, mut unknown) = (PAUSE, 1, false);
    // Somebody else's files are not ours to delete, whatever becomes of this.
    let ours = !append.tried_before;
    loop {
        let error = match catalog.append(table, append.clone()).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        unknown |= matches!(error, LakehouseError::CommitUnknown { .. });
        let again = unknown && may_be_known_later(&error) && tries < TRIES;
        if !again {
            let sure = ours && !unknown && is_sure(&error, &catalog.config().warehouse);
            return Err(NotCommitted { error, sure });
        }
        tracing::warn!(code = error.code(), error = report::chain(&error), tries, "the commit is tried again");
        tokio::time::sleep(pause).await;
        (append, pause, tries) = (append.again(), pause * 2, tries + 1);
    }
}

/// Errors after which nothing refers to what was written. A file of the warehouse that could not be read or written is one:
/// the catalog, whose file lies elsewhere, was not asked yet.
fn is_sure(error: &LakehouseError, warehouse: &str) -> bool {
    match error {
        LakehouseError::Fenced { .. }
        | LakehouseError::SchemaChanged { .. }
        | LakehouseError::CatalogLocked { .. }
        | LakehouseError::Conflict { .. } => true,
        LakehouseError::DiskFull { path, .. }
        | LakehouseError::Unwritable { path, .. }
        | LakehouseError::File { path, .. } => path.starts_with(warehouse),
        _ => false,
    }
}

fn may_be_known_later(error: &LakehouseError) -> bool {
    matches!(
        error,
        LakehouseError::CommitUnknown { .. } | LakehouseError::CatalogLocked { .. } | LakehouseError::Conflict { .. }
    )
}

/// Deletes the files of a commit that does not stand; what cannot be deleted is an orphan.
pub(crate) async fn abandon(files: &mesh_lakehouse::Store, written: &[String]) {
    for location in written {
        if let Err(error) = files.delete(location).await {
            tracing::debug!(%error, location, "left for orphan removal");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use mesh_lakehouse::store::local_path;
    use mesh_lakehouse::{CatalogConfig, TableSpec, schema};

    use super::*;
    use crate::pipeline::dead_letters::batch;
    use crate::pipeline::fixtures::{chunk, contract, plan};
    use crate::pipeline::refusal::{Reason, Refusal, Refusals};
    use crate::pipeline::write::PendingRows;

    fn source() -> TopicSource {
        TopicSource { cluster: "c".into(), topic: "t".into() }
    }

    /// A table of dead letters: a schema like any other's.
    async fn table(folder: &std::path::Path) -> (Catalog, Table) {
        let catalog = Catalog::open(CatalogConfig::in_folder(folder)).await.unwrap();
        let ident = iceberg::TableIdent::from_strs(["tests", "t"]).unwrap();
        catalog.create_namespace(ident.namespace()).await.unwrap();
        let schema = schema::dead_letter_schema().unwrap();
        let spec = TableSpec { ident, schema, partition_spec: None, properties: BTreeMap::new() };
        let table = catalog.create_table(spec).await.unwrap();
        (catalog, table)
    }

    /// A disk that is full when the manifest comes must not be filled further by every try's data files.
    #[tokio::test]
    async fn a_commit_that_could_not_be_written_leaves_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, table) = table(folder.path()).await;
        let plan = plan(&contract("json", &["{name: id, logicalType: integer}"], ""));
        let mut refusals = Refusals::default();
        refusals.add(0, Refusal::whole(Reason::Tombstone, "none"));
        let rows = batch(&chunk(&[None]), &refusals, &plan).unwrap();
        let mut pending_rows = PendingRows::new(&table).unwrap();
        let done = crate::pipeline::transform::Transformed { batches: vec![rows], ..Default::default() };
        pending_rows.take(&chunk(&[None]), done, &plan, &table).await.unwrap();
        let (summary, files) = pending_rows.close().await.unwrap();
        let written = local_path(files.rows.files[0].file_path());
        let metadata = local_path(table.metadata().location()).join("metadata");
        std::fs::rename(&metadata, metadata.with_extension("away")).unwrap();
        std::fs::write(&metadata, b"in the way").unwrap();
        let base = Base::load(table.clone(), source()).await.unwrap();
        assert!(written.exists());
        let error = commit(&catalog, &base, &table, &plan, &summary, files).await.unwrap_err();
        assert_eq!((error.code(), written.exists()), ("MESH-LAKEHOUSE-0004", false));
    }

    #[tokio::test]
    async fn what_comes_next_is_said_of_partitions_that_did_not_move_too() {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, mut table) = table(folder.path()).await;
        for (partition, next) in [(0, 5), (1, 9)] {
            let base = Base::load(table, source()).await.unwrap();
            let append = Append::new(&base.table, vec![])
                .with_offsets(base.offset_ranges(&BTreeMap::from([(partition, next)])).unwrap());
            table = catalog.append(&base.table, append).await.unwrap().table;
        }
        assert_eq!(Base::load(table, source()).await.unwrap().next(), BTreeMap::from([(0, 5), (1, 9)]));
    }
}
