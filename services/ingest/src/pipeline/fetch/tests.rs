//! The reader over a real broker: a slow table is held back, its neighbours are not, and none is held back for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_bus::{Bus, ProducerOptions, Record, TopicSpec};
use mesh_testkit::{Broker, broker, unique};

use super::{Fetcher, Subscription};

const PATIENCE: Duration = Duration::from_secs(60);

/// A reader that may hold a megabyte, and a topic with one partition.
struct Fixture {
    _broker: Broker,
    bus: Bus,
    fetcher: Fetcher,
}

impl Fixture {
    async fn new() -> anyhow::Result<Self> {
        let broker = broker().await?;
        let bus = broker.connect().await?;
        let (fetcher, reader) = Fetcher::open(&bus, 1 << 20, &mesh_runtime::Health::new())?;
        tokio::spawn(reader.run(mesh_runtime::Shutdown::new(PATIENCE)));
        Ok(Self { _broker: broker, bus, fetcher })
    }

    /// A topic with this many records of 10 kB.
    async fn topic(&self, name: &str, records: i64) -> anyhow::Result<String> {
        let topic = unique(name);
        self.bus.ensure_topics(&[TopicSpec::new(&topic, 1)]).await?;
        let producer = self.bus.producer(ProducerOptions::default())?;
        let value = vec![b'x'; 10_000];
        let record = Record { topic: &topic, partition: Some(0), payload: Some(&value), ..Record::default() };
        producer.send_all((0..records).map(|_| Record { ..record })).await?;
        Ok(topic)
    }

    fn subscribe(&self, topic: &str, start: i64) -> Subscription {
        self.fetcher.subscribe(topic, BTreeMap::from([(0, start)])).unwrap()
    }
}

/// Takes chunks until this offset comes next, each record once and in order; the sizes of the chunks.
async fn take(subscription: &mut Subscription, from: i64, to: i64) -> anyhow::Result<Vec<usize>> {
    let (mut next, mut sizes) = (from, Vec::new());
    while next < to {
        let chunk = tokio::time::timeout(PATIENCE, subscription.next()).await??;
        for (_, record) in chunk.records() {
            assert_eq!(record.offset(), next);
            next += 1;
        }
        sizes.push(chunk.len());
    }
    Ok(sizes)
}

/// Until its channel is full and more was read: from here on it is held back.
async fn held_back(fixture: &Fixture, other: &str) -> anyhow::Result<()> {
    let mut bystander = fixture.subscribe(other, 0);
    // Each chunk of the bystander is a turn of the reader in which the slow one could have been given more.
    take(&mut bystander, 0, 500).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_table_is_held_back_and_holds_up_no_other() -> anyhow::Result<()> {
    let fixture = Fixture::new().await?;
    let (slow, fast) = (fixture.topic("slow", 2000).await?, fixture.topic("fast", 500).await?);
    let mut waiting = fixture.subscribe(&slow, 0);
    held_back(&fixture, &fast).await?;
    let sizes = take(&mut waiting, 0, 2000).await?;
    // One prefetch and one response at most were held: far from all.
    let held: usize = sizes.iter().take(super::WAITING + 1).sum();
    assert!(held < 1000, "{held} records were held for the slow table: {sizes:?}");
    Ok(())
}

/// A new contract revision, a fence, an error: the table is loaded again while it is held back.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_held_back_and_begins_again_gets_everything() -> anyhow::Result<()> {
    let fixture = Fixture::new().await?;
    let (slow, fast) = (fixture.topic("slow", 1000).await?, fixture.topic("fast", 500).await?);
    for start in [0, 100] {
        let waiting = fixture.subscribe(&slow, start);
        held_back(&fixture, &fast).await?;
        drop(waiting);
    }
    take(&mut fixture.subscribe(&slow, 200), 200, 1000).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_on_one_topic_each_get_what_they_lack() -> anyhow::Result<()> {
    let fixture = Fixture::new().await?;
    let (topic, other) = (fixture.topic("shared", 1000).await?, fixture.topic("other", 500).await?);
    let mut ahead = fixture.subscribe(&topic, 600);
    take(&mut ahead, 600, 700).await?;
    let mut behind = fixture.subscribe(&topic, 50);
    take(&mut behind, 50, 1000).await?;
    drop(ahead);
    // One that takes nothing holds up the other as long as it is there, and no longer.
    let stuck = fixture.subscribe(&topic, 0);
    held_back(&fixture, &other).await?;
    let mut last = fixture.subscribe(&topic, 10);
    drop(stuck);
    take(&mut last, 10, 1000).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_was_deleted_ends_its_table_alone() -> anyhow::Result<()> {
    let fixture = Fixture::new().await?;
    let topic = fixture.topic("cut", 100).await?;
    let mut beyond = fixture.subscribe(&topic, 5000);
    let error = tokio::time::timeout(PATIENCE, beyond.next()).await?.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0009", "{error}");
    take(&mut fixture.subscribe(&topic, 0), 0, 100).await?;
    Ok(())
}
