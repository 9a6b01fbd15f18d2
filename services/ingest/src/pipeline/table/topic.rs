//! Whether a table's offsets are of the topic that is read, and in its log.
//!
//! In: where a session stands, what the broker says. Out: an error where they do not fit.
//! Must never happen: an offset recorded for another topic than the one that was read.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_bus::{Bus, BusError, TopicPartition};
use mesh_lakehouse::offsets::TopicSource;
use mesh_runtime::Shutdown;
use tokio::time::sleep;

use crate::error::IngestError;
use crate::pipeline::plan::TablePlan;
use crate::pipeline::positions::Positions;
use crate::pipeline::progress::recreated;
use crate::pipeline::topics::TopicDescriptions;

/// Between two tries to reach a broker.
const BROKER_PAUSE: Duration = Duration::from_secs(1);

/// Before offsets are recorded: they are of the topic that was read, which has so many partitions now. Waits for a broker
/// that cannot be reached; nothing if the service is to stop before it is back: the records are read again.
pub(super) async fn still_the_topic(
    topics: &TopicDescriptions,
    plan: &TablePlan,
    source: &TopicSource,
    stop: &Shutdown,
) -> Result<Option<i32>, IngestError> {
    loop {
        let now = partitions(topics, plan, source).await?;
        if now.is_some() {
            return Ok(now);
        }
        tokio::select! {
            () = stop.requested() => return Ok(None),
            () = sleep(BROKER_PAUSE) => {}
        }
    }
}

/// How many partitions the topic has now, if a broker answers; an error if it is another topic.
pub(super) async fn partitions(
    topics: &TopicDescriptions,
    plan: &TablePlan,
    source: &TopicSource,
) -> Result<Option<i32>, IngestError> {
    match topics.describe(&plan.topic).await {
        Ok(topic) if topic.id.to_string() == source.topic => Ok(Some(topic.partitions)),
        Ok(topic) => Err(recreated(plan, &source.topic, &topic.id.to_string())),
        Err(IngestError::Bus(BusError::Unreachable { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Records that come next are in the log, or after its end. The reader cannot always tell: it starts where the table
/// that is furthest behind wants to.
pub(super) async fn in_the_log(bus: &Bus, plan: &TablePlan, next: &BTreeMap<i32, i64>) -> Result<(), IngestError> {
    let places: Vec<TopicPartition> = next.keys().map(|p| TopicPartition::new(&plan.topic, *p)).collect();
    for (place, (low, high)) in bus.log_bounds(&places).await? {
        let offset = next.get(&place.partition).copied().unwrap_or_default();
        if offset < low || offset > high {
            return Err(not_in_the_log(plan, place.partition, offset, (low, high)));
        }
    }
    Ok(())
}

/// The first offsets that the log has, of partitions of which the table records nothing.
pub(super) async fn first_offsets(
    bus: &Bus,
    plan: &TablePlan,
    positions: &Positions,
) -> Result<BTreeMap<i32, i64>, IngestError> {
    let unrecorded = positions.unrecorded().map(|partition| TopicPartition::new(&plan.topic, partition));
    let places: Vec<TopicPartition> = unrecorded.collect();
    let bounds = bus.log_bounds(&places).await?;
    Ok(bounds.into_iter().map(|(place, (low, _))| (place.partition, low)).collect())
}

pub(super) fn not_in_the_log(plan: &TablePlan, partition: i32, offset: i64, (low, high): (i64, i64)) -> IngestError {
    let (product, table, topic) = (plan.product.clone(), plan.table.clone(), plan.topic.clone());
    IngestError::OffsetGone { product, table, topic, partition, offset, low, high }
}
