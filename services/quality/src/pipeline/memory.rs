//! What is known of checks: their last verdict and incident. In: the records of `mesh.quality` and `mesh.incidents` at
//! the start, and what is emitted since. Out: the last verdict of each check. There is no other store.
//! Never: a record of these topics that cannot be read passed over.

use std::collections::BTreeMap;

use mesh_bus::{Bus, ReadOptions, Start, TopicPartition};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::trace::TraceContext;
use mesh_proto::v1::{Incident, IncidentState, Verdict};

use crate::error::{self, QualityError};

/// A verdict and the id of its event.
#[derive(Debug, Clone)]
pub(crate) struct LastVerdict {
    pub(crate) verdict: Verdict,
    pub(crate) id: String,
    /// The span in which it was found.
    pub(crate) trace: Option<TraceContext>,
}

/// The last verdict and incident of each check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    pub(crate) verdicts: BTreeMap<String, LastVerdict>,
    pub(crate) incidents: BTreeMap<String, Incident>,
}

impl Memory {
    /// Reads back the newest `records` of each partition of verdicts, all incidents (they are few).
    pub(crate) async fn recover(bus: &Bus, records: u32) -> Result<Self, QualityError> {
        let mut memory = Self::default();
        read(bus, topics::QUALITY, Some(records), |event| {
            let verdict: Verdict = event.decode_as(types::VERDICT)?;
            memory
                .verdicts
                .insert(verdict.check_id.clone(), LastVerdict { verdict, id: event.id.clone(), trace: event.trace });
            Ok(())
        })
        .await?;
        read(bus, topics::INCIDENTS, None, |event| {
            let incident: Incident = event.decode()?;
            memory.incidents.insert(incident.check_id.clone(), incident);
            Ok(())
        })
        .await?;
        Ok(memory)
    }

    /// How many checks have an open incident.
    pub(crate) fn open_incidents(&self) -> usize {
        self.incidents.values().filter(|incident| incident.state() != IncidentState::Resolved).count()
    }

    /// Takes out what is known of the checks whose ids begin so.
    pub(crate) fn take(&mut self, prefix: &str) -> Self {
        Self { verdicts: take(&mut self.verdicts, prefix), incidents: take(&mut self.incidents, prefix) }
    }

    /// Puts back what was taken out.
    pub(crate) fn put(&mut self, mut other: Self) {
        self.verdicts.append(&mut other.verdicts);
        self.incidents.append(&mut other.incidents);
    }
}

fn take<T>(map: &mut BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    map.extract_if(prefix.to_owned().., |key, _| key.starts_with(prefix)).collect()
}

/// Hands every record of a topic that is there now to `each`, partition by partition, in order.
async fn read(
    bus: &Bus,
    topic: &'static str,
    newest: Option<u32>,
    mut each: impl FnMut(&Event) -> Result<(), mesh_proto::ProtoError>,
) -> Result<(), QualityError> {
    let action = "read back what was judged";
    let partitions = bus.describe_topic(topic).await.map_err(error::bus(action))?.partitions;
    for partition in 0..partitions {
        let (low, high) = bus.watermarks(topic, partition).await.map_err(error::bus(action))?;
        let start = newest.map_or(low, |records| low.max(high - i64::from(records)));
        if start >= high {
            continue;
        }
        let reader = bus.partitions("mesh-quality", ReadOptions::default()).map_err(error::bus(action))?;
        reader.add(&[(TopicPartition::new(topic, partition), Start::At(start))]).map_err(error::bus(action))?;
        let mut next = start;
        while next < high {
            let batch = reader.next(1_000).await.map_err(error::bus(action))?;
            for message in batch.iter() {
                next = message.offset() + 1;
                let place = |source| QualityError::Foreign {
                    topic: topic.to_owned(),
                    partition,
                    offset: message.offset(),
                    source,
                };
                each(&message.event().map_err(place)?).map_err(place)?;
            }
        }
    }
    Ok(())
}
