//! What no query may do to the others: run for ever, take all memory, keep its place, bring the service down, get at
//! anything but products.

use std::time::Duration;

use mesh_proto::topics;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::mesh::{Answered, Mesh};

/// Flights with themselves, `n` times: 3ⁿ rows.
fn product(select: &str, n: usize) -> String {
    let tables: Vec<String> = (0..n).map(|i| format!("operations.flights t{i}")).collect();
    format!("SELECT {select} FROM {}", tables.join(" CROSS JOIN "))
}

/// Would run for years, and gives no row before its end.
fn endless() -> String {
    product("sum(t0.delay * t29.delay)", 30)
}

async fn told(mesh: &Mesh, answer: &Answered, event_type: &str) -> Value {
    let events = mesh.records(topics::LINEAGE, &answer.id, 2).await;
    let run: Value = serde_json::from_slice(&events[1].data).unwrap();
    assert_eq!(run["eventType"], event_type, "{run}");
    run["run"]["facets"]["errorMessage"]["message"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_at_its_deadline() {
    let mesh = Mesh::full_with_limits(json!({"deadline": "4s"})).await;
    let answer = mesh.ask("ana", &endless()).await;
    answer.refused(StatusCode::GATEWAY_TIMEOUT, "MESH-QUERY-0009");
    let message = told(&mesh, &answer, "FAIL").await;
    assert!(message.as_str().unwrap().contains("MESH-QUERY-0009"), "{message}");
    mesh.ask("ana", "SELECT 1").await.rows();
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_so_much_memory_and_no_more() {
    let mesh = Mesh::full_with_limits(json!({"memory_bytes": 1 << 20})).await;
    let answer = mesh.ask("ana", &product("array_agg(repeat(t0.carrier, 1000))", 8)).await;
    answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "MESH-QUERY-0010");
    assert!(answer.json()["message"].as_str().unwrap().contains("the 1 MB"), "{}", answer.json());
    mesh.ask("ana", "SELECT 1").await.rows();
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_spills_so_much_and_no_more() {
    let rows = product("repeat(t0.carrier, 150 + t1.delay) AS x", 11);
    let sorted = format!("SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY x) AS n FROM ({rows}))");
    let check = async |spill_bytes: u64, status, code: &str| {
        let mesh = Mesh::full_with_limits(json!({"memory_bytes": 32 << 20, "spill_bytes": spill_bytes})).await;
        let answer = mesh.ask("ana", &sorted).await;
        assert_eq!((answer.status, answer.json()["code"].as_str().unwrap_or("")), (status, code), "{}", answer.json());
        mesh.end().await;
    };
    check(1 << 30, StatusCode::OK, "").await;
    check(1 << 20, StatusCode::UNPROCESSABLE_ENTITY, "MESH-QUERY-0010").await;
}

/// With one place for queries, the next one is answered only if the one before has stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_stops_when_its_reader_goes_away() {
    let mesh = Mesh::full_with_limits(json!({"concurrent": 1})).await;
    let post = |sql: String| mesh.http.post(format!("{}/v1/sql", mesh.url)).bearer_auth("key of ana").body(sql);

    // Before the first row.
    let hung_up = post(endless()).timeout(Duration::from_secs(1)).send().await;
    assert!(hung_up.unwrap_err().is_timeout());
    mesh.ask("ana", "SELECT 1").await.rows();

    // Between two rows.
    let mut response = post(product("repeat(t0.carrier, 1000)", 10)).send().await.unwrap();
    let id = response.headers()["mesh-query-id"].to_str().unwrap().to_owned();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    mesh.ask("ana", "SELECT 1").await.rows();
    let answer = Answered { id, status: StatusCode::OK, body: Vec::new() };
    let message = told(&mesh, &answer, "FAIL").await;
    assert!(message.as_str().unwrap().contains("cancelled"), "{message}");
    mesh.end().await;
}

/// Nor does one keep its place that does not read on.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_loses_its_place_at_the_deadline() {
    let mesh = Mesh::full_with_limits(json!({"concurrent": 1, "deadline": "4s"})).await;
    let sql = product("repeat(t0.carrier, 1000)", 10);
    let stuck = mesh.http.post(format!("{}/v1/sql", mesh.url)).bearer_auth("key of ana").body(sql);
    let stuck = stuck.send().await.unwrap();
    assert_eq!(stuck.status(), StatusCode::OK);
    // Refused, if its own deadline comes first.
    while mesh.ask("ana", "SELECT 1").await.status != StatusCode::OK {}
    drop(stuck);
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_brings_the_service_down() {
    let mesh = Mesh::full().await;
    let chain = |n: usize, operator: &str| format!("SELECT {}", vec!["1"; n].join(operator));
    let doubling: String =
        (1..60).map(|i| format!(", t{i} AS (SELECT a.x FROM t{0} a, t{0} b)", i - 1)).collect::<Vec<_>>().concat();
    let named = |n: usize| (0..n).map(|i| format!("delay c{i}")).collect::<Vec<_>>().join(", ");
    let numbers = |n: usize| (0..n).map(|i| format!("delay + {i}")).collect::<Vec<_>>().join(", ");
    let (refused, failed) = (StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY);
    for (sql, status, code) in [
        (chain(1001, "+"), StatusCode::OK, ""),
        (format!("{} = 1", chain(500, " = 1 OR ")), StatusCode::OK, ""),
        (chain(100_000, "+"), refused, "MESH-QUERY-0024"),
        (format!("WITH t0 AS (SELECT 1 AS x){doubling} SELECT * FROM t59"), refused, "MESH-QUERY-0024"),
        (format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)), refused, "MESH-QUERY-0024"),
        (format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100)), refused, "MESH-QUERY-0005"),
        (format!("{}SELECT 1", "EXPLAIN ".repeat(30_000)), refused, "MESH-QUERY-0024"),
        (format!("SELECT {}'1 day'", "INTERVAL ".repeat(28_000)), refused, "MESH-QUERY-0024"),
        (
            format!("SELECT CAST(1 AS {}INT{})", "Nullable(".repeat(25_000), ")".repeat(25_000)),
            refused,
            "MESH-QUERY-0024",
        ),
        (format!("SELECT 1 FROM operations.flights GROUP BY CUBE({})", numbers(40)), refused, "MESH-QUERY-0024"),
        (format!("SELECT '{}'", "x".repeat(300_000)), refused, "MESH-QUERY-0024"),
        (format!("SELECT {} FROM operations.flights", numbers(900)), StatusCode::OK, ""),
        // More column lineage than a record holds.
        (format!("SELECT {} FROM operations.flights", named(10_000)), refused, "MESH-QUERY-0024"),
        ("SELECT CAST(repeat(carrier, 9000) AS BIGINT) FROM operations.flights".to_owned(), failed, "MESH-QUERY-0008"),
        (format!("SELECT 1 WHERE 1 IN ({})", vec!["2"; 20_000].join(",")), StatusCode::OK, ""),
        ("SELECT repeat('x', 2000000000)".to_owned(), failed, "MESH-QUERY-0010"),
        ("SELECT repeat('x', 60000000) FROM operations.flights".to_owned(), failed, "MESH-QUERY-0010"),
        (
            "SELECT array_agg(delay) OVER (ORDER BY delay) FROM operations.flights".to_owned(),
            refused,
            "MESH-QUERY-0007",
        ),
        ("SELECT * FROM LATERAL generate_series(1, 1000000000000)".to_owned(), refused, "MESH-QUERY-0007"),
        ("SELECT array_repeat(1, 10000000000)".to_owned(), refused, "MESH-QUERY-0007"),
        ("SELECT * FROM generate_series(1, 1000000000000)".to_owned(), StatusCode::NOT_FOUND, "MESH-QUERY-0004"),
        ("SELECT regexp_like('x', '((x{1000}){1000}){1000}')".to_owned(), failed, "MESH-QUERY-0008"),
        ("SELECT CAST(9223372036854775807 AS BIGINT) % 0".to_owned(), failed, "MESH-QUERY-0008"),
    ] {
        let answer = mesh.ask("ana", &sql).await;
        let head: String = sql.chars().take(60).collect();
        assert_eq!(answer.status, status, "{head}: {}", answer.json());
        if status != StatusCode::OK {
            assert_eq!(answer.json()["code"], code, "{head}: {}", answer.json());
            assert!(answer.body.len() < 2000, "{head}: an answer of {} bytes", answer.body.len());
        }
    }
    mesh.ask("ana", "SELECT 1").await.rows();
    mesh.end().await;
}

/// 50 queries for one place: each has its turn, and one that waits too long is told so.
#[tokio::test(flavor = "multi_thread")]
async fn many_queries_take_turns() {
    let mesh = Mesh::full_with_limits(json!({"concurrent": 1})).await;
    let answers = (0..50).map(|i| {
        let mesh = &mesh;
        async move { (i, mesh.ask("ana", &format!("SELECT {i} AS i FROM operations.flights LIMIT 1")).await) }
    });
    for (i, answer) in futures::future::join_all(answers).await {
        assert_eq!(answer.rows(), json!([{"i": i}]));
    }
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_but_products() {
    let mesh = Mesh::full().await;
    let (unknown, refused) = ((StatusCode::NOT_FOUND, "MESH-QUERY-0004"), (StatusCode::BAD_REQUEST, "MESH-QUERY-0006"));
    let (planned, denied) = ((StatusCode::BAD_REQUEST, "MESH-QUERY-0007"), (StatusCode::FORBIDDEN, "MESH-QUERY-0003"));
    for (sql, (status, code)) in [
        ("SELECT * FROM '/etc/passwd'", unknown),
        ("SELECT * FROM \"file:///etc/passwd\"", unknown),
        ("SELECT * FROM 's3://bucket/x.parquet'", unknown),
        ("SELECT * FROM read_csv('/etc/passwd')", unknown),
        ("SELECT * FROM metadata_cache()", unknown),
        ("SELECT * FROM flights", unknown),
        ("SELECT * FROM \"OPERATIONS\".flights", unknown),
        ("SELECT * FROM other.operations.flights", unknown),
        ("SELECT * FROM operations.flights_v2", unknown),
        ("DESCRIBE operations.flights_v1_dead_letters", denied),
        ("SELECT 1 /* ; */ -- ;\n; DROP TABLE operations.flights", refused),
        ("SELECT * INTO mine FROM operations.flights", refused),
        ("COPY operations.flights TO '/tmp/flights.csv'", refused),
        ("EXPLAIN ANALYZE COPY operations.flights TO '/tmp/flights.csv'", refused),
        ("SHOW CREATE TABLE operations.flights", refused),
        ("SET datafusion.execution.target_partitions = 100000", refused),
        ("EXECUTE p(1)", refused),
        ("SELECT _mesh FROM operations.flights", planned),
    ] {
        let answer = mesh.ask("pat", sql).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{sql}: {}", answer.json());
    }
    // However a table is named, it is the same one, behind the same barrier.
    for name in ["OPERATIONS.Flights", "\"operations\".\"flights\"", "mesh.operations.flights_v1"] {
        let rows = mesh.ask("pat", &format!("SELECT DISTINCT carrier FROM {name}")).await.rows();
        assert_eq!(rows, json!([{"carrier": "UA"}]), "{name}");
    }
    let audited = "SELECT f.delay FROM information_schema.schemata s, operations.flights f, \
         (WITH \"operations.flights\" AS (SELECT 1 AS a) SELECT * FROM \"operations.flights\") x";
    let answer = mesh.ask("pat", audited).await;
    let record: mesh_proto::v1::AuditRecord = mesh.records(topics::AUDIT, &answer.id, 1).await[0].decode().unwrap();
    assert_eq!(record.accesses.len(), 1, "{record:?}");
    mesh.end().await;
}
