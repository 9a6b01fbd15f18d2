use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use mesh_bus::{Record, Start, View, ViewChange};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::v1::Usage;
use mesh_runtime::fault::TaskFault;
use mesh_runtime::health::Status;
use mesh_runtime::part;
use mesh_testkit::eventually;

use crate::{Fixture, PATIENCE, fixture};

/// Any message will do; `rows` is the value, `bytes` the revision.
async fn set(fixture: &Fixture, key: &str, value: i64, revision: i64) -> anyhow::Result<()> {
    let usage = Usage { rows: value, bytes: revision, ..Usage::default() };
    let event = Event::new(types::USAGE, "/test", format!("{key}-{revision}"), Utc::now(), &usage)?.keyed(key);
    fixture.producer.publish(&fixture.topic, &event).await?;
    Ok(())
}

async fn open(fixture: &Fixture) -> anyhow::Result<View<Usage>> {
    Ok(fixture.bus.view(&fixture.topic, |usage: &Usage| usage.bytes).await?)
}

fn values(map: BTreeMap<String, Arc<Usage>>) -> Vec<(String, i64)> {
    map.into_iter().map(|(key, usage)| (key, usage.rows)).collect()
}

fn expected(values: &[(&str, i64)]) -> Vec<(String, i64)> {
    values.iter().map(|(key, value)| (key.to_string(), *value)).collect()
}

const COMPACT: &[(&str, &str)] = &[("cleanup.policy", "compact")];

#[tokio::test]
async fn a_view_catches_up_then_follows() -> anyhow::Result<()> {
    let fixture = fixture("view", 3, COMPACT).await?;
    for (key, value, revision) in [("a", 1, 1), ("b", 2, 1), ("c", 3, 1), ("a", 4, 2)] {
        set(&fixture, key, value, revision).await?;
    }
    fixture.producer.delete(&fixture.topic, "c").await?;
    let view = open(&fixture).await?;
    tokio::time::timeout(PATIENCE, view.loaded()).await??;
    assert_eq!(values(view.snapshot()), expected(&[("a", 4), ("b", 2)]));

    let (snapshot, mut changes) = view.follow();
    assert_eq!(snapshot.len(), 2);
    set(&fixture, "b", 5, 2).await?;
    let change = tokio::time::timeout(PATIENCE, changes.next()).await??;
    assert!(
        matches!(&change, ViewChange::Set { key, value, before: Some(before) } if key == "b" && value.rows == 5 && before.rows == 2)
    );
    fixture.producer.delete(&fixture.topic, "a").await?;
    let change = tokio::time::timeout(PATIENCE, changes.next()).await??;
    assert!(matches!(&change, ViewChange::Removed { key, .. } if key == "a"));
    assert_eq!(values(view.snapshot()), expected(&[("b", 5)]));
    Ok(())
}

#[tokio::test]
async fn an_empty_topic_is_loaded_at_once() -> anyhow::Result<()> {
    let fixture = fixture("empty", 2, COMPACT).await?;
    let view = open(&fixture).await?;
    tokio::time::timeout(PATIENCE, view.loaded()).await??;
    assert!(view.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_lower_revision_that_comes_late_is_ignored() -> anyhow::Result<()> {
    let fixture = fixture("late", 1, COMPACT).await?;
    set(&fixture, "a", 1, 7).await?;
    let view = open(&fixture).await?;
    view.loaded().await?;
    set(&fixture, "a", 2, 6).await?;
    set(&fixture, "marker", 0, 1).await?;
    eventually("the marker", PATIENCE, || async { view.get("marker").map(drop) }).await?;
    assert_eq!(view.get("a").map(|usage| usage.rows), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_the_load_and_is_named() -> anyhow::Result<()> {
    let fixture = fixture("unreadable", 1, COMPACT).await?;
    set(&fixture, "a", 1, 1).await?;
    let garbage = Record { topic: &fixture.topic, key: Some(b"a"), payload: Some(b"{"), ..Record::default() };
    fixture.producer.send(&garbage).await?;
    let view = open(&fixture).await?;
    let error = tokio::time::timeout(PATIENCE, view.loaded()).await?.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0012");
    assert!(error.to_string().contains(&format!("offset 1 of topic `{}`", fixture.topic)), "{error}");
    assert_eq!(view.get("a").map(|usage| usage.rows), Some(1));
    set(&fixture, "a", 2, 2).await?;
    eventually("the repaired record", PATIENCE, || async { view.unreadable().is_empty().then_some(()) }).await?;
    assert_eq!(view.get("a").map(|usage| usage.rows), Some(2));
    Ok(())
}

/// A slow writer publishes an old revision after another one has erased the key.
#[tokio::test]
async fn what_was_erased_at_a_higher_revision_does_not_come_back() -> anyhow::Result<()> {
    let fixture = fixture("erased", 1, COMPACT).await?;
    set(&fixture, "ana", 1, 3).await?;
    fixture.producer.erase(&fixture.topic, "ana", 5).await?;
    set(&fixture, "ana", 1, 4).await?;
    set(&fixture, "marker", 0, 1).await?;
    let view = open(&fixture).await?;
    tokio::time::timeout(PATIENCE, view.loaded()).await??;
    assert_eq!(values(view.snapshot()), expected(&[("marker", 0)]));
    set(&fixture, "ana", 1, 4).await?;
    set(&fixture, "marker", 1, 2).await?;
    eventually("the marker", PATIENCE, || async { view.get("marker").filter(|usage| usage.rows == 1).map(drop) })
        .await?;
    assert!(view.get("ana").is_none(), "a late record brought back what was erased");
    set(&fixture, "ana", 2, 6).await?;
    eventually("the new value", PATIENCE, || async { view.get("ana").map(drop) }).await?;
    Ok(())
}

/// A follower that panics or returns: the view is not taken for a live one, and is read again.
#[tokio::test]
async fn a_view_without_its_follower_reports_it_and_comes_back() -> anyhow::Result<()> {
    let fixture = fixture("follower", 1, COMPACT).await?;
    set(&fixture, "a", 1, 1).await?;
    let context = mesh_runtime::Context::detached();
    let bus = mesh_bus::Bus::connect_for(fixture._broker.config(), &context.tasks).await?;
    for fault in [TaskFault::Panic, TaskFault::Return] {
        let view: View<Usage> = bus.view(&fixture.topic, |usage: &Usage| usage.bytes).await?;
        tokio::time::timeout(PATIENCE, view.loaded()).await??;
        let name = part::view(&fixture.topic);
        assert_eq!(context.health.checks()[&name], Status::Up);
        let mut load = Box::pin(async {
            loop {
                if let Some(reason) = view.failure() {
                    return (reason, view.is_loaded(), context.health.checks()[&name].clone());
                }
                tokio::task::yield_now().await;
            }
        });
        context.tasks.arm(&name, fault);
        let (reason, is_loaded, status) = tokio::time::timeout(PATIENCE, &mut load).await?;
        assert_eq!((reason.as_str(), is_loaded), ("its follower ended", false));
        assert!(matches!(&status, Status::Down { reason } if reason.contains("its follower ended")), "{status:?}");
        eventually("the view again", PATIENCE, || async { view.is_loaded().then_some(()) }).await?;
        let Status::Down { reason } = &context.health.checks()[&name] else { panic!("the check hides a defect") };
        assert!(
            reason.contains(if fault == TaskFault::Panic { "MESH-RUNTIME-0007" } else { "MESH-RUNTIME-0012" }),
            "{reason}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_of_a_topic_ends_where_the_topic_does_and_can_follow() -> anyhow::Result<()> {
    let fixture = fixture("reader", 2, &[]).await?;
    for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
        set(&fixture, key, value, 1).await?;
    }
    let mut reader = fixture.bus.read_topic(&fixture.topic, Start::Beginning).await?;
    let mut keys = Vec::new();
    while let Some(received) = tokio::time::timeout(PATIENCE, reader.next_until_caught_up()).await?? {
        keys.extend(received.event?.partition_key);
    }
    keys.sort();
    assert_eq!(keys, ["a", "b", "c"]);
    set(&fixture, "d", 4, 1).await?;
    let received = tokio::time::timeout(PATIENCE, reader.next()).await??;
    assert_eq!(received.key.as_deref(), Some("d"));
    Ok(())
}
