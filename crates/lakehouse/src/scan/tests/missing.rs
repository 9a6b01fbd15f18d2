//! Files that are not there, columns that only a partition has, files without field ids.

use datafusion::arrow::array::ListArray;
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{Fields, Schema as ArrowSchema};
use iceberg::spec::{Literal, Struct, Transform, UnboundPartitionField};

use super::foreign::{add_parquet, add_partition, with_id};
use super::*;

async fn fails(table: &Table, query: &str) -> String {
    let context = SessionContext::new();
    context.register_table("t", Arc::new(MeshTable::at_head(table).unwrap())).unwrap();
    let answer = match context.sql(query).await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    let error = answer.expect_err("a missing file is no empty one");
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Each kind of file that a snapshot refers to, taken away and put back.
#[tokio::test]
async fn a_missing_file_is_an_error_that_names_it_and_is_not_remembered() {
    let home = home().await;
    let mut table = home.table(one_int(), None).await;
    for start in [0, 10] {
        table = home.append(&table, ints(start..start + 2)).await;
    }
    let snapshot = table.current_snapshot().unwrap().clone();
    let manifests = table.manifests(&snapshot).await.unwrap();
    let data = MeshTable::at_head(&table).unwrap().files().await.unwrap().files()[1].data_file().file_path().to_owned();
    let kinds = [
        ("manifest list", snapshot.manifest_list().to_owned()),
        ("manifest", manifests[0].manifest_path.clone()),
        ("data file", data),
    ];
    for (kind, location) in kinds {
        let path = crate::store::local_path(&location);
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        // A catalog of its own: nothing is cached yet.
        let catalog = Catalog::open(home.catalog.config().clone()).await.unwrap();
        let fresh = catalog.load(table.ident()).await.unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for query in ["SELECT a FROM t", "SELECT sum(a) FROM t WHERE a >= 0"] {
            let error = fails(&fresh, query).await;
            assert!(error.contains(name), "{kind}, {query}: {error}");
        }
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(sql(MeshTable::at_head(&fresh).unwrap(), "SELECT sum(a) FROM t").await, "22", "{kind}");
    }
}

/// As a Hive table's files are when they are added as they are.
#[tokio::test]
async fn a_column_that_only_the_partition_has_is_its_value() {
    let home = home().await;
    let part =
        UnboundPartitionField { source_id: 101, field_id: None, name: "b".to_owned(), transform: Transform::Identity };
    let spec = UnboundPartitionSpec::builder().add_partition_fields([part]).unwrap().build();
    let columns = schema([field(100, "a", PrimitiveType::Long), field(101, "b", PrimitiveType::String)]);
    let mut table = home.table(columns, Some(spec)).await;
    let lone = |values: Vec<i64>| {
        let schema = ArrowSchema::new(vec![with_id(Field::new("a", DataType::Int64, true), 100)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(values)) as ArrayRef]).unwrap()
    };
    for (value, rows) in [("x", vec![1, 2]), ("y", vec![3])] {
        let partition = Struct::from_iter([Some(Literal::string(value))]);
        table = add_partition(&home, &table, &lone(rows), partition).await;
    }
    let partition = Struct::from_iter([None]);
    table = add_partition(&home, &table, &lone(vec![4]), partition).await;
    let own = RecordBatch::try_from_iter([
        ("a", Arc::new(Int64Array::from(vec![5])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
    ]);
    table = home.append(&table, own.unwrap()).await;
    let ask = async |query: &str| sql(MeshTable::at_head(&table).unwrap(), query).await;
    assert_eq!(ask("SELECT a, b FROM t ORDER BY a").await, "1,x;2,x;3,y;4,;5,x");
    assert_eq!(ask("SELECT a FROM t WHERE b = 'x' ORDER BY a").await, "1;2;5");
    assert_eq!(ask("SELECT a FROM t WHERE b <> 'x'").await, "3");
    assert_eq!(ask("SELECT a FROM t WHERE b IS NULL").await, "4");
    assert_eq!(ask("SELECT b, count(*) FROM t GROUP BY b ORDER BY b NULLS LAST").await, "x,3;y,1;,1");
}

/// Ids by names and aliases, also of nested parts; names that the mapping does not have are not read.
#[tokio::test]
async fn a_file_without_field_ids_is_read_by_the_name_mapping() {
    let home = home().await;
    let parts = StructType::new(vec![field(103, "x", PrimitiveType::Long), field(104, "y", PrimitiveType::String)]);
    let item = NestedField::list_element(106, Type::Primitive(PrimitiveType::Long), false);
    let columns = schema([
        field(100, "a", PrimitiveType::Long),
        field(101, "b", PrimitiveType::Long),
        Arc::new(NestedField::optional(102, "s", Type::Struct(parts))),
        Arc::new(NestedField::optional(105, "l", Type::List(iceberg::spec::ListType::new(item.into())))),
    ]);
    let mapping = r#"[{"field-id": 100, "names": ["a", "alias"]}, {"field-id": 101, "names": ["b"]},
        {"field-id": 102, "names": ["s"], "fields": [{"field-id": 103, "names": ["x", "old_x"]}, {"field-id": 104, "names": ["y"]}]},
        {"field-id": 105, "names": ["l"], "fields": [{"field-id": 106, "names": ["element"]}]}]"#;
    let of = |mapping: &str| TableSpec {
        ident: TableIdent::new(NamespaceIdent::new("d".to_owned()), format!("t{}", mapping.len())),
        schema: columns.clone(),
        partition_spec: None,
        properties: BTreeMap::from([("schema.name-mapping.default".to_owned(), mapping.to_owned())]),
    };
    let table = home.catalog.create_table(of(mapping)).await.unwrap();
    let x: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
    let inner = Fields::from(vec![Field::new("old_x", DataType::Int32, true)]);
    let nested = StructArray::new(inner, vec![x], None);
    let values: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let list = ListArray::new(item, OffsetBuffer::from_lengths([2, 1]), values, None);
    let batch = RecordBatch::try_from_iter([
        ("b_is_not_here", Arc::new(Int64Array::from(vec![9, 9])) as ArrayRef),
        ("alias", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ("s", Arc::new(nested) as ArrayRef),
        ("l", Arc::new(list) as ArrayRef),
    ]);
    let batch = batch.unwrap();
    let table = add_parquet(&home, &table, &batch, 100).await;
    let ask = async |query: &str| sql(MeshTable::at_head(&table).unwrap(), query).await;
    assert_eq!(ask("SELECT a, b, s['x'], s['y'], l[1] FROM t ORDER BY a").await, "1,,7,,1;2,,8,,3");
    assert_eq!(ask("SELECT a FROM t WHERE s['x'] = 8 AND a > 1").await, "2");
    // One that cannot be read is an error, not a table of nulls.
    let broken = home.catalog.create_table(of("[{\"names\": 1}]")).await.unwrap();
    let broken = add_parquet(&home, &broken, &batch, 100).await;
    assert!(fails(&broken, "SELECT a FROM t").await.contains("name-mapping"));
}
