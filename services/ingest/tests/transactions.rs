//! Control records and aborted transactions are offsets too. The local bus has no transactions, so these tests need
//! Apache Kafka: `MESH_TEST_KAFKA=host:port cargo test -p mesh-ingest --test transactions -- --include-ignored --test-threads 1`
//! (`deploy/kafka/kafka.sh start DIR` starts one). One at a time: the services of all share its group.
#![allow(clippy::unwrap_used)]

mod mesh;

use std::time::Duration;

use mesh::{Mesh, Place, Service, WAIT};
use mesh_testkit::{eventually, unique};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

const PROPERTIES: &[&str] = &["{name: id, logicalType: integer, required: true}"];
const REQUEST: Duration = Duration::from_secs(20);

async fn kafka() -> anyhow::Result<Mesh> {
    let named = std::env::var("MESH_TEST_KAFKA").is_ok_and(|address| !address.is_empty());
    anyhow::ensure!(named, "these tests need Apache Kafka: set MESH_TEST_KAFKA=host:port");
    Mesh::new("json", PROPERTIES, "").await
}

struct Transactions {
    producer: BaseProducer,
    topic: String,
}

impl Transactions {
    fn of(mesh: &Mesh) -> anyhow::Result<Self> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &mesh.bus.config().bootstrap)
            .set("transactional.id", unique("tx"))
            .create()?;
        producer.init_transactions(REQUEST)?;
        Ok(Self { producer, topic: mesh.topic.clone() })
    }

    /// One transaction with this many records in a partition.
    fn run(&self, partition: i32, records: usize, commit: bool) -> anyhow::Result<()> {
        self.producer.begin_transaction()?;
        for _ in 0..records {
            let record = BaseRecord::<(), _>::to(&self.topic).partition(partition).payload("{\"id\":1}");
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.producer.flush(REQUEST)?;
        match commit {
            true => self.producer.commit_transaction(REQUEST)?,
            false => self.producer.abort_transaction(REQUEST)?,
        }
        Ok(())
    }
}

/// Waits until the table records the log's end, and looks whether it stays at rest then.
async fn at_rest(mesh: &Mesh, service: &Service) -> anyhow::Result<()> {
    eventually("the table records the log's end", WAIT, async || {
        is_at_end(mesh).await.ok().filter(|end| *end).map(drop)
    })
    .await?;
    let before = mesh.table().await?.metadata().snapshots().count();
    // Longer than the gauges take.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(mesh.table().await?.metadata().snapshots().count(), before, "a table at rest commits nothing");
    let table = mesh.contract.table().to_string();
    assert_eq!(service.metric("mesh_ingest_lag_records", &table)?, 0);
    Ok(())
}

async fn is_at_end(mesh: &Mesh) -> anyhow::Result<bool> {
    let recorded = mesh.table().await?.recorded().await?.offsets;
    for partition in 0..mesh.partitions {
        let (_, end) = mesh.bus.watermarks(&mesh.topic, partition).await?;
        let next = recorded.iter().find(|(_, of, _)| *of == partition).map_or(0, |(_, _, next)| next);
        if next != end {
            return Ok(false);
        }
    }
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Apache Kafka"]
async fn a_transactional_topic_at_rest_has_no_lag() -> anyhow::Result<()> {
    let mesh = kafka().await?;
    let service = mesh.start()?;
    let transactions = Transactions::of(&mesh)?;
    transactions.run(0, 1, true)?;
    transactions.run(0, 2, true)?;
    transactions.run(0, 3, false)?;
    // Offsets of partition 0: a record, a marker, two records, a marker, three aborted ones, a marker.
    let mut rows: Vec<Place> = vec![(0, 0), (0, 2), (0, 3)];
    mesh.until_stored(&rows, &[]).await?;
    at_rest(&mesh, &service).await?;
    // Nothing but an aborted transaction, in a partition that never had a record.
    transactions.run(1, 2, false)?;
    transactions.run(0, 1, false)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    at_rest(&mesh, &service).await?;
    transactions.run(1, 1, true)?;
    rows.push((1, 3));
    mesh.until_stored(&rows, &[]).await?;
    at_rest(&mesh, &service).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Apache Kafka"]
async fn retention_past_a_control_record_takes_nothing_unread() -> anyhow::Result<()> {
    let mesh = kafka().await?;
    let service = mesh.start()?;
    let transactions = Transactions::of(&mesh)?;
    transactions.run(0, 2, true)?;
    transactions.run(0, 2, false)?;
    let mut rows: Vec<Place> = vec![(0, 0), (0, 1)];
    mesh.until_stored(&rows, &[]).await?;
    at_rest(&mesh, &service).await?;
    assert_eq!(service.drain().await?, Some(0));
    mesh.truncate(0).await?;
    let service = mesh.start()?;
    transactions.run(0, 1, true)?;
    rows.push((0, 6));
    mesh.until_stored(&rows, &[]).await?;
    at_rest(&mesh, &service).await
}
