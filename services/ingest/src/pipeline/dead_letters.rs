//! The dead-letter table follows its table.
//!
//! In: refusals; later, what a commit's summary says is pending. Out: rows for dead-letter files; a commit of those
//! files to the dead-letter table, fenced by that table's own offsets.
//! The table's own commit is the only decision: what is pending is read from it, also by who thinks it was theirs.
//! This one can be repeated by anybody at any time, even by several at once: it is done once the dead-letter table
//! records the range's end, and until then no new range is committed.
//! Must never happen: a dead letter twice, one that its table's commit does not name, or a file deleted that another
//! process has committed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema};
use iceberg::spec::{DataFile, FormatVersion, deserialize_data_file_from_json, serialize_data_file_to_json};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{Append, Catalog, LakehouseError, OffsetRanges, RangeStart, Table, summary};
use mesh_runtime::fault;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::IngestError;
use crate::pipeline::commit::{NotCommitted, until_known};
use crate::pipeline::enrich::origin;
use crate::pipeline::plan::TablePlan;
use crate::pipeline::refusal::Refusals;
use crate::pipeline::source_batch::SourceBatch;
use crate::pipeline::write::{CommitFiles, Summary};

/// The refused records as rows of the dead-letter table.
pub fn batch(chunk: &SourceBatch, refusals: &Refusals, plan: &TablePlan) -> Result<RecordBatch, ArrowError> {
    let columns = origin(|| refusals.iter().map(|(index, _)| chunk.record(index)), &plan.topic)?;
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let mut values = BinaryBuilder::new();
    let (mut codes, mut messages, mut places) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    for (index, refusal) in refusals.iter() {
        values.append_option(chunk.record(index).value());
        codes.append_value(refusal.reason.code());
        messages.append_value(format!("{}: {}", refusal.reason, refusal.message));
        places.append_option((!refusal.place.is_empty()).then_some(&refusal.place));
    }
    let own: [(&str, ArrayRef, bool); 5] = [
        ("value", Arc::new(values.finish()), true),
        ("reason_code", Arc::new(codes.finish()), false),
        ("reason", Arc::new(messages.finish()), false),
        ("place", Arc::new(places.finish()), true),
        ("contract_revision", Arc::new(Int64Array::from(vec![plan.revision; refusals.len()])), false),
    ];
    for (name, array, null) in own {
        fields.push(Field::new(name, array.data_type().clone(), null));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// Up to where a dead-letter table has the dead letters of each partition: behind its table but for one that was rolled
/// back. Where that cannot be told, what is pending next stops the table and says so.
pub async fn had(table: &Table, source: &TopicSource) -> Result<BTreeMap<i32, i64>, IngestError> {
    match table.recorded().await {
        Ok(recorded) => {
            let ours = recorded.offsets.iter().filter(|(of, ..)| of == source);
            Ok(ours.map(|(_, partition, next)| (partition, next)).collect())
        }
        Err(LakehouseError::OffsetsLost { .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// What `mesh.dead-letters-pending` holds: files already written, the range they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDeadLetters {
    commit: Uuid,
    cluster: String,
    topic: String,
    /// The range's end, by partition.
    next: BTreeMap<i32, i64>,
    paths: Vec<String>,
    /// The same files as manifest entries.
    files: Vec<String>,
}

impl PendingDeadLetters {
    /// Of a commit; `None` if it has no dead letters.
    pub fn new(
        table: &Table,
        source: &TopicSource,
        summary: &Summary,
        files: &CommitFiles,
    ) -> Result<Option<Self>, IngestError> {
        if files.dead.files.is_empty() {
            return Ok(None);
        }
        let partition = table.metadata().default_partition_type();
        let entry = |file: &DataFile| serialize_data_file_to_json(file.clone(), partition, FormatVersion::V2);
        let entries: Result<Vec<String>, iceberg::Error> = files.dead.files.iter().map(entry).collect();
        Ok(Some(Self {
            commit: summary.commit_id,
            cluster: source.cluster.clone(),
            topic: source.topic.clone(),
            next: summary.next.clone(),
            paths: files.dead.files.iter().map(|file| file.file_path().to_owned()).collect(),
            files: entries.map_err(|source| unreadable(table, source))?,
        }))
    }

    /// As the summary holds it.
    pub fn encode(&self) -> String {
        // Strings and integers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What a table's summary says is pending.
    pub fn of(table: &Table, entries: &BTreeMap<String, String>) -> Result<Option<Self>, IngestError> {
        let Some(text) = entries.get(summary::DEAD_LETTERS_PENDING) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|source| unreadable(table, source))
    }

    /// Commits the files unless the dead-letter table has them; returns that table as it is then.
    pub async fn settle(&self, catalog: &Catalog, table: &Table) -> Result<Table, IngestError> {
        let mut table = table.clone();
        loop {
            let Some(offset_ranges) = self.offset_ranges(&table).await? else { return Ok(table) };
            fault::point("ingest.dead_letters.before");
            let append =
                Append::new(&table, self.entries(&table)?).with_commit_id(self.commit).with_offsets(offset_ranges);
            // Another process may have committed these very files: on a fence they are not ours to delete.
            let append = append.again();
            match until_known(catalog, &table, append).await {
                Ok(committed) => {
                    fault::point("ingest.dead_letters.after");
                    return Ok(committed.table);
                }
                // Somebody else did it, or another range: look again.
                Err(NotCommitted { error: LakehouseError::Fenced { .. }, .. }) => {
                    table = catalog.load(table.ident()).await?
                }
                Err(NotCommitted { error, .. }) => return Err(error.into()),
            }
        }
    }

    /// The moves that are still to be made; `None` once the table records the range's end.
    async fn offset_ranges(&self, table: &Table) -> Result<Option<OffsetRanges>, IngestError> {
        let recorded = table.recorded().await?;
        let source = TopicSource { cluster: self.cluster.clone(), topic: self.topic.clone() };
        let at = |partition: i32| recorded.offsets.get(&source, partition);
        if self.next.iter().all(|(partition, next)| at(*partition).is_some_and(|at| at >= *next)) {
            return Ok(None);
        }
        let mut offset_ranges = OffsetRanges::default();
        // A table that was rolled back reads again what the dead letters have already, partition by partition.
        for (partition, next) in
            self.next.iter().filter(|(partition, next)| at(**partition).is_none_or(|at| at < **next))
        {
            offset_ranges.add(
                &source,
                *partition,
                at(*partition).map_or(RangeStart::First(0), RangeStart::Recorded),
                *next,
            )?;
        }
        Ok(Some(offset_ranges))
    }

    fn entries(&self, table: &Table) -> Result<Vec<DataFile>, IngestError> {
        let metadata = table.metadata();
        let (spec, partition) = (metadata.default_partition_spec_id(), metadata.default_partition_type());
        let entry = |json: &String| deserialize_data_file_from_json(json, spec, partition, metadata.current_schema());
        let entries: Result<Vec<DataFile>, iceberg::Error> = self.files.iter().map(entry).collect();
        entries.map_err(|source| unreadable(table, source))
    }
}

fn unreadable(table: &Table, source: impl std::error::Error + Send + Sync + 'static) -> IngestError {
    IngestError::Pending { table: table.ident().to_string(), source: Box::new(source) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use mesh_lakehouse::writer::Written;
    use mesh_lakehouse::{CatalogConfig, TableSpec, TableWriter, WriterOptions, schema};
    use mesh_runtime::telemetry::Links;

    use super::*;
    use crate::pipeline::fixtures::{chunk, contract, plan};
    use crate::pipeline::refusal::{Reason, Refusal};

    const PROPERTIES: &[&str] = &["{name: id, logicalType: integer}"];

    fn source() -> TopicSource {
        TopicSource { cluster: "c".into(), topic: "t".into() }
    }

    /// Files of one dead letter, pending for the range that ends at `next`.
    async fn pending(table: &Table, next: i64) -> PendingDeadLetters {
        let mut refusals = Refusals::default();
        refusals.add(0, Refusal::whole(Reason::Tombstone, "none"));
        let columns = batch(&chunk(&[None]), &refusals, &plan(&contract("json", PROPERTIES, ""))).unwrap();
        let commit_id = Uuid::now_v7();
        let mut writer = TableWriter::new(table, commit_id, WriterOptions::default()).unwrap();
        writer.write(columns).await.unwrap();
        let dead = writer.close().await.unwrap();
        let summary = Summary {
            commit_id,
            schema_id: 0,
            next: BTreeMap::from([(0, next)]),
            rows: 0,
            dead: 1,
            watermark: None,
            links: Links::at_most(1),
        };
        PendingDeadLetters::new(table, &source(), &summary, &CommitFiles { rows: Written::default(), dead })
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn whoever_settles_late_deletes_nothing_and_doubles_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap();
        let ident = iceberg::TableIdent::from_strs(["tests", "dead"]).unwrap();
        catalog.create_namespace(ident.namespace()).await.unwrap();
        let schema = schema::dead_letter_schema().unwrap();
        let spec = TableSpec { ident, schema, partition_spec: None, properties: BTreeMap::new() };
        let seen_by_both = catalog.create_table(spec).await.unwrap();
        let first = pending(&seen_by_both, 5).await;
        let settled = first.settle(&catalog, &seen_by_both).await.unwrap();
        let second = pending(&settled, 9).await;
        second.settle(&catalog, &settled).await.unwrap();
        // Another process slept since before the first: it still believes that the first is to be settled.
        let after = first.settle(&catalog, &seen_by_both).await.unwrap();
        assert_eq!(after.recorded().await.unwrap().offsets.get(&source(), 0), Some(9));
        assert_eq!(after.metadata().snapshots().len(), 2);
        for path in first.paths.iter().chain(&second.paths) {
            assert!(std::path::Path::new(path.trim_start_matches("file://")).exists(), "{path}");
        }
    }
}
