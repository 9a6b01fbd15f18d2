//! Scans of real tables: what the writer wrote is what is read, whatever became of the schema in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use iceberg::spec::{NestedField, PrimitiveType, Schema, StructType, Type, UnboundPartitionSpec};
use iceberg::{NamespaceIdent, TableIdent};
use uuid::Uuid;

use super::{MeshTable, ScanError, SnapshotRange, read_added};
use crate::{Catalog, CatalogConfig, Change, Table, TableSpec, TableWriter, WriterOptions};

mod foreign;
mod missing;
mod model;

struct Home {
    catalog: Catalog,
    _folder: tempfile::TempDir,
}

async fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap();
    catalog.create_namespace(&NamespaceIdent::new("d".to_owned())).await.unwrap();
    Home { catalog, _folder: folder }
}

impl Home {
    async fn table(&self, schema: Schema, partition_spec: Option<UnboundPartitionSpec>) -> Table {
        let ident = TableIdent::new(NamespaceIdent::new("d".to_owned()), "t".to_owned());
        self.catalog
            .create_table(TableSpec { ident, schema, partition_spec, properties: BTreeMap::new() })
            .await
            .unwrap()
    }

    async fn append(&self, table: &Table, batch: RecordBatch) -> Table {
        let commit = Uuid::now_v7();
        let mut writer = TableWriter::new(table, commit, WriterOptions::default()).unwrap();
        writer.write(batch).await.unwrap();
        let files = writer.close().await.unwrap().files;
        self.catalog
            .apply(table, &Change::append(table, files).with_commit_id(commit))
            .await
            .into_result()
            .unwrap()
            .table
    }

    async fn evolve(&self, table: &Table, schema: Schema) -> Table {
        let evolve = Change::revision(2).with_schema(schema);
        self.catalog.apply(table, &evolve).await.into_result().unwrap().table
    }
}

fn field(id: i32, name: &str, of: PrimitiveType) -> Arc<NestedField> {
    Arc::new(NestedField::optional(id, name, Type::Primitive(of)))
}

fn schema(fields: impl IntoIterator<Item = Arc<NestedField>>) -> Schema {
    Schema::builder().with_fields(fields).build().unwrap()
}

fn ints(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let array: ArrayRef = Arc::new(values.into_iter().map(Some).collect::<Int64Array>());
    RecordBatch::try_from_iter([("a", array)]).unwrap()
}

fn one_int() -> Schema {
    schema([field(100, "a", PrimitiveType::Long)])
}

async fn sql(table: MeshTable, sql: &str) -> String {
    let context = SessionContext::new();
    context.register_table("t", Arc::new(table)).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let printed = pretty_format_batches(&batches).unwrap().to_string();
    let rows = printed.lines().filter(|l| l.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
    rows.map(cells).collect::<Vec<_>>().join(";")
}

async fn plan(table: &MeshTable, filter: datafusion::logical_expr::Expr) -> String {
    let frame = SessionContext::new().read_table(Arc::new(table.clone())).unwrap().filter(filter).unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn columns_are_found_by_field_id() {
    let home = home().await;
    let inner = |fields| Type::Struct(StructType::new(fields));
    let before = schema([
        field(100, "a", PrimitiveType::Int),
        field(101, "b", PrimitiveType::Float),
        field(102, "dropped", PrimitiveType::String),
        Arc::new(NestedField::optional(
            103,
            "s",
            inner(vec![field(104, "x", PrimitiveType::Int), field(105, "y", PrimitiveType::String)]),
        )),
    ]);
    let table = home.table(before, None).await;
    let x: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let y: ArrayRef = Arc::new(StringArray::from(vec!["p", "q"]));
    let nested = StructArray::from(vec![
        (Arc::new(Field::new("x", DataType::Int32, true)), x),
        (Arc::new(Field::new("y", DataType::Utf8, true)), y),
    ]);
    let batch = RecordBatch::try_from_iter([
        ("a", Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef),
        ("b", Arc::new(Float32Array::from(vec![0.5, 1.5])) as ArrayRef),
        ("dropped", Arc::new(StringArray::from(vec!["u", "v"])) as ArrayRef),
        ("s", Arc::new(nested) as ArrayRef),
    ])
    .unwrap();
    let table = home.append(&table, batch).await;
    // `a` and `b` swap their names; both are promoted; `dropped` is a new column of that name; `s` gets a part and loses one.
    let after = schema([
        field(100, "b", PrimitiveType::Long),
        field(101, "a", PrimitiveType::Double),
        field(106, "dropped", PrimitiveType::Long),
        Arc::new(NestedField::optional(
            103,
            "s",
            inner(vec![field(107, "z", PrimitiveType::Long), field(104, "w", PrimitiveType::Long)]),
        )),
    ]);
    let table = home.evolve(&table, after).await;
    let rows = || MeshTable::at_head(&table).unwrap();
    assert_eq!(sql(rows(), "SELECT a, b, dropped, s['z'], s['w'] FROM t ORDER BY b").await, "0.5,7,,,1;1.5,8,,,");
    assert_eq!(sql(rows(), "SELECT b FROM t WHERE b > 7 AND a < 2.0").await, "8");
    assert_eq!(sql(rows(), "SELECT count(*) FROM t WHERE dropped IS NULL AND s['w'] = 1").await, "1");
}

#[tokio::test]
async fn files_are_pruned_by_their_bounds() {
    let home = home().await;
    let mut table = home.table(one_int(), None).await;
    for start in [0, 100, 200] {
        table = home.append(&table, ints(start..start + 10)).await;
    }
    let rows = MeshTable::at_head(&table).unwrap();
    let read = |printed: &str| printed.matches(".parquet").count();
    assert_eq!(read(&plan(&rows, col("a").gt_eq(lit(100i64))).await), 2);
    assert_eq!(read(&plan(&rows, col("a").eq(lit(205i64))).await), 1);
    assert_eq!(read(&plan(&rows, col("a").lt(lit(-1i64))).await), 0);
    assert_eq!(sql(rows.clone(), "SELECT sum(a) FROM t WHERE a = 3 OR a = 204").await, "207");
    assert_eq!(rows.row_count().await.unwrap(), 30);
}

#[tokio::test]
async fn a_bound_does_not_hide_what_is_not_a_number() {
    let home = home().await;
    let table = home.table(schema([field(100, "a", PrimitiveType::Double)]), None).await;
    let array: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
    let table = home.append(&table, RecordBatch::try_from_iter([("a", array)]).unwrap()).await;
    let rows = MeshTable::at_head(&table).unwrap();
    let files = rows.files().await.unwrap();
    let columns = super::statistics::columns_of(rows.arrow_schema());
    let bounds = super::statistics::bounds(table.metadata(), &files.files()[0], &columns[0]);
    assert_eq!(bounds, super::statistics::ColumnBounds::default(), "metrics leave NaN out, so they bound nothing");
}

#[tokio::test]
async fn counts_are_exact_and_bounds_are_not() {
    use datafusion::catalog::TableProvider;
    use datafusion::common::stats::Precision;
    let home = home().await;
    let table = home.table(one_int(), None).await;
    let table = home.append(&table, ints(0..5)).await;
    let table = home.append(&table, ints(5..7)).await;
    let rows = MeshTable::at_head(&table).unwrap();
    let plan = rows.scan(&SessionContext::new().state(), None, &[], None).await.unwrap();
    let known = plan.partition_statistics(None).unwrap();
    assert_eq!(known.num_rows, Precision::Exact(7));
    let column = &known.column_statistics[0];
    assert_eq!(column.null_count, Precision::Exact(0));
    assert!(matches!(column.max_value, Precision::Inexact(_)), "{column:?}");
}

#[tokio::test]
async fn a_snapshot_stays_what_it_was() {
    let home = home().await;
    let empty = home.table(one_int(), None).await;
    assert_eq!(sql(MeshTable::at_head(&empty).unwrap(), "SELECT count(*), max(a) FROM t").await, "0,");
    let first = home.append(&empty, ints([1])).await;
    let second = home.append(&first, ints([2])).await;
    let id = first.current_snapshot().unwrap().snapshot_id();
    assert_eq!(sql(MeshTable::at(&second, id).unwrap(), "SELECT a FROM t").await, "1");
    assert_eq!(sql(MeshTable::at_head(&second).unwrap(), "SELECT a FROM t ORDER BY a").await, "1;2");
    assert!(matches!(MeshTable::at(&second, 42), Err(ScanError::NoSuchSnapshot { snapshot_id: 42, .. })));
}

#[tokio::test]
async fn a_range_holds_what_its_snapshots_added() {
    let home = home().await;
    let mut table = home.table(one_int(), None).await;
    let mut ids = Vec::new();
    for value in [1, 2, 3] {
        table = home.append(&table, ints([value])).await;
        ids.push(table.current_snapshot().unwrap().snapshot_id());
    }
    let check = async |from: Option<i64>, to: i64, expected: &[i64]| {
        let range = SnapshotRange { from, to };
        let stream = read_added(&table, &range, &["a"], Some(col("a").gt(lit(0i64)))).await.unwrap();
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        let mut found: Vec<i64> = batches
            .iter()
            .flat_map(|b| b.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(MeshTable::added(&table, &range).unwrap().row_count().await.unwrap(), expected.len() as u64);
    };
    check(None, ids[2], &[1, 2, 3]).await;
    check(Some(ids[0]), ids[2], &[2, 3]).await;
    check(Some(ids[1]), ids[1], &[]).await;
    let broken = SnapshotRange { from: Some(ids[2]), to: ids[1] };
    assert!(matches!(MeshTable::added(&table, &broken), Err(ScanError::BrokenRange { .. })));
    let missing = read_added(&table, &SnapshotRange { from: None, to: ids[0] }, &["nope"], None).await;
    assert_eq!(missing.err().unwrap().code(), "MESH-LAKEHOUSE-0057");
}

#[tokio::test]
async fn partitions_prune_by_identity_and_by_time() {
    use datafusion::arrow::array::TimestampMicrosecondArray;
    use iceberg::spec::{Transform, UnboundPartitionField};
    let home = home().await;
    let partition = |source, name: &str, transform| UnboundPartitionField {
        source_id: source,
        field_id: None,
        name: name.to_owned(),
        transform,
    };
    let spec = UnboundPartitionSpec::builder()
        .add_partition_fields([partition(100, "a", Transform::Identity), partition(101, "at_day", Transform::Day)])
        .unwrap()
        .build();
    let table = home
        .table(schema([field(100, "a", PrimitiveType::Long), field(101, "at", PrimitiveType::Timestamptz)]), Some(spec))
        .await;
    let day = 86_400_000_000i64;
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![5, day + 5, 2 * day + 5]).with_timezone("+00:00"));
    let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2]));
    let table = home.append(&table, RecordBatch::try_from_iter([("a", a), ("at", at)]).unwrap()).await;
    let rows = MeshTable::at_head(&table).unwrap();
    assert_eq!(rows.files().await.unwrap().files().len(), 3);
    assert_eq!(plan(&rows, col("a").eq(lit(2i64))).await.matches(".parquet").count(), 1);
    assert_eq!(sql(rows, "SELECT a FROM t WHERE at >= TIMESTAMP '1970-01-02T00:00:00Z' ORDER BY a").await, "1;2");
}
