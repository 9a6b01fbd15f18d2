//! Reading explicit partitions from explicit offsets, in batches.
//!
//! In: partitions and where to start. Out: batches of records that borrow librdkafka's memory.
//! The caller owns the offsets: nothing is committed, nothing is reset. Memory is bounded: librdkafka prefetches at most
//! [`ReadOptions::prefetch_bytes`] for the whole reader (plus one fetch response), and stops while `next` is not called.
//! Never: an offset that is skipped. One that is not in the log is [`BusError::OffsetOutOfRange`].

use std::collections::{BTreeMap, BTreeSet};
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
use crate::{Bus, BusError, Message, Result, ffi};

/// How long after the end of a partition was signalled positions are looked at.
const END_DELAY: Duration = Duration::from_millis(50);
/// How often a position is looked at, a millisecond apart, until it is reset.
const RESETS: usize = 200;

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

/// How a reader works.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Bytes that librdkafka may hold ready, for all partitions together.
    pub prefetch_bytes: usize,
    /// How long a read waits for brokers that are lost before that is an error; `None` waits for ever (and
    /// readiness tells, see [`Bus::watch`]).
    pub patience: Option<Duration>,
    /// Whether [`Partitions::reached`] is used: `next` then also returns, without records, when a partition's end is
    /// reached.
    pub ends: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { prefetch_bytes: 32 << 20, patience: None, ends: false }
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
    ends: Mutex<Ends>,
}

/// What is known of the ends of partitions. librdkafka hands out neither control records nor aborted transactions, but its
/// position moves past them.
#[derive(Debug, Default)]
struct Ends {
    /// Partition numbers of which an end was signalled; librdkafka does not say of which topic.
    signalled: BTreeSet<i32>,
    /// When positions are looked at next: a busy topic signals an end with each batch.
    due: Option<Instant>,
    /// Partitions that were removed or moved: their position is of before until librdkafka has reset it.
    moved: BTreeSet<TopicPartition>,
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
            .set("enable.partition.eof", if options.ends { "true" } else { "false" })
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "5")
            // How long a topic that metadata does not show is taken for one that was only just created.
            .set("topic.metadata.propagation.max.ms", "3000")
            .set("queued.max.messages.kbytes", (options.prefetch_bytes / 1024).max(1024).to_string())
            .set("fetch.max.bytes", "16777216")
            // No group is joined here; a reader may rest as long as it likes between two batches.
            .set("max.poll.interval.ms", "86400000");
        let callbacks = Callbacks::of(bus.address());
        let consumer = create(bus.config(), &client, callbacks.clone())?;
        let (assigned, pending, ends) = Default::default();
        Ok(Self { consumer, callbacks, bus: bus.clone(), options, assigned, pending, ends })
    }

    /// Adds partitions. One that is assigned already starts again at the given offset.
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
        if self.options.ends {
            self.ends().moved.extend(present);
        }
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
    /// they concern stays assigned but yields nothing until it is added or sought again.
    pub async fn next(&self, max: usize) -> Result<Batch<'_>> {
        self.until_reset().await;
        let mut stream = self.consumer.stream();
        let mut lost_since: Option<Instant> = None;
        let first = loop {
            self.report_pending(&mut lost_since).await?;
            let due = self.ends().due;
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(message)) => break message,
                    Some(Err(KafkaError::PartitionEOF(partition))) => self.signal_end(partition),
                    Some(Err(error)) => self.keep(error),
                    None => return Err(self.stopped()),
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    return Ok(Batch::default());
                }
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
                Some(Some(Err(KafkaError::PartitionEOF(partition)))) => self.signal_end(partition),
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

    /// Up to where partitions were read beyond their last record: what lies between are control records and aborted
    /// transactions, which are offsets too. Only what is new since the last call. To be called after each `next`, once its
    /// batch was taken.
    pub fn reached(&self) -> Result<Vec<(TopicPartition, i64)>> {
        let (partitions, moved) = {
            let mut ends = self.ends();
            if ends.due.is_none_or(|due| due > Instant::now()) {
                return Ok(Vec::new());
            }
            ends.due = None;
            (std::mem::take(&mut ends.signalled), ends.moved.clone())
        };
        let mut assigned = self.assigned();
        let places = assigned.keys().filter(|place| partitions.contains(&place.partition) && !moved.contains(place));
        let places: Vec<TopicPartition> = places.cloned().collect();
        let positions = self.librdkafka_positions(&places)?;
        let mut reached = Vec::new();
        for (place, position) in places.into_iter().zip(positions) {
            let Some((position, known)) = position.zip(assigned.get_mut(&place)) else { continue };
            if known.is_none_or(|known| known < position) {
                *known = Some(position);
                reached.push((place, position));
            }
        }
        Ok(reached)
    }

    fn signal_end(&self, partition: i32) {
        let mut ends = self.ends();
        ends.signalled.insert(partition);
        ends.due.get_or_insert_with(|| Instant::now() + END_DELAY);
    }

    /// Waits until librdkafka has reset the positions of partitions that were moved; it does so on a thread of its own,
    /// soon after it was told. A position of before would pass for one of after, and records would be left out.
    async fn until_reset(&self) {
        for _ in 0..RESETS {
            let moved: Vec<TopicPartition> = self.ends().moved.iter().cloned().collect();
            if moved.is_empty() {
                return;
            }
            let Ok(positions) = self.librdkafka_positions(&moved) else { return };
            let reset = moved.iter().zip(positions).filter(|(_, position)| position.is_none());
            let reset: Vec<&TopicPartition> = reset.map(|(place, _)| place).collect();
            if reset.len() < moved.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut ends = self.ends();
            for place in reset {
                ends.moved.remove(place);
            }
        }
    }

    fn librdkafka_positions(&self, places: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        let positions = ffi::positions(self.consumer.client(), places);
        positions.map_err(|error| self.attempt("tell its positions", None).failed(error))
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.attempt("read from the given offset", None).failed(error)
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
