//! Functions under a bound: the same values, and no more than the pool has room for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::prelude::SessionContext;

use super::{guard, restrict};

const POOL: usize = 64 << 20;

/// The first value of an answer, and what the pool still holds with the answer and the plan dropped.
async fn answer(sql: &str) -> Result<String, DataFusionError> {
    let mut state = SessionContext::new().state();
    restrict(&mut state)?;
    let context = SessionContext::new_with_state(state);
    let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(POOL));
    let plan = context.state().create_logical_plan(sql).await?;
    let names: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    let (plan, constants) = guard(plan, &pool)?;
    assert_eq!(names, plan.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(), "{sql}");
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let value = arrow::util::display::array_value_to_string(batches[0].column(0), 0)?;
    drop((batches, constants));
    assert_eq!(pool.reserved(), 0, "{sql}");
    Ok(value)
}

async fn check(sql: &str, expected: &str) {
    assert_eq!(answer(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")), expected, "{sql}");
}

async fn check_refused(sql: &str, why: &str) {
    let error = answer(sql).await.unwrap_err().to_string();
    assert!(error.contains(why), "{sql}: {error}");
}

#[tokio::test]
async fn counted_functions_answer_as_before() {
    let t = "(VALUES ('ab', 3, 'x'), ('c', -1, NULL), (NULL, 2, 'y')) AS t(x, n, y)";
    for (expression, expected) in [
        ("repeat(x, n)", "ababab"),
        ("x || y", "abx"),
        ("x || n", "ab3"),
        ("concat(x, '-', y, n)", "ab-x3"),
        ("concat_ws(', ', x, y, 'z')", "ab, x, z"),
        ("lpad(x, 4, '0') || rpad(x, 3)", "00abab "),
        ("replace(x, 'b', 'zz')", "azz"),
        ("regexp_replace(x, '([ab])', '<\\1>', 'g')", "<a><b>"),
        ("overlay(x placing 'qq' from 2)", "aqq"),
        ("to_char(to_date('2013-01-31'), '%d.%m.%Y')", "31.01.2013"),
        ("array_to_string([x, y, x], ', ')", "ab, x, ab"),
        ("[n, n + 1]", "[3, 4]"),
        ("make_array(x, y)[2]", "x"),
        ("[n] || 7", "[3, 7]"),
        ("array_replace_all([x, y], 'x', 'long')", "[ab, long]"),
        ("array_has_all([x, y], ['x'])", "true"),
        ("levenshtein(x, 'abc')", "1"),
        ("string_to_array('1,2', ',')", "[1, 2]"),
        ("CAST(translate(x, 'a', 'é') AS VARCHAR)", "éb"),
    ] {
        check(&format!("SELECT {expression} FROM {t}"), expected).await;
    }
    check("SELECT lpad('7', 3, '0')", "007").await;
    check("SELECT rpad(CAST(NULL AS VARCHAR), 3)", "").await;
    check("SELECT replace('aXbX', 'X', '')", "ab").await;
    check("SELECT count(*) FROM (VALUES (1)) AS t(x) WHERE 'a' || x IN (SELECT 'a1')", "1").await;
    check("SELECT string_agg(x || '!', ',') FROM (VALUES ('a'), ('b')) AS t(x) GROUP BY concat(x, x) ORDER BY 1", "a!")
        .await;
}

#[tokio::test]
async fn nothing_is_made_that_the_pool_has_no_room_for() {
    let long = "(SELECT repeat(x, 60000) AS x, n FROM (VALUES ('ab', 1), ('c', 100)) AS t(x, n))";
    let seconds = "(SELECT to_timestamp_seconds(n) AS at FROM (VALUES (1), (2)) AS t(n))";
    for call in [
        "length(repeat('x', 1000000000)) FROM (VALUES (1))".to_owned(),
        "lpad('x', 2000000000) FROM (VALUES (1))".to_owned(),
        "rpad(x, n * 1000000, 'ab') FROM (VALUES ('x', 1), ('y', 100)) AS t(x, n)".to_owned(),
        format!("replace(x, 'a', repeat('y', 5000)) FROM {long}"),
        format!("regexp_replace(x, 'a', repeat('y', 5000), 'g') FROM {long}"),
        format!("array_to_string(string_to_array(x, NULL), repeat('y', 5000)) FROM {long}"),
        format!("concat_ws(x, {}) FROM {long}", vec!["n"; 800].join(", ")),
        format!("[{}] FROM {long}", vec!["x"; 800].join(", ")),
        format!("array_replace_all(string_to_array(x, NULL), 'a', repeat('y', 5000)) FROM {long}"),
        format!("to_char(at, repeat('%c', 3000000)) FROM {seconds}"),
        // Each doubles what is held.
        format!(
            "length(d || d || d || d) FROM (SELECT c || c AS d FROM (SELECT b || b || b || b AS c FROM \
                 (SELECT concat(x, x, x, x, x, x, x, x) || x AS b FROM {long})))"
        ),
    ] {
        check_refused(&format!("SELECT {call}"), "memory").await;
    }
}

/// Each row of a batch may have its own copy.
#[tokio::test]
async fn constants_count_for_each_row() {
    check_refused("SELECT repeat('x', 9000) AS y", "memory").await;
    check_refused(&format!("SELECT '{}' AS y", "x".repeat(25_000)), "memory").await;
    check_refused(
        &format!(
            "SELECT {}",
            ["repeat('x', 1000)"; 9]
                .iter()
                .enumerate()
                .map(|(i, c)| format!("{c} AS c{i}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        "memory",
    )
    .await;
    check(
        &format!(
            "SELECT count(*) FROM (VALUES ('a')) AS t(x) WHERE x IN ('a', {})",
            vec!["'some text'"; 5000].join(", ")
        ),
        "1",
    )
    .await;
    check(&format!("SELECT count(*) FROM (VALUES {}) AS t(x)", vec!["('some text')"; 5000].join(", ")), "5000").await;
}

#[tokio::test]
async fn what_does_not_yield_takes_so_many_steps() {
    let t = "(SELECT repeat(x, n) AS x FROM (VALUES ('ab', 40000)) AS t(x, n))";
    check_refused(&format!("SELECT levenshtein(x, x) FROM {t}"), "steps").await;
    check_refused(&format!("SELECT array_has_all(l, l) FROM (SELECT string_to_array(x, NULL) AS l FROM {t})"), "steps")
        .await;
    check(&format!("SELECT levenshtein(x, 'ab') FROM {t}"), "79998").await;
}

#[tokio::test]
async fn lists_that_grow_with_their_row_are_refused() {
    for name in ["array_agg(x)", "string_agg(CAST(x AS VARCHAR), ',')"] {
        check_refused(&format!("SELECT {name} OVER (ORDER BY x) FROM (VALUES (1), (2)) AS t(x)"), "OVER").await;
    }
    check("SELECT sum(x) OVER (ORDER BY x DESC) FROM (VALUES (1), (2)) AS t(x)", "2").await;
}

#[tokio::test]
async fn a_percentile_has_so_many_centroids() {
    let of = |centroids: &str| {
        format!(
            "SELECT approx_percentile_cont(0.5{centroids}) WITHIN GROUP (ORDER BY x) FROM (VALUES (1), (1)) AS t(x)"
        )
    };
    check(&of(""), "1.0").await;
    check(&of(", 1000"), "1.0").await;
    check_refused(&of(", 100000000000"), "centroids").await;
    check_refused(&of(", 100000 * 1000000"), "centroids").await;
}

#[tokio::test]
async fn lists_and_tables_of_any_length_cannot_be_made() {
    for call in ["range(1, 9)", "generate_series(1, 9)", "list_repeat(1, 9)", "array_resize([1], 9)"] {
        check_refused(&format!("SELECT {call}"), "Invalid function").await;
    }
    for table in ["generate_series(1, 9)", "LATERAL generate_series(1, 9)", "LATERAL range(1, 9)"] {
        check_refused(&format!("SELECT * FROM {table}"), "not found").await;
    }
}
