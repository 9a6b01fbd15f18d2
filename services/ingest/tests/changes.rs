//! What changes while events flow: contracts, schemas, other writers, a catalog or a folder that fails for a while.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod mesh;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow_array::Array as _;
use mesh::{Mesh, Place};
use mesh_ingest::config::IngestSettings;
use mesh_ingest::pipeline::fetch::Fetcher;
use mesh_ingest::pipeline::lag::Lag;
use mesh_ingest::pipeline::schemas::SchemaLog;
use mesh_ingest::pipeline::table::{Shared, run};
use mesh_ingest::pipeline::topics::TopicDescriptions;
use mesh_ingest::pipeline::write::WriterBudget;
use mesh_ingest::telemetry::{IngestMetrics, Of};
use mesh_ingest::upkeep::Upkeep;
use mesh_lakehouse::Catalog;
use mesh_lakehouse::maintenance::ExpirePolicy;
use mesh_lakehouse::schema::ident;
use mesh_lakehouse::store::local_path;
use mesh_proto::topics;
use mesh_proto::v1::Announced;
use mesh_runtime::{Metrics, Shutdown, Tasks};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

const ID: &str = "{name: id, logicalType: integer, required: true}";
const NAME: &str = "{name: name, logicalType: string}";

/// Rows and dead letters that are to come of what was sent.
type Sent = (Vec<Place>, Vec<(Place, &'static str)>);

/// Sends good records over both partitions, and one bad one.
async fn send(mesh: &Mesh, count: i64, rows: &mut Vec<Place>, dead: &mut Vec<(Place, &'static str)>) {
    for id in 0..count {
        let value = format!("{{\"id\":{id},\"name\":\"n\"}}");
        rows.push(mesh.send(i32::try_from(id % 2).unwrap(), Some(value.as_bytes())).await.unwrap());
    }
    dead.push((mesh.send(0, Some(b"{\"id\":null}")).await.unwrap(), "required"));
}

fn schema(fields: &[&str]) -> Value {
    let fields: Vec<Value> = fields.iter().map(|name| json!({ "name": name, "type": "long" })).collect();
    json!({ "type": "record", "name": "thing", "fields": fields })
}

fn avro(id: u32, schema: &Value, fields: &[&str]) -> Vec<u8> {
    let schema = apache_avro::Schema::parse(schema).unwrap();
    let record = Avro::Record(fields.iter().map(|name| ((*name).to_owned(), Avro::Long(7))).collect());
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    bytes.extend(writer.write_value_to_vec(record).unwrap());
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_has_the_values_of_every_record_that_came_after_it() -> anyhow::Result<()> {
    let mut mesh = Mesh::new("json", &[ID], "").await?;
    let (mut rows, mut dead) = Default::default();
    let _service = mesh.start_with(&["ingest.schema_wait=30s"])?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    let without = rows.clone();
    // The publisher changes the table first; between that and the contract events come.
    mesh.evolve(2, "json", &[ID, NAME]).await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    mesh.activate(2).await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    let named = mesh.read(&ident(&mesh.contract.table())).await?;
    let named = named.iter().filter_map(|batch| batch.column_by_name("name"));
    let named: usize = named.map(|names| names.len() - names.null_count()).sum();
    assert_eq!(named, rows.len() - without.len());
    Ok(())
}

/// A catalog restored from before the revision, or a column that another engine dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lacks_a_column_of_its_contract_is_not_fed_without_it() -> anyhow::Result<()> {
    let mut mesh = Mesh::new("json", &[ID], "").await?;
    mesh.revise("json", &[ID, NAME])?;
    mesh.activate(2).await?;
    let (mut rows, mut dead) = Default::default();
    send(&mesh, 10, &mut rows, &mut dead).await;
    let service = mesh.start()?;
    service.until_unready(&["MESH-INGEST-0012", "name"]).await?;
    mesh.evolve(3, "json", &[ID, NAME]).await?;
    mesh.activate(3).await?;
    mesh.until_stored(&rows, &dead).await?;
    let named = mesh.read(&ident(&mesh.contract.table())).await?;
    assert!(named.iter().all(|batch| batch.column_by_name("name").is_some_and(|names| names.null_count() == 0)));
    service.until_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_of_a_busy_topic_are_read_without_a_pause() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID], "").await?;
    let (mut rows, mut dead) = Default::default();
    // Nobody looks but who commits.
    let _service = mesh.start_with(&["ingest.topic_check=1h"])?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    mesh.grow(3).await?;
    rows.push(mesh.send_anew(2, b"{\"id\":7}").await?);
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_on_its_way_is_waited_for_and_one_that_cannot_come_is_not() -> anyhow::Result<()> {
    let mesh = Mesh::new("avro", &[ID], "").await?;
    let text = schema(&["id"]);
    let first = mesh.register(&text).await?;
    // The same text again keeps its first id: the second one is nobody's, and the log is past it.
    let nobodys = mesh.register(&text).await?;
    let _service = mesh.start_with(&["ingest.schema_wait=45s"])?;
    let since = Instant::now();
    let dead = (mesh.send(0, Some(&avro(nobodys, &text, &["id"]))).await?, "unknown-schema");
    let row = mesh.send(1, Some(&avro(first, &text, &["id"]))).await?;
    mesh.until_stored(&[row], &[dead]).await?;
    assert!(since.elapsed() < Duration::from_secs(40), "it was waited for");
    let (_, next) = mesh.bus.watermarks(topics::SCHEMAS, 0).await?;
    let newer = schema(&["id", "more"]);
    let early = mesh.send(0, Some(&avro(u32::try_from(next + 1)?, &newer, &["id", "more"]))).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(i64::from(mesh.register(&newer).await?), next + 1);
    mesh.until_stored(&[row, early], &[dead]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_contract_stops_its_table_before_the_first_record_that_has_more() -> anyhow::Result<()> {
    let closed = "    customProperties: [{property: closed, value: true}]\n";
    let mesh = Mesh::new("avro", &[ID], closed).await?;
    let (known, more) = (schema(&["id"]), schema(&["id", "more"]));
    let (known_id, more_id) = (mesh.register(&known).await?, mesh.register(&more).await?);
    let mut rows = Vec::new();
    for _ in 0..5 {
        rows.push(mesh.send(0, Some(&avro(known_id, &known, &["id"]))).await?);
    }
    mesh.send(0, Some(&avro(more_id, &more, &["id", "more"]))).await?;
    mesh.send(0, Some(&avro(known_id, &known, &["id"]))).await?;
    // All in one chunk.
    let service = mesh.start()?;
    service.until_unready(&["MESH-INGEST-0007", "more"]).await?;
    mesh.until_stored(&rows, &[]).await?;
    assert_eq!(service.logged("MESH-INGEST-0007"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_products_on_one_topic_have_the_same_records() -> anyhow::Result<()> {
    let one = Mesh::new("json", &[ID], "").await?;
    let (mut rows, mut dead) = Default::default();
    let service = one.start()?;
    send(&one, 20, &mut rows, &mut dead).await;
    one.until_stored(&rows, &dead).await?;
    let other = one.beside("json", &[ID, NAME]).await?;
    send(&one, 20, &mut rows, &mut dead).await;
    one.until_stored(&rows, &dead).await?;
    other.until_stored(&rows, &dead).await?;
    assert_eq!(service.drain().await?, Some(0));
    let _again = one.start()?;
    send(&other, 20, &mut rows, &mut dead).await;
    one.until_stored(&rows, &dead).await?;
    other.until_stored(&rows, &dead).await
}

/// A writer on a mesh's table that has no lease; its counts.
async fn writer(mesh: &Mesh, stop: &Shutdown) -> anyhow::Result<IngestMetrics> {
    let bus = mesh.bus.clone();
    let tasks = Tasks::detached();
    let schemas = SchemaLog::open(&bus, &tasks)?;
    schemas.loaded().await?;
    let telemetry = IngestMetrics::register(&Metrics::new());
    let (fetcher, reader) = Fetcher::open(&bus, 1 << 20, tasks.health())?;
    tokio::spawn(reader.run(stop.clone()));
    let catalog = Catalog::open(mesh.catalog.config().clone()).await?;
    let announced = bus.view::<Announced>(topics::ANNOUNCED, |_| 0).await?;
    let rounds = (ExpirePolicy::default(), Duration::from_secs(10));
    let shared = Shared {
        upkeep: Upkeep::new(catalog.clone(), announced, rounds, telemetry.clone(), tasks.health()),
        fetcher,
        lag: Lag::new(bus.clone(), telemetry.clone()),
        topics: TopicDescriptions::new(bus.clone()),
        budget: WriterBudget::new(1 << 20),
        bus,
        catalog,
        schemas,
        config: IngestSettings { commit_interval: Duration::from_millis(30), ..IngestSettings::default() },
        telemetry: telemetry.clone(),
        tasks,
        rebased: tokio::sync::watch::channel(0).0,
    };
    let (_contract, active) = tokio::sync::watch::channel(Arc::new(mesh.active(1).await?));
    let stop = stop.clone();
    tokio::spawn(async move {
        let _contract = _contract;
        run(Arc::new(shared), active, stop).await;
    });
    Ok(telemetry)
}

/// What Kafka's lease prevents, and the fence must withstand: several writers that all believe to have the table.
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_race_for_one_table_lose_and_double_nothing() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID], "").await?;
    let stop = Shutdown::new(Duration::from_secs(10));
    let mut writers = Vec::new();
    for _ in 0..3 {
        writers.push(writer(&mesh, &stop).await?);
    }
    let (mut rows, mut dead) = Default::default();
    for _ in 0..30 {
        send(&mesh, 10, &mut rows, &mut dead).await;
    }
    mesh.until_stored(&rows, &dead).await?;
    stop.request();
    let product = Of { product: mesh.contract.product().to_string() };
    let fenced: u64 = writers.iter().map(|writer| writer.fenced.get_or_create(&product).get()).sum();
    assert!(fenced > 0, "there was no race");
    mesh.until_stored(&rows, &dead).await
}

/// Parquet files under the table's folder, and those that its newest snapshot names.
async fn files(mesh: &Mesh) -> anyhow::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let table = mesh.table().await?;
    let mut named = BTreeSet::new();
    for manifest in table.manifests(table.current_snapshot().unwrap()).await?.iter() {
        let manifest = table.store().manifest(manifest).await?;
        named.extend(manifest.entries().iter().map(|entry| local_path(entry.file_path()).display().to_string()));
    }
    let folder = local_path(table.metadata().location()).join("data");
    let there = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path().display().to_string()));
    Ok((there.collect::<anyhow::Result<_>>()?, named))
}

/// Sets `main` back, as Spark's and pyiceberg's rollbacks do: a new metadata file, and the catalog's row.
async fn roll_back(mesh: &Mesh, to: i64) -> anyhow::Result<()> {
    let table = mesh.table().await?;
    let mut json = serde_json::to_value(table.metadata().as_ref())?;
    json["current-snapshot-id"] = to.into();
    json["refs"]["main"]["snapshot-id"] = to.into();
    let mark = json!({ "snapshot-id": to, "timestamp-ms": json["last-updated-ms"] });
    json["snapshot-log"].as_array_mut().unwrap().push(mark);
    let location = format!("{}/metadata/99999-{}.metadata.json", table.metadata().location(), uuid::Uuid::new_v4());
    std::fs::write(local_path(&location), serde_json::to_vec(&json)?)?;
    let uri = mesh.catalog.config().uri.replace("sqlite:////", "sqlite:///");
    let set = format!(
        "UPDATE iceberg_tables SET metadata_location = '{location}' WHERE metadata_location = '{}'",
        table.metadata_location()
    );
    let done = sqlx::raw_sql(&set).execute(&mut SqliteConnection::connect(&uri).await?).await?;
    anyhow::ensure!(done.rows_affected() == 1, "somebody was quicker");
    Ok(())
}

/// The dead-letter table is not set back: what is read again must not come into it twice, nor stop it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rolled_back_has_each_record_once_again() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID], "").await?;
    let (mut rows, mut dead) = (Vec::new(), Vec::new());
    let mut send = async |partition, count: i64| -> anyhow::Result<Sent> {
        for id in 0..count {
            rows.push(mesh.send(partition, Some(format!("{{\"id\":{id}}}").as_bytes())).await?);
            dead.push((mesh.send(partition, Some(b"{\"id\":null}")).await?, "required"));
        }
        Ok((rows.clone(), dead.clone()))
    };
    let service = mesh.start()?;
    send(0, 1).await?;
    let (rows, dead) = send(1, 1).await?;
    mesh.until_stored(&rows, &dead).await?;
    let first = mesh.table().await?.current_snapshot().unwrap().snapshot_id();
    send(0, 20).await?;
    let (rows, dead) = send(1, 20).await?;
    mesh.until_stored(&rows, &dead).await?;
    assert_eq!(service.drain().await?, Some(0));
    roll_back(&mesh, first).await?;
    // Partition 0 goes on beyond what the dead letters record, partition 1 is behind that for a while: a commit for
    // every few records.
    let (rows, dead) = send(0, 20).await?;
    let _service = mesh.start_with(&["ingest.commit_rows=1"])?;
    mesh.until_stored(&rows, &dead).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_another_process_locks_is_shown_and_waited_out() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID], "").await?;
    let (mut rows, mut dead) = Default::default();
    let service = mesh.start()?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    mesh.until_stored(&rows, &dead).await?;
    let uri = mesh.catalog.config().uri.replace("sqlite:////", "sqlite:///");
    let mut shell = SqliteConnection::connect(&uri).await?;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut shell).await?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    service.until_unready(&["MESH-LAKEHOUSE-0007"]).await?;
    sqlx::raw_sql("ROLLBACK").execute(&mut shell).await?;
    mesh.until_stored(&rows, &dead).await?;
    service.until_ready().await?;
    let (there, named) = files(&mesh).await?;
    assert_eq!(there, named, "tries that failed left nothing");
    Ok(())
}

/// On a small file system of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a file system, which root may: .ci/run runs it"]
async fn a_full_disk_stops_its_table_until_there_is_room() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID, NAME], "").await?;
    let data = local_path(mesh.table().await?.metadata().location()).join("data");
    std::fs::create_dir_all(&data)?;
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(&data).output();
    let mounted = mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"])?;
    anyhow::ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let _mounted = Mounted(data.clone());
    let service = mesh.start()?;
    let mut rows = Vec::new();
    for id in 0..100 {
        // Does not compress.
        let name: String = (0..60).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        rows.push(mesh.send(0, Some(json!({ "id": id, "name": name }).to_string().as_bytes())).await?);
    }
    service.until_unready(&["MESH-LAKEHOUSE-0003"]).await?;
    let more = mount(&["-o", "remount,size=64m"])?;
    anyhow::ensure!(more.status.success(), "{}", String::from_utf8_lossy(&more.stderr));
    mesh.until_stored(&rows, &[]).await?;
    service.until_ready().await
}

/// A file system that goes with the value, in time for its folder to be deleted.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the service may be writing still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Root may write anywhere, so a file where the folder must be stands for a folder that cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_stops_its_table_until_it_can() -> anyhow::Result<()> {
    let mesh = Mesh::new("json", &[ID], "").await?;
    let data = local_path(mesh.table().await?.metadata().location()).join("data");
    std::fs::write(&data, b"in the way")?;
    let (mut rows, mut dead) = Default::default();
    let service = mesh.start()?;
    send(&mesh, 10, &mut rows, &mut dead).await;
    service.until_unready(&["MESH-LAKEHOUSE-0004"]).await?;
    // Three tries at least, each with files of other names.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(service.logged("MESH-LAKEHOUSE-0004"), 1, "an error that comes again is said once");
    std::fs::remove_file(&data)?;
    mesh.until_stored(&rows, &dead).await?;
    service.until_ready().await
}
