//! The registered schemas, as `mesh.schemas` holds them.
//!
//! In: `mesh.schemas`, one partition, from its beginning, followed for ever. Out: texts by id; an id is the offset after
//! the first record of that text. Waiting for an id that may be on its way is bounded by the caller.
//! Must never happen: one id with two texts.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mesh_bus::{Bus, Message, Partitions, ReadOptions, Start, TopicPartition};
use mesh_proto::cloudevents::types;
use mesh_proto::registry::{SchemaId, SchemaIds};
use mesh_proto::topics;
use mesh_proto::v1::RegisteredSchema;
use mesh_runtime::tasks::TaskHandle;
use mesh_runtime::{Check, Restart, Tasks, part, report};
use tokio::sync::watch;

use crate::error::IngestError;
use crate::pipeline::decode::avro::Schemas;

const PAUSE: Duration = Duration::from_secs(1);
/// Ids that were waited for in vain and are remembered.
const MISSED: usize = 10_000;

/// A live map from id to text; cheap to clone.
#[derive(Debug, Clone)]
pub struct SchemaLog {
    known: Arc<RwLock<SchemaIds>>,
    /// Ids that were waited for in vain: nobody waits for them again.
    missed: Arc<Mutex<HashSet<SchemaId>>>,
    position: watch::Receiver<Position>,
    _follower: Arc<TaskHandle>,
}

/// What the follower works with, run after run.
struct Log {
    bus: Bus,
    reader: Partitions,
    known: Arc<RwLock<SchemaIds>>,
    position: watch::Sender<Position>,
    /// Down while the topic is not loaded, or cannot be read on.
    check: Check,
}

#[derive(Debug, Clone, Copy, Default)]
struct Position {
    loaded: bool,
    next: i64,
}

impl SchemaLog {
    /// Starts to follow the topic.
    pub fn open(bus: &Bus, tasks: &Tasks) -> Result<Self, IngestError> {
        let reader = bus.partitions("mesh-ingest-schemas", ReadOptions { prefetch_bytes: 4 << 20, patience: None })?;
        let log = Log {
            bus: bus.clone(),
            reader,
            known: Arc::default(),
            position: watch::Sender::new(Position::default()),
            check: tasks.health().check(part::view(topics::SCHEMAS)),
        };
        let known = log.known.clone();
        let position = log.position.subscribe();
        let log = Arc::new(log);
        let follower = tasks.start(part::view(topics::SCHEMAS), Restart::default(), move |_| follow(log.clone()));
        Ok(Self { known, missed: Arc::default(), position, _follower: Arc::new(follower) })
    }

    /// Waits until what was registered when the log was opened is known.
    pub async fn loaded(&self) -> Result<(), IngestError> {
        let mut position = self.position.clone();
        let loaded = position.wait_for(|position| position.loaded).await;
        loaded.map(|_| ()).map_err(|_| IngestError::Stopped { what: "the reader of mesh.schemas" })
    }

    /// The texts of these ids. Waits for those that the log may still bring, once and no longer than `patience`.
    pub async fn get(&self, ids: &BTreeSet<SchemaId>, patience: Duration) -> Schemas {
        let mut position = self.position.clone();
        let missed: Vec<SchemaId> = ids.iter().filter(|id| self.missed().contains(*id)).copied().collect();
        // An id is the offset after its record: the log is past it, or it may come.
        let may_come = |id: &&SchemaId, position: &Position| id.offset() >= position.next && !missed.contains(id);
        let waited = tokio::time::timeout(patience, position.wait_for(|now| !ids.iter().any(|id| may_come(&id, now))));
        if waited.await.is_err() {
            let now = *self.position.borrow();
            let mut missed = self.missed();
            // Ids come from anybody: what is remembered of them is bounded.
            if missed.len() > MISSED {
                missed.clear();
            }
            missed.extend(ids.iter().filter(|id| may_come(id, &now)));
        }
        let known = self.read();
        ids.iter().filter_map(|id| Some((*id, known.text(*id)?.clone()))).collect()
    }

    fn missed(&self) -> std::sync::MutexGuard<'_, HashSet<SchemaId>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, SchemaIds> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(log: Arc<Log>) {
    let mut last = None;
    loop {
        let Err(error) = read(&log).await;
        let text = report::chain(&error);
        log.check.down(format!("[{}] {text}", error.code()));
        if last.as_ref() != Some(&text) {
            tracing::error!(code = error.code(), error = text, "schema log failed");
            last = Some(text);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(log: &Log) -> Result<std::convert::Infallible, IngestError> {
    let place = TopicPartition::new(topics::SCHEMAS, 0);
    let (_, end) = log.bus.watermarks(&place.topic, place.partition).await?;
    log.reader.add(&[(place, Start::At(log.position.borrow().next))])?;
    log.moved(|now| now.loaded |= now.next >= end);
    loop {
        let batch = log.reader.next(1000).await?;
        let mut next = 0;
        for message in batch.iter() {
            take(message, &log.known);
            next = message.offset() + 1;
        }
        log.moved(|now| *now = Position { loaded: now.loaded || next >= end, next });
    }
}

impl Log {
    fn moved(&self, change: impl FnOnce(&mut Position)) {
        self.position.send_modify(change);
        if self.position.borrow().loaded {
            self.check.up();
        }
    }
}

fn take(message: &Message<'_>, known: &RwLock<SchemaIds>) {
    let offset = message.offset();
    let schema = message.event().and_then(|event| event.decode_as::<RegisteredSchema>(types::SCHEMA));
    let schema = match schema {
        Ok(schema) => schema,
        Err(error) => {
            tracing::error!(
                offset,
                code = error.code(),
                error = report::chain(&error),
                "a record of mesh.schemas cannot be read"
            );
            return;
        }
    };
    // A text that was registered again, under this subject or another, keeps its first id.
    known.write().unwrap_or_else(PoisonError::into_inner).take(offset, &schema.schema.into());
}
