//! One reader for all tables: records from explicit offsets, handed to the tables that want them.
//!
//! In: subscriptions (a topic, where to start in each partition). Out: chunks through a bounded channel per table.
//! A partition that several tables read starts at their minimum, and each table drops what it has. A table that does
//! not keep up gets its partitions paused; memory holds one batch, not the log.
//! Must never happen: a record that a table is not given though it comes after its start, or is given twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_bus::{Batch, Bus, BusError, Partitions, ReadOptions, Start, TopicPartition};
use mesh_runtime::{fault, report};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::config::Config;
use crate::error::IngestError;
use crate::pipeline::chunk::Chunk;

/// Records of one batch at most.
const BATCH: usize = 8192;
/// Chunks that wait for a table.
const WAITING: usize = 2;
const PAUSE: Duration = Duration::from_secs(1);

/// What a table is given: records, or why there are no more.
pub type Fetched = Result<Chunk, Arc<BusError>>;

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
    chunks: mpsc::Receiver<Fetched>,
    fetcher: Fetcher,
}

#[derive(Debug)]
enum Command {
    Subscribe { id: u64, topic: String, starts: BTreeMap<i32, i64>, chunks: mpsc::Sender<Fetched> },
    Unsubscribe { id: u64 },
}

impl Fetcher {
    /// Starts the reader.
    pub fn start(bus: &Bus, config: &Config) -> Result<Self, IngestError> {
        let options = ReadOptions { prefetch_bytes: config.ingest.prefetch_bytes, patience: None };
        let reader = bus.partitions("mesh-ingest-reader", options)?;
        let (commands, received) = mpsc::unbounded_channel();
        let room = Arc::new(Notify::new());
        let router = Router { tables: HashMap::new(), reader };
        tokio::spawn(router.run(received, room.clone()));
        Ok(Self { commands, room, ids: Arc::default() })
    }

    /// Reads a topic's partitions from these offsets on.
    pub fn subscribe(&self, topic: &str, starts: BTreeMap<i32, i64>) -> Result<Subscription, IngestError> {
        let (sender, chunks) = mpsc::channel(WAITING);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let command = Command::Subscribe { id, topic: topic.to_owned(), starts, chunks: sender };
        self.commands.send(command).map_err(|_| IngestError::Stopped { what: "the reader of topics" })?;
        Ok(Subscription { id, chunks, fetcher: self.clone() })
    }
}

impl Subscription {
    /// The next records. Cancellation safe.
    pub async fn next(&mut self) -> Result<Chunk, IngestError> {
        let fetched = self.chunks.recv().await;
        self.fetcher.room.notify_one();
        match fetched {
            Some(Ok(chunk)) => Ok(chunk),
            Some(Err(error)) => Err(IngestError::Bus(again(&error))),
            None => Err(IngestError::Stopped { what: "the reader of topics" }),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // If the reader is gone, nothing is read any more.
        let _ = self.fetcher.commands.send(Command::Unsubscribe { id: self.id });
    }
}

struct Router {
    tables: HashMap<u64, Share>,
    reader: Partitions,
}

/// What one table reads.
struct Share {
    topic: String,
    /// The next offset it wants, by partition.
    next: BTreeMap<i32, i64>,
    chunks: mpsc::Sender<Fetched>,
    /// What did not fit into the channel. While there is something, the partitions are paused.
    behind: Option<Fetched>,
    /// It was told an error, which ends it: nothing may be given after that.
    failed: bool,
}

impl Router {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, room: Arc<Notify>) {
        let mut last = None;
        loop {
            let fetched = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => { self.apply(command); continue; }
                    None => return,
                },
                () = room.notified() => { self.catch_up(); continue; }
                fetched = self.reader.next(BATCH), if !self.tables.is_empty() => fetched,
            };
            let error = match fetched {
                Ok(batch) => {
                    let behind = route(&mut self.tables, batch);
                    self.pause(&behind);
                    last = None;
                    continue;
                }
                Err(error) => error,
            };
            if self.concerns(&error) {
                continue;
            }
            let text = report::chain(&error);
            if last.as_ref() != Some(&text) {
                tracing::error!(code = error.code(), error = text, "reading is tried again");
                last = Some(text);
            }
            tokio::time::sleep(PAUSE).await;
            // A partition that an error was about yields nothing until it is added anew, and nobody knows which it was.
            let all = self.tables.values().flat_map(Share::places).collect();
            self.restart(all);
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Subscribe { id, topic, starts, chunks } => {
                let failed = self.begin(&topic, &starts).err();
                let behind = failed.map(|error| Err(Arc::new(error)));
                let failed = behind.is_some();
                self.tables.insert(id, Share { topic, next: starts, chunks, behind, failed });
                self.catch_up();
            }
            Command::Unsubscribe { id } => self.end(id),
        }
    }

    /// Adds what is not read yet, and goes back where another table is ahead.
    fn begin(&self, topic: &str, starts: &BTreeMap<i32, i64>) -> mesh_bus::Result<()> {
        let positions = self.reader.positions();
        let add: Vec<(TopicPartition, Start)> = starts
            .iter()
            .map(|(partition, start)| (TopicPartition::new(topic, *partition), *start))
            .filter(|(place, start)| positions.get(place).is_none_or(|at| at.is_none_or(|at| at > *start)))
            .map(|(place, start)| (place, Start::At(start)))
            .collect();
        self.reader.add(&add)
    }

    fn end(&mut self, id: u64) {
        let Some(gone) = self.tables.remove(&id) else { return };
        let wanted =
            |partition: &i32| self.tables.values().any(|t| t.topic == gone.topic && t.next.contains_key(partition));
        let (kept, idle): (Vec<i32>, Vec<i32>) = gone.next.into_keys().partition(wanted);
        let places = |partitions: Vec<i32>| -> Vec<TopicPartition> {
            partitions.into_iter().map(|partition| TopicPartition::new(gone.topic.clone(), partition)).collect()
        };
        let removed = self.reader.remove(&places(idle));
        // Whoever else reads them may have waited for the one that is gone.
        let resumed = if gone.behind.is_some() { self.reader.resume(&places(kept)) } else { Ok(()) };
        for error in [removed, resumed].into_iter().filter_map(Result::err) {
            tracing::warn!(code = error.code(), error = report::chain(&error), "a partition could not be given up");
        }
    }

    /// Hands over what did not fit, and reads on where nobody is behind any more.
    fn catch_up(&mut self) {
        let mut resume = Vec::new();
        for share in self.tables.values_mut() {
            let Some(fetched) = share.behind.take() else { continue };
            match share.chunks.try_send(fetched) {
                Ok(()) if share.failed => {}
                Ok(()) => resume.extend(share.places()),
                Err(TrySendError::Full(fetched)) => share.behind = Some(fetched),
                Err(TrySendError::Closed(_)) => {}
            }
        }
        resume.retain(|place| !self.is_behind(place));
        self.report(self.reader.resume(&resume));
    }

    fn pause(&self, behind: &[u64]) {
        let places: Vec<TopicPartition> =
            behind.iter().filter_map(|id| self.tables.get(id)).flat_map(Share::places).collect();
        if !places.is_empty() {
            self.report(self.reader.pause(&places));
        }
    }

    fn report(&self, result: mesh_bus::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(
                code = error.code(),
                error = report::chain(&error),
                "a partition could not be paused or resumed"
            );
        }
    }

    /// Tells the tables that an error is about; false if it is about none.
    fn concerns(&mut self, error: &BusError) -> bool {
        let (topic, partition, offset) = match error {
            BusError::OffsetOutOfRange { topic, partition, offset, .. } => (topic, Some(*partition), Some(*offset)),
            BusError::PartitionMissing { topic, partition, .. } => (topic, Some(*partition), None),
            BusError::TopicMissing { topic, .. } => (topic, None, None),
            _ => return false,
        };
        let hit = |share: &&mut Share| {
            !share.failed && share.topic == *topic && partition.is_none_or(|p| share.wants(p, offset))
        };
        let error = Arc::new(again(error));
        let mut places = BTreeSet::new();
        for share in self.tables.values_mut().filter(|share| hit(share)) {
            share.behind = Some(Err(error.clone()));
            share.failed = true;
            places.extend(share.places().filter(|place| partition.is_none_or(|p| place.partition == p)));
        }
        self.catch_up();
        // Else the next error would be laid to the same partition, and tables that are further on would wait for it.
        self.restart(places.clone());
        !places.is_empty()
    }

    /// Reads partitions anew from where the tables are that have no error; gives up those that only others want.
    fn restart(&mut self, places: BTreeSet<TopicPartition>) {
        let next = |place: &TopicPartition| {
            let well = self.tables.values().filter(|share| !share.failed && share.topic == place.topic);
            well.filter_map(|share| share.next.get(&place.partition)).min().copied()
        };
        let (add, remove): (Vec<_>, Vec<_>) =
            places.into_iter().map(|place| (next(&place).map(Start::At), place)).partition(|(next, _)| next.is_some());
        let add: Vec<_> = add.into_iter().filter_map(|(next, place)| Some((place, next?))).collect();
        let remove: Vec<_> = remove.into_iter().map(|(_, place)| place).collect();
        self.report(self.reader.remove(&remove).and_then(|()| self.reader.add(&add)));
        let paused: Vec<_> = add.into_iter().map(|(place, _)| place).filter(|place| self.is_behind(place)).collect();
        self.report(self.reader.pause(&paused));
    }

    fn is_behind(&self, place: &TopicPartition) -> bool {
        self.tables.values().any(|share| share.behind.is_some() && !share.failed && share.reads(place))
    }
}

impl Share {
    fn places(&self) -> impl Iterator<Item = TopicPartition> {
        self.next.keys().map(|partition| TopicPartition::new(self.topic.clone(), *partition))
    }

    /// An error about this offset is about this table: it has not come further in that partition.
    fn wants(&self, partition: i32, offset: Option<i64>) -> bool {
        self.next.get(&partition).is_some_and(|next| offset.is_none_or(|offset| *next <= offset))
    }

    fn reads(&self, place: &TopicPartition) -> bool {
        self.topic == place.topic && self.next.contains_key(&place.partition)
    }
}

/// Copies a batch to the tables that want it; returns those that did not keep up.
fn route(tables: &mut HashMap<u64, Share>, batch: Batch<'_>) -> Vec<u64> {
    fault::point("ingest.fetch.received");
    let mut behind = Vec::new();
    for (id, share) in tables.iter_mut().filter(|(_, share)| !share.failed) {
        let mut chunk = match share.behind.take() {
            Some(Ok(chunk)) => chunk,
            other => {
                share.behind = other;
                Chunk::default()
            }
        };
        for message in batch.iter().filter(|message| message.topic() == share.topic) {
            match share.next.get_mut(&message.partition()) {
                Some(next) if *next <= message.offset() => {
                    *next = message.offset() + 1;
                    chunk.push(message);
                }
                _ => {}
            }
        }
        if chunk.is_empty() {
            continue;
        }
        if let Err(TrySendError::Full(fetched)) = share.chunks.try_send(Ok(chunk)) {
            share.behind = Some(fetched);
            behind.push(*id);
        }
    }
    behind
}

/// The same error for one more table.
fn again(error: &BusError) -> BusError {
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
        other => BusError::Stopped { topic: String::new(), reason: report::chain(other) },
    }
}
