//! A topic that was recreated, or begins without its first records: its table stops, a person gives it a new start.
#![allow(clippy::unwrap_used)]

mod mesh;

use mesh::{Mesh, Place, Service};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{AuditRecord, Decision};
use mesh_testkit::{broker, local_broker};
use serde_json::{Value, json};

const PROPERTIES: &[&str] = &["{name: id, logicalType: integer, required: true}"];
const KEY: &str = "key of the admin";

/// Sends good records over both partitions, and a bad one to the first.
async fn send(mesh: &Mesh, count: i64, rows: &mut Vec<Place>, dead: &mut Vec<(Place, &'static str)>) {
    for id in 0..count {
        let value = format!("{{\"id\":{id}}}");
        rows.push(mesh.send(i32::try_from(id % 2).unwrap(), Some(value.as_bytes())).await.unwrap());
    }
    dead.push((mesh.send(0, Some(b"{\"id\":null}")).await.unwrap(), "required"));
}

/// A new start is given; what was answered.
fn rebase(service: &Service, mesh: &Mesh, more: Value) -> anyhow::Result<Value> {
    let mut asked = json!({ "product": mesh.contract.product().to_string(), "reason": "test" });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = service.rebase(KEY, &asked)?;
    anyhow::ensure!(status == 200, "{status}: {answer}");
    Ok(answer)
}

async fn audited(mesh: &Mesh) -> anyhow::Result<Vec<(String, Decision, String)>> {
    let mut reader = mesh.bus.read_topic(topics::AUDIT, mesh_bus::Start::Beginning).await?;
    let mut found = Vec::new();
    while let Some(received) = reader.next_until_caught_up().await? {
        let record = received.event?.decode_as::<AuditRecord>(types::AUDIT)?;
        found.push((record.principal.clone(), record.decision(), record.reason.clone()));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_is_read_from_its_beginning_after_a_new_start() -> anyhow::Result<()> {
    let mesh = Mesh::on(broker().await?, "json", PROPERTIES, "").await?;
    mesh.know("root", KEY, &["admin"], &[]).await?;
    let (mut rows, mut dead) = Default::default();
    let service = mesh.start()?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    mesh.recreate_topic().await?;
    send(&mesh, 20, &mut rows, &mut dead).await;
    service.until_unready(&["MESH-INGEST-0005", "mesh ingest rebase"]).await?;
    let only_asked = rebase(&service, &mesh, json!({ "dry_run": true }))?;
    assert_eq!((&only_asked["rebased"], &only_asked["partitions"][1]["start"]), (&json!(false), &json!(0)));
    let done = rebase(&service, &mesh, json!({}))?;
    assert_eq!(done["rebased"], true);
    // The rows of before stay, those of the new topic come, dead letters too.
    mesh.until_stored(&rows, &dead).await?;
    service.until_ready().await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    let table = mesh.table().await?;
    let made = table.metadata().snapshots().find(|s| Some(s.snapshot_id()) == done["snapshot_id"].as_i64()).unwrap();
    let why: Value = serde_json::from_str(&made.summary().additional_properties["mesh.rebase"])?;
    assert_eq!((&why["principal"], &why["reason"], &why["audit"]), (&json!("root"), &json!("test"), &done["audit_id"]));
    assert_eq!(audited(&mesh).await?, [("root".to_owned(), Decision::Allowed, String::new())]);
    // Nothing is left to be done.
    assert_eq!(rebase(&service, &mesh, json!({}))?["rebased"], false);
    Ok(())
}

/// What a user meets who plugs in a topic that has been there for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_its_first_records_is_read_from_what_it_has() -> anyhow::Result<()> {
    let mesh = Mesh::on(local_broker().await?, "json", PROPERTIES, "").await?;
    mesh.know("tess", KEY, &[], &["testing"]).await?;
    let (mut gone, mut forgotten) = Default::default();
    send(&mesh, 10, &mut gone, &mut forgotten).await;
    mesh.truncate(0).await?;
    let (mut rows, mut dead): (Vec<Place>, _) = Default::default();
    rows.extend(gone.iter().filter(|(partition, _)| *partition == 1));
    send(&mesh, 10, &mut rows, &mut dead).await;
    let service = mesh.start()?;
    service.until_unready(&["MESH-INGEST-0006", "mesh ingest rebase"]).await?;
    let done = rebase(&service, &mesh, json!({}))?;
    assert_eq!((&done["partitions"][0]["recorded"], &done["partitions"][0]["start"]), (&Value::Null, &json!(6)));
    mesh.until_stored(&rows, &dead).await?;
    // The same for who is away for longer than the log keeps.
    assert_eq!(service.drain().await?, Some(0));
    let (mut lost, mut letters) = Default::default();
    send(&mesh, 10, &mut lost, &mut letters).await;
    mesh.truncate(0).await?;
    mesh.truncate(1).await?;
    let service = mesh.start()?;
    service.until_unready(&["MESH-INGEST-0006"]).await?;
    send(&mesh, 4, &mut lost, &mut letters).await;
    // And the two that came to each partition just now are not wanted either, but the last of partition 1.
    let (_, high) = mesh.bus.watermarks(&mesh.topic, 1).await?;
    rebase(&service, &mesh, json!({ "from": "end", "at": { "1": high - 1 } }))?;
    rows.push((1, high - 1));
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_knows_who_may_and_what_can_be() -> anyhow::Result<()> {
    let mesh = Mesh::on(local_broker().await?, "json", PROPERTIES, "").await?;
    mesh.know("tess", KEY, &[], &["testing"]).await?;
    mesh.know("other", "another key", &["analyst"], &["elsewhere"]).await?;
    let service = mesh.start()?;
    let (mut rows, mut dead) = Default::default();
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    let product = mesh.contract.product().to_string();
    let before = mesh.table().await?.metadata().snapshots().count();
    let check = |key: &str, asked: Value, expected: (u16, &str)| -> anyhow::Result<()> {
        let (status, answer) = service.rebase(key, &asked)?;
        assert_eq!((status, answer["code"].as_str().unwrap_or_default()), expected, "{asked}: {answer}");
        Ok(())
    };
    check("nobody's", json!({ "product": product }), (401, "MESH-INGEST-0020"))?;
    check("", json!({ "product": product }), (401, "MESH-INGEST-0020"))?;
    check("another key", json!({ "product": product }), (403, "MESH-INGEST-0021"))?;
    check(KEY, json!({ "product": "testing.nothing" }), (404, "MESH-INGEST-0022"))?;
    check(KEY, json!({ "product": product, "major": 7 }), (404, "MESH-INGEST-0022"))?;
    check(KEY, json!({ "product": product, "at": { "0": 99 } }), (422, "MESH-INGEST-0023"))?;
    check(KEY, json!({ "product": product, "at": { "5": 0 } }), (422, "MESH-INGEST-0023"))?;
    check(KEY, json!({ "product": product, "at": { "0": 2 } }), (422, "MESH-INGEST-0023"))?;
    check(KEY, json!({ "product": product, "form": "end" }), (400, "MESH-INGEST-0024"))?;
    check(KEY, json!({ "product": product, "reason": "x".repeat(4 << 20) }), (400, "MESH-INGEST-0024"))?;
    assert_eq!(audited(&mesh).await?, [("other".to_owned(), Decision::Denied, "MESH-INGEST-0021".to_owned())]);
    assert_eq!(mesh.table().await?.metadata().snapshots().count(), before, "nothing was done");
    Ok(())
}

/// A contract may start on a topic whose head was deleted already; the first snapshot records where it did.
#[tokio::test(flavor = "multi_thread")]
async fn a_contract_may_start_at_the_earliest_record_that_is_left() -> anyhow::Result<()> {
    let extra = "    customProperties: [{property: startFrom, value: earliest-available}]\n";
    let mesh = Mesh::on(local_broker().await?, "json", PROPERTIES, extra).await?;
    let (mut deleted, mut letters) = Default::default();
    send(&mesh, 10, &mut deleted, &mut letters).await;
    mesh.truncate(0).await?;
    let mut rows: Vec<Place> = deleted.iter().filter(|(partition, _)| *partition == 1).copied().collect();
    let mut dead = Vec::new();
    send(&mesh, 10, &mut rows, &mut dead).await;
    let service = mesh.start()?;
    mesh.until_stored(&rows, &dead).await?;
    service.until_ready().await?;
    let table = mesh.table().await?;
    let first = table.metadata().snapshots().min_by_key(|snapshot| snapshot.sequence_number()).unwrap();
    assert_eq!(first.summary().additional_properties["mesh.started-at"], "{\"0\":6}");
    assert_eq!(service.drain().await?, Some(0));
    // From the first commit on, what is deleted unread stops the table like any other.
    send(&mesh, 10, &mut deleted, &mut letters).await;
    mesh.truncate(0).await?;
    let service = mesh.start()?;
    service.until_unready(&["MESH-INGEST-0006"]).await
}
