//! The registered schemas, as `mesh.schemas` holds them.
//!
//! In: `mesh.schemas`, one partition, from its beginning, followed for ever. Out: texts by id; an id is the offset after
//! the first record of that text. An id that may be on its way is waited for, once and no longer than the caller says;
//! what no schema log brings (bytes that are no framing name any number) is not waited for again until the log changes.
//! Must never happen: one id with two texts; a producer of garbage that delays each batch.

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
/// An id further beyond the log's end is none that was registered before its record was written.
const NEAR: i64 = 100;
/// Ids waited for in vain after which none is waited for until the log changes.
const IN_VAIN: usize = 8;

/// A live map from id to text; cheap to clone.
#[derive(Debug, Clone)]
pub struct SchemaLog {
    known: Arc<RwLock<SchemaIds>>,
    in_vain: Arc<Mutex<InVain>>,
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

/// Ids that were waited for in vain while the log stood at one position.
#[derive(Debug, Default)]
struct InVain {
    next: i64,
    ids: HashSet<SchemaId>,
}

impl InVain {
    /// Whether an id that is not known may come and is worth waiting for.
    fn may_come(&self, id: SchemaId, position: Position) -> bool {
        // If the log is past its record, it is known or no id at all.
        let near = (0..NEAR).contains(&(id.offset() - position.next));
        near && (self.next != position.next || (self.ids.len() < IN_VAIN && !self.ids.contains(&id)))
    }

    fn add(&mut self, ids: impl Iterator<Item = SchemaId>, position: Position) {
        if self.next != position.next {
            *self = Self { next: position.next, ids: HashSet::new() };
        }
        self.ids.extend(ids.take(IN_VAIN));
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Position {
    loaded: bool,
    next: i64,
}

impl SchemaLog {
    /// Starts to follow the topic.
    pub fn open(bus: &Bus, tasks: &Tasks) -> Result<Self, IngestError> {
        let options = ReadOptions { prefetch_bytes: 4 << 20, ..ReadOptions::default() };
        let reader = bus.partitions("mesh-ingest-schemas", options)?;
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
        Ok(Self { known, in_vain: Arc::default(), position, _follower: Arc::new(follower) })
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
        let comes = |now: &Position| {
            let in_vain = self.in_vain();
            ids.iter().copied().filter(|id| in_vain.may_come(*id, *now)).collect::<Vec<_>>()
        };
        let waited = tokio::time::timeout(patience, position.wait_for(|now| comes(now).is_empty()));
        if waited.await.is_err() {
            let now = *self.position.borrow();
            let missed = comes(&now);
            self.in_vain().add(missed.into_iter(), now);
        }
        let known = self.read();
        ids.iter().filter_map(|id| Some((*id, known.text(*id)?.clone()))).collect()
    }

    fn in_vain(&self) -> std::sync::MutexGuard<'_, InVain> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
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
            tracing::error!(offset, code = error.code(), error = report::chain(&error), "schema record unreadable");
            return;
        }
    };
    // A text that was registered again, under this subject or another, keeps its first id.
    known.write().unwrap_or_else(PoisonError::into_inner).take(offset, &schema.schema.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_is_waited_for_once_until_the_log_changes() {
        let (at, mut in_vain) = (|next| Position { loaded: true, next }, InVain::default());
        assert!(in_vain.may_come(SchemaId(11), at(10)));
        assert!(!in_vain.may_come(SchemaId(10), at(10)), "the log is past it");
        assert!(!in_vain.may_come(SchemaId(0x7b22_6964), at(10)), "the bytes of a text");
        in_vain.add([SchemaId(11)].into_iter(), at(10));
        assert!(!in_vain.may_come(SchemaId(11), at(10)));
        assert!(in_vain.may_come(SchemaId(12), at(10)));
        assert!(in_vain.may_come(SchemaId(13), at(12)), "the log changed");
    }

    #[test]
    fn a_producer_of_garbage_delays_a_few_batches_only() {
        let (at, mut in_vain) = (Position { loaded: true, next: 10 }, InVain::default());
        let waits = (11..100_000).filter(|id| {
            let waits = in_vain.may_come(SchemaId(*id), at);
            if waits {
                in_vain.add([SchemaId(*id)].into_iter(), at);
            }
            waits
        });
        assert_eq!(waits.count(), IN_VAIN);
    }
}
