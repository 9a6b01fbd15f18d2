//! One reader for all tables: records from explicit offsets, handed to the tables that want them.
//!
//! In: subscriptions (a topic, where to start in each partition). Out: batches through a bounded channel per table.
//! A partition that several tables read starts at their minimum, and each table drops what it has. A table that does
//! not keep up gets its partitions paused; memory holds one batch, not the log.
//! Must never happen: a record that a table is not given though it comes after its start, or is given twice; a
//! partition that stays paused though no table is behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_bus::{Bus, BusError, Partitions, ReadOptions, Start, TopicPartition};
use mesh_runtime::{Check, Health, Shutdown, fault, part, report};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::error::IngestError;
use crate::pipeline::source_batch::SourceBatch;

mod share;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use share::Fetched;
use share::{Share, Shares};

/// Records of one batch at most.
const BATCH: usize = 8192;
/// Batches that wait for a table.
const WAITING: usize = 2;
const PAUSE: Duration = Duration::from_secs(1);
/// An error that is about no table in particular is over when none came for so long.
const CALM: Duration = Duration::from_secs(30);

/// The handle on the reader; cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    commands: mpsc::UnboundedSender<Command>,
    room: Arc<Notify>,
    ids: Arc<AtomicU64>,
}

/// A table's share of what is read. Dropping it ends the reading.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    batches: mpsc::Receiver<Fetched>,
    fetcher: Fetcher,
}

#[derive(Debug)]
enum Command {
    Subscribe { id: u64, topic: String, starts: BTreeMap<i32, i64>, batches: mpsc::Sender<Fetched> },
    Unsubscribe { id: u64 },
}

impl Fetcher {
    /// Opens the reader, which may hold this much ready for all tables together. Nothing is read until the router runs.
    pub fn open(bus: &Bus, prefetch_bytes: usize, health: &Health) -> Result<(Self, Router), IngestError> {
        let options = ReadOptions { prefetch_bytes, ends: true, ..ReadOptions::default() };
        let reader = bus.partitions("mesh-ingest-reader", options)?;
        let (commands, received) = mpsc::unbounded_channel();
        let room = Arc::new(Notify::new());
        let check = health.check(part::task("reader"));
        check.up();
        let router = Router {
            tables: Shares::default(),
            reader,
            paused: BTreeSet::new(),
            check,
            commands: received,
            room: room.clone(),
        };
        Ok((Self { commands, room, ids: Arc::default() }, router))
    }

    /// Reads a topic's partitions from these offsets on.
    pub fn subscribe(&self, topic: &str, starts: BTreeMap<i32, i64>) -> Result<Subscription, IngestError> {
        let (sender, batches) = mpsc::channel(WAITING);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let command = Command::Subscribe { id, topic: topic.to_owned(), starts, batches: sender };
        self.commands.send(command).map_err(|_| IngestError::Stopped { what: "the reader of topics" })?;
        Ok(Subscription { id, batches, fetcher: self.clone() })
    }
}

impl Subscription {
    /// The next records. Cancellation safe.
    pub async fn next(&mut self) -> Result<SourceBatch, IngestError> {
        let fetched = self.batches.recv().await;
        self.fetcher.room.notify_one();
        match fetched {
            Some(Ok(batch)) => Ok(batch),
            Some(Err(error)) => Err(IngestError::Bus(same_error(&error))),
            None => Err(IngestError::Stopped { what: "the reader of topics" }),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // If the reader ended, nothing is read any more.
        let _ = self.fetcher.commands.send(Command::Unsubscribe { id: self.id });
    }
}

/// Reads for all tables, and hands out what they want.
pub struct Router {
    tables: Shares,
    reader: Partitions,
    /// What the reader has paused. A partition that is added or removed is not paused any more.
    paused: BTreeSet<TopicPartition>,
    /// Red while there are errors that librdkafka lays to no partition: some table is not fed, and it is not known which.
    check: Check,
    commands: mpsc::UnboundedReceiver<Command>,
    room: Arc<Notify>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("paused", &self.paused).finish_non_exhaustive()
    }
}

impl Router {
    /// Serves subscriptions until the shutdown. If it ends earlier, nothing is read any more.
    pub async fn run(mut self, shutdown: Shutdown) {
        let (mut last, mut calm) = (None, None);
        loop {
            self.hold_back();
            let fetched = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                // Without a handle left, there is nothing to do but to wait for the shutdown.
                Some(command) = self.commands.recv() => { self.apply(command); continue; }
                () = self.room.notified() => { self.tables.hand_over(); continue; }
                () = sleep_until(calm.unwrap_or_else(Instant::now)), if calm.is_some() => {
                    (last, calm) = (None, None);
                    self.check.up();
                    continue;
                }
                fetched = self.reader.next(BATCH), if !self.tables.is_empty() => fetched,
            };
            let error = match fetched {
                Ok(batch) => {
                    fault::point("ingest.fetch.received");
                    self.tables.route(batch);
                    self.reach();
                    continue;
                }
                Err(error) => error,
            };
            if self.concerns(&error) {
                continue;
            }
            let text = report::chain(&error);
            self.check.down(format!("[{}] {text}", error.code()));
            calm = Some(Instant::now() + CALM);
            if last.as_ref() != Some(&text) {
                tracing::error!(code = error.code(), error = text, "reading is tried again");
                last = Some(text);
            }
            tokio::time::sleep(PAUSE).await;
            // A partition that an error was about yields nothing until it is added again, and it is not known which it was.
            self.restart(self.tables.places());
        }
    }

    /// Control records and aborted transactions are read over: the tables learn how far.
    fn reach(&mut self) {
        match self.reader.reached() {
            Ok(reached) => reached.iter().for_each(|(place, next)| self.tables.reach(place, *next)),
            Err(error) => warn(Err(error), "positions unknown"),
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Subscribe { id, topic, starts, batches } => {
                let begun = self.begin(&topic, &starts);
                let mut share = Share::new(topic, starts, batches);
                if let Err(error) = begun {
                    share.fail(Arc::new(error));
                }
                self.tables.insert(id, share);
                self.tables.hand_over();
            }
            Command::Unsubscribe { id } => {
                let Some(removed) = self.tables.remove(id) else { return };
                let idle: Vec<_> = removed.places().filter(|place| self.tables.next(place).is_none()).collect();
                let given_up = self.remove(&idle);
                warn(given_up, "partition not removed");
            }
        }
    }

    /// Adds what is not read yet, and goes back where another table is ahead.
    fn begin(&mut self, topic: &str, starts: &BTreeMap<i32, i64>) -> mesh_bus::Result<()> {
        let positions = self.reader.positions();
        let add: Vec<(TopicPartition, i64)> = starts
            .iter()
            .map(|(partition, start)| (TopicPartition::new(topic, *partition), *start))
            .filter(|(place, start)| positions.get(place).is_none_or(|at| at.is_none_or(|at| at > *start)))
            .collect();
        self.add(&add)
    }

    /// Tells the tables that an error is about; false if it is about none.
    fn concerns(&mut self, error: &BusError) -> bool {
        let (topic, partition, offset) = match error {
            BusError::OffsetOutOfRange { topic, partition, offset, .. } => (topic, Some(*partition), Some(*offset)),
            BusError::PartitionMissing { topic, partition, .. } => (topic, Some(*partition), None),
            BusError::TopicMissing { topic, .. } => (topic, None, None),
            _ => return false,
        };
        let error = Arc::new(same_error(error));
        let mut places = BTreeSet::new();
        for share in self.tables.concerned(topic, partition, offset) {
            share.fail(error.clone());
            places.extend(share.places().filter(|place| partition.is_none_or(|p| place.partition == p)));
        }
        self.tables.hand_over();
        let concerns = !places.is_empty();
        // Else the next error would be laid to the same partition, and tables that are further on would wait for it.
        self.restart(places);
        concerns
    }

    /// Reads partitions again from where the tables are that have no error; gives up those that only others want.
    fn restart(&mut self, places: BTreeSet<TopicPartition>) {
        let next = |place: TopicPartition| (self.tables.next(&place), place);
        let (add, remove): (Vec<_>, Vec<_>) = places.into_iter().map(next).partition(|(next, _)| next.is_some());
        let add: Vec<_> = add.into_iter().filter_map(|(next, place)| Some((place, next?))).collect();
        let remove: Vec<_> = remove.into_iter().map(|(_, place)| place).collect();
        let restarted = self.remove(&remove).and_then(|()| self.add(&add));
        warn(restarted, "partition not restarted");
    }

    fn add(&mut self, places: &[(TopicPartition, i64)]) -> mesh_bus::Result<()> {
        for (place, _) in places {
            self.paused.remove(place);
        }
        let starts: Vec<_> = places.iter().map(|(place, next)| (place.clone(), Start::At(*next))).collect();
        self.reader.add(&starts)
    }

    fn remove(&mut self, places: &[TopicPartition]) -> mesh_bus::Result<()> {
        for place in places {
            self.paused.remove(place);
        }
        self.reader.remove(places)
    }

    /// Pauses what some table is behind with, and nothing else: the one place that pauses and resumes.
    fn hold_back(&mut self) {
        let behind = self.tables.behind();
        if behind == self.paused {
            return;
        }
        let pause: Vec<_> = behind.difference(&self.paused).cloned().collect();
        let resume: Vec<_> = self.paused.difference(&behind).cloned().collect();
        let done = self.reader.pause(&pause).and_then(|()| self.reader.resume(&resume));
        if done.is_ok() {
            self.paused = behind;
        }
        warn(done, "partition not paused or resumed");
    }
}

fn warn(result: mesh_bus::Result<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(code = error.code(), error = report::chain(&error), "{what}");
    }
}

/// The same error for one more table.
pub(crate) fn same_error(error: &BusError) -> BusError {
    match error {
        BusError::OffsetOutOfRange { topic, partition, offset, low, high } => BusError::OffsetOutOfRange {
            topic: topic.clone(),
            partition: *partition,
            offset: *offset,
            low: *low,
            high: *high,
        },
        BusError::TopicMissing { topic, address } => {
            BusError::TopicMissing { topic: topic.clone(), address: address.clone() }
        }
        BusError::PartitionMissing { topic, partition, address } => {
            BusError::PartitionMissing { topic: topic.clone(), partition: *partition, address: address.clone() }
        }
        BusError::Unreachable { address, action, reason } => {
            BusError::Unreachable { address: address.clone(), action: action.clone(), reason: reason.clone() }
        }
        other => BusError::Stopped { topic: String::new(), reason: report::chain(other) },
    }
}
