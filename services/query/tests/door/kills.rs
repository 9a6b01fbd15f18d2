//! The service as a process: killed at each of its points it leaves records that say so, and its successor answers.

use std::time::Duration;

use mesh_lakehouse::{Change, schema, summary};
use mesh_proto::topics;
use mesh_proto::v1::{AuditRecord, SpanRecord};
use mesh_testkit::{ServiceCommand, ServiceProcess};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::mesh::Mesh;

/// A query service as a process; killed when dropped.
struct Process(ServiceProcess);

impl Process {
    async fn start(mesh: &Mesh, fault: Option<&str>) -> Self {
        let fault = fault.map(|point| format!("{point}@1"));
        let command = ServiceCommand::new(env!("CARGO_BIN_EXE_mesh-query")).config(&mesh.config);
        Self(command.fault(fault.as_deref()).start().await.unwrap())
    }

    /// The answer's rows, as soon as the service knows the reader; `None` if it died on the way.
    async fn ask(&self, mesh: &Mesh, sql: &str) -> Option<Value> {
        for _ in 0..600 {
            let request = mesh
                .http
                .post(format!("{}/v1/sql", self.0.url().unwrap()))
                .bearer_auth("key of ana")
                .body(sql.to_owned());
            let response = request.send().await.ok()?;
            if response.status().is_success() {
                return Some(response.json::<Value>().await.ok()?["rows"].clone());
            }
            assert!([401, 403, 404, 503].contains(&response.status().as_u16()), "{}", response.text().await.unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never answered {sql}");
    }

    async fn died(mut self) -> bool {
        self.0.ended().await.is_ok_and(|status| !status.success())
    }

    async fn drained(self) {
        self.0.drain().await.unwrap();
    }
}

/// How often a statement was allowed, and which events its runs have.
async fn recorded(mesh: &Mesh, sql: &str) -> (usize, Vec<String>) {
    let audit = mesh.events(topics::AUDIT).await.into_iter().map(|event| event.decode::<AuditRecord>().unwrap());
    let allowed = audit.filter(|record| record.decision == 1 && record.statement == sql).count();
    let runs = mesh.events(topics::LINEAGE).await.into_iter();
    let runs = runs.map(|event| serde_json::from_slice::<Value>(&event.data).unwrap());
    let of_statement = runs.filter(|run| run["job"]["facets"]["sql"]["query"] == sql);
    (allowed, of_statement.map(|run| run["eventType"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_query_leaves_a_start_without_an_end() {
    let mesh = Mesh::full().await;
    for (point, allowed, events) in [
        ("query.audit.before_publish", 0, vec![]),
        ("query.audit.after_publish", 1, vec![]),
        ("query.execute.after_first_batch", 1, vec!["START"]),
        ("query.account.before_usage", 1, vec!["START"]),
    ] {
        assert!(mesh_query::FAULT_POINTS.contains(&point));
        let sql = format!("SELECT carrier AS \"{point}\" FROM operations.flights");
        let process = Process::start(&mesh, Some(point)).await;
        process.ask(&mesh, &sql).await;
        assert!(process.died().await, "{point} was not passed");
        assert_eq!(recorded(&mesh, &sql).await, (allowed, events.iter().map(ToString::to_string).collect()), "{point}");
    }
    assert_eq!(mesh_query::FAULT_POINTS.len(), 4, "a point is not tried here");
    let successor = Process::start(&mesh, None).await;
    let sql = "SELECT carrier FROM operations.flights";
    assert_eq!(successor.ask(&mesh, sql).await.unwrap().as_array().unwrap().len(), 3);
    successor.drained().await;
    assert_eq!(recorded(&mesh, sql).await, (1, vec!["START".to_owned(), "COMPLETE".to_owned()]));
    mesh.end().await;
}

/// A client that sends half a statement and no more gets an error when the service stops, and does not hold it up.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_hold_the_drain_up() {
    let mesh = Mesh::full().await;
    let process = Process::start(&mesh, None).await;
    process.ask(&mesh, "SELECT carrier FROM operations.flights").await.unwrap();
    let mut half = TcpStream::connect(process.0.address("http").unwrap()).await.unwrap();
    let head = "POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n";
    half.write_all(head.as_bytes()).await.unwrap();
    let mut answer = BufReader::new(half);
    let mut line = String::new();
    // The service waits for the body.
    answer.read_line(&mut line).await.unwrap();
    assert!(line.contains("100 Continue"), "{line}");
    answer.get_mut().write_all(b"SELECT").await.unwrap();
    process.drained().await;
    let mut rest = String::new();
    answer.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("400 Bad Request") && rest.contains("MESH-QUERY-0017"), "{rest}");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_linked_to_the_newest_commits_that_it_read() {
    let mesh = Mesh::full().await;
    let table = mesh_contract::TableName::new("operations", "flights_v1");
    let mut table = mesh.catalog.load(&schema::ident(&table)).await.unwrap();
    let commit = |i: u32| format!("{:032x}", 0x1000 + i);
    for i in 0..40 {
        let trace = format!("00-{}-b7ad6b7169203331-01", commit(i));
        let append = Change::append(&table, Vec::new()).with(summary::TRACEPARENT, trace);
        table = mesh.catalog.apply(&table, &append).await.into_result().unwrap().table;
    }
    let process = Process::start(&mesh, None).await;
    let sql = "SELECT max(delay) AS linked FROM operations.flights";
    process.ask(&mesh, sql).await.unwrap();
    process.drained().await;
    let spans = mesh.events(topics::SPANS).await.into_iter().map(|event| event.decode::<SpanRecord>().unwrap());
    let span = spans.into_iter().find(|span| span.name == "query" && span.attributes["mesh.statement"] == sql).unwrap();
    let linked: Vec<String> = span.links.iter().map(|link| link.trace_id.clone()).collect();
    assert_eq!(linked, (8..40).rev().map(commit).collect::<Vec<_>>());
    assert!(span.links.iter().all(|link| link.attributes["mesh.product"] == "operations.flights"));
    mesh.end().await;
}
