//! Upkeep as a part of the service: what is announced and old is expired, and the files that this leaves over are deleted;
//! what is not announced stays.
#![allow(clippy::unwrap_used, clippy::panic)]

mod mesh;

use std::time::Duration;

use mesh::Mesh;
use mesh_lakehouse::{Change, Table, summary};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::Announced;
use mesh_testkit::eventually;

const ID: &str = "{name: id, logicalType: integer, required: true}";
const WAIT: Duration = Duration::from_secs(30);

/// As the publisher announces a table's head.
async fn announce(mesh: &Mesh, table: &Table) -> anyhow::Result<()> {
    let head = table.current_snapshot().unwrap();
    let announced = Announced {
        table: mesh.active(1).await?.table,
        snapshot_id: Some(head.snapshot_id()),
        sequence_number: head.sequence_number(),
        metadata_location: table.metadata_location().to_owned(),
        ..Announced::default()
    };
    let (source, id) = (mesh.bus.source("test"), table.uuid().to_string());
    let event = Event::new(types::ANNOUNCED, &source, &id, chrono::Utc::now(), &announced)?.keyed(&id);
    mesh.producer.publish(topics::ANNOUNCED, &event).await?;
    Ok(())
}

/// Metadata files, manifest lists and manifests.
fn files(table: &Table) -> (usize, usize, usize) {
    let folder = mesh_lakehouse::store::local_path(table.metadata().location()).join("metadata");
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.collect();
    let count = |which: fn(&str) -> bool| names.iter().filter(|name| which(name)).count();
    let list = |name: &str| name.starts_with("snap-");
    (count(|name| name.ends_with(".metadata.json")), count(list), count(|name| name.ends_with("-m0.avro")))
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_snapshots_expire_and_others_stay() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID], "").await?;
    let keep = Change::default().with_property(summary::KEPT_SNAPSHOTS, "3");
    mesh.catalog.apply(&mesh.table().await?, &keep).await.into_result()?;
    let settings = ["ingest.commit_interval=30ms", "ingest.upkeep_interval=200ms", "ingest.expired_files_after=0s"];
    let _service = mesh.start_with(&settings)?;
    let mut rows = Vec::new();
    for id in 0..12 {
        rows.push(mesh.send(0, Some(format!("{{\"id\":{id}}}").as_bytes())).await?);
        mesh.until_stored(&rows, &[]).await?;
    }
    let table = mesh.table().await?;
    let snapshots = table.metadata().snapshots().len();
    assert!(snapshots >= 12, "{snapshots} snapshots: nothing is announced yet");
    announce(&mesh, &table).await?;
    eventually("announced snapshots expire", WAIT, async || {
        let table = mesh.table().await.ok()?;
        let (versions, lists, manifests) = files(&table);
        (table.metadata().snapshots().len() == 3 && versions <= 6 && lists == 3 && manifests == snapshots).then_some(())
    })
    .await?;
    // Feeding goes on, and what comes now is not announced.
    for id in 12..20 {
        rows.push(mesh.send(1, Some(format!("{{\"id\":{id}}}").as_bytes())).await?);
        mesh.until_stored(&rows, &[]).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let head = table.current_snapshot().unwrap().snapshot_id();
    let after = mesh.table().await?;
    assert!(after.metadata().snapshot_by_id(head).is_some(), "the last announced snapshot");
    assert!(after.metadata().snapshots().len() >= 9, "the last announced one and all after it");
    assert!(after.property(summary::OFFSETS_MIRROR).is_some());
    Ok(())
}
