//! NO-LEAK, shown by attack: two worlds that differ only in what the reader may not see must look the same — rows,
//! errors, plans, metrics. Each attack is also made on the same worlds without the barrier (the policy as a plain view,
//! and no policy at all), where it must see a difference: an attack that could not see one would show nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::prelude::{SessionConfig, SessionContext};
use iceberg::spec::{NestedField, PrimitiveType, Schema, StructType, Type};
use iceberg::{NamespaceIdent, TableIdent};
use mesh_lakehouse::scan::MeshTable;
use mesh_lakehouse::{Catalog, CatalogConfig, Change, TableSpec, TableWriter, WriterOptions};
use mesh_policy::{MaskAction, RowFilter};

use super::{GovernedTable, MaskKeys, Restriction};

mod more;

/// carrier, delay, code, tail, pay, offset
type Row = (&'static str, i64, &'static str, &'static str, i64, i64);

/// Readers see the rows of UA, `tail` by its last four characters, `pay` not at all. Hidden rows differ in number and
/// values; one of them breaks every expression that can break.
const WORLD_A: &[Row] = &[
    ("UA", 2, "10", "N14228", 500, 0),
    ("AA", 40, "11", "N38211", 900, 1),
    ("UA", 7, "12", "N24211", 100, 2),
    ("UA", 4, "14", "N39463", 300, 5),
];
const WORLD_B: &[Row] = &[
    ("DL", 13, "(", "N66849", 1, 0),
    ("DL", -900, "x", "N11111", 2, 1),
    ("UA", 2, "10", "N94228", 100, 3),
    ("AA", 99_999, "[", "N77777", 3, 4),
    ("UA", 7, "12", "N84211", 700, 5),
    ("UA", 4, "14", "N79463", 50, 9),
    ("DL", 13, "zz", "N33333", 4, 10),
];

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Barrier,
    View,
    None,
}

async fn catalog_view(folder: &std::path::Path, rows: &[Row], rows_in_a_file: usize) -> MeshTable {
    let catalog = Catalog::open(CatalogConfig::in_folder(folder)).await.unwrap();
    let namespace = NamespaceIdent::new("operations".to_owned());
    catalog.create_namespace(&namespace).await.unwrap();
    let field = |id, name: &str, of| Arc::new(NestedField::optional(id, name, Type::Primitive(of)));
    let provenance = StructType::new(vec![field(1, "offset", PrimitiveType::Long)]);
    let schema = Schema::builder()
        .with_fields([
            field(100, "carrier", PrimitiveType::String),
            field(101, "delay", PrimitiveType::Long),
            field(102, "code", PrimitiveType::String),
            field(103, "tail", PrimitiveType::String),
            field(104, "pay", PrimitiveType::Long),
            Arc::new(NestedField::optional(2, "_mesh", Type::Struct(provenance))),
        ])
        .build()
        .unwrap();
    let ident = TableIdent::new(namespace, "flights_v1".to_owned());
    let spec = TableSpec { ident, schema, partition_spec: None, properties: BTreeMap::new() };
    let mut table = catalog.create_table(spec).await.unwrap();
    // Several files, so that their number differs as well.
    for rows in rows.chunks(rows_in_a_file) {
        let commit = uuid::Uuid::now_v7();
        let mut writer = TableWriter::new(&table, commit, WriterOptions::default()).unwrap();
        writer.write(batch(rows)).await.unwrap();
        let files = writer.close().await.unwrap().files;
        table = catalog
            .apply(&table, &Change::append(&table, files).with_commit_id(commit))
            .await
            .into_result()
            .unwrap()
            .table;
    }
    MeshTable::at_head(&table).unwrap()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |pick: fn(&Row) -> &'static str| {
        Arc::new(rows.iter().map(|r| Some(pick(r))).collect::<StringArray>()) as ArrayRef
    };
    let number =
        |pick: fn(&Row) -> i64| Arc::new(rows.iter().map(|r| Some(pick(r))).collect::<Int64Array>()) as ArrayRef;
    let offset = Arc::new(Field::new("offset", DataType::Int64, true));
    RecordBatch::try_from_iter([
        ("carrier", text(|r| r.0)),
        ("delay", number(|r| r.1)),
        ("code", text(|r| r.2)),
        ("tail", text(|r| r.3)),
        ("pay", number(|r| r.4)),
        ("_mesh", Arc::new(StructArray::from(vec![(offset, number(|r| r.5))])) as ArrayRef),
    ])
    .unwrap()
}

/// A session with `flights` under a policy and the reader's own table `mine`.
async fn session(rows: &MeshTable, policy: Policy) -> SessionContext {
    session_of(rows, policy, "carrier = 'UA'").await
}

async fn session_of(rows: &MeshTable, policy: Policy, filter: &str) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2).with_information_schema(true);
    let context = SessionContext::new_with_config(config);
    let filters = [RowFilter { expression: filter.into(), package: "mesh.domain.operations.reading".into() }];
    let masks =
        BTreeMap::from([("tail".to_owned(), MaskAction::ShowLast4), ("pay".to_owned(), MaskAction::ReplaceWithNull)]);
    let keys = MaskKeys::new(b"key".as_slice().into(), [7; 16]);
    let bound = Restriction::bind(&context.state(), "flights", rows.arrow_schema(), &filters, &masks, &keys).unwrap();
    let within: Arc<dyn TableProvider> = Arc::new(rows.clone());
    let count = usize::try_from(rows.row_count().await.unwrap()).unwrap();
    let governed = GovernedTable::new("flights", Arc::clone(&within), bound, count);
    let table: Arc<dyn TableProvider> = match policy {
        Policy::Barrier => Arc::new(governed),
        Policy::View => Arc::new(ViewTable::new(governed.logical_plan(&governed.schema()).unwrap(), None)),
        Policy::None => within,
    };
    context.register_table("flights", table).unwrap();
    let mine: ArrayRef = Arc::new(Int64Array::from(vec![2, 7, 40, 99_999]));
    let mine = RecordBatch::try_from_iter([("x", mine)]).unwrap();
    context.register_table("mine", Arc::new(MemTable::try_new(mine.schema(), vec![vec![mine]]).unwrap())).unwrap();
    context
}

/// Everything that a reader can observe of a query, but time.
async fn observe(rows: &MeshTable, policy: Policy, sql: &str) -> String {
    let context = session(rows, policy).await;
    let answered = async {
        let plan = context.sql(sql).await?.into_unoptimized_plan();
        let context = super::observed(&context, &plan);
        context.execute_logical_plan(plan).await?.collect().await
    };
    match answered.await {
        Ok(batches) => {
            let printed = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
            let mut lines: Vec<String> = printed.lines().map(untimed).collect();
            if !sql.starts_with("EXPLAIN") && !sql.contains("ORDER BY") {
                lines.sort();
            }
            lines.join("\n")
        }
        Err(error) => format!("error: {}", without_ids(&error.strip_backtrace())),
    }
}

/// A line of a plan without durations, and without the column widths of the table that it is printed in.
fn untimed(line: &str) -> String {
    let timed = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let number = value.trim_end_matches(|c: char| c.is_alphabetic() || c == 'µ');
        let unit = &value[number.len()..];
        let is_time = number.parse::<f64>().is_ok() && ["ns", "µs", "ms", "s"].contains(&unit);
        is_time.then(|| format!("{name}=_"))
    };
    let parts = line.split(", ").map(|part| {
        let (head, rest) = part.rsplit_once('[').map_or(("", part), |(head, rest)| (head, rest));
        let bare = rest.trim_end_matches(['|', ' ']).trim_end_matches(']');
        timed(bare).map_or_else(|| part.to_owned(), |untimed| format!("{head}[{untimed}"))
    });
    parts
        .collect::<Vec<_>>()
        .join(", ")
        .replace(['-', '+', '|', ']'], "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Ids of sealed errors are random.
fn without_ids(text: &str) -> String {
    text.split_whitespace()
        .map(|word| if uuid::Uuid::parse_str(word).is_ok() { "<id>" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

struct Worlds {
    a: MeshTable,
    b: MeshTable,
    _folders: [tempfile::TempDir; 2],
}

async fn worlds() -> Worlds {
    worlds_of(WORLD_A, WORLD_B, 3).await
}

async fn worlds_of(a: &[Row], b: &[Row], rows_in_a_file: usize) -> Worlds {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let a = catalog_view(folders[0].path(), a, rows_in_a_file).await;
    let b = catalog_view(folders[1].path(), b, rows_in_a_file).await;
    Worlds { a, b, _folders: folders }
}

/// The attack sees no difference through the barrier, and one without it.
async fn check(sql: &str) {
    let worlds = worlds().await;
    let a = observe(&worlds.a, Policy::Barrier, sql).await;
    let b = observe(&worlds.b, Policy::Barrier, sql).await;
    assert_eq!(a, b, "{sql}");
    let mut seen = false;
    for mutation in [Policy::View, Policy::None] {
        seen |= observe(&worlds.a, mutation, sql).await != observe(&worlds.b, mutation, sql).await;
    }
    assert!(seen, "this attack would not notice a missing barrier: {sql}\n{a}");
}

/// As [`check`], and the policy as a plain view leaks: only the barrier helps.
async fn check_beyond_views(sql: &str) {
    check(sql).await;
    let worlds = worlds().await;
    let a = observe(&worlds.a, Policy::View, sql).await;
    assert_ne!(a, observe(&worlds.b, Policy::View, sql).await, "a view is as good as the barrier here: {sql}");
}

#[tokio::test]
async fn a_division_in_a_predicate_does_not_fail_on_hidden_rows() {
    check_beyond_views("SELECT delay FROM flights WHERE 1 / (delay - 13) > -5").await;
}

#[tokio::test]
async fn a_cast_in_a_predicate_does_not_show_hidden_values() {
    check_beyond_views("SELECT delay FROM flights WHERE CAST(code AS BIGINT) >= 0").await;
}

#[tokio::test]
async fn a_function_in_a_predicate_does_not_run_on_hidden_rows() {
    check_beyond_views("SELECT delay FROM flights WHERE regexp_like('12', code)").await;
}

#[tokio::test]
async fn a_join_filter_does_not_run_on_hidden_rows() {
    check("SELECT m.x FROM mine m JOIN flights f ON m.x = f.delay AND 10 / (f.delay - 13) > -99").await;
}

#[tokio::test]
async fn a_dynamic_filter_shows_nothing() {
    check("SELECT f.delay, f.tail FROM flights f JOIN mine m ON m.x = f.delay WHERE m.x > 1").await;
    check("EXPLAIN ANALYZE SELECT f.delay FROM flights f JOIN mine m ON m.x = f.delay WHERE m.x > 1").await;
    check("EXPLAIN ANALYZE SELECT delay FROM flights ORDER BY delay LIMIT 1").await;
}

#[tokio::test]
async fn plans_show_neither_policy_nor_files() {
    check_beyond_views("EXPLAIN SELECT delay, pay FROM flights WHERE delay > 3").await;
    check_beyond_views("EXPLAIN VERBOSE SELECT tail FROM flights WHERE delay = 4").await;
    let worlds = worlds().await;
    for sql in
        ["EXPLAIN VERBOSE SELECT * FROM flights WHERE delay = 4", "EXPLAIN ANALYZE VERBOSE SELECT * FROM flights"]
    {
        let plan = observe(&worlds.a, Policy::Barrier, sql).await;
        for secret in ["'UA'", "Utf8(\"UA\")", "show-last-4", "replace-with-null", "parquet", "_mesh"] {
            assert!(!plan.contains(secret), "{secret} in\n{plan}");
        }
        assert!(plan.contains("GovernedScanExec"), "{plan}");
    }
}

#[tokio::test]
async fn metrics_count_nothing_hidden() {
    check_beyond_views("EXPLAIN ANALYZE SELECT delay FROM flights WHERE delay > 3").await;
    check("EXPLAIN ANALYZE SELECT count(*) FROM flights").await;
}

#[tokio::test]
async fn statistics_answer_nothing() {
    check("SELECT min(delay), max(delay) FROM flights").await;
    check("SELECT count(*) FROM flights").await;
    check("SELECT count(pay) FROM flights").await;
    check("SELECT min(pay) FROM flights").await;
}

#[tokio::test]
async fn a_limit_counts_visible_rows() {
    check("SELECT count(*) FROM (SELECT delay FROM flights LIMIT 5)").await;
    check("SELECT delay, tail FROM flights ORDER BY delay LIMIT 2 OFFSET 1").await;
}

#[tokio::test]
async fn provenance_is_not_there() {
    check("SELECT _mesh FROM flights").await;
    check("SELECT sum(_mesh['offset']) FROM flights").await;
    let worlds = worlds().await;
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'flights'";
    let shown = observe(&worlds.a, Policy::Barrier, columns).await;
    assert!(shown.contains("delay") && !shown.contains("_mesh"), "{shown}");
    assert!(observe(&worlds.a, Policy::None, columns).await.contains("_mesh"));
}

#[tokio::test]
async fn conditions_run_on_visible_rows_only() {
    check("SELECT CASE WHEN carrier <> 'UA' THEN 1 / (delay - 13) ELSE 0 END FROM flights").await;
    check("SELECT count(*) FILTER (WHERE 1 / (delay - 13) > -5) FROM flights").await;
    check("SELECT delay FROM flights WHERE carrier <> 'UA' OR delay = 4").await;
}

#[tokio::test]
async fn masked_columns_sort_filter_and_group_by_their_mask() {
    check("SELECT delay FROM flights ORDER BY pay, delay LIMIT 1").await;
    check("SELECT count(*) FROM flights WHERE pay > 200").await;
    check("SELECT count(*) FROM flights WHERE tail LIKE 'N9%'").await;
    check("SELECT tail, count(*) FROM flights GROUP BY tail").await;
    check("SELECT tail, rank() OVER (ORDER BY pay) FROM flights").await;
    check("SELECT min(tail), max(tail) FROM flights").await;
}

#[tokio::test]
async fn set_operations_and_subqueries_go_through_the_barrier() {
    check("SELECT pay FROM flights UNION SELECT pay FROM flights").await;
    check("SELECT x FROM mine WHERE x IN (SELECT delay FROM flights)").await;
    check("SELECT x FROM mine WHERE EXISTS (SELECT 1 FROM flights f WHERE f.delay = x)").await;
    check("SELECT (SELECT max(delay) FROM flights) AS m").await;
    check("WITH f AS (SELECT delay + 1 AS d FROM flights) SELECT a.d FROM f a JOIN f b ON a.d = b.d").await;
}

#[tokio::test]
async fn windows_recursion_and_lateral_queries_go_through_the_barrier() {
    check("SELECT delay, count(*) OVER (), lag(tail) OVER (ORDER BY delay) FROM flights").await;
    check("SELECT m.x, l.tail FROM mine m, LATERAL (SELECT tail FROM flights f WHERE f.delay = m.x) l").await;
    check(
        "WITH RECURSIVE r AS (SELECT min(delay) AS d FROM flights UNION ALL \
         SELECT d + 1 FROM r WHERE d < 60 AND d < (SELECT max(delay) FROM flights)) SELECT count(*) FROM r",
    )
    .await;
    check("SELECT unnest(make_array(delay, 100 / (delay - 13))) FROM flights").await;
    check("SELECT x FROM mine WHERE x NOT IN (SELECT delay FROM flights)").await;
    check("SELECT x FROM mine EXCEPT SELECT delay FROM flights").await;
    check("SELECT m.x, f.pay FROM mine m FULL JOIN flights f ON m.x = f.delay").await;
    check("SELECT DISTINCT ON (carrier) carrier, delay FROM flights ORDER BY carrier, delay DESC").await;
    check("SELECT carrier, tail, count(*) FROM flights GROUP BY GROUPING SETS ((carrier), (tail), ())").await;
}

#[tokio::test]
async fn a_cast_in_a_join_key_does_not_run_on_hidden_rows() {
    check("SELECT m.x FROM mine m JOIN flights f ON CAST(f.code AS BIGINT) = m.x + 3 WHERE m.x > 1").await;
    check_beyond_views("SELECT count(*) FROM flights WHERE CAST(code AS DECIMAL(4, 1)) IN (10, 12)").await;
    check("SELECT m.x FROM mine m JOIN flights f ON to_timestamp_seconds(f.code) > to_timestamp_seconds(m.x)").await;
}

#[tokio::test]
async fn sketches_and_moments_see_visible_rows_only() {
    check("SELECT approx_distinct(delay), median(delay), var_pop(delay), array_agg(tail ORDER BY delay) FROM flights")
        .await;
    check("SELECT approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY delay) FROM flights").await;
}

#[tokio::test]
async fn every_form_of_a_plan_is_bare() {
    for form in ["TREE", "INDENT"] {
        check(&format!("EXPLAIN FORMAT {form} SELECT max(delay), count(pay) FROM flights WHERE delay > 3")).await;
    }
}

/// Enough rows for many batches. Where the hidden ones lie must not tell when a filter from above begins to work.
#[tokio::test]
async fn a_threshold_that_moves_counts_nothing_hidden() {
    let visible = |i: i64| ("UA", (i * 7919) % 30_011, "10", "N14228", 5, i);
    let few: Vec<Row> = (0..30_000).map(visible).collect();
    let hidden = |i: i64| ("AA", -i, "11", "N38211", 9, i);
    let many: Vec<Row> = few
        .iter()
        .enumerate()
        .flat_map(|(i, row)| {
            let others = if i % 3 == 0 { 2 } else { 0 };
            std::iter::once(*row).chain((0..others).map(move |_| hidden(row.5)))
        })
        .collect();
    let worlds = worlds_of(&few, &many, 20_000).await;
    for sql in [
        "EXPLAIN ANALYZE SELECT delay FROM flights ORDER BY delay LIMIT 10",
        "EXPLAIN ANALYZE SELECT min(delay), max(delay) FROM flights",
        "EXPLAIN ANALYZE SELECT carrier, code, tail FROM flights",
        "EXPLAIN ANALYZE SELECT concat(carrier, tail) AS x FROM flights WHERE delay > 20000 ORDER BY code, x LIMIT 5",
        "EXPLAIN ANALYZE SELECT f.delay FROM flights f JOIN mine m ON m.x = f.delay WHERE m.x > 1 ORDER BY 1 LIMIT 2",
    ] {
        let a = observe(&worlds.a, Policy::Barrier, sql).await;
        assert_eq!(a, observe(&worlds.b, Policy::Barrier, sql).await, "{sql}");
        assert_ne!(a, observe(&worlds.b, Policy::None, sql).await, "this attack shows nothing: {sql}");
    }
}

/// A policy's filter that a hidden row breaks: whatever else the statement says, the answer is the same, so that no reader finds out
/// by asking which row it is.
#[tokio::test]
async fn what_breaks_a_policy_is_not_to_be_found() {
    let worlds = worlds_of(WORLD_A, WORLD_B, 1).await;
    for condition in ["delay = 2", "delay = 13", "delay < -5000", "delay > 100 AND delay < 200", "true"] {
        let context = session_of(&worlds.b, Policy::Barrier, "CAST(code AS BIGINT) >= 0").await;
        let sql = format!("SELECT carrier FROM flights WHERE {condition}");
        let error = context.sql(&sql).await.unwrap().collect().await.unwrap_err().strip_backtrace();
        assert!(error.contains("a protected table could not be read") && !error.contains("zz"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn guesses_at_masked_values_are_made_on_the_mask() {
    check("SELECT 1 / (CASE WHEN tail = 'N94228' THEN 0 ELSE 1 END) FROM flights").await;
    check("SELECT CAST(CASE WHEN starts_with(tail, 'N9') THEN 'x' ELSE '1' END AS BIGINT) FROM flights").await;
    check("SELECT delay FROM flights WHERE pay BETWEEN 400 AND 600").await;
    check("SELECT m.x FROM mine m JOIN flights f ON f.pay = m.x * 150").await;
    check("SELECT first_value(delay ORDER BY pay) FROM flights").await;
    check("SELECT x FROM mine WHERE x < (SELECT count(*) FROM flights WHERE tail < 'N5')").await;
    check("SELECT sum(delay) FILTER (WHERE regexp_like(tail, '^N[89]')) FROM flights").await;
    check("SELECT delay FROM flights WHERE tail IN ('N14228', 'N24211')").await;
    check("SELECT string_agg(tail, ',' ORDER BY delay), count(DISTINCT pay) FROM flights").await;
}

#[tokio::test]
async fn visible_rows_are_all_there_and_masked() {
    let worlds = worlds().await;
    let seen = observe(&worlds.a, Policy::Barrier, "SELECT delay, tail, pay FROM flights ORDER BY delay").await;
    let rows: Vec<&str> = seen.lines().filter(|line| line.contains("xn")).collect();
    assert_eq!(rows, ["2 xn4228", "4 xn9463", "7 xn4211"]);
}

#[tokio::test]
async fn simple_predicates_are_taken_and_others_are_not() {
    let worlds = worlds().await;
    let check = |sql: &'static str, taken: bool| {
        let rows = worlds.a.clone();
        async move {
            let context = session(&rows, Policy::Barrier).await;
            let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            let within = find(&plan).expect("a governed scan").within();
            let printed = datafusion::physical_plan::displayable(within.as_ref()).indent(false).to_string();
            assert_eq!(printed.contains("delay@1 = 4") || printed.contains("delay@1 > 3"), taken, "{sql}\n{printed}");
        }
    };
    check("SELECT * FROM flights WHERE delay = 4", true).await;
    check("SELECT * FROM flights WHERE 3 < delay", true).await;
    check("SELECT * FROM flights WHERE abs(delay) = 4", false).await;
    check("SELECT * FROM flights WHERE pay = 4", false).await;
}

fn find(plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>) -> Option<super::GovernedScanExec> {
    let here = (plan.as_ref() as &dyn std::any::Any).downcast_ref::<super::GovernedScanExec>().cloned();
    here.or_else(|| plan.children().into_iter().find_map(find))
}
