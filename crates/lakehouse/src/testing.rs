//! What this crate's own tests share: a catalog in a folder of its own, a small table, rows for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use futures::future::join_all;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use iceberg::{NamespaceIdent, TableIdent};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::offsets::TopicSource;
use crate::{Catalog, CatalogConfig, Change, OffsetRanges, RangeStart, Table, TableSpec, TableWriter, WriterOptions};

/// The long form of tests: `.ci/long` asks for it.
pub(crate) fn is_long() -> bool {
    std::env::var("MESH_LONG").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// A runner of random cases, whose seed is printed and may be given (`MESH_SEED`).
pub(crate) fn runner(cases: u32, long: u32) -> TestRunner {
    let given = std::env::var("MESH_SEED").ok().map(|text| text.parse().expect("MESH_SEED is a number"));
    let seed: u64 = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    println!("MESH_SEED={seed}");
    let seed: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let cases = if is_long() { long } else { cases };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

pub(crate) struct Lake {
    pub(crate) catalog: Catalog,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn ident(name: &str) -> TableIdent {
    TableIdent::new(NamespaceIdent::new("tests".into()), name.into())
}

pub(crate) fn source() -> TopicSource {
    TopicSource { cluster: "cluster".into(), topic: "topic".into() }
}

/// A move of partition 0.
pub(crate) fn offset_ranges(start: RangeStart, next: i64) -> OffsetRanges {
    let mut offset_ranges = OffsetRanges::default();
    offset_ranges.add(&source(), 0, start, next).unwrap();
    offset_ranges
}

pub(crate) fn schema() -> Schema {
    let field = |id, name: &str, ty| Arc::new(NestedField::optional(id, name, Type::Primitive(ty)));
    let fields = vec![field(100, "id", PrimitiveType::Long), field(101, "name", PrimitiveType::String)];
    Schema::builder().with_fields(fields).build().unwrap()
}

pub(crate) fn rows(ids: Range<i64>) -> RecordBatch {
    let schema =
        ArrowSchema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
    let names = ids.clone().map(|id| format!("name {id}"));
    let columns = (Int64Array::from_iter_values(ids.clone()), StringArray::from_iter_values(names));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(columns.0), Arc::new(columns.1)]).unwrap()
}

impl Lake {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap();
        catalog.create_namespace(&NamespaceIdent::new("tests".into())).await.unwrap();
        Self { catalog, folder }
    }

    pub(crate) async fn table(&self, name: &str) -> Table {
        let spec =
            TableSpec { ident: ident(name), schema: schema(), partition_spec: None, properties: Default::default() };
        self.catalog.create_table(spec).await.unwrap()
    }

    pub(crate) async fn files(&self, table: &Table, batch: RecordBatch) -> Vec<iceberg::spec::DataFile> {
        let mut writer = TableWriter::new(table, uuid::Uuid::now_v7(), WriterOptions::default()).unwrap();
        writer.write(batch).await.unwrap();
        writer.close().await.unwrap().files
    }

    pub(crate) async fn append(&self, table: &Table, batch: RecordBatch) -> Table {
        let files = self.files(table, batch).await;
        self.catalog.apply(table, &Change::append(table, files)).await.into_result().unwrap().table
    }

    /// Rows that the manifests of the current snapshot count.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        let table = self.catalog.load(&ident(name)).await.unwrap();
        let Some(snapshot) = table.current_snapshot() else { return 0 };
        let manifests = table.manifests(snapshot).await.unwrap();
        let manifests = join_all(manifests.iter().map(|m| table.store().manifest(m))).await;
        let alive = |m: Arc<iceberg::spec::Manifest>| {
            m.entries().iter().filter(|e| e.is_alive()).map(|e| e.record_count()).sum::<u64>()
        };
        manifests.into_iter().map(|m| alive(m.unwrap())).sum()
    }

    /// The table after somebody edited its metadata JSON and swapped it in: what foreign engines may leave.
    pub(crate) async fn rewritten(&self, table: &Table, edit: impl FnOnce(&mut serde_json::Value)) -> Table {
        let mut json = serde_json::to_value(table.metadata().as_ref()).unwrap();
        edit(&mut json);
        let name = table.metadata_location().rsplit('/').next().unwrap();
        let version: u32 = name.split('-').next().unwrap().parse().unwrap();
        let (folder, id) = (table.metadata().location(), uuid::Uuid::new_v4());
        let location = format!("{folder}/metadata/{:05}-{id}.metadata.json", version + 1);
        table.store().write_new(&location, serde_json::to_vec(&json).unwrap().into()).await.unwrap();
        self.catalog.point(table.ident(), table.metadata_location(), &location).await.unwrap();
        self.catalog.load(table.ident()).await.unwrap()
    }

    /// The table with its current metadata file in the metadata log, as every engine but [`Lake::rewritten`] leaves it.
    pub(crate) async fn append_log(&self, table: &Table) -> Table {
        let entry = serde_json::json!({
            "metadata-file": table.metadata_location(), "timestamp-ms": table.metadata().last_updated_ms()
        });
        self.rewritten(table, |json| json["metadata-log"].as_array_mut().unwrap().push(entry)).await
    }
}
