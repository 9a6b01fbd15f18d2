//! The dead-letter table against late, repeated and competing commits.

use mesh_lakehouse::writer::Written;
use mesh_lakehouse::{CatalogConfig, TableSpec, schema};
use mesh_runtime::telemetry::Links;

use super::*;
use crate::pipeline::dead_letters::batch;
use crate::pipeline::fixtures::{chunk, contract, plan};
use crate::pipeline::refusal::{Reason, Refusal, Refusals};

const PROPERTIES: &[&str] = &["{name: id, logicalType: integer}"];

fn source() -> TopicSource {
    TopicSource { cluster: "c".into(), topic: "t".into() }
}

async fn table(folder: &std::path::Path) -> (Catalog, Table) {
    let catalog = Catalog::open(CatalogConfig::in_folder(folder)).await.unwrap();
    let ident = iceberg::TableIdent::from_strs(["tests", "dead"]).unwrap();
    catalog.create_namespace(ident.namespace()).await.unwrap();
    let schema = schema::dead_letter_schema().unwrap();
    let spec = TableSpec { ident, schema, partition_spec: None, properties: BTreeMap::new() };
    let table = catalog.create_table(spec).await.unwrap();
    (catalog, table)
}

/// Files with the dead letters of these offsets, pending for the range from `start` to `next`.
async fn pending(table: &Table, start: Option<i64>, offsets: &[i64], next: i64) -> PendingDeadLetters {
    let highest = offsets.iter().max().unwrap();
    let records = chunk(&(0..=*highest).map(|_| None).collect::<Vec<_>>());
    let mut refusals = Refusals::default();
    for offset in offsets {
        refusals.add(u32::try_from(*offset).unwrap(), Refusal::whole(Reason::Tombstone, "none"));
    }
    let columns = batch(&records, &refusals, &plan(&contract("json", PROPERTIES, ""))).unwrap();
    let commit_id = Uuid::now_v7();
    let mut writer = TableWriter::new(table, commit_id, WriterOptions::default()).unwrap();
    writer.write(columns).await.unwrap();
    let dead = writer.close().await.unwrap();
    let summary = Summary {
        commit_id,
        schema_id: 0,
        next: BTreeMap::from([(0, next)]),
        rows: 0,
        stored: BTreeMap::new(),
        dead: 1,
        watermark: None,
        links: Links::at_most(1),
    };
    let mut stored = StoredDeadLetters::default();
    stored.advance(&start.map(|start| (0, start)).into_iter().collect());
    let files = CommitFiles { rows: Written::default(), dead };
    PendingDeadLetters::new(table, &source(), &stored, &summary, &files).unwrap().unwrap()
}

async fn offsets(table: &Table) -> Vec<i64> {
    let mut offsets = Vec::new();
    for manifest in table.manifests(table.current_snapshot().unwrap()).await.unwrap().iter() {
        for entry in table.store().manifest(manifest).await.unwrap().entries() {
            for batch in rows(table, entry.file_path()).await.unwrap() {
                offsets.extend(keys_of(table, &batch).unwrap().into_iter().map(|(_, offset, _)| offset));
            }
        }
    }
    offsets.sort_unstable();
    offsets
}

#[tokio::test]
async fn settling_late_deletes_nothing_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog, seen_by_both) = table(folder.path()).await;
    let first = pending(&seen_by_both, None, &[4], 5).await;
    let settled = first.settle(&catalog, &seen_by_both, Gap::Refuse).await.unwrap();
    let second = pending(&settled, Some(5), &[8], 9).await;
    second.settle(&catalog, &settled, Gap::Refuse).await.unwrap();
    // Another process slept since before the first: it still believes that the first is to be settled.
    let after = first.settle(&catalog, &seen_by_both, Gap::Refuse).await.unwrap();
    assert_eq!(after.recorded().await.unwrap().offsets.get(&source(), 0), Some(9));
    assert_eq!(after.metadata().snapshots().len(), 2);
    assert_eq!(offsets(&after).await, [4, 8]);
    for path in first.paths.iter().chain(&second.paths) {
        assert!(std::path::Path::new(path.trim_start_matches("file://")).exists(), "{path}");
    }
}

/// A table was rolled back after its dead letters were committed; a writer that had read them before commits a longer range.
#[tokio::test]
async fn a_range_that_reaches_into_another_adds_only_what_is_lacking() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog, empty) = table(folder.path()).await;
    let short = pending(&empty, None, &[3, 7], 10).await;
    let long = pending(&empty, None, &[3, 7, 12], 15).await;
    let table = short.settle(&catalog, &empty, Gap::Refuse).await.unwrap();
    let table = long.settle(&catalog, &table, Gap::Refuse).await.unwrap();
    assert_eq!(offsets(&table).await, [3, 7, 12]);
    assert_eq!(table.recorded().await.unwrap().offsets.get(&source(), 0), Some(15));
    // Another contract revision refuses what the one before accepted, in a range that the dead-letter table is beyond.
    let again = pending(&table, Some(15), &[5], 10).await;
    let table = again.settle(&catalog, &table, Gap::Refuse).await.unwrap();
    assert_eq!(offsets(&table).await, [3, 5, 7, 12]);
    assert_eq!(table.recorded().await.unwrap().offsets.get(&source(), 0), Some(15));
}

#[tokio::test]
async fn a_summary_without_a_start_is_settled_once() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog, empty) = table(folder.path()).await;
    let mut old = pending(&empty, None, &[3], 5).await;
    old.start = None;
    let text = old.encode();
    assert!(!text.contains("start"), "as the version before wrote it: {text}");
    let entries = BTreeMap::from([(summary::DEAD_LETTERS_PENDING.to_owned(), text)]);
    let old = PendingDeadLetters::of(&empty, &entries).unwrap().unwrap();
    let table = old.settle(&catalog, &empty, Gap::Refuse).await.unwrap();
    let table = old.settle(&catalog, &table, Gap::Refuse).await.unwrap();
    assert_eq!(offsets(&table).await, [3]);
}

#[tokio::test]
async fn a_dead_letter_table_that_lacks_what_came_before_stops_its_table() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog, empty) = table(folder.path()).await;
    let after = pending(&empty, Some(5), &[8], 9).await;
    let error = after.settle(&catalog, &empty, Gap::Refuse).await.unwrap_err();
    assert_eq!(error.code(), "MESH-INGEST-0013");
    let table = after.settle(&catalog, &empty, Gap::Accept).await.unwrap();
    assert_eq!(offsets(&table).await, [8], "a new start accepts the loss, and keeps what there is");
}
