//! A contracted table in a catalog of its own, what other engines do to it, and what it holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use mesh_contract::{ProductContract, TableName};
use mesh_lakehouse::schema::{dead_letter_schema, ident, table_schema};
use mesh_lakehouse::store::local_path;
use mesh_lakehouse::{CatalogConfig, OffsetRanges, SourceOffsets, TableSpec};
use mesh_proto::v1::{TableRef, TopicRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::super::*;
use crate::pipeline::fixtures::contract;

/// Partition and offset.
pub(super) type Place = (i32, i64);

pub(super) fn source() -> TopicSource {
    TopicSource { cluster: "cluster".into(), topic: "topic".into() }
}

pub(super) struct Lake {
    _folder: tempfile::TempDir,
    pub(super) catalog: Catalog,
    pub(super) active: ActiveContract,
    table: TableName,
    dead_letters: TableName,
    /// Files never change: each is read once.
    files: HashMap<String, Vec<Place>>,
    /// Records that a new start left out, by the snapshot that recorded it.
    left_out: HashMap<i64, Vec<Place>>,
}

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Rows,
    DeadLetters,
}

impl Lake {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap();
        let contract = contract("json", &["{name: id, logicalType: integer, required: true}"], "");
        let (table, dead_letters) = (contract.table(), contract.dead_letter_table());
        catalog.create_namespace(ident(&table).namespace()).await.unwrap();
        let schema = table_schema(&contract.iceberg_schema(None)).unwrap();
        let mut references = Vec::new();
        for (name, schema) in [(&table, schema), (&dead_letters, dead_letter_schema().unwrap())] {
            let spec = TableSpec { ident: ident(name), schema, partition_spec: None, properties: BTreeMap::new() };
            let made = catalog.create_table(spec).await.unwrap();
            let (namespace, name) = (name.namespace.clone(), name.table.clone());
            references.push(Some(TableRef { namespace, name, uuid: made.uuid().to_string() }));
        }
        let active = active(&contract, references);
        let (files, left_out) = Default::default();
        Self { _folder: folder, catalog, active, table, dead_letters, files, left_out }
    }

    pub(super) async fn load(&self, which: Which) -> Table {
        let name = if which == Which::Rows { &self.table } else { &self.dead_letters };
        self.catalog.load(&ident(name)).await.unwrap()
    }

    /// Another engine's commit of edited metadata; nothing if a writer was quicker.
    async fn swap(&self, table: &Table, edit: impl FnOnce(&mut Value)) -> bool {
        let mut json = serde_json::to_value(table.metadata().as_ref()).unwrap();
        edit(&mut json);
        let location = format!("{}/metadata/9-{}.metadata.json", table.metadata().location(), uuid::Uuid::new_v4());
        std::fs::write(local_path(&location), serde_json::to_vec(&json).unwrap()).unwrap();
        let uri = self.catalog.config().uri.replace("sqlite:////", "sqlite:///");
        let set = format!(
            "UPDATE iceberg_tables SET metadata_location = '{location}' WHERE metadata_location = '{}'",
            table.metadata_location()
        );
        let mut connection = SqliteConnection::connect(&uri).await.unwrap();
        sqlx::raw_sql(&set).execute(&mut connection).await.unwrap().rows_affected() == 1
    }

    /// Sets `main` back to one of its snapshots, as Spark's and pyiceberg's rollbacks do; whether there was one.
    pub(super) async fn roll_back(&self, which: Which, choice: usize) -> bool {
        let table = self.load(which).await;
        let earlier: Vec<i64> = table.ancestors().skip(1).map(|snapshot| snapshot.snapshot_id()).collect();
        let Some(to) = earlier.get(choice % earlier.len().max(1)).copied() else { return false };
        self.swap(&table, |json| set_main(json, to)).await
    }

    /// A commit of an engine that knows nothing of Meshwork.
    pub(super) async fn foreign(&self, which: Which) -> bool {
        let table = self.load(which).await;
        let Some(head) = table.current_snapshot().cloned() else { return false };
        self.swap(&table, |json| {
            let id = i64::from(uuid::Uuid::new_v4().as_fields().0) + 1;
            let sequence = table.metadata().last_sequence_number() + 1;
            json["last-sequence-number"] = sequence.into();
            json["snapshots"].as_array_mut().unwrap().push(json!({
                "snapshot-id": id, "parent-snapshot-id": head.snapshot_id(), "sequence-number": sequence,
                "timestamp-ms": table.metadata().last_updated_ms(), "manifest-list": head.manifest_list(),
                "summary": {"operation": "append"}, "schema-id": table.metadata().current_schema_id(),
            }));
            set_main(json, id);
        })
        .await
    }

    /// A new start, as `mesh ingest rebase --at` records it: `skip` records of a partition are left out.
    pub(super) async fn rebase(&mut self, partition: i32, skip: i64, end: i64) -> Result<(), IngestError> {
        let table = self.load(Which::Rows).await;
        let recorded = table.recorded().await?;
        let mut dead_letters = self.load(Which::DeadLetters).await;
        if let Some(pending) = PendingDeadLetters::of(&table, &recorded.summary)? {
            dead_letters = pending.settle(&self.catalog, &dead_letters, Gap::Refuse).await?;
        }
        complete(&dead_letters, &dead_letters.recorded().await?.offsets, &recorded.summary)?;
        let from = recorded.offsets.get(&source(), partition).unwrap_or(0);
        let to = (from + skip).min(end);
        let mut offsets = recorded.offsets.clone();
        offsets.set(&source(), partition, to);
        let settled = recorded.summary.get(summary::DEAD_LETTERS_PENDING).cloned();
        let ranges = OffsetRanges::rebase(Some(recorded.offsets), offsets).with_settled(settled);
        let append =
            mesh_lakehouse::Change::append(&table, Vec::new()).with(summary::REBASE, "{}").with_offsets(ranges);
        let committed = self.catalog.apply(&table, &append).await.into_result()?;
        if let Some(snapshot) = committed.snapshot_id {
            self.left_out.insert(snapshot, (from..to).map(|offset| (partition, offset)).collect());
        }
        Ok(())
    }

    /// What new starts left out of the history that the table has now.
    pub(super) fn left_out(&self, table: &Table) -> BTreeSet<Place> {
        let of = |snapshot: &iceberg::spec::SnapshotRef| self.left_out.get(&snapshot.snapshot_id());
        table.ancestors().filter_map(of).flatten().copied().collect()
    }

    /// Places of a table's rows.
    pub(super) async fn places(&mut self, table: &Table) -> Vec<Place> {
        let mut places = Vec::new();
        let Some(snapshot) = table.current_snapshot() else { return places };
        for manifest in table.manifests(snapshot).await.unwrap().iter() {
            for entry in table.store().manifest(manifest).await.unwrap().entries() {
                places.extend(self.file(entry.file_path()));
            }
        }
        places
    }

    fn file(&mut self, path: &str) -> Vec<Place> {
        self.files.entry(path.to_owned()).or_insert_with(|| places_in(path)).clone()
    }

    /// Places of the dead letters that the table's newest snapshot names as pending.
    pub(super) fn pending(&mut self, entries: &BTreeMap<String, String>) -> Vec<Place> {
        let Some(text) = entries.get(summary::DEAD_LETTERS_PENDING) else { return Vec::new() };
        let pending: Value = serde_json::from_str(text).unwrap();
        let paths = pending["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
        paths.collect::<Vec<_>>().iter().flat_map(|path| self.file(path)).collect()
    }
}

fn set_main(json: &mut Value, to: i64) {
    json["current-snapshot-id"] = to.into();
    json["refs"]["main"] = json!({"snapshot-id": to, "type": "branch"});
    let entry = json!({"snapshot-id": to, "timestamp-ms": json["last-updated-ms"]});
    json["snapshot-log"].as_array_mut().unwrap().push(entry);
}

fn places_in(path: &str) -> Vec<Place> {
    let file = std::fs::File::open(local_path(path)).unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut places = Vec::new();
    for batch in batches {
        let batch = batch.unwrap();
        let column = |name: &str| match batch.column_by_name("_mesh") {
            Some(mesh) => mesh.as_struct().column_by_name(name).cloned().unwrap(),
            None => batch.column_by_name(name).cloned().unwrap(),
        };
        let (partitions, offsets) = (column("partition"), column("offset"));
        let partitions = partitions.as_primitive::<Int32Type>().values().to_vec();
        places.extend(partitions.into_iter().zip(offsets.as_primitive::<Int64Type>().values().iter().copied()));
    }
    places
}

fn active(contract: &ProductContract, mut references: Vec<Option<TableRef>>) -> ActiveContract {
    let (dead_letters, table) = (references.pop().unwrap(), references.pop().unwrap());
    ActiveContract {
        contract_id: contract.id().to_string(),
        major: 1,
        revision: 1,
        product: contract.product().to_string(),
        document: contract.contract().to_json(),
        topic: Some(TopicRef { name: contract.topic().to_owned(), topic_id: source().topic }),
        table,
        dead_letters,
        ..ActiveContract::default()
    }
}

/// The offsets of partitions 0 to `count`; nothing recorded is 0.
pub(super) fn next(recorded: &SourceOffsets, count: usize) -> Vec<i64> {
    let partitions = 0..i32::try_from(count).unwrap();
    partitions.map(|partition| recorded.get(&source(), partition).unwrap_or(0)).collect()
}
