//! Upkeep of the tables that this process feeds, and of their dead letters: expiry, and deletion of retired metadata.
//!
//! In: the tables that a session keeps ([`Upkeep::keep`]), and from `mesh.announced` how far each one is announced. Out:
//! rounds of [`mesh_lakehouse::maintenance::TableUpkeep`], one at a time for the whole process.
//! A round is due when something was announced since the last one, when a file is due, and now and then; a table at rest
//! costs a comparison in memory. A round that fails is shown by readiness and metrics and tried again: feeding goes on.
//! Never: an unannounced snapshot expired; a file deleted that a table names.

mod schedule;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iceberg::TableIdent;
use mesh_bus::View;
use mesh_lakehouse::Catalog;
use mesh_lakehouse::maintenance::{AnnouncedUpTo, ExpirePolicy, TableUpkeep};
use mesh_proto::v1::{ActiveContract, Announced, TableRef};
use mesh_runtime::{Check, Health, Shutdown, part, report};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::error::IngestError;
use crate::pipeline::plan::table_ident;
use crate::telemetry::{IngestMetrics, OfTable};
use schedule::Schedule;

/// How often the tables of the process are looked over; in memory only.
const TICK: Duration = Duration::from_millis(500);

/// Upkeep of this process's tables; cheap to clone.
#[derive(Debug, Clone)]
pub struct Upkeep {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    announced: View<Announced>,
    policy: ExpirePolicy,
    /// Between two rounds of one table at least.
    interval: Duration,
    telemetry: IngestMetrics,
    check: Check,
    tables: Mutex<HashMap<Uuid, KeptTable>>,
}

/// A table that is kept small.
#[derive(Debug)]
struct KeptTable {
    ident: TableIdent,
    of: OfTable,
    /// The table whose announcements make a round due: dead letters are not announced, and follow their table.
    follows: Uuid,
    schedule: Schedule,
    /// Away while a round runs.
    upkeep: Option<TableUpkeep>,
    failure: Option<String>,
}

/// Ends the upkeep of a contract's tables when dropped.
#[derive(Debug)]
pub struct Keeping {
    upkeep: Upkeep,
    tables: Vec<Uuid>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let mut tables = self.upkeep.tables();
        for uuid in &self.tables {
            if let Some(table) = tables.remove(uuid) {
                self.upkeep.inner.telemetry.upkeep_failed.remove(&table.of);
            }
        }
        drop(tables);
        self.upkeep.show();
    }
}

impl Upkeep {
    /// No tables yet.
    pub fn new(
        catalog: Catalog,
        announced: View<Announced>,
        (policy, interval): (ExpirePolicy, Duration),
        telemetry: IngestMetrics,
        health: &Health,
    ) -> Self {
        let check = health.check(part::task("upkeep"));
        let tables = Mutex::default();
        check.up();
        Self { inner: Arc::new(Inner { catalog, announced, policy, interval, telemetry, check, tables }) }
    }

    /// Keeps a contract's table and dead letters small until the answer is dropped.
    pub fn keep(&self, active: &ActiveContract) -> Keeping {
        let uuid = |table: &Option<TableRef>| Uuid::parse_str(&table.as_ref()?.uuid).ok();
        let mut tables = Vec::new();
        if let Some(follows) = uuid(&active.table) {
            for table in [&active.table, &active.dead_letters] {
                if let (Some(table), Some(uuid)) = (table, uuid(table)) {
                    self.add(active, table, uuid, follows);
                    tables.push(uuid);
                }
            }
        }
        Keeping { upkeep: self.clone(), tables }
    }

    fn add(&self, active: &ActiveContract, table: &TableRef, uuid: Uuid, follows: Uuid) {
        let ident = table_ident(Some(table));
        let of = OfTable { product: active.product.clone(), table: ident.to_string() };
        let schedule = Schedule::new(Instant::now(), self.inner.interval);
        let upkeep = Some(TableUpkeep::new(self.inner.policy.clone()));
        let kept = KeptTable { ident, of, follows, schedule, upkeep, failure: None };
        self.tables().insert(uuid, kept);
    }

    /// Runs the rounds until the shutdown.
    pub async fn run(self, stop: Shutdown) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = sleep(TICK) => {}
            }
            // Half a map would expire nothing wrongly, but delete nothing either.
            if !self.inner.announced.is_loaded() {
                continue;
            }
            for uuid in self.due() {
                tokio::select! {
                    () = stop.requested() => return,
                    () = self.round(uuid) => {}
                }
            }
        }
    }

    fn due(&self) -> Vec<Uuid> {
        let now = Instant::now();
        let tables = self.tables();
        let due = tables.iter().filter(|(_, table)| table.schedule.is_due(now, self.last_announced(table.follows)));
        due.map(|(uuid, _)| *uuid).collect()
    }

    async fn round(&self, uuid: Uuid) {
        let taken = self
            .tables()
            .get_mut(&uuid)
            .and_then(|table| Some((table.ident.clone(), table.follows, table.upkeep.take()?)));
        let Some((ident, follows, mut upkeep)) = taken else { return };
        let signal = self.last_announced(follows);
        let announced = if follows == uuid { self.announced(uuid) } else { AnnouncedUpTo::NotAnnounced };
        let round = async {
            let table = self.inner.catalog.load_table(&ident, uuid).await?;
            let round = upkeep.round(&self.inner.catalog, &table, announced).await?;
            Ok::<_, IngestError>(round)
        };
        let result = round.await;
        let mut tables = self.tables();
        let Some(table) = tables.get_mut(&uuid) else { return };
        table.upkeep = Some(upkeep);
        match &result {
            Ok(round) => {
                table.schedule.done(Instant::now(), signal, round);
                self.inner.telemetry.expired_snapshots.get_or_create(&table.of).inc_by(round.expired as u64);
                self.inner.telemetry.deleted_files.get_or_create(&table.of).inc_by(round.deleted as u64);
            }
            Err(_) => table.schedule.failed(Instant::now()),
        }
        table.note(result.err(), &self.inner.telemetry);
        drop(tables);
        self.show();
    }

    fn announced(&self, uuid: Uuid) -> AnnouncedUpTo {
        let record = self.inner.announced.get(&uuid.to_string());
        let snapshot = record.and_then(|record| Some((record.snapshot_id?, record.sequence_number)));
        snapshot.map_or(AnnouncedUpTo::Nothing, |(id, sequence_number)| AnnouncedUpTo::Snapshot { id, sequence_number })
    }

    fn last_announced(&self, uuid: Uuid) -> Option<i64> {
        self.inner.announced.get(&uuid.to_string())?.snapshot_id
    }

    /// Readiness names one table whose upkeep fails.
    fn show(&self) {
        let failing =
            self.tables().values().find_map(|table| Some(format!("{}: {}", table.ident, table.failure.as_ref()?)));
        match failing {
            Some(failure) => self.inner.check.down(failure),
            None => self.inner.check.up(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<Uuid, KeptTable>> {
        // Nothing under the lock leaves the map half changed.
        self.inner.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptTable {
    /// Logs a failure once, until it is another or over.
    fn note(&mut self, error: Option<IngestError>, telemetry: &IngestMetrics) {
        let failure = error.map(|error| (error.code(), report::chain(&error)));
        telemetry.upkeep_failed.get_or_create(&self.of).set(i64::from(failure.is_some()));
        let shown = failure.as_ref().map(|(code, text)| format!("[{code}] {text}"));
        match &failure {
            Some((code, error)) if shown != self.failure => {
                tracing::error!(table = self.of.table, code, error, "upkeep failed");
            }
            None if self.failure.is_some() => tracing::info!(table = self.of.table, "upkeep resumed"),
            _ => {}
        }
        self.failure = shown;
    }
}
