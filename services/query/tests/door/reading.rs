//! What readers get, as the policies let them, and what is written about it.

use std::time::Duration;

use mesh_proto::topics;
use mesh_proto::v1::{AuditRecord, Usage};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::mesh::{Answered, Mesh, TRACE};

const BROKEN: &str = r#"package mesh.domain.operations.reading
import rego.v1
default allow := true
rowFilters contains {"expression": "carrier ~~ nonsense ("}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_query_is_answered_before_the_principals_are_known() {
    let mesh = Mesh::empty().await;
    let answer = mesh.ask("ana", "SELECT 1").await;
    assert!([StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED].contains(&answer.status), "{answer:?}");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_what_the_policies_let_them() {
    let mesh = Mesh::full().await;
    let check = |answer: Answered, expected: Value| assert_eq!(answer.rows(), expected);

    let sql = "SELECT carrier, delay FROM operations.flights ORDER BY delay";
    let all = json!([{"carrier": "UA", "delay": -6}, {"carrier": "AA", "delay": 0}, {"carrier": "UA", "delay": 2}]);
    check(mesh.ask("ana", sql).await, all.clone());
    check(mesh.ask("ollie", &sql.replace("flights", "flights_v1")).await, all);
    let own = json!([{"carrier": "UA", "delay": -6}, {"carrier": "UA", "delay": 2}]);
    check(mesh.ask("pat", sql).await, own);

    // The owner sees the value; others one hash, the same in every table, so that they can join on it.
    let tails = "SELECT tailnum FROM operations.flights WHERE delay = 2";
    check(mesh.ask("ollie", tails).await, json!([{"tailnum": "N1"}]));
    let hashed = mesh.ask("ana", tails).await.rows()[0]["tailnum"].as_str().unwrap().to_owned();
    assert_eq!(hashed.len(), 64);
    let joined =
        "SELECT f.carrier, p.year FROM operations.flights f JOIN fleet.planes p ON f.tailnum = p.tailnum ORDER BY 1";
    check(mesh.ask("ana", joined).await, json!([{"carrier": "AA", "year": 2004}, {"carrier": "UA", "year": 1999}]));

    mesh.ask("zoe", sql).await.refused(StatusCode::FORBIDDEN, "MESH-QUERY-0003");
    mesh.ask("ana", "SELECT * FROM operations.flights_v1_dead_letters")
        .await
        .refused(StatusCode::FORBIDDEN, "MESH-QUERY-0003");
    mesh.ask("nobody", sql).await.refused(StatusCode::UNAUTHORIZED, "MESH-QUERY-0001");
    let unknown = mesh.ask("ana", "SELECT * FROM operations.flihgts").await;
    unknown.refused(StatusCode::NOT_FOUND, "MESH-QUERY-0004");
    assert!(unknown.json()["message"].as_str().unwrap().contains("operations.flights"), "{}", unknown.json());
    let stranger = mesh.ask("zoe", "SELECT * FROM operations.flihgts").await;
    assert!(!stranger.json()["message"].as_str().unwrap().contains("operations.flights"), "{}", stranger.json());
    mesh.ask("ana", "SELEC 1").await.refused(StatusCode::BAD_REQUEST, "MESH-QUERY-0005");
    mesh.ask("ana", "DROP TABLE operations.flights").await.refused(StatusCode::BAD_REQUEST, "MESH-QUERY-0006");
    mesh.ask("ana", "SELECT nope FROM operations.flights").await.refused(StatusCode::BAD_REQUEST, "MESH-QUERY-0007");
    let division = mesh.ask("ana", "SELECT 1 / delay FROM operations.flights").await;
    division.refused(StatusCode::UNPROCESSABLE_ENTITY, "MESH-QUERY-0008");

    let tables =
        mesh.ask("pat", "SELECT table_name FROM information_schema.tables WHERE table_schema = 'operations'").await;
    assert!(tables.rows().to_string().contains("flights_v1"), "{}", tables.rows());
    let tables = mesh.ask("zoe", "SHOW TABLES").await.rows().to_string();
    assert!(!tables.contains("flights"), "{tables}");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_as_csv_and_arrow_too() {
    let mesh = Mesh::full().await;
    let sql = "SELECT carrier, delay FROM operations.flights ORDER BY delay";
    let csv = mesh.ask_as("key of pat", sql, "text/csv").await;
    assert_eq!(String::from_utf8(csv.body).unwrap(), "carrier,delay\nUA,-6\nUA,2\n");
    let arrow = mesh.ask_as("key of pat", sql, "application/vnd.apache.arrow.stream").await;
    let reader = arrow_ipc::reader::StreamReader::try_new(arrow.body.as_slice(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    mesh.ask_as("key of pat", sql, "image/png").await.refused(StatusCode::NOT_ACCEPTABLE, "MESH-QUERY-0015");
    mesh.ask_as("key of ollie", "SELECT _mesh FROM operations.flights", "text/csv")
        .await
        .refused(StatusCode::NOT_ACCEPTABLE, "MESH-QUERY-0016");
    mesh.end().await;
}

/// What each type becomes in each format.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_its_form() {
    let mesh = Mesh::full().await;
    let types = [
        ("decimal", "CAST(-12.30 AS DECIMAL(10, 2))"),
        ("zoned", "to_timestamp('2013-01-31T23:00:00.000001Z')"),
        ("local", "CAST('2013-01-31 23:00:00' AS TIMESTAMP)"),
        ("day", "CAST('2013-01-31' AS DATE)"),
        ("time", "CAST('23:00:01' AS TIME)"),
        ("span", "INTERVAL '1 day 2 hours'"),
        ("nan", "CAST('NaN' AS DOUBLE)"),
        ("large", "9223372036854775807"),
        ("bytes", "decode('00ff', 'hex')"),
        ("yes", "true"),
        ("nothing", "CAST(NULL AS BIGINT)"),
        ("void", "NULL"),
        ("quoted", "'a,\"b\"\n=c'"),
        ("empty", "''"),
    ];
    let columns = types.map(|(name, value)| format!("{value} AS {name}")).join(", ");
    let sql = format!("SELECT {columns}");
    let json = String::from_utf8(mesh.ask("ana", &sql).await.body).unwrap();
    let row = r#""rows":[{"decimal":-12.30,"zoned":"2013-01-31T23:00:00.000001","local":"2013-01-31T23:00:00","day":"2013-01-31","time":"23:00:01","span":"1 days 2 hours","nan":null,"large":9223372036854775807,"bytes":"00ff","yes":true,"nothing":null,"void":null,"quoted":"a,\"b\"\n=c","empty":""}]}"#;
    assert!(json.ends_with(row), "{json}");
    let csv = String::from_utf8(mesh.ask_as("key of ana", &sql, "text/csv").await.body).unwrap();
    let row = "\n-12.30,2013-01-31T23:00:00.000001,2013-01-31T23:00:00,2013-01-31,23:00:01,1 days 2 hours,NaN,9223372036854775807,00ff,true,,,\"a,\"\"b\"\"\n=c\",\n";
    assert!(csv.ends_with(row), "{csv}");

    let nested = "SELECT [1, NULL] AS l, named_struct('a', 1, 'b', [true]) AS s, map(['k'], [1]) AS m";
    let expected = json!([{"l": [1, null], "s": {"a": 1, "b": [true]}, "m": {"k": 1}}]);
    assert_eq!(mesh.ask("ana", nested).await.rows(), expected);
    // Refused before it is audited as read, not with the first row.
    mesh.ask("ana", "SELECT map([1], [2]) AS m").await.refused(StatusCode::NOT_ACCEPTABLE, "MESH-QUERY-0019");
    let arrow = mesh.ask_as("key of ana", "SELECT map([1], [2]) AS m", "application/vnd.apache.arrow.stream").await;
    assert_eq!(arrow.status, StatusCode::OK);
    mesh.end().await;
}

/// An object of JSON has each name once.
#[tokio::test(flavor = "multi_thread")]
async fn columns_of_one_name_are_told_apart() {
    let mesh = Mesh::full().await;
    let sql = "SELECT f.carrier, f.tailnum, p.tailnum FROM operations.flights f JOIN fleet.planes p \
               ON f.tailnum = p.tailnum WHERE p.year = 1999";
    let answer = mesh.ask("ana", sql).await;
    let row = answer.rows()[0].clone();
    assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), ["carrier", "f.tailnum", "p.tailnum"]);
    assert_eq!(row["f.tailnum"], row["p.tailnum"]);
    let events = mesh.records(topics::LINEAGE, &answer.id, 2).await;
    let run: Value = serde_json::from_slice(&events[1].data).unwrap();
    let fields = &run["outputs"][0]["facets"]["columnLineage"]["fields"];
    assert_eq!(fields["p.tailnum"]["inputFields"][0]["name"], "fleet.planes_v1");
    mesh.end().await;
}

/// What there is comes from the contracts: no table is opened for it, so that a broken one spoils nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_is_told_without_opening_tables() {
    let mesh = Mesh::full().await;
    let columns = "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                   WHERE table_schema = 'operations' AND table_name = 'flights' ORDER BY ordinal_position";
    let listed = mesh.ask("ana", columns).await.rows();
    let described = mesh.ask("ana", "DESCRIBE operations.flights").await.rows();
    assert_eq!(listed, described);
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    let owned = mesh.ask("ollie", columns).await.rows();
    assert_eq!(owned, mesh.ask("ollie", "DESCRIBE operations.flights").await.rows());
    assert!(owned.to_string().contains("_mesh") && !listed.to_string().contains("_mesh"));

    std::fs::remove_dir_all(mesh.folder().join("warehouse")).unwrap();
    let answer = mesh.ask("ana", columns).await;
    assert_eq!(answer.rows(), listed);
    let audit: AuditRecord = mesh.records(topics::AUDIT, &answer.id, 1).await[0].decode().unwrap();
    assert!(audit.accesses.is_empty(), "{audit:?}");
    mesh.ask("ana", "SHOW TABLES").await.rows();
    mesh.ask("ana", "SHOW COLUMNS FROM operations.flights").await.rows();
    assert_eq!(mesh.ask("zoe", columns).await.rows(), json!([]));
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_refused_has_a_code() {
    let mesh = Mesh::empty().await;
    let check = async |request: reqwest::RequestBuilder, code: &str| {
        let response = request.send().await.unwrap();
        assert!(response.status().is_client_error(), "{}", response.status());
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code);
    };
    let (url, http) = (&mesh.url, &mesh.http);
    check(http.post(format!("{url}/v1/sql")).body("x".repeat(32 << 20)), "MESH-QUERY-0017").await;
    check(http.post(format!("{url}/v1/sql")).body("x".repeat(300_000)), "MESH-QUERY-0024").await;
    check(http.post(format!("{url}/v1/sql")).body(vec![0xff]), "MESH-QUERY-0017").await;
    check(http.post(format!("{url}/v1/sql")).body("{\"query\": 1}"), "MESH-QUERY-0017").await;
    check(http.get(format!("{url}/v1/sql")), "MESH-QUERY-0026").await;
    check(http.get(format!("{url}/")), "MESH-QUERY-0026").await;
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_audited_and_its_lineage_told() {
    let mesh = Mesh::full().await;
    let sql = "SELECT f.tailnum, count(*) AS n FROM operations.flights f WHERE f.delay > -10 GROUP BY f.tailnum";
    let answer = mesh.ask("pat", sql).await;
    assert_eq!(answer.rows().as_array().unwrap().len(), 2);

    let audit: AuditRecord = mesh.records(topics::AUDIT, &answer.id, 1).await[0].decode().unwrap();
    assert_eq!((audit.principal.as_str(), audit.decision, audit.statement.as_str()), ("pat", 1, sql));
    let access = &audit.accesses[0];
    assert_eq!((access.product.as_str(), access.table.as_str()), ("operations.flights", "operations.flights_v1"));
    assert_eq!((&access.columns, access.row_filtered), (&vec!["delay".to_owned(), "tailnum".to_owned()], true));
    assert_eq!(access.masked_columns, ["tailnum"]);
    assert!(access.snapshot_id > 0);

    let events = mesh.records(topics::LINEAGE, &answer.id, 2).await;
    let kinds: Vec<Value> = events.iter().map(|event| serde_json::from_slice(&event.data).unwrap()).collect();
    assert_eq!((kinds[0]["eventType"].as_str(), kinds[1]["eventType"].as_str()), (Some("START"), Some("COMPLETE")));
    let run = &kinds[1];
    assert_eq!(run["run"]["runId"], json!(answer.id));
    let commits = &run["inputs"][0]["facets"]["meshwork_product"]["commits"];
    assert_eq!(commits[0]["traceparent"], json!(TRACE));
    let columns = &run["outputs"][0]["facets"]["columnLineage"];
    let tail = &columns["fields"]["tailnum"]["inputFields"][0];
    assert_eq!((tail["name"].as_str(), tail["field"].as_str()), (Some("operations.flights_v1"), Some("tailnum")));
    assert_eq!(tail["transformations"][0]["masking"], json!(true));
    assert!(columns["dataset"].to_string().contains("GROUP_BY"), "{columns}");

    let usage: Usage = mesh.records(topics::USAGE, &answer.id, 1).await[0].decode().unwrap();
    assert_eq!((usage.rows, usage.product.as_str()), (2, "operations.flights"));

    let denied = mesh.ask("zoe", sql).await;
    let audit: AuditRecord = mesh.records(topics::AUDIT, &denied.id, 1).await[0].decode().unwrap();
    assert_eq!((audit.decision, audit.reason.as_str()), (2, "MESH-QUERY-0003"));
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_be_parsed_refuses_the_query() {
    let mesh = Mesh::full().await;
    mesh.policy("mesh.domain.operations.reading", BROKEN).await.unwrap();
    for _ in 0..600 {
        let answer = mesh.ask("ana", "SELECT 1 FROM operations.flights").await;
        if answer.status != StatusCode::OK {
            answer.refused(StatusCode::INTERNAL_SERVER_ERROR, "MESH-QUERY-0013");
            assert!(!answer.json().to_string().contains("nonsense"), "{}", answer.json());
            return mesh.end().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the policy never arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_no_row_leaves() {
    let mut mesh = Mesh::full().await;
    mesh.stop_bus().await;
    let answer = mesh.ask("ana", "SELECT carrier FROM operations.flights").await;
    answer.refused(StatusCode::SERVICE_UNAVAILABLE, "MESH-QUERY-0011");
    mesh.end().await;
}
