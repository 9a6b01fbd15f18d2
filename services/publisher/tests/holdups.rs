//! What holds the publisher up: everybody is answered in time and honestly, and it goes on when the cause is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod mesh;

use std::time::{Duration, Instant};

use mesh::{Mesh, NARROW, OPS_KEY, Publisher, WIDE, flights};
use pretty_assertions::assert_eq;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TABLE: &str = "operations.flights_v1";
const IMPATIENT: &[&str] = &["provision.patience=8s", "door.verdict_wait=30s"];

fn departures() -> String {
    flights("json", "1.0.0", NARROW).replace("flights", "departures")
}

/// Submits a document; the answer's status and code, which must come in time.
async fn check(publisher: &Publisher, document: &str, expected: (u16, Option<&str>)) -> serde_json::Value {
    let asked = publisher.post(Some(OPS_KEY), "file=f.yaml", document);
    let (status, body) = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("an answer in time");
    assert_eq!((status, body["code"].as_str()), expected, "{body}");
    assert!(status == 200 || body["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_holds_up_nobody_else() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher_with(IMPATIENT).await.with_ops().await;
    check(&publisher, &flights("json", "1.0.0", NARROW), (200, None)).await;
    let good = mesh.table(TABLE).await.unwrap().metadata_location().to_owned();
    mesh.point(TABLE, "file:///nowhere/00001-x.metadata.json").await;
    let stuck = flights("json", "1.1.0", WIDE);
    let refused = check(&publisher, &stuck, (503, Some("MESH-PUBLISHER-0028"))).await;
    assert!(refused["message"].as_str().unwrap().contains("MESH-LAKEHOUSE-"), "{refused}");
    check(&publisher, &departures(), (200, None)).await;
    mesh.point(TABLE, &good).await;
    assert_eq!(check(&publisher, &stuck, (200, None)).await["state"], "changed");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_catalog_is_said_and_waited_for() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher_with(IMPATIENT).await.with_ops().await;
    let database = mesh.database().await;
    let mut lock = database.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
    let (flights, departures) = (flights("json", "1.0.0", NARROW), departures());
    let gave_up = (503, Some("MESH-PUBLISHER-0028"));
    tokio::join!(check(&publisher, &flights, gave_up), check(&publisher, &departures, gave_up));
    sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
    check(&publisher, &flights, (200, None)).await;
    check(&publisher, &departures, (200, None)).await;
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_is_said_and_found_again() {
    let mut mesh = Mesh::start().await;
    let publisher = mesh.publisher_with(&["door.verdict_wait=12s", "provision.patience=8s"]).await.with_ops().await;
    let document = flights("json", "1.0.0", NARROW);
    check(&publisher, &document, (200, None)).await;
    let address = mesh.kafka_gone().await;
    let began = Instant::now();
    check(&publisher, &departures(), (503, Some("MESH-PUBLISHER-0005"))).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    mesh.kafka_back(address).await;
    mesh::until("the broker is found again", || async {
        let (status, _) = publisher.post(Some(OPS_KEY), "file=f.yaml", &departures()).await;
        (status == 200).then_some(())
    })
    .await;
    assert_eq!(check(&publisher, &document, (200, None)).await["state"], "unchanged");
    publisher.stop().await;
}

/// What comes back for the beginning of a request whose rest never comes.
async fn answer_to(publisher: &Publisher, beginning: &str) -> String {
    let mut stream = TcpStream::connect(publisher.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(beginning.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let read =
        tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await.expect("an answer in time");
    String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_keeps_no_place() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher_with(&["door.body_wait=2s", "drain.deadline=12s"]).await.with_ops().await;
    let host = "Host: mesh\nContent-Length: 100\n";
    let known = format!("{host}Authorization: Bearer {OPS_KEY}\n\nkind: Da");
    let slow = answer_to(&publisher, &format!("POST /v1/submissions HTTP/1.1\n{known}")).await;
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("MESH-PUBLISHER-0008"), "{slow}");
    let slow = answer_to(&publisher, &format!("POST /subjects/a-value/versions HTTP/1.1\n{known}")).await;
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("\"error_code\":408"), "{slow}");
    let stranger = answer_to(&publisher, &format!("POST /v1/submissions HTTP/1.1\n{host}\nkind: Da")).await;
    assert!(stranger.starts_with("HTTP/1.1 401"), "a stranger's document is not waited for: {stranger}");

    let mut half = TcpStream::connect(publisher.url.trim_start_matches("http://")).await.unwrap();
    half.write_all(b"POST /v1/submissions HTTP/1.1\r\nHost: me").await.unwrap();
    // The bus has no part in it; the process ends well although this request does not end.
    publisher.stop().await;
}
