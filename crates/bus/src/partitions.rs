//! Reading explicit partitions from explicit offsets, in batches.
//!
//! In: partitions and where to start. Out: batches of records that borrow librdkafka's memory.
//! The caller owns the offsets: nothing is committed, nothing is reset. Memory is bounded: librdkafka prefetches at most
//! [`ReadOptions::prefetch_bytes`] for the whole reader (plus one fetch response), and stops while nobody calls `next`.
//! Must never happen: an offset that is skipped. One that is not in the log is [`BusError::OffsetOutOfRange`].

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::bus::create;
use crate::callbacks::Callbacks;
use crate::error::{Attempt, code_of, is_connection};
use crate::tail::impatience;
use crate::topics::TopicPartition;
use crate::{Bus, BusError, Message, Result};

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Exactly here: an error if the log does not reach back or on to it.
    At(i64),
    /// The first record that is kept.
    Beginning,
    /// After the last record of now.
    End,
}

impl From<Start> for Offset {
    fn from(start: Start) -> Self {
        match start {
            Start::At(offset) => Offset::Offset(offset),
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
        }
    }
}

/// What a reader may be told.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Bytes that librdkafka may hold ready, for all partitions together.
    pub prefetch_bytes: usize,
    /// How long a read waits for brokers that are gone before that is an error; `None` waits for ever (and
    /// readiness tells, see [`Bus::watch`]).
    pub patience: Option<Duration>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { prefetch_bytes: 32 << 20, patience: None }
    }
}

/// A reader. All methods take `&self`: pause, seek and add while a batch is still held.
pub struct Partitions {
    consumer: StreamConsumer<Callbacks>,
    callbacks: Callbacks,
    bus: Bus,
    options: ReadOptions,
    /// What is assigned, with the offset that comes next (`None` until the first record after Beginning or End).
    assigned: Mutex<BTreeMap<TopicPartition, Option<i64>>>,
    /// An error that came behind records; it is reported by the next call.
    pending: Mutex<Option<KafkaError>>,
}

impl std::fmt::Debug for Partitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitions").field("assigned", &self.assigned()).finish_non_exhaustive()
    }
}

/// Records in the order of each partition. Holds up to `max` of them.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    messages: Vec<Message<'a>>,
}

impl<'a> Deref for Batch<'a> {
    type Target = [Message<'a>];

    fn deref(&self) -> &[Message<'a>] {
        &self.messages
    }
}

impl<'a> IntoIterator for Batch<'a> {
    type Item = Message<'a>;
    type IntoIter = std::vec::IntoIter<Message<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}

impl Partitions {
    pub(crate) fn new(bus: &Bus, group: &str, options: ReadOptions) -> Result<Self> {
        let mut client = bus.config().client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "false")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "5")
            // How long a topic that metadata does not show is taken for one that was only just created.
            .set("topic.metadata.propagation.max.ms", "3000")
            .set("queued.max.messages.kbytes", (options.prefetch_bytes / 1024).max(1024).to_string())
            .set("fetch.max.bytes", "16777216")
            // Nobody joins a group here; a reader may rest as long as it likes between two batches.
            .set("max.poll.interval.ms", "86400000");
        let callbacks = Callbacks::of(bus.address());
        let consumer = create(bus.config(), &client, callbacks.clone())?;
        let (assigned, pending) = Default::default();
        Ok(Self { consumer, callbacks, bus: bus.clone(), options, assigned, pending })
    }

    /// Adds partitions. One that is assigned already starts anew where it is told to.
    pub fn add(&self, partitions: &[(TopicPartition, Start)]) -> Result<()> {
        let again: Vec<TopicPartition> = {
            let assigned = self.assigned();
            partitions.iter().map(|(place, _)| place).filter(|place| assigned.contains_key(place)).cloned().collect()
        };
        self.remove(&again)?;
        let list = list(partitions.iter().map(|(place, start)| (place, (*start).into())));
        let added = list.and_then(|list| self.consumer.incremental_assign(&list));
        added.map_err(|error| self.attempt("read partitions", None).failed(error))?;
        let mut assigned = self.assigned();
        for (place, start) in partitions {
            let next = if let Start::At(offset) = start { Some(*offset) } else { None };
            assigned.insert(place.clone(), next);
        }
        Ok(())
    }

    /// Gives partitions up; records of theirs that were fetched but not returned are dropped.
    pub fn remove(&self, partitions: &[TopicPartition]) -> Result<()> {
        let present: Vec<TopicPartition> = {
            let mut assigned = self.assigned();
            partitions.iter().filter(|place| assigned.remove(place).is_some()).cloned().collect()
        };
        if present.is_empty() {
            return Ok(());
        }
        // librdkafka keeps a pause over an unassign: added again, the partition would yield nothing for ever.
        self.resume(&present)?;
        let list = list(present.iter().map(|place| (place, Offset::Invalid)));
        let removed = list.and_then(|list| self.consumer.incremental_unassign(&list));
        removed.map_err(|error| self.attempt("stop reading partitions", None).failed(error))
    }

    /// Goes on at another offset of an assigned partition.
    pub fn seek(&self, place: &TopicPartition, start: Start) -> Result<()> {
        self.add(&[(place.clone(), start)])
    }

    /// Fetches no more from these partitions until [`resume`](Self::resume). What was prefetched is fetched again then.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        let list = list(partitions.iter().map(|place| (place, Offset::Invalid)));
        let paused = list.and_then(|list| self.consumer.pause(&list));
        paused.map_err(|error| self.attempt("pause partitions", None).failed(error))
    }

    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        let list = list(partitions.iter().map(|place| (place, Offset::Invalid)));
        let resumed = list.and_then(|list| self.consumer.resume(&list));
        resumed.map_err(|error| self.attempt("resume partitions", None).failed(error))
    }

    /// What is assigned, with the offset that `next` returns next (`None`: not known before the first record).
    pub fn positions(&self) -> BTreeMap<TopicPartition, Option<i64>> {
        self.assigned().clone()
    }

    /// The first offset in the log and the one after the last.
    pub async fn watermarks(&self, place: &TopicPartition) -> Result<(i64, i64)> {
        self.bus.watermarks(&place.topic, place.partition).await
    }

    /// Waits for records and returns what is there, at least one, at most `max`, and hardly more bytes than may be
    /// prefetched. Cancellation safe.
    ///
    /// Lost connections are waited out (see [`ReadOptions::patience`]); all other errors are returned, and the partition
    /// they concern stays assigned but yields nothing until it is added or sought anew.
    pub async fn next(&self, max: usize) -> Result<Batch<'_>> {
        let mut stream = self.consumer.stream();
        let mut lost_since: Option<Instant> = None;
        let first = loop {
            self.report_pending(&mut lost_since).await?;
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(message)) => break message,
                    Some(Err(error)) => self.keep(error),
                    None => return Err(self.stopped()),
                },
                () = impatience(lost_since, self.options.patience) => self.give_up_or(&mut lost_since).await?,
            }
        };
        let mut messages = vec![Message(first)];
        // Keys and headers count too: what a record weighs is not only its value.
        let mut bytes: usize = messages.iter().map(Message::size).sum();
        while messages.len() < max.max(1) && bytes < self.options.prefetch_bytes {
            match stream.next().now_or_never() {
                Some(Some(Ok(message))) => {
                    let message = Message(message);
                    bytes += message.size();
                    messages.push(message);
                }
                Some(Some(Err(error))) => {
                    self.keep(error);
                    break;
                }
                Some(None) | None => break,
            }
        }
        self.callbacks.succeeded();
        self.advance(&messages);
        Ok(Batch { messages })
    }

    fn advance(&self, messages: &[Message<'_>]) {
        let mut assigned = self.assigned();
        // Batches run through one partition at a time: one look-up for each run, from the back.
        let mut last: Option<(&str, i32)> = None;
        for message in messages.iter().rev() {
            let place = (message.topic(), message.partition());
            if last == Some(place) {
                continue;
            }
            last = Some(place);
            let next = message.offset() + 1;
            if let Some(position) = assigned.get_mut(&TopicPartition::new(place.0, place.1)) {
                *position = Some(position.map_or(next, |known| known.max(next)));
            }
        }
    }

    fn keep(&self, error: KafkaError) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Handles an error that was kept. It is forgotten only once it is handled, so that no cancellation loses it.
    async fn report_pending(&self, lost_since: &mut Option<Instant>) -> Result<()> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(error) = pending else { return Ok(()) };
        let result = self.explain(error, lost_since).await;
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
        result
    }

    async fn explain(&self, error: KafkaError, lost_since: &mut Option<Instant>) -> Result<()> {
        use RDKafkaErrorCode as Code;
        match code_of(&error) {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Err(self.out_of_range(error).await),
            Some(Code::Authentication | Code::SSL) => Err(self.attempt("read", None).failed(error)),
            Some(code) if is_connection(code) => {
                lost_since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                Err(self.missing(error).await)
            }
            _ => Err(self.attempt("read", None).failed(error)),
        }
    }

    /// librdkafka does not say which partition it means: it is the one whose next offset is not in its log.
    async fn out_of_range(&self, error: KafkaError) -> BusError {
        for (place, next) in self.positions() {
            let Some(offset) = next else { continue };
            match self.watermarks(&place).await {
                Ok((low, high)) if offset < low || offset > high => {
                    return BusError::OffsetOutOfRange {
                        topic: place.topic,
                        partition: place.partition,
                        offset,
                        low,
                        high,
                    };
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        self.attempt("read from the offset asked for", None).failed(error)
    }

    /// librdkafka does not say which topic it means: it is the one that the cluster does not describe.
    async fn missing(&self, error: KafkaError) -> BusError {
        for place in self.positions().into_keys() {
            match self.bus.describe_topic(&place.topic).await {
                Ok(topic) if topic.partitions <= place.partition => {
                    let address = self.bus.address().to_owned();
                    return BusError::PartitionMissing { topic: place.topic, partition: place.partition, address };
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        self.attempt("read", None).failed(error)
    }

    /// The patience is over: an error unless the broker answers now.
    async fn give_up_or(&self, lost_since: &mut Option<Instant>) -> Result<()> {
        self.bus.reachable().await?;
        *lost_since = None;
        Ok(())
    }

    fn stopped(&self) -> BusError {
        let topics: Vec<String> = self.positions().into_keys().map(|place| place.topic).collect();
        BusError::Stopped { topic: topics.join(", "), reason: "librdkafka closed its queue".into() }
    }

    fn attempt<'a>(&'a self, action: &str, topic: Option<&'a str>) -> Attempt<'a> {
        let heard = self.callbacks.heard();
        Attempt { action: action.to_owned(), topic, partition: None, address: self.bus.address(), heard }
    }

    fn assigned(&self) -> std::sync::MutexGuard<'_, BTreeMap<TopicPartition, Option<i64>>> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list<'a>(
    partitions: impl Iterator<Item = (&'a TopicPartition, Offset)>,
) -> std::result::Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (place, offset) in partitions {
        list.add_partition_offset(&place.topic, place.partition, offset)?;
    }
    Ok(list)
}
