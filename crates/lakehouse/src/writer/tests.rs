//! What a writer promises of its files: the rows, the metrics, the sizes, and nothing left behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_array::{TimestampMicrosecondArray, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Fields, Schema as ArrowSchema};
use iceberg::spec::{
    DataFile, Datum, ListType, NestedField, PrimitiveType as P, Schema, StructType, Transform, Type,
    UnboundPartitionField, UnboundPartitionSpec,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use crate::store::local_path;
use crate::testing::{Lake, ident, rows};
use crate::{Table, TableSpec, TableWriter, WriterOptions, Written};

async fn table(lake: &Lake, fields: Vec<NestedField>, partition: Option<(i32, Transform)>) -> Table {
    let schema = Schema::builder().with_fields(fields.into_iter().map(Arc::new)).build().unwrap();
    let field = partition.map(|(source_id, transform)| UnboundPartitionField {
        source_id,
        field_id: None,
        name: "part".into(),
        transform,
    });
    let partition_spec = field.map(|f| UnboundPartitionSpec::builder().add_partition_fields([f]).unwrap().build());
    let spec = TableSpec { ident: ident("t"), schema, partition_spec, properties: BTreeMap::new() };
    lake.catalog.create_table(spec).await.unwrap()
}

async fn written(table: &Table, options: WriterOptions, batches: Vec<RecordBatch>) -> Written {
    let mut writer = TableWriter::new(table, Uuid::now_v7(), options).unwrap();
    for batch in batches {
        writer.write(batch).await.unwrap();
    }
    writer.close().await.unwrap()
}

fn read(file: &DataFile) -> RecordBatch {
    let open = std::fs::File::open(local_path(file.file_path())).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(open).unwrap().with_batch_size(1 << 20).build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn optional(id: i32, name: &str, ty: P) -> NestedField {
    NestedField::optional(id, name, Type::Primitive(ty))
}

fn files_under(table: &Table) -> usize {
    std::fs::read_dir(local_path(table.metadata().location()).join("data")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn rows_come_back_with_field_ids_and_the_file_has_the_length_of_its_entry() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let commit_id = Uuid::now_v7();
    let mut writer = TableWriter::new(&table, commit_id, WriterOptions::default()).unwrap();
    for start in [0, 500] {
        writer.write(rows(start..start + 500)).await.unwrap();
    }
    let written = writer.close().await.unwrap();
    let [file] = &written.files[..] else { panic!("{:?}", written.files) };
    let back = read(file);
    assert_eq!(back.column(0).as_primitive::<Int64Type>().values().to_vec(), (0..1000).collect::<Vec<i64>>());
    assert_eq!(back.schema().field(1).metadata()["PARQUET:field_id"], "101");
    assert_eq!(std::fs::metadata(local_path(file.file_path())).unwrap().len(), file.file_size_in_bytes());
    assert_eq!((written.rows, written.bytes), (1000, file.file_size_in_bytes()));
    assert!(file.file_path().contains(&commit_id.to_string()));
}

#[tokio::test]
async fn metrics_describe_the_rows_of_the_file() {
    let lake = Lake::new().await;
    let inner = StructType::new(vec![Arc::new(optional(11, "x", P::Long))]);
    let fields = vec![
        optional(1, "long", P::Long),
        optional(2, "text", P::String),
        optional(3, "double", P::Double),
        optional(4, "small", P::Decimal { precision: 9, scale: 2 }),
        optional(5, "wide", P::Decimal { precision: 38, scale: 2 }),
        optional(6, "bytes", P::Binary),
        optional(7, "time", P::Timestamptz),
        optional(8, "nothing", P::Long),
        NestedField::optional(
            9,
            "list",
            Type::List(ListType::new(Arc::new(NestedField::list_element(12, Type::Primitive(P::Long), false)))),
        ),
        NestedField::optional(10, "inner", Type::Struct(inner)),
    ];
    let table = table(&lake, fields, None).await;
    let mut list = ListBuilder::new(Int64Builder::new());
    list.append_value([Some(1), Some(2)]);
    list.append_null();
    list.append_value([None]);
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(4)]));
    let inner = StructArray::new(Fields::from(vec![Field::new("x", DataType::Int64, true)]), vec![x], None);
    let decimals =
        |p| Decimal128Array::from(vec![Some(-150), None, Some(12_345)]).with_precision_and_scale(p, 2).unwrap();
    let rows = batch(vec![
        ("long", Arc::new(Int64Array::from(vec![Some(-3), None, Some(8)]))),
        ("text", Arc::new(StringArray::from(vec![Some("b"), Some("a long text of more than sixteen"), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1.5), Some(-2.5)]))),
        ("small", Arc::new(decimals(9))),
        ("wide", Arc::new(decimals(38))),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[1, 2][..]), Some(&[0; 20][..]), None]))),
        ("time", Arc::new(TimestampMicrosecondArray::from(vec![7, 9, 8]).with_timezone("UTC"))),
        ("nothing", Arc::new(Int64Array::from(vec![None, None, None]))),
        ("list", Arc::new(list.finish())),
        ("inner", Arc::new(inner)),
    ]);
    let written = written(&table, WriterOptions::default(), vec![rows]).await;
    let file = &written.files[0];
    let decimal = |text: &str, p| {
        let digits: i128 = text.parse().unwrap();
        Datum::try_from_bytes(&digits.to_be_bytes(), P::Decimal { precision: p, scale: 2 }).unwrap()
    };
    let expected = HashMap::from([
        (1, (Datum::long(-3), Datum::long(8))),
        (2, (Datum::string("a long text of m"), Datum::string("b"))),
        (3, (Datum::double(-2.5), Datum::double(1.5))),
        (4, (decimal("-150", 9), decimal("12345", 9))),
        (5, (decimal("-150", 38), decimal("12345", 38))),
        (6, (Datum::binary([0; 16]), Datum::binary([1, 2]))),
        (7, (Datum::timestamptz_micros(7), Datum::timestamptz_micros(9))),
        (11, (Datum::long(4), Datum::long(5))),
    ]);
    let bounds = file.lower_bounds().iter().map(|(id, low)| (*id, (low.clone(), file.upper_bounds()[id].clone())));
    assert_eq!(bounds.collect::<HashMap<_, _>>(), expected);
    let nulls: BTreeMap<_, _> = file.null_value_counts().iter().map(|(k, v)| (*k, *v)).collect();
    assert_eq!(nulls, BTreeMap::from([(1, 1), (2, 1), (3, 0), (4, 1), (5, 1), (6, 1), (7, 0), (8, 3), (11, 1)]));
    assert_eq!(file.nan_value_counts(), &HashMap::from([(3, 1)]));
    assert!(file.value_counts().values().all(|count| *count == 3));
    assert_eq!(file.column_sizes().len(), 10, "a size for each leaf, the list's too");
}

#[tokio::test]
async fn bounds_hold_over_all_row_groups() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let options = WriterOptions { row_group_rows: 100, ..WriterOptions::default() };
    let written = written(&table, options, vec![rows(500..800), rows(0..300)]).await;
    let file = &written.files[0];
    assert_eq!((&file.lower_bounds()[&100], &file.upper_bounds()[&100]), (&Datum::long(0), &Datum::long(799)));
    assert_eq!(file.split_offsets().map(<[i64]>::len), Some(6));
}

#[tokio::test]
async fn rows_go_to_the_file_of_their_partition() {
    let lake = Lake::new().await;
    let fields = vec![optional(100, "id", P::Long), optional(101, "name", P::String)];
    let table = table(&lake, fields, Some((100, Transform::Truncate(10)))).await;
    let written = written(&table, WriterOptions::default(), vec![rows(5..25), rows(10..15)]).await;
    let mut parts: Vec<_> =
        written.files.iter().map(|f| (format!("{:?}", f.partition().fields()[0]), f.record_count())).collect();
    parts.sort();
    let long = |n: i64| format!("{:?}", Some(iceberg::spec::Literal::long(n)));
    assert_eq!(parts, [(long(0), 5), (long(10), 15), (long(20), 5)]);
    let files = written.files.clone();
    let table = lake.catalog.apply(&table, &crate::Change::append(&table, files)).await.into_result().unwrap().table;
    let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap();
    assert_eq!(manifests[0].partition_spec_id, table.metadata().default_partition_spec_id());
}

#[tokio::test]
async fn nulls_are_a_partition_of_their_own() {
    let lake = Lake::new().await;
    let table = table(&lake, vec![optional(1, "a", P::String)], Some((1, Transform::Identity))).await;
    let rows = batch(vec![("a", Arc::new(StringArray::from(vec![Some("x/y"), None, Some("x/y"), Some("")])))]);
    let mut counts: Vec<_> =
        written(&table, WriterOptions::default(), vec![rows]).await.files.iter().map(DataFile::record_count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2]);
}

#[tokio::test]
async fn files_roll_and_memory_is_bounded() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let small = WriterOptions { target_file_bytes: 20_000, ..WriterOptions::default() };
    let batches = || (0..10).map(|n| rows(n * 5_000..(n + 1) * 5_000)).collect::<Vec<_>>();
    let rolled = written(&table, small, batches()).await;
    assert!(rolled.files.len() > 2, "{}", rolled.files.len());
    assert_eq!(rolled.rows, 50_000);
    let flushed = written(&table, WriterOptions { memory_bytes: 1, ..WriterOptions::default() }, batches()).await;
    assert_eq!(flushed.files.len(), 1);
    assert_eq!(flushed.files[0].split_offsets().map(<[i64]>::len), Some(10), "a row group for each batch");
}

#[tokio::test]
async fn many_partitions_keep_few_files_open() {
    let lake = Lake::new().await;
    let table = table(
        &lake,
        vec![optional(100, "id", P::Long), optional(101, "name", P::String)],
        Some((100, Transform::Identity)),
    )
    .await;
    let options = WriterOptions { open_files: 4, ..WriterOptions::default() };
    let written = written(&table, options, vec![rows(0..20), rows(0..20)]).await;
    assert_eq!(written.rows, 40);
    assert!(written.files.len() > 20, "closed early, begun again");
}

/// The process of the next test: a batch whose rows are all of partitions of their own.
#[tokio::test]
async fn writes_five_hundred_partitions_in_one_batch() {
    let lake = Lake::new().await;
    let fields = vec![optional(100, "id", P::Long), optional(101, "name", P::String)];
    let table = table(&lake, fields, Some((100, Transform::Identity))).await;
    let written = written(&table, WriterOptions::default(), vec![rows(0..500)]).await;
    assert_eq!((written.rows, written.files.len()), (500, 500));
}

#[test]
fn partitions_of_one_batch_need_no_more_open_files_than_may_be() {
    let test = "writer::tests::writes_five_hundred_partitions_in_one_batch";
    let child = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 160 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1"])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(output.contains("1 passed"), "{output}");
}

#[tokio::test]
async fn an_abandoned_writer_leaves_nothing_and_an_empty_one_writes_nothing() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let mut writer = TableWriter::new(&table, Uuid::now_v7(), WriterOptions::default()).unwrap();
    writer.write(rows(0..10)).await.unwrap();
    assert_eq!(files_under(&table), 1);
    drop(writer);
    assert_eq!(files_under(&table), 0);
    assert_eq!(written(&table, WriterOptions::default(), vec![rows(0..0)]).await.files.len(), 0);
}

#[tokio::test]
async fn rows_that_do_not_fit_are_refused() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let name: ArrayRef = Arc::new(StringArray::from(vec!["n"]));
    let narrow: ArrayRef = Arc::new(arrow_array::Int32Array::from(vec![1]));
    for (columns, expected) in [
        (vec![("id", id.clone())], "`name` is missing"),
        (vec![("id", narrow), ("name", name.clone())], "`id` is Int32"),
        (vec![("id", id), ("name", name.clone()), ("more", name)], "no column `more`"),
    ] {
        let mut writer = TableWriter::new(&table, Uuid::now_v7(), WriterOptions::default()).unwrap();
        let error = writer.write(batch(columns)).await.unwrap_err();
        assert_eq!(error.code(), "MESH-LAKEHOUSE-0021");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(expected), "{cause}");
    }
}

#[tokio::test]
async fn a_null_in_a_required_column_is_refused() {
    let lake = Lake::new().await;
    let table = table(&lake, vec![NestedField::required(1, "a", Type::Primitive(P::Long))], None).await;
    let nullable = Arc::new(ArrowSchema::new(vec![Field::new("a", DataType::Int64, true)]));
    let rows = RecordBatch::try_new(nullable, vec![Arc::new(Int64Array::from(vec![Some(1), None]))]).unwrap();
    let mut writer = TableWriter::new(&table, Uuid::now_v7(), WriterOptions::default()).unwrap();
    assert_eq!(writer.write(rows).await.unwrap_err().code(), "MESH-LAKEHOUSE-0021");
}
