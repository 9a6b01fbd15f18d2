//! What other engines and earlier schemas leave in a table: read rightly, or refused with a code.

use std::collections::HashMap;

use datafusion::arrow::array::{Decimal128Array, ListArray, MapArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{Fields, Schema as ArrowSchema};
use datafusion::error::DataFusionError;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, ListType, MapType, Struct};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::WriterProperties;

use super::*;

/// A Parquet file as another engine writes it, added to the table as it is.
async fn add_file(home: &Home, table: &Table, batch: &RecordBatch) -> Table {
    add_parquet(home, table, batch, 1_000).await
}

/// The same in row groups of so many rows.
pub(super) async fn add_parquet(home: &Home, table: &Table, batch: &RecordBatch, group: usize) -> Table {
    add_written(home, table, batch, group, Struct::empty()).await
}

/// The same into a partition.
pub(super) async fn add_partition(home: &Home, table: &Table, batch: &RecordBatch, partition: Struct) -> Table {
    add_written(home, table, batch, 1_000, partition).await
}

async fn add_written(home: &Home, table: &Table, batch: &RecordBatch, group: usize, partition: Struct) -> Table {
    let location = format!("{}/data/{}.parquet", table.metadata().location(), Uuid::new_v4());
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let size = bytes.len();
    table.store().write_new(&location, bytes.into()).await.unwrap();
    let mut file = DataFileBuilder::default();
    file.content(DataContentType::Data).file_path(location).file_format(DataFileFormat::Parquet).partition(partition);
    let rows = u64::try_from(batch.num_rows()).unwrap();
    let size = u64::try_from(size).unwrap();
    let spec = table.metadata().default_partition_spec_id();
    let file = file.partition_spec_id(spec).record_count(rows).file_size_in_bytes(size).build().unwrap();
    home.catalog.apply(table, &Change::append(table, vec![file])).await.into_result().unwrap().table
}

fn entry(location: &str, content: DataContentType, format: DataFileFormat, rows: usize, size: usize) -> DataFile {
    let rows = u64::try_from(rows).unwrap();
    let size = u64::try_from(size).unwrap();
    let mut file = DataFileBuilder::default();
    file.content(content).file_path(location.to_owned()).file_format(format).partition(Struct::empty());
    file.partition_spec_id(0).record_count(rows).file_size_in_bytes(size).build().unwrap()
}

/// The code of what keeps a query from its answer.
async fn refused(table: &Table, query: &str) -> &'static str {
    let context = SessionContext::new();
    context.register_table("t", Arc::new(MeshTable::at_head(table).unwrap())).unwrap();
    let answer = match context.sql(query).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    let mut error = answer.unwrap_err();
    loop {
        error = match error {
            DataFusionError::External(cause) => match cause.downcast::<ScanError>() {
                Ok(found) => return found.code(),
                Err(cause) => panic!("{cause}"),
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => *inner,
            DataFusionError::ArrowError(inner, _) => match *inner {
                datafusion::arrow::error::ArrowError::ExternalError(cause) => DataFusionError::External(cause),
                other => panic!("{other}"),
            },
            other => panic!("{other:?}"),
        };
    }
}

pub(super) fn with_id(field: Field, id: i32) -> Field {
    field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
}

/// As pyiceberg's `add_files` leaves them, for readers with a name mapping.
#[tokio::test]
async fn a_file_without_field_ids_is_refused_but_counted() {
    let home = home().await;
    let table = home.append(&home.table(one_int(), None).await, ints([1, 2])).await;
    let table = add_file(&home, &table, &ints([3])).await;
    assert_eq!(refused(&table, "SELECT a FROM t").await, "MESH-LAKEHOUSE-0054");
    assert_eq!(refused(&table, "SELECT count(*) FROM t WHERE a > 0").await, "MESH-LAKEHOUSE-0054");
    assert_eq!(sql(MeshTable::at_head(&table).unwrap(), "SELECT count(*) FROM t").await, "3");
}

#[tokio::test]
async fn a_type_that_cannot_become_the_tables_is_refused() {
    let home = home().await;
    let table = home.table(one_int(), None).await;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let schema = ArrowSchema::new(vec![with_id(Field::new("a", DataType::Utf8, true), 100)]);
    let table = add_file(&home, &table, &RecordBatch::try_new(Arc::new(schema), vec![text]).unwrap()).await;
    assert_eq!(refused(&table, "SELECT a FROM t").await, "MESH-LAKEHOUSE-0055");
}

#[tokio::test]
async fn files_that_cannot_be_applied_or_read_are_refused() {
    for (content, format, code) in [
        (DataContentType::PositionDeletes, DataFileFormat::Parquet, "MESH-LAKEHOUSE-0052"),
        (DataContentType::EqualityDeletes, DataFileFormat::Parquet, "MESH-LAKEHOUSE-0052"),
        (DataContentType::Data, DataFileFormat::Orc, "MESH-LAKEHOUSE-0053"),
    ] {
        let home = home().await;
        let table = home.append(&home.table(one_int(), None).await, ints([1])).await;
        let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap();
        let data = &manifests[0];
        let file = entry(&format!("{}/data/other", table.metadata().location()), content, format, 1, 10);
        let found = super::super::files::check_readable(&table, data, &file);
        assert_eq!(found.unwrap_err().code(), code, "{content:?} {format:?}");
    }
}

#[tokio::test]
async fn a_decimal_that_was_widened_is_read_and_pruned() {
    let home = home().await;
    let decimal = |precision| schema([field(100, "a", PrimitiveType::Decimal { precision, scale: 2 })]);
    let of = |values: Vec<i128>, precision| {
        let array = Decimal128Array::from(values).with_precision_and_scale(precision, 2).unwrap();
        RecordBatch::try_from_iter([("a", Arc::new(array) as ArrayRef)]).unwrap()
    };
    // Kept as 32-bit integers, as 64-bit ones, and as bytes.
    let mut table = home.table(decimal(5), None).await;
    table = home.append(&table, of(vec![-150, 12_345], 5)).await;
    table = home.evolve(&table, decimal(12)).await;
    table = home.append(&table, of(vec![9_999_999_999], 12)).await;
    let evolve = Change::revision(3).with_schema(decimal(38));
    table = home.catalog.apply(&table, &evolve).await.into_result().unwrap().table;
    table = home.append(&table, of(vec![10_i128.pow(37)], 38)).await;
    let rows = || MeshTable::at_head(&table).unwrap();
    let all = "-1.50;123.45;99999999.99;100000000000000000000000000000000000.00";
    assert_eq!(sql(rows(), "SELECT a FROM t ORDER BY a").await, all);
    assert_eq!(sql(rows(), "SELECT a FROM t WHERE a < 0").await, "-1.50");
    assert_eq!(sql(rows(), "SELECT count(*) FROM t WHERE a >= 123.45").await, "3");
    let above = col("a").gt(lit(datafusion::common::ScalarValue::Decimal128(Some(20_000), 38, 2)));
    assert_eq!(plan(&rows(), above).await.matches(".parquet").count(), 2);
}

/// A list of structs and a map of lists, whose parts are promoted, renamed, added and dropped.
#[tokio::test]
async fn lists_and_maps_are_found_by_field_id_all_the_way_down() {
    let home = home().await;
    let nested = |parts: Vec<Arc<NestedField>>, of: PrimitiveType| {
        let item = NestedField::list_element(102, Type::Struct(StructType::new(parts)), false);
        let values = ListType::new(NestedField::list_element(109, Type::Primitive(of), false).into());
        let key = NestedField::map_key_element(107, Type::Primitive(PrimitiveType::String));
        let value = NestedField::map_value_element(108, Type::List(values), false);
        schema([
            Arc::new(NestedField::optional(101, "l", Type::List(ListType::new(item.into())))),
            Arc::new(NestedField::optional(106, "m", Type::Map(MapType::new(key.into(), value.into())))),
        ])
    };
    let before = nested(
        vec![field(103, "x", PrimitiveType::Int), field(104, "dropped", PrimitiveType::String)],
        PrimitiveType::Float,
    );
    let table = home.table(before, None).await;
    let x: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
    let dropped: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let parts = Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("dropped", DataType::Utf8, true)]);
    let items = StructArray::new(parts.clone(), vec![x, dropped], None);
    let item = Arc::new(Field::new("item", DataType::Struct(parts), true));
    let list = ListArray::new(item, OffsetBuffer::from_lengths([2, 0, 1]), Arc::new(items), None);
    let element = Arc::new(Field::new("item", DataType::Float32, true));
    let floats: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 1.5, 2.5]));
    let values = ListArray::new(element.clone(), OffsetBuffer::from_lengths([1, 2]), floats, None);
    let pair = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::List(element), true),
    ]);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k", "k"]));
    let pairs = StructArray::new(pair.clone(), vec![keys, Arc::new(values)], None);
    let entries = Arc::new(Field::new("entries", DataType::Struct(pair), false));
    let map = MapArray::new(entries, OffsetBuffer::from_lengths([1, 1, 0]), pairs, None, false);
    let batch =
        RecordBatch::try_from_iter([("l", Arc::new(list) as ArrayRef), ("m", Arc::new(map) as ArrayRef)]).unwrap();
    let table = home.append(&table, batch).await;
    let after = nested(
        vec![field(105, "dropped", PrimitiveType::Long), field(103, "y", PrimitiveType::Long)],
        PrimitiveType::Double,
    );
    let table = home.evolve(&table, after).await;
    let rows = || MeshTable::at_head(&table).unwrap();
    assert_eq!(sql(rows(), "SELECT l[1]['y'], l[2]['y'], l[1]['dropped'] FROM t").await, "1,,;,,;3,,");
    assert_eq!(sql(rows(), "SELECT count(*) FROM t WHERE l[1]['y'] = 3").await, "1");
    assert_eq!(
        sql(rows(), "SELECT m['k'][1], arrow_typeof(m['k'][1]) FROM t LIMIT 2").await,
        "0.5,Float64;1.5,Float64"
    );
}
