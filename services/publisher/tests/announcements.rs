//! Snapshots become events: in order, each once, through the publisher's own absence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod mesh;

use std::time::Duration;

use mesh::{Mesh, NARROW, OPS_KEY, flights, until};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::ProductChanged;
use pretty_assertions::assert_eq;

const TABLE: &str = "operations.flights_v1";

#[tokio::test(flavor = "multi_thread")]
async fn every_snapshot_is_announced_once_and_in_order() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.0.0", NARROW)).await;
    assert_eq!(status, 200, "{body}");
    let mut committed = Vec::new();
    for watermark in 0..3 {
        committed.push(mesh.snapshot(TABLE, watermark).await);
    }
    until("three are announced", || async { (mesh.announced().await == committed).then_some(()) }).await;
    publisher.stop().await;

    for watermark in 3..5 {
        committed.push(mesh.snapshot(TABLE, watermark).await);
    }
    let publisher = mesh.publisher(None).await;
    until("five are announced", || async { (mesh.announced().await == committed).then_some(()) }).await;

    let event = mesh.events(topics::PRODUCT_CHANGES).await.remove(4);
    let changed: ProductChanged = event.decode_as(types::PRODUCT_CHANGED).unwrap();
    let uuid = mesh.table(TABLE).await.unwrap().uuid().to_string();
    assert_eq!(event.id, format!("{uuid}-{}", committed[4]));
    assert_eq!(
        (event.partition_key.as_deref(), event.sequence.as_deref()),
        (Some(uuid.as_str()), Some("00000000000000000005"))
    );
    assert_eq!(
        (changed.product.as_str(), changed.major, changed.parent_snapshot_id),
        ("operations.flights", 1, Some(committed[3]))
    );
    assert_eq!(changed.watermark.map(|at| at.nanos), Some(4000));

    // AT-REST: with nothing new, nothing is written.
    let ends = || async {
        let mut ends = Vec::new();
        for topic in topics::CONTROL_TOPICS.iter().filter(|topic| topic.name != topics::INGEST_SHARDS) {
            for partition in 0..topic.partitions {
                ends.push(mesh.bus.watermarks(topic.name, partition).await.unwrap());
            }
        }
        ends
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = ends().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ends().await, before);

    mesh.catalog.drop_table(&mesh.table(TABLE).await.unwrap()).await.unwrap();
    until("the drop is announced", || async {
        let last = mesh.events(topics::PRODUCT_CHANGES).await.pop().unwrap();
        (last.event_type == types::PRODUCT_DROPPED).then_some(())
    })
    .await;
    publisher.stop().await;
}
