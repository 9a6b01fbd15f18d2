//! Whether a table's offsets are of the topic that is read, and in its log.
//!
//! In: what the table records, what the broker says. Out: an error where they do not fit.
//! Must never happen: an offset recorded for another topic than the one that was read.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_bus::{Bus, BusError};
use mesh_runtime::Shutdown;
use tokio::time::sleep;

use crate::error::IngestError;
use crate::pipeline::commit::Base;
use crate::pipeline::plan::TablePlan;

/// Between two looks for a broker that is gone.
const BROKER_PAUSE: Duration = Duration::from_secs(1);

/// Before offsets are recorded: they are of the topic that was read, which has so many partitions now. Waits for a broker
/// that is gone; nothing if the service is to stop before it is back: the records are read again.
pub(super) async fn still_the_topic(
    bus: &Bus,
    plan: &TablePlan,
    base: &Base,
    stop: &Shutdown,
) -> Result<Option<i32>, IngestError> {
    loop {
        let now = partitions(bus, plan, base).await?;
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
pub(super) async fn partitions(bus: &Bus, plan: &TablePlan, base: &Base) -> Result<Option<i32>, IngestError> {
    match bus.describe_topic(&plan.topic).await {
        Ok(topic) if topic.id.to_string() == base.source.topic => Ok(Some(topic.partitions)),
        Ok(topic) => Err(recreated(plan, &base.source.topic, &topic.id.to_string())),
        Err(BusError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Offsets of another topic than the one to be read stop the table.
pub(super) fn same_topic(base: &Base, plan: &TablePlan) -> Result<(), IngestError> {
    let mut others = base.recorded.offsets.iter().map(|(source, ..)| source).filter(|source| *source != base.source);
    let known = base.recorded.offsets.iter().any(|(source, ..)| source == base.source);
    match others.next() {
        Some(other) if !known => Err(recreated(plan, &other.topic, &base.source.topic)),
        _ => Ok(()),
    }
}

/// Records that come next are in the log, or after its end. The reader cannot always tell: it starts where the table
/// that is furthest behind wants to.
pub(super) async fn in_the_log(bus: &Bus, plan: &TablePlan, starts: &BTreeMap<i32, i64>) -> Result<(), IngestError> {
    for (partition, offset) in starts {
        let (low, high) = bus.watermarks(&plan.topic, *partition).await?;
        if *offset < low || *offset > high {
            return Err(gone(plan, *partition, *offset, (low, high)));
        }
    }
    Ok(())
}

pub(super) fn gone(plan: &TablePlan, partition: i32, offset: i64, (low, high): (i64, i64)) -> IngestError {
    let (product, table, topic) = (plan.product.clone(), plan.table.clone(), plan.topic.clone());
    IngestError::OffsetGone { product, table, topic, partition, offset, low, high }
}

fn recreated(plan: &TablePlan, recorded: &str, found: &str) -> IngestError {
    IngestError::TopicRecreated {
        product: plan.product.clone(),
        table: plan.table.clone(),
        topic: plan.topic.clone(),
        recorded: recorded.to_owned(),
        found: found.to_owned(),
    }
}
