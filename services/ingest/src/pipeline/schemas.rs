//! The registered schemas, as `mesh.schemas` holds them.
//!
//! In: `mesh.schemas`, one partition, from its beginning, followed for ever. Out: texts by id; an id is the offset after
//! the first record of that text. Waiting for an id that may be on its way is bounded by the caller.
//! Must never happen: one id with two texts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mesh_bus::{Bus, Message, Partitions, ReadOptions, Start, TopicPartition};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::RegisteredSchema;
use mesh_runtime::report;
use tokio::sync::watch;

use crate::error::IngestError;
use crate::pipeline::decode::avro::{SchemaId, Schemas};

const PAUSE: Duration = Duration::from_secs(1);
/// Ids that were waited for in vain and are remembered.
const MISSED: usize = 10_000;

/// A live map from id to text; cheap to clone.
#[derive(Debug, Clone)]
pub struct SchemaLog {
    known: Arc<RwLock<Known>>,
    /// Ids that were waited for in vain: nobody waits for them again.
    missed: Arc<Mutex<HashSet<SchemaId>>>,
    position: watch::Receiver<Position>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<SchemaId, Arc<str>>,
    texts: HashSet<Arc<str>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Position {
    loaded: bool,
    next: i64,
}

impl SchemaLog {
    /// Starts to follow the topic.
    pub fn open(bus: &Bus) -> Result<Self, IngestError> {
        let reader = bus.partitions("mesh-ingest-schemas", ReadOptions { prefetch_bytes: 4 << 20, patience: None })?;
        let known = Arc::new(RwLock::new(Known::default()));
        let (position, seen) = watch::channel(Position::default());
        tokio::spawn(follow(bus.clone(), reader, known.clone(), position));
        Ok(Self { known, missed: Arc::default(), position: seen })
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
        let may_come = |id: &&SchemaId, position: &Position| i64::from(id.0) > position.next && !missed.contains(id);
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
        ids.iter().filter_map(|id| Some((*id, known.by_id.get(id)?.clone()))).collect()
    }

    fn missed(&self) -> std::sync::MutexGuard<'_, HashSet<SchemaId>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(bus: Bus, reader: Partitions, known: Arc<RwLock<Known>>, position: watch::Sender<Position>) {
    let mut last = None;
    loop {
        let Err(error) = read(&bus, &reader, &known, &position).await;
        let text = report::chain(&error);
        if last.as_ref() != Some(&text) {
            tracing::error!(code = error.code(), error = text, "mesh.schemas is read again");
            last = Some(text);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(
    bus: &Bus,
    reader: &Partitions,
    known: &RwLock<Known>,
    position: &watch::Sender<Position>,
) -> Result<std::convert::Infallible, IngestError> {
    let place = TopicPartition::new(topics::SCHEMAS, 0);
    let (_, end) = bus.watermarks(&place.topic, place.partition).await?;
    reader.add(&[(place, Start::At(position.borrow().next))])?;
    position.send_modify(|now| now.loaded |= now.next >= end);
    loop {
        let batch = reader.next(1000).await?;
        let mut next = 0;
        for message in batch.iter() {
            take(message, known);
            next = message.offset() + 1;
        }
        position.send_modify(|now| *now = Position { loaded: now.loaded || next >= end, next });
    }
}

fn take(message: &Message<'_>, known: &RwLock<Known>) {
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
    let Ok(id) = u32::try_from(offset + 1) else { return };
    let text: Arc<str> = schema.schema.into();
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    // A text that was registered again, under this subject or another, keeps its first id.
    if known.texts.insert(text.clone()) {
        known.by_id.insert(SchemaId(id), text);
    }
}
