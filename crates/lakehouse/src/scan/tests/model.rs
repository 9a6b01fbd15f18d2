//! Pruning against full evaluation: whatever the partitions, bounds and row groups, a predicate gives the rows that it
//! gives on the same rows in memory. Values are those at which bounds go wrong.

use std::collections::HashMap;

use datafusion::arrow::array::{BooleanArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use iceberg::spec::{Transform, UnboundPartitionField};

use super::foreign::add_parquet;
use super::*;

const DAY: i64 = 86_400_000_000;
const DOUBLES: [Option<f64>; 9] = [
    Some(3.0),
    Some(f64::NAN),
    Some(-0.0),
    Some(0.0),
    Some(-1.5),
    Some(f64::INFINITY),
    Some(f64::NEG_INFINITY),
    Some(f64::MIN_POSITIVE),
    None,
];
const MOMENTS: [Option<i64>; 9] = [
    Some(-1),
    Some(0),
    Some(1),
    Some(-DAY),
    Some(-DAY - 1),
    Some(-DAY + 1),
    Some(-400 * DAY - 7),
    Some(40 * DAY),
    None,
];
const TEXTS: [Option<&str>; 7] = [Some(""), Some("a"), Some("ab"), Some("abc\u{10ffff}"), Some("b"), Some("é"), None];
const INTS: [Option<i32>; 6] = [Some(-2_000_000_000), Some(-1), Some(0), Some(2), Some(i32::MAX), None];

fn columns() -> Schema {
    schema([
        field(100, "k", PrimitiveType::Long),
        field(101, "f", PrimitiveType::Double),
        field(102, "at", PrimitiveType::Timestamptz),
        field(103, "s", PrimitiveType::String),
        field(104, "i", PrimitiveType::Int),
    ])
}

/// A batch of the table's columns whose values walk through the lists at different paces.
fn rows(from: i64, count: i64, step: usize) -> RecordBatch {
    let at = |k: i64| usize::try_from(k).unwrap() * step;
    let keys = from..from + count;
    let doubles: Vec<_> = keys.clone().map(|k| DOUBLES[at(k) % DOUBLES.len()]).collect();
    let moments: Vec<_> = keys.clone().map(|k| MOMENTS[at(k) / 2 % MOMENTS.len()]).collect();
    let texts: Vec<_> = keys.clone().map(|k| TEXTS[at(k) / 3 % TEXTS.len()]).collect();
    let ints: Vec<_> = keys.clone().map(|k| INTS[at(k) / 4 % INTS.len()]).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef, true),
        ("f", Arc::new(Float64Array::from(doubles)) as ArrayRef, true),
        ("at", Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("+00:00")) as ArrayRef, true),
        ("s", Arc::new(StringArray::from(texts)) as ArrayRef, true),
        ("i", Arc::new(Int32Array::from(ints)) as ArrayRef, true),
    ])
    .unwrap()
}

fn predicates() -> Vec<String> {
    let literals = [
        ("f", vec!["3.0", "0.0", "-0.0", "-1.5", "'NaN'::double", "'Infinity'::double"]),
        (
            "at",
            vec![
                "'1970-01-01T00:00:00Z'::timestamptz",
                "'1969-12-31T23:59:59.999999Z'::timestamptz",
                "'1969-12-31T00:00:00Z'::timestamptz",
                "'1968-11-26T23:59:59Z'::timestamptz",
                "'1970-02-10T00:00:00Z'::timestamptz",
            ],
        ),
        ("s", vec!["''", "'a'", "'ab'", "'abc'", "'b'", "'é'"]),
        ("i", vec!["-1", "0", "2147483647", "2147483648", "-2147483649", "1.5"]),
    ];
    let mut all = Vec::new();
    for (column, literals) in literals {
        for literal in &literals {
            let operators = ["=", "<>", "<", "<=", ">", ">="];
            all.extend(operators.iter().map(|operator| format!("{column} {operator} {literal}")));
            all.push(format!("NOT ({column} <= {literal})"));
            all.push(format!("{column} NOT IN ({literal})"));
            all.push(format!("{column} IS DISTINCT FROM {literal}"));
        }
        all.push(format!("{column} IN ({})", literals[..2].join(", ")));
        all.push(format!("{column} BETWEEN {} AND {}", literals[2], literals[0]));
        all.push(format!("{column} IS NULL"));
        all.push(format!("{column} IS NOT NULL AND k > 3"));
    }
    all.push("s LIKE 'ab%'".to_owned());
    all.push("starts_with(s, 'abc')".to_owned());
    all
}

fn specs() -> Vec<(&'static str, Option<UnboundPartitionSpec>)> {
    let of = |source, name: &str, transform| {
        let field = UnboundPartitionField { source_id: source, field_id: None, name: name.to_owned(), transform };
        Some(UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build())
    };
    vec![
        ("none", None),
        ("identity of a double", of(101, "f", Transform::Identity)),
        ("identity of an int", of(104, "i", Transform::Identity)),
        ("identity of a text", of(103, "s", Transform::Identity)),
        ("truncate of a text", of(103, "s2", Transform::Truncate(2))),
        ("truncate of an int", of(104, "i10", Transform::Truncate(10))),
        ("hour", of(102, "hour", Transform::Hour)),
        ("day", of(102, "day", Transform::Day)),
        ("month", of(102, "month", Transform::Month)),
        ("year", of(102, "year", Transform::Year)),
        ("bucket", of(103, "bucket", Transform::Bucket(4))),
    ]
}

async fn answers(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

fn in_memory(schema: &SchemaRef, batches: &[RecordBatch]) -> SessionContext {
    let cast = |batch: &RecordBatch| {
        let columns = schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).unwrap();
            datafusion::arrow::compute::cast(column, field.data_type()).unwrap()
        });
        RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
    };
    let context = SessionContext::new();
    let batches = batches.iter().map(cast).collect();
    context.register_table("t", Arc::new(MemTable::try_new(Arc::clone(schema), vec![batches]).unwrap())).unwrap();
    context
}

/// Compares one of every `part` statements, beginning with the `from`th: all of them on each table take minutes.
async fn compare(what: &str, table: &Table, batches: &[RecordBatch], from: usize, part: usize) {
    let rows = MeshTable::at_head(table).unwrap();
    let expected = in_memory(rows.arrow_schema(), batches);
    let found = SessionContext::new();
    found.register_table("t", Arc::new(rows)).unwrap();
    let mut statements: Vec<String> =
        predicates().iter().map(|predicate| format!("SELECT k FROM t WHERE {predicate} ORDER BY k")).collect();
    // Filters that come to be while a query runs prune as well.
    for column in ["f", "at", "s", "i"] {
        statements.push(format!("SELECT {column} FROM t ORDER BY {column} DESC NULLS LAST LIMIT 2"));
        statements.push(format!("SELECT {column} FROM t ORDER BY {column} NULLS LAST LIMIT 2"));
        statements.push(format!("SELECT min({column}) AS a, max({column}) AS b, count({column}) AS n FROM t"));
    }
    for sql in statements.into_iter().skip(from % part).step_by(part) {
        assert_eq!(answers(&found, &sql).await, answers(&expected, &sql).await, "{what}: {sql}");
    }
}

#[tokio::test]
async fn no_predicate_loses_a_row_to_pruning() {
    for (at, (what, spec)) in specs().into_iter().enumerate() {
        let part = if spec.is_none() { 1 } else { 5 };
        let home = home().await;
        let mut table = home.table(columns(), spec.clone()).await;
        let mut batches = Vec::new();
        for (first, step) in [(0, 1), (18, 2), (36, 5)] {
            let batch = rows(first, 18, step);
            table = home.append(&table, batch.clone()).await;
            batches.push(batch);
        }
        if spec.is_none() {
            // One value and NaN in a row group: bounds say that all are equal.
            let equal = rows(54, 18, 1);
            let keep = BooleanArray::from((0..18).map(|row| row % 9 < 2).collect::<Vec<_>>());
            let equal = filter_record_batch(&equal, &keep).unwrap();
            table = home.append(&table, equal.clone()).await;
            batches.push(equal);
            // As engines that count no NaN leave them, in small row groups.
            let foreign = rows(72, 18, 7);
            table = add_parquet(&home, &table, &with_ids(&foreign), 2).await;
            batches.push(foreign);
        }
        compare(what, &table, &batches, at, part).await;
        // Old files keep the narrower type.
        let wider = schema([
            field(100, "k", PrimitiveType::Long),
            field(101, "f", PrimitiveType::Double),
            field(102, "at", PrimitiveType::Timestamptz),
            field(103, "s", PrimitiveType::String),
            field(104, "i", PrimitiveType::Long),
        ]);
        let table = home.evolve(&table, wider).await;
        compare(&format!("{what}, then widened"), &table, &batches, at + 1, 5).await;
    }
}

fn with_ids(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(100..).map(|(field, id)| {
        let id = HashMap::from([(parquet::arrow::PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        field.as_ref().clone().with_metadata(id)
    });
    let schema = datafusion::arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
}

/// The widest claim of [`super::super::statistics`]: a partition's bounds hold each value that is written into it, also
/// by writers that round moments before 1970 towards zero.
#[test]
fn a_partitions_bounds_hold_what_writers_put_there() {
    for (transform, micros) in [(Transform::Hour, 3_600_000_000), (Transform::Day, DAY)] {
        for moment in MOMENTS.into_iter().flatten() {
            for value in [moment.div_euclid(micros), moment / micros] {
                let found = super::super::statistics::time_bounds(
                    transform,
                    &iceberg::spec::PrimitiveLiteral::Int(i32::try_from(value).unwrap()),
                    &DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None),
                );
                let at = datafusion::common::ScalarValue::TimestampMicrosecond(Some(moment), None);
                assert!(found.lower.unwrap() <= at && at <= found.upper.unwrap(), "{transform:?} {value} {moment}");
            }
        }
    }
}
