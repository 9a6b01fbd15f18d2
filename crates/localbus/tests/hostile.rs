//! The bus before clients that are broken, lost, greedy or hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unreachable_pub, missing_debug_implementations, dead_code)]

mod support;

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsRequest;
use support::{Client, PATIENCE, batch, config, fetch_request, frame, produce_request, values};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

/// Whether the bus closes the connection after these bytes, and still serves others.
async fn closes_after(bytes: &[u8], limit: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.max_request_bytes = limit;
    let bus = mesh_localbus::LocalBus::start(config).await.unwrap();
    let mut client = Client::connect(bus.addr()).await;
    client.socket.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.socket.read_to_end(&mut rest)).await.expect("closed");
    assert!(read.is_err() || rest.is_empty(), "{rest:?}");
    Client::connect(bus.addr()).await.call(&ApiVersionsRequest::default(), 3).await;
}

#[tokio::test]
async fn what_is_not_kafka_is_hung_up_on() {
    closes_after(b"GET / HTTP/1.1\r\n\r\n", 1 << 20).await;
    closes_after(&frame(1001, &[]), 1000).await;
    closes_after(&frame(-1, &[]), 1000).await;
    closes_after(&frame(2, &[0, 0]), 1000).await;
    closes_after(&frame(8, &[0x7f, 0xff, 0, 0, 0, 0, 0, 0]), 1000).await;
    closes_after(&frame(10, &[0, 3, 0, 99, 0, 0, 0, 0, 0, 0]), 1000).await;
    closes_after(&frame(12, &[0, 3, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0]), 1000).await;
    // Metadata for two thousand million topics.
    closes_after(&frame(14, &[0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]), 1000).await;
    // Only records are large: metadata of nine million bytes is refused before it is taken.
    closes_after(&frame(9_000_000, &[0, 3, 0, 1]), 1 << 30).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_until_others_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.max_connections = 1;
    let bus = mesh_localbus::LocalBus::start(config).await.unwrap();
    let mut first = Client::connect(bus.addr()).await;
    first.call(&ApiVersionsRequest::default(), 3).await;
    assert!(Client::connect(bus.addr()).await.try_call(&ApiVersionsRequest::default(), 3).await.is_err());
    drop(first);
    let again = async {
        while Client::connect(bus.addr()).await.try_call(&ApiVersionsRequest::default(), 3).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a free slot");
}

/// A bus with one place, whose holder is given up soon.
async fn with_one_place(folder: &std::path::Path) -> mesh_localbus::RunningBus {
    let mut config = config(folder);
    (config.max_connections, config.idle) = (1, Duration::from_millis(200));
    mesh_localbus::LocalBus::start(config).await.unwrap()
}

async fn a_place_is_free(bus: &mesh_localbus::RunningBus) {
    let again = async {
        while Client::connect(bus.addr()).await.try_call(&ApiVersionsRequest::default(), 3).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a free place");
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_request_loses_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let bus = with_one_place(folder.path()).await;
    for begun in [&[][..], &[0, 0], &frame(100, &[0, 3])] {
        let mut silent = Client::connect(bus.addr()).await;
        silent.socket.write_all(begun).await.unwrap();
        a_place_is_free(&bus).await;
        drop(silent);
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_loses_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let bus = with_one_place(folder.path()).await;
    let mut greedy = Client::connect(bus.addr()).await;
    greedy.create("t", 1, &[("max.message.bytes", "20000000")]).await;
    greedy.produce("t", batch(&["x".repeat(10_000_000).as_str()])).await;
    // One after the other, so that no buffer in between holds what is never read.
    let mut body = bytes::BytesMut::new();
    let request = fetch_request("t", Uuid::nil(), 0, 0);
    kafka_protocol::protocol::Encodable::encode(&request, &mut body, 12).unwrap();
    // Client id null, no tagged fields.
    let request = [&[0, 1, 0, 12, 0, 0, 0, 7, 0xff, 0xff, 0][..], &body].concat();
    for _ in 0..3 {
        greedy.socket.write_all(&frame(request.len() as i32, &request)).await.unwrap();
    }
    a_place_is_free(&bus).await;
    drop(greedy);
}

#[tokio::test]
async fn what_changed_on_the_disk_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let bus = support::start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    let id = client.create("t", 1, &[]).await;
    client.produce("t", batch(&["first"])).await;
    client.produce("t", batch(&["second"])).await;
    let log = folder.path().join(format!("topics/{id}/0/00000000000000000000.log"));
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    // In place: the bus has the file open.
    std::os::unix::fs::FileExt::write_all_at(&std::fs::OpenOptions::new().write(true).open(&log).unwrap(), &bytes, 0)
        .unwrap();
    let response = client.call(&fetch_request("t", Uuid::nil(), 1, 0), 12).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ResponseError::CorruptMessage.code());
    assert!(partition.records.clone().unwrap_or_default().is_empty());
    // What else the bus has, it still serves: before the damage and beside it.
    let before = client.call(&fetch_request("t", Uuid::nil(), 0, 0), 12).await;
    assert_eq!((before.responses[0].partitions[0].error_code, values(&before)), (0, vec!["first".to_owned()]));
    client.create("u", 1, &[]).await;
    client.call(&produce_request("u", Uuid::nil(), batch(&["x"])), 9).await;
    assert_eq!(client.fetch("u", 0).await, ["x"]);
}
