//! Further attacks: what the reader's own operators hold, expressions that break in the middle of plans, names.

use super::*;

/// Visible rows of which each has texts of another length.
const VISIBLE: [Row; 6] = [
    ("UA", 2, "1", "N1", 5, 0),
    ("UA", 7, "22", "N22", 5, 1),
    ("UA", 4, "a code that is longer than sixty-four bytes, so that a buffer must be larger for it", "N333", 5, 2),
    ("UA", 9, "4444", "N4444", 5, 3),
    ("UA", 1, "", "N55555", 5, 4),
    ("UA", 6, "666666", "N666666", 5, 5),
];

/// How large the buffers are that visible rows come in must not tell where hidden rows lie among them.
#[tokio::test]
async fn bytes_that_are_held_count_nothing_hidden() {
    let hidden = |i: i64| ("AA", -i, "a hidden code of some length", "N38211", 9, i);
    let among = |every: usize, times: i64| -> Vec<Row> {
        let rows = VISIBLE.iter().enumerate();
        rows.flat_map(|(i, row)| {
            let others = if i % every == 0 { times } else { 0 };
            std::iter::once(*row).chain((0..others).map(hidden))
        })
        .collect()
    };
    let worlds = [(among(1, 0), 100), (among(2, 3), 100), (among(1, 40), 7), (among(3, 9_000), 50_000)];
    let folders: Vec<_> = worlds.iter().map(|_| tempfile::tempdir().unwrap()).collect();
    let mut tables = Vec::new();
    for ((rows, rows_in_a_file), folder) in worlds.iter().zip(&folders) {
        tables.push(catalog_view(folder.path(), rows, *rows_in_a_file).await);
    }
    for sql in [
        "EXPLAIN ANALYZE SELECT carrier, code, tail, pay, delay + 1 AS d FROM flights",
        "EXPLAIN ANALYZE SELECT code, tail FROM flights WHERE length(code) < 1000",
        "EXPLAIN ANALYZE SELECT a.code, b.tail FROM flights a JOIN flights b ON a.delay = b.delay + 1",
        "EXPLAIN ANALYZE SELECT code, count(*) FROM flights GROUP BY code",
        "EXPLAIN ANALYZE SELECT code, tail FROM flights ORDER BY tail, code",
        "EXPLAIN ANALYZE SELECT code, lag(tail) OVER (ORDER BY delay) FROM flights",
        "EXPLAIN ANALYZE SELECT code, pay FROM flights UNION ALL SELECT tail, pay FROM flights",
    ] {
        let first = observe(&tables[0], Policy::Barrier, sql).await;
        assert!(first.contains("output_bytes"), "{first}");
        for table in &tables[1..] {
            // What the planner gets of the size of a product is public, to a power of ten.
            let shown = observe(table, Policy::Barrier, sql).await;
            assert_eq!(first, shown, "{sql}");
        }
        assert_ne!(first, observe(&tables[1], Policy::View, sql).await, "this attack shows nothing: {sql}");
    }
}

#[tokio::test]
async fn expressions_that_break_do_not_meet_hidden_rows() {
    check("SELECT delay FROM flights WHERE CAST(delay * delay AS SMALLINT) > 3").await;
    check("SELECT delay FROM flights WHERE to_timestamp(code || '0101') IS NOT NULL OR true").await;
    check("SELECT delay FROM flights ORDER BY 100 / (delay - 13) LIMIT 1").await;
    check("SELECT max(100 / (delay - 13)) FROM flights").await;
    check("SELECT m.x FROM mine m JOIN flights f ON m.x > f.delay AND 1 / (f.delay - 13) > -9").await;
    check("SELECT x FROM mine WHERE NOT EXISTS (SELECT 1 FROM flights f WHERE 10 / (f.delay - 13) = x)").await;
    check("SELECT x FROM mine WHERE x > (SELECT min(100 / (delay - 13)) FROM flights)").await;
    check("SELECT sum(delay) OVER (ORDER BY 100 / (delay - 13)) FROM flights").await;
    check("SELECT 100 / (delay - 13) AS d, count(*) FROM flights GROUP BY d HAVING count(*) > 0").await;
    check("SELECT CAST(code AS BIGINT) FROM flights UNION SELECT x FROM mine").await;
    check("SELECT coalesce(nullif(carrier, 'UA'), CAST(100 / (delay - 13) AS VARCHAR)) FROM flights").await;
}

/// However columns are named, provenance is not among them, and masked ones are masked.
#[tokio::test]
async fn names_lead_to_nothing_else() {
    for sql in [
        "SELECT * FROM flights",
        "SELECT f.* FROM flights AS f",
        "SELECT * EXCLUDE (code) FROM flights",
        "SELECT \"tail\", TAIL AS a, flights.\"tail\" AS b FROM flights",
        "SELECT * REPLACE (upper(tail) AS tail) FROM flights",
        "TABLE flights",
    ] {
        let worlds = worlds().await;
        let seen = observe(&worlds.a, Policy::Barrier, sql).await;
        assert_eq!(seen, observe(&worlds.b, Policy::Barrier, sql).await, "{sql}");
        assert!(!seen.contains("_mesh") && !seen.contains("N14228") && !seen.contains("500"), "{sql}\n{seen}");
        assert!(sql.starts_with("TABLE") || seen.to_lowercase().contains("xn4228"), "{sql}\n{seen}");
    }
    for sql in ["SELECT _mesh FROM flights", "SELECT \"_mesh\" FROM flights", "SELECT _MESH['offset'] FROM flights"] {
        let worlds = worlds().await;
        assert!(observe(&worlds.a, Policy::Barrier, sql).await.starts_with("error: "), "{sql}");
    }
}

/// Forms of a plan that other tools read.
#[tokio::test]
async fn plans_for_tools_are_bare_too() {
    let worlds = worlds().await;
    for form in ["PGJSON", "GRAPHVIZ", "TREE", "INDENT"] {
        let sql = format!("EXPLAIN FORMAT {form} SELECT tail, max(pay) FROM flights WHERE delay > 3 GROUP BY tail");
        let shown = observe(&worlds.a, Policy::Barrier, &sql).await;
        assert_eq!(shown, observe(&worlds.b, Policy::Barrier, &sql).await, "{sql}");
        for secret in ["'UA'", "Utf8(\"UA\")", "show-last-4", "replace-with-null", "parquet", "_mesh"] {
            assert!(!shown.contains(secret), "{secret} in\n{shown}");
        }
        assert!(shown.contains("flights"), "{shown}");
        let view = observe(&worlds.a, Policy::View, &sql).await;
        assert!(view.contains("show-last-4") || view.contains("UA"), "this attack shows nothing: {view}");
    }
}

/// Nor by asking for the first rows only: whether a hidden row breaks the policy does not depend on how far one reads.
#[tokio::test]
async fn what_breaks_a_policy_breaks_every_part_of_an_answer() {
    let rows: Vec<Row> =
        (0..20_000).map(|i| ("UA", i, "1", "N1", 5, i)).chain([("DL", 1, "zz", "N2", 5, 20_000)]).collect();
    let folder = tempfile::tempdir().unwrap();
    let table = catalog_view(folder.path(), &rows, 7_000).await;
    for sql in ["SELECT carrier FROM flights LIMIT 1", "SELECT carrier FROM flights", "SELECT max(delay) FROM flights"]
    {
        let context = session_of(&table, Policy::Barrier, "CAST(code AS BIGINT) >= 0").await;
        let error = context.sql(sql).await.unwrap().collect().await.unwrap_err().strip_backtrace();
        assert!(error.contains("a protected table could not be read"), "{sql}: {error}");
        let context = session_of(&table, Policy::Barrier, "CAST(length(code) AS BIGINT) >= 0").await;
        assert!(context.sql(sql).await.unwrap().collect().await.is_ok(), "{sql}");
    }
}
