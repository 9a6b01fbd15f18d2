//! From topic to table, in a process of its own, over a real broker and a real catalog.
#![allow(clippy::unwrap_used)]

mod mesh;

use std::time::Duration;

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use mesh::{Mesh, Place, Service};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{Change, OffsetRanges, RangeStart};
use serde_json::{Value, json};

const PROPERTIES: &[&str] = &[
    "{name: id, logicalType: integer, required: true}",
    "{name: arr_time, logicalType: integer, logicalTypeOptions: {minimum: 0, maximum: 2359}}",
    "{name: tail, logicalType: string}",
];

fn schema() -> Value {
    json!({"type": "record", "name": "flight", "fields": [
        {"name": "id", "type": "long"},
        {"name": "arr_time", "type": ["null", "int"]},
        {"name": "tail", "type": ["null", "string"]},
    ]})
}

fn flight(schema_id: u32, id: i64, arr_time: i64) -> Vec<u8> {
    let schema = apache_avro::Schema::parse(&schema()).unwrap();
    let field = |name: &str, value| (name.to_owned(), value);
    let record = Avro::Record(vec![
        field("id", Avro::Long(id)),
        field("arr_time", Avro::Long(arr_time)),
        field("tail", Avro::Null),
    ]);
    let mut bytes = vec![0];
    bytes.extend(schema_id.to_be_bytes());
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    bytes.extend(writer.write_value_to_vec(record.resolve(&schema).unwrap()).unwrap());
    bytes
}

/// What was sent: places of good records, and of bad ones with their reasons.
#[derive(Default)]
struct Sent {
    rows: Vec<Place>,
    dead: Vec<(Place, &'static str)>,
}

/// Sends good and poison values, mixed over both partitions.
async fn send_avro(mesh: &Mesh, schema_id: u32, count: i64, sent: &mut Sent) -> anyhow::Result<()> {
    for id in 0..count {
        let partition = i32::try_from(id % 2)?;
        let good = flight(schema_id, id, 1200);
        let (value, reason) = match id % 10 {
            3 => (Some(good[..good.len() - 1].to_vec()), Some("undecodable")),
            4 => (Some([good.clone(), good].concat()), Some("undecodable")),
            5 => (Some(flight(schema_id, id, 2400)), Some("maximum")),
            6 => (None, Some("tombstone")),
            7 => (Some(b"{}".to_vec()), Some("framing")),
            _ => (Some(good), None),
        };
        let place = mesh.send(partition, value.as_deref()).await?;
        match reason {
            None => sent.rows.push(place),
            Some(reason) => sent.dead.push((place, reason)),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_events_become_rows_and_dead_letters() -> anyhow::Result<()> {
    let mesh = Mesh::new("avro", PROPERTIES, "").await?;
    let schema_id = mesh.register(&schema()).await?;
    let mut sent = Sent::default();
    send_avro(&mesh, schema_id, 40, &mut sent).await?;
    let service = mesh.start()?;
    mesh.until_stored(&sent.rows, &sent.dead).await?;
    // And while it runs.
    send_avro(&mesh, schema_id, 20, &mut sent).await?;
    sent.dead.push((mesh.send(0, Some(&flight(999, 1, 1))).await?, "unknown-schema"));
    mesh.until_stored(&sent.rows, &sent.dead).await?;
    assert_eq!(service.drain().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_events_become_rows_and_dead_letters() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", PROPERTIES, "").await?;
    let _service = mesh.start()?;
    let mut sent = Sent::default();
    for (value, reason) in [
        ("{\"id\":1,\"arr_time\":100,\"tail\":\"N1\"}", None),
        ("{\"id\":2,\"arr_time\":2400}", Some("maximum")),
        ("{\"id\":3.5}", Some("cut")),
        ("{\"arr_time\":3}", Some("required")),
        ("{\"id\":5", Some("undecodable")),
        ("{\"id\":6}", None),
    ] {
        let place = mesh.send(0, Some(value.as_bytes())).await?;
        match reason {
            None => sent.rows.push(place),
            Some(reason) => sent.dead.push((place, reason)),
        }
    }
    mesh.until_stored(&sent.rows, &sent.dead).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_says_where_it_came_from() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", PROPERTIES, "").await?;
    let _service = mesh.start()?;
    let place = mesh.send(0, Some(b"{\"id\":1}")).await?;
    mesh.until_stored(&[place], &[]).await?;
    let table = mesh.table().await?;
    let summary = &table.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(summary["mesh.contract-revision"], "1");
    let recorded = table.recorded().await?;
    assert_eq!(recorded.offsets.iter().map(|(_, partition, next)| (partition, next)).collect::<Vec<_>>(), [(0, 1)]);
    let trace: mesh_proto::trace::TraceContext = summary["mesh.traceparent"].parse()?;
    assert!(trace.sampled);
    Ok(())
}

/// A table whose offsets are of another topic id, as after a deletion and creation of the topic.
#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_stops_its_table() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", PROPERTIES, "").await?;
    let table = mesh.table().await?;
    let gone = TopicSource { cluster: mesh.bus.cluster_id().to_owned(), topic: uuid::Uuid::new_v4().to_string() };
    let mut offset_ranges = OffsetRanges::default();
    offset_ranges.add(&gone, 0, RangeStart::First(0), 5)?;
    mesh.catalog.apply(&table, &Change::append(&table, Vec::new()).with_offsets(offset_ranges)).await.into_result()?;
    mesh.send(0, Some(b"{\"id\":1}")).await?;
    let service = mesh.start()?;
    service.until_unready(&["MESH-INGEST-0005"]).await?;
    assert_eq!(mesh.stored().await?, (Vec::new(), Vec::new()));
    Ok(())
}

/// Kills the service at a point while events come, starts it again, and looks for each event exactly once.
async fn survives(point: &str, pass: u32) -> anyhow::Result<()> {
    let mesh = Mesh::new("avro", PROPERTIES, "").await?;
    let schema_id = mesh.register(&schema()).await?;
    let mut sent = Sent::default();
    send_avro(&mesh, schema_id, 20, &mut sent).await?;
    let mut doomed: Service = mesh.start_with_fault(Some(&format!("{point}@{pass}")))?;
    // Later passes need later commits: events come until it dies.
    let killed = loop {
        if let Some(signal) = doomed.ended_by(Duration::from_millis(200)).await? {
            break signal;
        }
        anyhow::ensure!(sent.rows.len() + sent.dead.len() < 3000, "the point is never passed");
        send_avro(&mesh, schema_id, 10, &mut sent).await?;
    };
    assert_eq!(killed, 9);
    let _again = mesh.start()?;
    mesh.until_stored(&sent.rows, &sent.dead).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_loses_and_doubles_nothing() -> anyhow::Result<()> {
    for point in mesh_ingest::FAULT_POINTS.iter().chain(mesh_lakehouse::FAULT_POINTS) {
        for pass in [1, 2] {
            survives(point, pass).await.map_err(|error| error.context(format!("{point}@{pass}")))?;
        }
    }
    Ok(())
}
