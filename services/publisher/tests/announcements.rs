//! Snapshots become events: in order, each once, through the publisher's own absence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod mesh;

use std::collections::BTreeSet;
use std::time::Duration;

use mesh::{Mesh, NARROW, OPS_KEY, Publisher, flights, until};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{Announced, ProductChanged};
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
    until("the last is remembered", || async {
        let announced: Announced = mesh.events(topics::ANNOUNCED).await.pop()?.decode().unwrap();
        (announced.snapshot_id == committed.last().copied()).then_some(())
    })
    .await;
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

/// A mesh whose publisher has announced a table's first two snapshots.
async fn announced_two() -> (Mesh, Publisher, Vec<i64>) {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.0.0", NARROW)).await;
    assert_eq!(status, 200, "{body}");
    let committed = vec![mesh.snapshot(TABLE, 0).await, mesh.snapshot(TABLE, 1).await];
    until("two are announced", || async { (mesh.announced().await == committed).then_some(()) }).await;
    (mesh, publisher, committed)
}

/// Waits until so many events are there beside those of `announced`. Each test leaves out another table's events so,
/// which may lie on another partition: what is left has one key, and so its order.
async fn said(mesh: &Mesh, announced: &[i64], count: usize) -> Vec<(String, serde_json::Value)> {
    let old = |kind: &str, event: &serde_json::Value| {
        let told = event["snapshotId"].as_str().and_then(|id| id.parse().ok());
        kind == types::PRODUCT_CHANGED && told.is_some_and(|id: i64| announced.contains(&id))
    };
    until("everything is said", || async {
        let mut changes = mesh.changes().await;
        changes.retain(|(kind, event)| !old(kind, event));
        (changes.len() >= count).then_some(changes)
    })
    .await
}

fn types_of(changes: &[(String, serde_json::Value)]) -> Vec<&str> {
    changes.iter().map(|(kind, _)| kind.as_str()).collect()
}

/// Moves `main` to a snapshot that is there, as another engine does.
async fn set_main(mesh: &Mesh, to: i64) {
    mesh.rewrite(TABLE, |metadata| {
        metadata["current-snapshot-id"] = to.into();
        metadata["refs"]["main"]["snapshot-id"] = to.into();
        let at = metadata["last-updated-ms"].as_i64().unwrap() + 1;
        metadata["last-updated-ms"] = at.into();
        let log = metadata["snapshot-log"].as_array_mut().unwrap();
        log.push(serde_json::json!({ "snapshot-id": to, "timestamp-ms": at }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_another_engine_is_a_rewind() {
    let (mesh, publisher, committed) = announced_two().await;
    let back = committed[0];
    set_main(&mesh, back).await;
    said(&mesh, &committed, 1).await;
    let next = mesh.snapshot(TABLE, 2).await;
    let changes = said(&mesh, &committed, 2).await;
    assert_eq!(types_of(&changes), [types::PRODUCT_REWOUND, types::PRODUCT_CHANGED]);
    let id = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
    let (rewound, changed) = (&changes[0].1, &changes[1].1);
    assert_eq!(id(&rewound["fromSnapshotId"]), Some(committed[1]), "{rewound}");
    assert_eq!(id(&rewound["toSnapshotId"]), Some(back), "{rewound}");
    assert_eq!((id(&changed["snapshotId"]), id(&changed["parentSnapshotId"])), (Some(next), Some(back)), "{changed}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_before_it_could_be_seen_is_announced_and_taken_back() {
    let (mesh, publisher, committed) = announced_two().await;
    publisher.stop().await;
    let unseen = mesh.snapshot(TABLE, 2).await;
    set_main(&mesh, committed[1]).await;
    let publisher = mesh.publisher(None).await;
    let changes = said(&mesh, &committed, 2).await;
    assert_eq!(types_of(&changes), [types::PRODUCT_CHANGED, types::PRODUCT_REWOUND]);
    assert_eq!(changes[0].1["snapshotId"], unseen.to_string(), "{:?}", changes[0]);
    assert_eq!(changes[1].1["fromSnapshotId"], unseen.to_string(), "{:?}", changes[1]);
    assert_eq!(changes[1].1["toSnapshotId"], committed[1].to_string(), "{:?}", changes[1]);

    // What comes back is announced again, under its one id, also by a publisher that finds that id among the newest.
    publisher.stop().await;
    let publisher = mesh.publisher(None).await;
    set_main(&mesh, unseen).await;
    let all = [&committed[..], &[unseen, unseen]].concat();
    until("it is announced again", || async { (mesh.announced().await == all).then_some(()) }).await;
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_says_more_than_a_record_holds_is_announced_all_the_same() {
    let (mesh, publisher, mut committed) = announced_two().await;
    publisher.stop().await;
    let long = mesh.snapshot(TABLE, 2).await;
    committed.push(long);
    let ranges = vec![("cluster", "topic".repeat(10), 0, 0, 1); 20_000];
    mesh.rewrite(TABLE, |metadata| {
        let mut snapshots = metadata["snapshots"].as_array_mut().unwrap().iter_mut();
        let summary = &mut snapshots.find(|one| one["snapshot-id"] == long).unwrap()["summary"];
        summary["mesh.ranges"] = serde_json::to_string(&ranges).unwrap().into();
        summary["mesh.traceparent"] = "no trace".repeat(200_000).into();
    })
    .await;
    committed.push(mesh.snapshot(TABLE, 3).await);
    let publisher = mesh.publisher(None).await;
    until("all are announced", || async { (mesh.announced().await == committed).then_some(()) }).await;
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_before_it_could_be_seen_is_a_gap() {
    let (mesh, publisher, committed) = announced_two().await;
    publisher.stop().await;
    let unseen = [mesh.snapshot(TABLE, 2).await, mesh.snapshot(TABLE, 3).await];
    let last = mesh.snapshot(TABLE, 4).await;
    let expired: Vec<i64> = committed.iter().chain(&unseen).copied().collect();
    mesh.rewrite(TABLE, |metadata| {
        for list in ["snapshots", "snapshot-log"] {
            let keep = |one: &serde_json::Value| !expired.contains(&one["snapshot-id"].as_i64().unwrap());
            metadata[list].as_array_mut().unwrap().retain(keep);
        }
    })
    .await;
    let publisher = mesh.publisher(None).await;
    let changes = said(&mesh, &committed, 2).await;
    assert_eq!(types_of(&changes), [types::PRODUCT_GAP, types::PRODUCT_CHANGED]);
    assert_eq!(changes[0].1["lastAnnouncedSnapshotId"], committed[1].to_string(), "{:?}", changes[0]);
    assert_eq!(changes[0].1["firstKnownSnapshotId"], last.to_string(), "{:?}", changes[0]);
    assert_eq!(changes[1].1["snapshotId"], last.to_string(), "{:?}", changes[1]);
    publisher.stop().await;
}

/// Another engine's table takes the name: subscribers learn that the product's table is replaced, and nothing of the rows
/// of the other one. What the contract gets by being applied again is announced.
#[tokio::test(flavor = "multi_thread")]
async fn another_table_under_the_same_name_is_a_recreation_and_is_not_announced() {
    let (mesh, publisher, committed) = announced_two().await;
    let before = mesh.table(TABLE).await.unwrap();
    mesh.create_over(&before, before.metadata().properties().clone()).await;
    let foreign = mesh.snapshot(TABLE, 0).await;
    let changes = said(&mesh, &committed, 1).await;
    assert_eq!(types_of(&changes), [types::PRODUCT_RECREATED]);
    assert_eq!(changes[0].1["previousUuid"], before.uuid().to_string(), "{:?}", changes[0]);
    let document = flights("json", "1.0.0", NARROW);
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &document).await;
    assert_eq!((status, body["code"].as_str()), (422, Some("MESH-PUBLISHER-0035")), "{body}");
    publisher.stop().await;

    // A publisher that starts later does not announce it either.
    let publisher = mesh.publisher(None).await;
    mesh.snapshot(TABLE, 1).await;
    mesh.catalog.drop_table(&mesh.table(TABLE).await.unwrap()).await.unwrap();
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &document).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("changed")), "{body}");
    let restored = mesh.snapshot(TABLE, 2).await;
    until("the restored table is announced", || async { mesh.announced().await.contains(&restored).then_some(()) })
        .await;
    // The two tables' events may lie on different partitions.
    let announced: BTreeSet<i64> = mesh.announced().await.into_iter().collect();
    let expected: BTreeSet<i64> = committed.into_iter().chain([restored]).collect();
    assert_eq!(announced, expected, "{foreign} was announced as the product's");
    publisher.stop().await;
}

/// A foreign commit with a time far ahead: it is announced, and so is all that follows, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_from_the_future_is_announced_like_any_other() {
    let (mesh, publisher, mut committed) = announced_two().await;
    for year in [2100i64, 40_000] {
        let at = (year - 1970) * 365 * 86_400_000;
        committed.push(mesh.snapshot(TABLE, 2).await);
        let head = *committed.last().unwrap();
        mesh.rewrite(TABLE, |metadata| {
            metadata["last-updated-ms"] = at.into();
            for list in ["snapshots", "snapshot-log"] {
                let list = metadata[list].as_array_mut().unwrap().iter_mut();
                list.filter(|one| one["snapshot-id"] == head).for_each(|one| one["timestamp-ms"] = at.into());
            }
        })
        .await;
        committed.push(mesh.snapshot(TABLE, 3).await);
        until("all are announced", || async { distinct(&mesh, &committed).await }).await;
    }
    publisher.stop().await;
    let publisher = mesh.publisher(None).await;
    committed.push(mesh.snapshot(TABLE, 4).await);
    until("all are announced after a restart", || async { distinct(&mesh, &committed).await }).await;
    for event in mesh.events(topics::PRODUCT_CHANGES).await {
        event.decode::<ProductChanged>().unwrap();
    }
    publisher.stop().await;
}

/// Whether these snapshots are announced, each once, whatever was moved in between.
async fn distinct(mesh: &Mesh, committed: &[i64]) -> Option<()> {
    (mesh.announced().await == committed).then_some(())
}
