//! What happens around a running service: other writers, brokers that vanish, topics that change under it.
#![allow(clippy::unwrap_used)]

mod mesh;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use mesh::{Mesh, Place};
use mesh_testkit::{broker, local_broker};

const PROPERTIES: &[&str] = &["{name: id, logicalType: integer, required: true}"];

/// Sends good records over both partitions, and one bad one.
async fn send(mesh: &Mesh, count: i64, rows: &mut Vec<Place>, dead: &mut Vec<(Place, &'static str)>) {
    for id in 0..count {
        let value = format!("{{\"id\":{id}}}");
        rows.push(mesh.send(i32::try_from(id % 2).unwrap(), Some(value.as_bytes())).await.unwrap());
    }
    dead.push((mesh.send(0, Some(b"{\"id\":null}")).await.unwrap(), "required"));
}

/// A process that stops for longer than its lease, with records in its hands, and wakes up when another has its table.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_wakes_up_late_is_fenced() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", PROPERTIES, "").await?;
    let (mut rows, mut dead) = Default::default();
    send(&mesh, 10, &mut rows, &mut dead).await;
    // Slow to commit, so that it is stopped with records in its hands.
    let sleeper = mesh.start_with(&["ingest.instance=sleeper", "ingest.commit_interval=3s"])?;
    mesh.until_stored(&rows, &dead).await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    sleeper.signal("STOP")?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    let heir = mesh.start_with(&["ingest.instance=heir"])?;
    mesh.until_stored(&rows, &dead).await?;
    sleeper.signal("CONT")?;
    // Its commit is fenced, unless Kafka takes the shard away first: then it stops without one.
    sleeper.until_logged_any(&["MESH-LAKEHOUSE-0013", "shards revoked"]).await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    // And whoever has it now hands it over.
    assert_eq!(heir.drain().await?, Some(0));
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await
}

/// Flips a bit in the newest record of a partition, as a failing disk does.
fn damage(data: &Path, topic: &str, partition: i32) -> anyhow::Result<()> {
    for folder in std::fs::read_dir(data.join("topics"))? {
        let folder = folder?.path();
        if std::fs::read_to_string(folder.join("topic.json"))?.contains(topic) {
            let log = folder.join(partition.to_string()).join("00000000000000000000.log");
            let mut bytes = std::fs::read(&log)?;
            *bytes.last_mut().context("an empty log")? ^= 1;
            return Ok(std::fs::write(log, bytes)?);
        }
    }
    anyhow::bail!("{topic} has no folder")
}

/// librdkafka does not say whose the bad batch is, so readiness cannot name the table; it must not be green either.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_is_shown_and_costs_no_other_partition() -> anyhow::Result<()> {
    let mesh = Mesh::on(local_broker().await?, "json", PROPERTIES, "").await?;
    let mut rows = vec![mesh.send(0, Some(b"{\"id\":1}")).await?, mesh.send(1, Some(b"{\"id\":2}")).await?];
    mesh.send(1, Some(b"{\"id\":3}")).await?;
    damage(mesh.broker.as_ref().unwrap().data().unwrap(), &mesh.topic, 1)?;
    let service = mesh.start()?;
    service.until_unready(&["reader", "MESH-BUS-0015"]).await?;
    rows.push(mesh.send(0, Some(b"{\"id\":4}")).await?);
    mesh.until_stored(&rows, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_vanishes_and_returns_costs_nothing() -> anyhow::Result<()> {
    let mut mesh = Mesh::on(local_broker().await?, "json", PROPERTIES, "").await?;
    let (mut rows, mut dead) = Default::default();
    let service = mesh.start()?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    mesh.broker.as_mut().unwrap().stop().await?;
    service.until_unready(&["MESH-BUS-0001"]).await?;
    mesh.broker.as_mut().unwrap().start().await?;
    service.until_ready().await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    assert!(service.logged("ERROR") <= 1, "an outage is one line");
    assert_eq!(service.drain().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_broker() -> anyhow::Result<()> {
    let mut mesh = Mesh::on(local_broker().await?, "json", PROPERTIES, "").await?;
    let (mut rows, mut dead) = Default::default();
    let service = mesh.start_with(&["ingest.instance=test", "ingest.commit_interval=5s"])?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    mesh.broker.as_mut().unwrap().stop().await?;
    let asked = std::time::Instant::now();
    assert_eq!(service.drain().await?, Some(0), "in order");
    assert!(asked.elapsed() < Duration::from_secs(25), "within the deadline of 30 s: {:?}", asked.elapsed());
    mesh.broker.as_mut().unwrap().start().await?;
    let _again = mesh.start()?;
    mesh.until_stored(&rows, &dead).await
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_topics_stop_their_tables_and_no_other() -> anyhow::Result<()> {
    let healthy = Mesh::new("json", PROPERTIES, "").await?;
    let cut = [healthy.another("json", PROPERTIES).await?, healthy.another("json", PROPERTIES).await?];
    for mesh in &cut {
        let (mut rows, mut dead) = Default::default();
        send(mesh, 10, &mut rows, &mut dead).await;
        mesh.truncate(0).await?;
    }
    let service = healthy.start()?;
    let tables = cut.each_ref().map(|mesh| format!("table:{}", mesh.contract.table()));
    service.until_unready(&[&tables[0], &tables[1], "MESH-INGEST-0006"]).await?;
    let (mut rows, mut dead) = Default::default();
    send(&healthy, 10, &mut rows, &mut dead).await;
    healthy.until_stored(&rows, &dead).await?;
    // Long enough for many tries.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(service.logged("comes next, but the log holds"), 2, "each logged once");
    for mesh in &cut {
        assert_eq!(mesh.stored().await?, (Vec::new(), Vec::new()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_under_a_running_service_stops_its_table_and_no_other() -> anyhow::Result<()> {
    let healthy = Mesh::on(broker().await?, "json", PROPERTIES, "").await?;
    let gone = healthy.another("json", PROPERTIES).await?;
    let (mut rows, mut dead) = Default::default();
    let service = healthy.start()?;
    send(&gone, 10, &mut rows, &mut dead).await;
    gone.until_stored(&rows, &dead).await?;
    gone.recreate_topic().await?;
    // More than before: the same offsets, other records.
    let before = (rows.clone(), dead.clone());
    send(&gone, 30, &mut rows, &mut dead).await;
    service.until_unready(&["MESH-INGEST-0005"]).await?;
    gone.until_stored(&before.0, &before.1).await?;
    let (mut rows, mut dead) = Default::default();
    send(&healthy, 10, &mut rows, &mut dead).await;
    healthy.until_stored(&rows, &dead).await
}
