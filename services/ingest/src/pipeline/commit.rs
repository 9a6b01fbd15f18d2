//! One snapshot with rows, offsets and the names of dead-letter files.
//!
//! In: finished files and the offset ranges that they hold. Out: the table with the snapshot, or why not.
//! The lakehouse rebases a lost race, and tries an unknown outcome again for some seconds; a base that another writer
//! moved is given up. Only a commit that is surely lost frees its files. After any error the table is loaded again, and what it
//! records says how far it came.
//! Must never happen: the same records in two snapshots, an offset moved without one, or a file deleted whose commit
//! may stand.

use std::collections::BTreeMap;

use mesh_lakehouse::offsets::{Recorded, TopicSource};
use mesh_lakehouse::{Catalog, Change, CommitOutcome, OffsetRanges, Table, summary};
use mesh_runtime::{fault, telemetry};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::error::IngestError;
use crate::pipeline::dead_letters::{PendingDeadLetters, StoredDeadLetters};
use crate::pipeline::plan::TablePlan;
use crate::pipeline::write::{CommitFiles, Summary};

/// Summary entry of a first commit: partition → offset, where a partition was not read from its beginning but from the
/// first record that the log had (`startFrom: earliest-available`).
pub const STARTED_AT: &str = "mesh.started-at";

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
}

/// What a commit holds, beside its files.
#[derive(Debug)]
pub struct CommitRanges<'a> {
    /// From where the session read to where it came.
    pub ranges: OffsetRanges,
    /// What the dead-letter table had when the files were written.
    pub stored: &'a StoredDeadLetters,
    /// The partitions that are read from a first offset other than 0, for the summary.
    pub started_at: BTreeMap<i32, i64>,
}

/// Commits; returns the table after it. `LakehouseError::Fenced` and `LakehouseError::SchemaChanged` mean: load it again.
pub async fn commit(
    catalog: &Catalog,
    base: &Base,
    dead_letters: &Table,
    plan: &TablePlan,
    summary: &Summary,
    files: CommitFiles,
    carried: CommitRanges<'_>,
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
    let pending = PendingDeadLetters::new(dead_letters, &base.source, carried.stored, summary, &files)?;
    let written = files.rows.files.iter().chain(&files.dead.files).map(|file| file.file_path().to_owned());
    let written: Vec<String> = written.collect();
    let append = append(base, plan, summary, files, carried, pending.as_ref(), &span);
    fault::point("ingest.commit.before");
    let committed = match catalog.apply(&base.table, &append).instrument(span.clone()).await {
        CommitOutcome::Stands(committed) => committed,
        CommitOutcome::Lost(error) => {
            catalog.store().discard(&written).await;
            return Err(error.into());
        }
        CommitOutcome::Unknown(error) => return Err(error.into()),
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
    carried: CommitRanges<'_>,
    pending: Option<&PendingDeadLetters>,
    span: &tracing::Span,
) -> Change {
    let ranges = if pending.is_some() { carried.ranges.with_dead_letters() } else { carried.ranges };
    let mut append = Change::append(&base.table, files.rows.files)
        .with_commit_id(summary.commit_id)
        .with_schema_id(summary.schema_id)
        .with_offsets(ranges)
        .with(summary::CONTRACT_REVISION, plan.revision.to_string());
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
    if !carried.started_at.is_empty() {
        // Integers as keys and values always serialise.
        let text = serde_json::to_string(&carried.started_at).unwrap_or_default();
        append = append.with(STARTED_AT, text);
    }
    append
}

/// Highest event time so far, but not later than now.
fn watermark(base: &Base, summary: &Summary) -> Option<i64> {
    let before = base.recorded.summary.get(summary::WATERMARK).and_then(|text| text.parse::<i64>().ok());
    let highest = before.max(summary.watermark)?;
    Some(highest.min(chrono::Utc::now().timestamp_micros()))
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
        let positions = crate::pipeline::positions::Positions::new(source(), &base.recorded.offsets, 1);
        let carried = CommitRanges {
            ranges: positions.ranges(&summary.next).unwrap(),
            stored: &StoredDeadLetters::default(),
            started_at: BTreeMap::new(),
        };
        let error = commit(&catalog, &base, &table, &plan, &summary, files, carried).await.unwrap_err();
        assert_eq!((error.code(), written.exists()), ("MESH-LAKEHOUSE-0004", false));
    }
}
