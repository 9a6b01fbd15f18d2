//! Group offsets and lag for monitors. Nothing reads them back: a table's offsets are its own.
//!
//! In: how far a product's commits came. Out: offsets of the group `mesh-ingest.<product>`, and the lag gauge.
//! Runs behind the commits: a broker that is slow here holds up nothing, and newer offsets replace older ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_bus::{Bus, TopicPartition};
use mesh_runtime::{Shutdown, fault, report};
use tokio::sync::Notify;

use crate::telemetry::{IngestMetrics, OfTable};

type Notes = BTreeMap<OfTable, BTreeMap<TopicPartition, i64>>;

/// What tables note and the task reports; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lag {
    notes: Arc<Mutex<Notes>>,
    noted: Arc<Notify>,
    bus: Bus,
    telemetry: IngestMetrics,
}

impl Lag {
    /// Nothing is reported until [`run`](Self::run).
    pub fn new(bus: Bus, telemetry: IngestMetrics) -> Self {
        Self { notes: Arc::default(), noted: Arc::default(), bus, telemetry }
    }

    /// A table came this far, in all partitions of its topic.
    pub fn note(&self, of: OfTable, topic: &str, next: &BTreeMap<i32, i64>) {
        fault::point("ingest.lag.before");
        let mut notes = self.lock();
        let noted = notes.entry(of).or_default();
        noted.extend(next.iter().map(|(partition, next)| (TopicPartition::new(topic, *partition), *next)));
        self.noted.notify_one();
    }

    /// Reports what was noted, until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut last = None;
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = self.noted.notified() => {}
            }
            let notes = std::mem::take(&mut *self.lock());
            for (of, next) in notes {
                if let Err(error) = report_lag(&self.bus, &self.telemetry, &of, next).await {
                    let text = report::chain(&error);
                    if last.as_ref() != Some(&text) {
                        tracing::warn!(code = error.code(), error = text, "lag report failed");
                        last = Some(text);
                    }
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn report_lag(
    bus: &Bus,
    telemetry: &IngestMetrics,
    of: &OfTable,
    next: BTreeMap<TopicPartition, i64>,
) -> mesh_bus::Result<()> {
    let mut lag = 0;
    for (place, next) in &next {
        let (_, high) = bus.watermarks(&place.topic, place.partition).await?;
        lag += (high - next).max(0);
    }
    telemetry.lag.get_or_create(of).set(lag);
    let next: Vec<(TopicPartition, i64)> = next.into_iter().collect();
    bus.commit_lag(&format!("mesh-ingest.{}", of.product), &next).await
}
