//! The ids of the newest events, read once at the start: what was announced just before the last stop, and not remembered
//! by then, is not announced again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::DateTime;
use mesh_bus::{Bus, Message, ReadOptions, Start, TopicPartition};
use mesh_proto::topics;
use mesh_proto::v1::Announced;

use crate::error::{PublisherError, bus};
use crate::log::READER;

/// Read of each partition: more than is written between two writes of the memory.
const NEWEST: i64 = 512;

/// Ids of events that were written shortly before the start, after the memory of their table.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ids: HashSet<String>,
}

impl Recent {
    pub(super) async fn read(
        source: &Bus,
        announced: &BTreeMap<String, Arc<Announced>>,
    ) -> Result<Self, PublisherError> {
        let failed = bus("read the newest announcements");
        let reader = source.partitions(READER, ReadOptions::default()).map_err(&failed)?;
        let mut missing = Vec::new();
        for topic in [topics::PRODUCT_CHANGES, topics::PLATFORM_CHANGES] {
            let described = source.describe_topic(topic).await.map_err(&failed)?;
            for partition in 0..described.partitions {
                let (low, high) = source.watermarks(topic, partition).await.map_err(&failed)?;
                let start = low.max(high - NEWEST);
                if start < high {
                    let place = TopicPartition::new(topic, partition);
                    reader.add(&[(place.clone(), Start::At(start))]).map_err(&failed)?;
                    missing.push((place, high));
                }
            }
        }
        let mut ids = HashSet::new();
        loop {
            let positions = reader.positions();
            missing.retain(|(place, high)| positions.get(place).copied().flatten().is_none_or(|next| next < *high));
            if missing.is_empty() {
                return Ok(Self { ids });
            }
            // Neither topic is compacted: the offset before the end is a record, so it comes.
            let batch = reader.next(1024).await.map_err(&failed)?;
            ids.extend(batch.iter().filter_map(|message| unremembered(message, announced)));
        }
    }

    /// True, once, for an id that was written before the start.
    pub(super) fn takes(&mut self, id: &str) -> bool {
        self.ids.remove(id)
    }

    /// A snapshot may be announced again on purpose: after a rollback, and back again.
    pub(super) fn forget(&mut self) {
        self.ids = HashSet::new();
    }
}

/// The event's id, if it is younger than what is remembered of its table. An older one may be meant to be announced again:
/// `main` may have moved back and forth.
fn unremembered(message: &Message<'_>, announced: &BTreeMap<String, Arc<Announced>>) -> Option<String> {
    let table = std::str::from_utf8(message.key()?).ok()?;
    let at = announced.get(table).and_then(|last| last.at.as_ref());
    let at = at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?));
    let written = DateTime::parse_from_rfc3339(&message.header("ce_time")?).ok()?;
    at.is_none_or(|at| written > at).then(|| message.header("ce_id").map(|id| id.into_owned()))?
}
