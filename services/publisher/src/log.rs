//! The publisher's writes, and the reading back of them.
//!
//! In: messages to publish. Out: CloudEvents on their topics, and what lies there in the [`Memory`].
//! Must never happen: an event whose id depends on when it was written. A replay writes the same ids again.

use std::time::Duration;

use chrono::Utc;
use mesh_bus::{Bus, Delivered, Message, Partitions, Producer, ProducerOptions, ReadOptions, Start, TopicPartition};
use mesh_proto::ProtoError;
use mesh_proto::cloudevents::Event;
use mesh_proto::topics;
use mesh_runtime::Shutdown;
use serde::Serialize;

use crate::error::{PublisherError, bus};
use crate::memory::{FOLLOWED, Memory, Seen};

/// The name under which the publisher reads and writes.
const NAME: &str = "publisher";
/// The name of its readers, for ACLs and monitors.
pub(crate) const READER: &str = "mesh-publisher";
/// How many of the newest verdicts are read at the start.
const VERDICTS: i64 = 2048;
/// How long the reader may say nothing before the broker is asked whether there is anything to come.
const QUIET: Duration = Duration::from_millis(500);

/// Writes events; cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    bus: Bus,
    producer: Producer,
    source: String,
}

impl Log {
    pub fn new(bus: &Bus) -> Result<Self, PublisherError> {
        // Somebody waits for most of these: none waits for others to share a request with.
        let options = ProducerOptions { linger: Duration::ZERO, ..ProducerOptions::default() };
        let producer = bus.producer(options).map_err(self::bus("write to Kafka"))?;
        Ok(Self { bus: bus.clone(), producer, source: bus.source(NAME) })
    }

    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// An event of this publisher.
    pub fn event<M: Serialize>(
        &self,
        topic: &'static str,
        kind: &str,
        id: &str,
        data: &M,
    ) -> Result<Event, PublisherError> {
        Event::new(kind, &self.source, id, Utc::now(), data)
            .map_err(|source| PublisherError::Unwritable { topic, source })
    }

    /// Writes it and waits until it is acknowledged.
    pub async fn publish(&self, topic: &'static str, event: &Event) -> Result<Delivered, PublisherError> {
        self.producer.publish(topic, event).await.map_err(bus("publish an event"))
    }

    /// Takes a key away, at a revision.
    pub async fn erase(&self, topic: &'static str, key: &str, revision: i64) -> Result<Delivered, PublisherError> {
        self.producer.erase(topic, key, revision).await.map_err(bus("publish a tombstone"))
    }
}

/// A reader of all followed topics, from where each is to be read.
pub(crate) async fn open(bus: &Bus) -> Result<(Partitions, Vec<(&'static str, i64)>), PublisherError> {
    let failed = self::bus("read the control topics");
    let reader = bus.partitions(READER, ReadOptions::default()).map_err(&failed)?;
    let mut ends = Vec::new();
    for topic in FOLLOWED {
        let (low, high) = bus.watermarks(topic, 0).await.map_err(&failed)?;
        let start = if topic == topics::CONTRACT_EVENTS { low.max(high - VERDICTS) } else { low };
        reader.add(&[(TopicPartition::new(topic, 0), Start::At(start))]).map_err(&failed)?;
        ends.push((topic, high));
    }
    Ok((reader, ends))
}

/// Reads until everything that was there at the start is known.
pub(crate) async fn load(
    bus: &Bus,
    reader: &Partitions,
    ends: &[(&'static str, i64)],
    memory: &Memory,
) -> Result<(), PublisherError> {
    let mut missing: Vec<(&'static str, i64)> = ends.to_vec();
    loop {
        let positions = reader.positions();
        let next = |topic: &str| positions.get(&TopicPartition::new(topic, 0)).copied().flatten();
        missing.retain(|(topic, end)| next(topic).is_none_or(|next| next < *end));
        if missing.is_empty() {
            return Ok(());
        }
        let Ok(batch) = tokio::time::timeout(QUIET, reader.next(1024)).await else {
            let mut expected = Vec::new();
            for (topic, end) in missing {
                if holds_more(bus, topic, next(topic).unwrap_or_default()).await? {
                    expected.push((topic, end));
                }
            }
            missing = expected;
            continue;
        };
        for message in batch.map_err(self::bus("read the control topics"))?.iter() {
            remember(message, memory);
        }
    }
}

/// A compacted topic may end in offsets that hold no record any more: then nothing comes, and only a read to the
/// log's end tells it from a broker that is slow.
async fn holds_more(bus: &Bus, topic: &str, from: i64) -> Result<bool, PublisherError> {
    let failed = self::bus("read the control topics");
    let mut reader = bus.read_topic(topic, Start::At(from)).await.map_err(&failed)?;
    Ok(reader.next_until_caught_up().await.map_err(&failed)?.is_some())
}

/// Reads on, until the shutdown.
pub(crate) async fn follow(reader: &Partitions, memory: &Memory, shutdown: &Shutdown) -> Result<(), PublisherError> {
    loop {
        let batch = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            batch = reader.next(1024) => batch.map_err(bus("read the control topics"))?,
        };
        for message in batch.iter() {
            remember(message, memory);
        }
    }
}

/// What is no message of this mesh is said, and what depends on its key is refused until the key is written anew.
fn remember(message: &Message<'_>, memory: &Memory) {
    let Some(topic) = FOLLOWED.into_iter().find(|topic| *topic == message.topic()) else { return };
    let offset = message.offset();
    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
    if let Err(source) = seen(topic, key.clone(), message).and_then(|seen| memory.take(seen)) {
        let error = PublisherError::Foreign { topic, offset, source };
        tracing::error!(code = error.code(), key, error = mesh_runtime::report::chain(&error), "unreadable record");
        memory.unreadable(topic, key, offset);
    }
}

fn seen(topic: &'static str, key: String, message: &Message<'_>) -> Result<Seen, ProtoError> {
    let event = message.payload().map(|_| message.event()).transpose()?;
    let erased_at = message.erased_at();
    Ok(Seen { topic, offset: message.offset(), key, event, erased_at })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use mesh_bus::BusConfig;
    use mesh_localbus::{LocalBus, LocalBusConfig};
    use mesh_proto::cloudevents::types;
    use mesh_proto::v1::Principal;

    use super::*;

    /// What is known after a start on these principals, if the log's end lies this far behind the last of them.
    async fn check(names: &[&str], hole: i64) {
        let folder = tempfile::tempdir().unwrap();
        let kafka = LocalBus::start(LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), folder.path())).await.unwrap();
        let bus = Bus::connect(BusConfig::new(kafka.bootstrap())).await.unwrap();
        bus.ensure_control_topics().await.unwrap();
        let log = Log::new(&bus).unwrap();
        for name in names {
            let principal = Principal { name: (*name).to_owned(), ..Principal::default() };
            let event = log.event(topics::PRINCIPALS, types::PRINCIPAL, name, &principal).unwrap().keyed(*name);
            log.publish(topics::PRINCIPALS, &event).await.unwrap();
        }
        let memory = Memory::default();
        let (reader, mut ends) = open(&bus).await.unwrap();
        for (topic, end) in &mut ends {
            *end += if *topic == topics::PRINCIPALS { hole } else { 0 };
        }
        load(&bus, &reader, &ends, &memory).await.unwrap();
        assert_eq!(memory.active_state().principals.keys().collect::<Vec<_>>(), names);
        kafka.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_start_knows_all_that_was_there() {
        check(&[], 0).await;
        check(&["ana", "ben", "cleo"], 0).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_without_records_is_no_reason_to_wait() {
        check(&["ana"], 3).await;
    }
}
