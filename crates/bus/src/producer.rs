//! Writing: idempotent, acknowledged by all in-sync replicas, bounded in flight.
//!
//! In: records or CloudEvents. Out: where each landed, or an error that names topic, broker and remedy.
//! Never: a topic created by a typo (it is looked up before its first record), memory that grows with a
//! slow broker ([`Producer::queue`] waits for space), a record reported as written that is not.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mesh_proto::cloudevents::Event;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::bus::{blocking, create};
use crate::callbacks::Callbacks;
use crate::compacted::ERASED_AT;
use crate::error::{Attempt, code_of};
use crate::{BusConfig, BusError, Result, ffi};

/// How long to wait before looking for queue space again.
const QUEUE_FULL: Duration = Duration::from_millis(5);
/// How long the look-up of a topic may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// How a producer works.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How long a record may stay unacknowledged, retries included, before it is an error.
    pub delivery_timeout: Duration,
    /// How long records wait for others to share a request with.
    pub linger: Duration,
    /// Bytes that may be in flight; beyond it, queueing waits.
    pub max_in_flight_bytes: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            delivery_timeout: Duration::from_secs(30),
            linger: Duration::from_millis(5),
            max_in_flight_bytes: 64 << 20,
        }
    }
}

/// One record to be written.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    pub topic: &'a str,
    /// `None`: chosen by the key, as Kafka's own clients do (murmur2).
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Milliseconds since 1970; `None` is now.
    pub timestamp_ms: Option<i64>,
}

/// Where a record landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub partition: i32,
    pub offset: i64,
}

/// An idempotent producer; cheap to clone, clones share order and queue.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer<Callbacks>,
    shared: Arc<Shared>,
}

struct Shared {
    address: String,
    callbacks: Callbacks,
    delivery_timeout: Duration,
    /// Topics that are known to exist.
    known: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Producer {
    /// A producer; it connects in the background. [`Bus::producer`](crate::Bus::producer) is the usual way.
    pub fn new(config: &BusConfig, options: ProducerOptions) -> Result<Self> {
        let callbacks = Callbacks::of(&config.bootstrap);
        let kbytes = (options.max_in_flight_bytes / 1024).max(1);
        let mut client = config.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", options.linger.as_millis().to_string())
            .set("delivery.timeout.ms", options.delivery_timeout.as_millis().to_string())
            .set("queue.buffering.max.kbytes", kbytes.to_string())
            .set("queue.buffering.max.messages", "100000");
        let inner = create(config, &client, callbacks.clone())?;
        let shared = Shared {
            address: config.bootstrap.clone(),
            callbacks,
            delivery_timeout: options.delivery_timeout,
            known: Mutex::default(),
        };
        Ok(Self { inner, shared: Arc::new(shared) })
    }

    /// Writes one record and waits until it is acknowledged.
    pub async fn send(&self, record: &Record<'_>) -> Result<Delivered> {
        self.queue(record).await?.await
    }

    /// Hands a record to the producer and waits for space only; the result is a future of the acknowledgement.
    /// Records of one producer for one partition keep the order in which they are queued.
    pub async fn queue(&self, record: &Record<'_>) -> Result<Pending> {
        self.look_up(record.topic).await?;
        let mut attempt = future_record(record);
        loop {
            match self.inner.send_result(attempt) {
                Ok(delivery) => return Ok(self.pending(record, delivery)),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    attempt = again;
                    tokio::time::sleep(QUEUE_FULL).await;
                }
                Err((error, _)) => return Err(self.shared.failed(record.topic, size(record), Instant::now(), error)),
            }
        }
    }

    /// Writes records in order, many in flight at a time, and waits for all; the first failure is the result.
    pub async fn send_all<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) -> Result<Vec<Delivered>> {
        let mut pending = Vec::new();
        for record in records {
            pending.push(self.queue(&record).await?);
        }
        let mut delivered = Vec::with_capacity(pending.len());
        for delivery in pending {
            delivered.push(delivery.await?);
        }
        Ok(delivered)
    }

    /// Writes a CloudEvent in binary mode under its partition key, and waits until it is acknowledged.
    pub async fn publish(&self, topic: &str, event: &Event) -> Result<Delivered> {
        self.queue_event(topic, event).await?.await
    }

    /// [`queue`](Self::queue) for a CloudEvent.
    pub async fn queue_event(&self, topic: &str, event: &Event) -> Result<Pending> {
        let headers = event.headers();
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        let key = event.partition_key.as_deref().map(str::as_bytes);
        self.queue(&Record { topic, key, payload: Some(&event.data), headers: &headers, ..Record::default() }).await
    }

    /// Writes a tombstone: the key goes from a compacted topic.
    pub async fn delete(&self, topic: &str, key: &str) -> Result<Delivered> {
        self.send(&Record { topic, key: Some(key.as_bytes()), ..Record::default() }).await
    }

    /// Writes a tombstone with the revision that erases, so that no lower one comes back ([`crate::Compacted`]).
    pub async fn erase(&self, topic: &str, key: &str, revision: i64) -> Result<Delivered> {
        let sequence = format!("{revision:020}");
        let headers = [(ERASED_AT, sequence.as_bytes())];
        self.send(&Record { topic, key: Some(key.as_bytes()), headers: &headers, ..Record::default() }).await
    }

    /// Waits until everything queued is acknowledged or has failed.
    pub async fn flush(&self) -> Result<()> {
        let producer = self.inner.clone();
        let shared = self.shared.clone();
        let timeout = shared.delivery_timeout + Duration::from_secs(1);
        blocking(&self.shared.address, move || {
            producer.flush(timeout).map_err(|error| shared.failed("", 0, Instant::now(), error))
        })
        .await
    }

    /// A typo must not create a topic, as brokers do at a write to an unknown one: each name is looked up once.
    async fn look_up(&self, topic: &str) -> Result<()> {
        if self.shared.known().contains(topic) {
            return Ok(());
        }
        let producer = self.inner.clone();
        let shared = self.shared.clone();
        let topic = topic.to_owned();
        blocking(&self.shared.address, move || {
            let found = ffi::describe_topics(producer.client(), std::slice::from_ref(&topic), LOOK_UP);
            let found = found.map_err(|error| shared.failed(&topic, 0, Instant::now(), error))?;
            match !found.is_empty() {
                true => {
                    shared.known().insert(topic);
                    Ok(())
                }
                false => Err(BusError::TopicMissing { topic, address: shared.address.clone() }),
            }
        })
        .await
    }

    fn pending(&self, record: &Record<'_>, delivery: DeliveryFuture) -> Pending {
        let topic = record.topic.to_owned();
        let size = size(record);
        Pending {
            delivery,
            topic,
            size,
            queued: Instant::now(),
            shared: self.shared.clone(),
            _producer: self.inner.clone(),
        }
    }
}

fn future_record<'a>(record: &Record<'a>) -> FutureRecord<'a, [u8], [u8]> {
    let headers =
        record.headers.iter().fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
    let mut out = FutureRecord::to(record.topic);
    out.partition = record.partition;
    out.key = record.key;
    out.payload = record.payload;
    out.timestamp = record.timestamp_ms;
    out.headers = (!record.headers.is_empty()).then_some(headers);
    out
}

fn size(record: &Record<'_>) -> usize {
    record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len)
}

impl Shared {
    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, topic: &str, bytes: usize, queued: Instant, error: KafkaError) -> BusError {
        use RDKafkaErrorCode as Code;
        let heard = self.callbacks.heard();
        let topic_name = topic.to_owned();
        let address = self.address.clone();
        match code_of(&error) {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
                BusError::TooLarge { topic: topic_name, bytes }
            }
            // The topic was deleted: it is looked up again before the next record.
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
                self.known().remove(topic);
                BusError::TopicMissing { topic: topic_name, address }
            }
            Some(
                Code::Fatal | Code::OutOfOrderSequenceNumber | Code::UnknownProducerId | Code::InvalidProducerEpoch,
            ) => BusError::ProducerFailed { address, reason: error.to_string() },
            // Sent at least once, since the connection stands: whether it was written is not known.
            Some(Code::MessageTimedOut | Code::RequestTimedOut | Code::NotEnoughReplicas) if heard.is_none() => {
                let reason = code_of(&error).map_or_else(String::new, |code| code.to_string());
                BusError::NotAcknowledged { topic: topic_name, address, waited: queued.elapsed(), reason }
            }
            _ => {
                let action = match topic.is_empty() {
                    true => "take what was queued".to_owned(),
                    false => format!("take a record for topic `{topic}`"),
                };
                Attempt { action, topic: Some(topic), partition: None, address: &self.address, heard }.failed(error)
            }
        }
    }
}

/// A queued record: a future of its acknowledgement. Dropping it does not take the record back.
#[must_use = "a record may fail to be written; await this"]
pub struct Pending {
    delivery: DeliveryFuture,
    topic: String,
    size: usize,
    queued: Instant,
    shared: Arc<Shared>,
    /// Keeps the producer's thread alive until the acknowledgement is here.
    _producer: FutureProducer<Callbacks>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Future for Pending {
    type Output = Result<Delivered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let delivered = std::task::ready!(Pin::new(&mut self.delivery).poll(cx));
        Poll::Ready(match delivered {
            Ok(Ok(delivery)) => {
                self.shared.callbacks.succeeded();
                Ok(Delivered { partition: delivery.partition, offset: delivery.offset })
            }
            Ok(Err((error, _))) => Err(self.shared.failed(&self.topic, self.size, self.queued, error)),
            Err(_) => Err(self.shared.failed(&self.topic, self.size, self.queued, KafkaError::Canceled)),
        })
    }
}
