//! What this crate's own tests share: a catalog in a folder of its own, a small table, rows for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use futures::future::join_all;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use iceberg::{NamespaceIdent, TableIdent};

use crate::offsets::TopicSource;
use crate::{Catalog, CatalogConfig, Change, OffsetRanges, RangeStart, Table, TableSpec, TableWriter, WriterOptions};

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
        let location =
            format!("{}/metadata/{:05}-{}.metadata.json", table.metadata().location(), 99_999, uuid::Uuid::new_v4());
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
