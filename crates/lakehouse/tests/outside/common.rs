//! A catalog in a folder and rows with offsets.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use iceberg::{NamespaceIdent, TableIdent};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{
    Catalog, CatalogConfig, Change, Committed, OffsetRanges, RangeStart, Result, Table, TableSpec, TableWriter,
    WriterOptions,
};
use uuid::Uuid;

pub(crate) fn ident() -> TableIdent {
    TableIdent::new(NamespaceIdent::new("tests".into()), "t".into())
}

pub(crate) fn source() -> TopicSource {
    TopicSource { cluster: "cluster".into(), topic: "topic".into() }
}

pub(crate) async fn open(folder: &Path) -> Catalog {
    Catalog::open(CatalogConfig::in_folder(folder)).await.unwrap()
}

/// A table of ids and names.
pub(crate) async fn create(catalog: &Catalog) -> Table {
    catalog.create_namespace(ident().namespace()).await.unwrap();
    let field = |id, name: &str, ty| Arc::new(NestedField::optional(id, name, Type::Primitive(ty)));
    let fields = vec![field(100, "id", PrimitiveType::Long), field(101, "name", PrimitiveType::String)];
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    catalog
        .create_table(TableSpec { ident: ident(), schema, partition_spec: None, properties: BTreeMap::new() })
        .await
        .unwrap()
}

fn rows(ids: Range<i64>) -> RecordBatch {
    let names = StringArray::from_iter_values(ids.clone().map(|id| format!("name {id}")));
    let ids = Int64Array::from_iter_values(ids);
    RecordBatch::try_from_iter_with_nullable([("id", Arc::new(ids) as _, true), ("name", Arc::new(names) as _, true)])
        .unwrap()
}

/// What an ingest does with the records up to `to`: rows of their offsets from where the table is.
pub(crate) async fn ingest(catalog: &Catalog, table: &Table, to: i64) -> Result<Committed> {
    let recorded = table.recorded().await?.offsets.get(&source(), 0);
    let start = recorded.map_or(RangeStart::First(0), RangeStart::Recorded);
    let commit_id = Uuid::now_v7();
    let mut writer = TableWriter::new(table, commit_id, WriterOptions::default())?;
    writer.write(rows(start.offset()..to)).await?;
    let files = writer.close().await?.files;
    let mut offset_ranges = OffsetRanges::default();
    offset_ranges.add(&source(), 0, start, to)?;
    catalog
        .apply(table, &Change::append(table, files).with_commit_id(commit_id).with_offsets(offset_ranges))
        .await
        .into_result()
}

/// All ids in the table, in order, by its manifests and files.
pub(crate) async fn ids(table: &Table) -> Vec<i64> {
    use arrow_array::cast::AsArray;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let Some(snapshot) = table.current_snapshot() else { return Vec::new() };
    let mut ids = Vec::new();
    for manifest in table.manifests(snapshot).await.unwrap().iter() {
        let manifest = table.store().manifest(manifest).await.unwrap();
        for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
            let bytes = table.store().read(entry.file_path()).await.unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let column = batch.column_by_name("id").unwrap().as_primitive::<arrow_array::types::Int64Type>();
                ids.extend(column.values().iter().copied());
            }
        }
    }
    ids.sort_unstable();
    ids
}
