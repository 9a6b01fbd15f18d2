//! The bus against a broker: the local bus, or the Kafka that `MESH_TEST_KAFKA` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)]

mod failures;
mod partitions;
mod producer;
mod shards;
mod spans;
mod topics;
mod views;

use std::time::Duration;

use mesh_bus::{Bus, Producer, ProducerOptions, Record, TopicSpec};
use mesh_testkit::{Broker, broker, unique};

/// As long as a loaded machine may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connected bus with one topic of its own.
#[derive(Debug)]
pub struct Fixture {
    pub bus: Bus,
    pub producer: Producer,
    pub topic: String,
    /// Stops with the fixture.
    pub _broker: Broker,
}

pub async fn fixture(name: &str, partitions: i32, config: &[(&str, &str)]) -> anyhow::Result<Fixture> {
    let broker = broker().await?;
    let bus = broker.connect().await?;
    let topic = unique(name);
    let spec = config.iter().fold(TopicSpec::new(&topic, partitions), |spec, (key, value)| spec.with(*key, *value));
    bus.ensure_topics(&[spec]).await?;
    let producer = bus.producer(ProducerOptions::default())?;
    Ok(Fixture { bus, producer, topic, _broker: broker })
}

impl Fixture {
    /// Writes `values` to partition 0, in order.
    pub async fn write(&self, values: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        let values: Vec<String> = values.into_iter().collect();
        let records = values.iter().map(|value| Record {
            topic: &self.topic,
            partition: Some(0),
            payload: Some(value.as_bytes()),
            ..Record::default()
        });
        self.producer.send_all(records).await?;
        Ok(())
    }
}

pub fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|i| i.to_string())
}

/// An rdkafka administrator, for what the bus itself never does: delete.
pub fn admin(bus: &Bus) -> rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> {
    rdkafka::ClientConfig::new().set("bootstrap.servers", bus.address()).create().unwrap()
}
