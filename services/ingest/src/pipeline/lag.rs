//! Group offsets and lag for monitors. Nothing reads them back: a table's offsets are its own.
//!
//! In: how far the tables of this process came. Out: offsets of the group `mesh-ingest.<product>` when they moved, and
//! the lag gauge, also of tables that do not commit: one that is stopped falls behind, and its gauge must not stand still.
//! Runs behind the commits: a broker that is slow here holds up nothing, and newer offsets replace older ones. The ends
//! of all logs come with one request to each broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_bus::{Bus, TopicPartition};
use mesh_runtime::{Shutdown, fault, report};
use tokio::sync::Notify;

use crate::telemetry::{IngestMetrics, OfTable};

/// How often the gauges of all tables are set.
const EVERY: Duration = Duration::from_secs(5);
/// Between two requests while tables commit.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the tables of a process stand.
type Tables = BTreeMap<OfTable, TableLag>;

#[derive(Debug, Clone, Default)]
struct TableLag {
    next: BTreeMap<TopicPartition, i64>,
    /// The group offsets are behind this.
    moved: bool,
}

/// What tables note and the task reports; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lag {
    tables: Arc<Mutex<Tables>>,
    noted: Arc<Notify>,
    bus: Bus,
    telemetry: IngestMetrics,
}

/// One table's report. It outlives its session's errors: the table is behind until it is fed again or goes elsewhere.
#[derive(Debug)]
pub struct LagOf {
    lag: Lag,
    of: OfTable,
    topic: String,
}

impl Lag {
    /// Nothing is reported until [`run`](Self::run).
    pub fn new(bus: Bus, telemetry: IngestMetrics) -> Self {
        Self { tables: Arc::default(), noted: Arc::default(), bus, telemetry }
    }

    /// One table's report.
    pub fn of(&self, of: OfTable, topic: &str) -> LagOf {
        LagOf { lag: self.clone(), of, topic: topic.to_owned() }
    }

    /// Reports a table until this is dropped: then it is another process's to report.
    pub fn reported(&self, of: OfTable) -> ReportedTable {
        ReportedTable { lag: self.clone(), of }
    }

    /// Sets gauges and group offsets, until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut last = None;
        loop {
            let noted = tokio::select! {
                () = shutdown.requested() => return,
                () = self.noted.notified() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            if noted {
                tokio::time::sleep(PAUSE).await;
            }
            match self.update(noted).await {
                Ok(()) => last = None,
                Err(error) => {
                    let text = report::chain(&error);
                    if last.as_ref() != Some(&text) {
                        tracing::warn!(code = error.code(), error = text, "lag report failed");
                        last = Some(text);
                    }
                }
            }
        }
    }

    /// Of the tables that moved only, or of all.
    async fn update(&self, moved: bool) -> mesh_bus::Result<()> {
        let tables: Tables = {
            let mut tables = self.lock();
            let chosen = tables.iter().filter(|(_, table)| table.moved || !moved);
            let chosen = chosen.map(|(of, table)| (of.clone(), table.clone())).collect();
            tables.values_mut().for_each(|table| table.moved = false);
            chosen
        };
        let places: Vec<TopicPartition> = tables.values().flat_map(|table| table.next.keys().cloned()).collect();
        let ends = self.bus.log_ends(&places).await?;
        for (of, table) in tables {
            let behind = |(place, next): (&TopicPartition, &i64)| ends.get(place).map_or(0, |end| (end - next).max(0));
            self.telemetry.lag.get_or_create(&of).set(table.next.iter().map(behind).sum());
            if table.moved {
                let next: Vec<(TopicPartition, i64)> = table.next.into_iter().collect();
                self.bus.commit_lag(&format!("mesh-ingest.{}", of.product), &next).await?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table that this process reports.
#[derive(Debug)]
pub struct ReportedTable {
    lag: Lag,
    of: OfTable,
}

impl Drop for ReportedTable {
    fn drop(&mut self) {
        self.lag.lock().remove(&self.of);
        self.lag.telemetry.lag.remove(&self.of);
    }
}

impl LagOf {
    /// The table came this far, in all partitions of its topic.
    pub fn note(&self, next: &BTreeMap<i32, i64>) {
        fault::point("ingest.lag.before");
        let next = next.iter().map(|(partition, next)| (TopicPartition::new(&self.topic, *partition), *next));
        let next = next.collect();
        let mut tables = self.lag.lock();
        let table = tables.entry(self.of.clone()).or_default();
        if table.next != next {
            *table = TableLag { next, moved: true };
            self.lag.noted.notify_one();
        }
    }
}
