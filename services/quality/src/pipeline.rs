//! From a table that moved to a verdict and an incident. The stages, in order:
//!
//! 0. [`watch`]: which tables moved
//! 1. `checks`: what their contracts ask for
//! 2. `measure` (with `condition`): how many rows meet each condition
//! 3. `judge`: numbers against the contract
//! 4. `freshness`: the clock against the contract
//! 5. `emit`: verdicts
//! 6. `incident`: what follows from them
//!
//! `round` takes one table through them, `memory` and `table` are what is known in between, and `run` decides
//! whose turn it is: one loop, a few tables at once, no task or timer for a product of its own.

mod checks;
mod condition;
mod emit;
mod freshness;
mod incident;
mod judge;
mod measure;
mod memory;
mod round;
mod table;
mod totals;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use mesh_bus::{Bus, Partitions, Producer, View, ViewChange};
use mesh_lakehouse::Catalog;
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Verdict};
use mesh_runtime::{Shutdown, fault};
use tokio::time::MissedTickBehavior;

use crate::config::Judge;
use crate::error::{self, QualityError};
use crate::telemetry::QualityMetrics;
use checks::Subject;
use measure::Engine;
use memory::Memory;
use table::{Stage, TableState};
use watch::Notice;

/// What every stage may use; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) catalog: Catalog,
    pub(crate) producer: Producer,
    pub(crate) metrics: QualityMetrics,
    pub(crate) judge: Judge,
}

/// The checks of a contract, before anything was judged.
pub(crate) fn blank_verdicts(active: &ActiveContract) -> Vec<Verdict> {
    let subject = Subject::of(active);
    let blank = |check| Verdict { judged_at: None, ..emit::blank(&subject, check) };
    subject.checks.iter().map(blank).collect()
}

type Judged = (String, TableState, Result<(), QualityError>);

/// Judges until the shutdown. An error restarts it from what the bus and the tables have.
pub(crate) async fn run(parts: Parts, stop: Shutdown) -> Result<(), QualityError> {
    let engine = Engine::new(parts.judge.memory_bytes)?;
    let (reader, view, mut desk) = tokio::select! {
        () = stop.requested() => return Ok(()),
        recovered = recover(&parts) => recovered?,
    };
    let (contracts, mut changes) = view.follow();
    desk.reset(&contracts);
    if view.unreadable().is_empty() {
        // Checks of contracts that were retired while the service was down.
        emit::incidents(&parts, &mut desk.memory, &[]).await?;
    }
    let mut tick = tokio::time::interval(parts.judge.tick);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running: FuturesUnordered<BoxFuture<'static, Judged>> = FuturesUnordered::new();
    loop {
        desk.start(&engine, &mut running);
        tokio::select! {
            () = stop.requested() => break,
            batch = reader.next(1_000) => {
                for message in batch.map_err(error::bus("read product changes"))?.iter() {
                    desk.notice(watch::read(message)?);
                }
            }
            change = changes.next() => desk.contract(change.map_err(error::bus("follow the contracts"))?),
            Some((key, state, result)) = running.next() => {
                desk.finish(key, state);
                result?;
            }
            _ = tick.tick() => {
                desk.tick();
            }
        }
    }
    // What is under way is finished: its verdicts would only be emitted again.
    while let Some((_, _, result)) = running.next().await {
        result?;
    }
    Ok(())
}

/// What there was before this run: changes from now on, contracts, last verdicts.
async fn recover(parts: &Parts) -> Result<(Partitions, View<ActiveContract>, Desk), QualityError> {
    // The reader is placed before the tables are loaded, so that no change falls in between.
    let reader = watch::from_now(&parts.bus).await?;
    let view = parts.bus.view::<ActiveContract>(topics::CONTRACTS, |contract| contract.revision).await;
    let view = view.map_err(error::bus("follow the contracts"))?;
    // A contract that cannot be read leaves its product under the revision before, or unjudged: readiness shows it as the
    // view's, and the others are judged all the same.
    let _ = view.loaded().await;
    let memory = Memory::recover(&parts.bus, parts.judge.recover_records).await?;
    fault::point("quality.recover.done");
    Ok((reader, view, Desk::new(parts.clone(), memory)))
}

/// Every table of an active contract, those that are being judged aside.
struct Desk {
    parts: Parts,
    /// Last verdicts of checks whose contract is not (or no longer) active.
    memory: Memory,
    /// By key of `mesh.contracts`; `None` while it is being judged.
    tables: BTreeMap<String, Option<TableState>>,
    /// By `namespace.name`.
    by_table: BTreeMap<String, String>,
    /// Tables to look at: something happened to them, or the clock found them due.
    candidates: BTreeSet<String>,
    /// What happened to a table while it was being judged.
    meanwhile: BTreeMap<String, Vec<Meanwhile>>,
}

enum Meanwhile {
    Noticed(Notice),
    Replaced(Box<Subject>),
    Retired,
}

impl Desk {
    fn new(parts: Parts, memory: Memory) -> Self {
        Self {
            parts,
            memory,
            tables: BTreeMap::new(),
            by_table: BTreeMap::new(),
            candidates: BTreeSet::new(),
            meanwhile: BTreeMap::new(),
        }
    }

    /// These are the contracts now.
    fn reset(&mut self, contracts: &BTreeMap<String, Arc<ActiveContract>>) {
        let retired: Vec<String> = self.tables.keys().filter(|key| !contracts.contains_key(*key)).cloned().collect();
        for key in retired {
            self.happened(&key, Meanwhile::Retired);
        }
        for (key, contract) in contracts {
            self.activate(key, contract);
        }
    }

    fn contract(&mut self, change: ViewChange<ActiveContract>) {
        match change {
            ViewChange::Set { key, value, .. } => self.activate(&key, &value),
            ViewChange::Removed { key, .. } => self.happened(&key, Meanwhile::Retired),
            ViewChange::Resync(all) => self.reset(&all),
        }
    }

    fn activate(&mut self, key: &str, contract: &ActiveContract) {
        let subject = Subject::of(contract);
        if subject.is_unreadable() {
            tracing::error!(contract = key, revision = contract.revision, "contract not read");
            self.parts.metrics.unreadable_contracts.inc();
        }
        self.by_table.insert(watch::table_name(&subject.table), key.to_owned());
        if self.tables.contains_key(key) {
            return self.happened(key, Meanwhile::Replaced(Box::new(subject)));
        }
        let memory = self.memory.take(&subject.prefix());
        self.tables.insert(key.to_owned(), Some(TableState::new(subject, memory, Instant::now())));
        self.candidates.insert(key.to_owned());
        self.count_tables();
    }

    fn notice(&mut self, notice: Option<Notice>) {
        let Some(notice) = notice else { return };
        // No contract yet: when it comes, the table is looked at anyway.
        let Some(key) = self.by_table.get(&notice.table).cloned() else { return };
        self.happened(&key, Meanwhile::Noticed(notice));
    }

    fn happened(&mut self, key: &str, what: Meanwhile) {
        match self.tables.get_mut(key) {
            Some(Some(state)) => {
                apply(state, what);
                self.candidates.insert(key.to_owned());
            }
            Some(None) => self.meanwhile.entry(key.to_owned()).or_default().push(what),
            None => {}
        }
    }

    /// Finds what time has made due.
    fn tick(&mut self) {
        let at = Instant::now();
        let now = Utc::now();
        let due = self.tables.iter().filter(|(_, slot)| slot.as_ref().is_some_and(|state| state.is_due(at, now)));
        self.candidates.extend(due.map(|(key, _)| key.clone()));
        let open = |state: &TableState| state.memory.open_incidents();
        let open: usize = self.tables.values().flatten().map(open).sum();
        self.parts.metrics.open_incidents.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Hands out what is due, as far as there are workers. What is not due yet, the clock will find.
    fn start(&mut self, engine: &Engine, running: &mut FuturesUnordered<BoxFuture<'static, Judged>>) {
        let at = Instant::now();
        let now = Utc::now();
        while running.len() < self.parts.judge.workers
            && let Some(key) = self.candidates.pop_first()
        {
            let slot = self.tables.get_mut(&key);
            let Some(mut state) = slot.and_then(|slot| slot.take_if(|state| state.is_due(at, now))) else { continue };
            let parts = self.parts.clone();
            let engine = engine.clone();
            running.push(Box::pin(async move {
                let result = round::run(&parts, &engine, &mut state).await;
                (key, state, result)
            }));
        }
        self.parts.metrics.waiting.set(i64::try_from(self.candidates.len()).unwrap_or(i64::MAX));
    }

    fn finish(&mut self, key: String, mut state: TableState) {
        for what in self.meanwhile.remove(&key).unwrap_or_default() {
            apply(&mut state, what);
        }
        if state.stage() == Stage::Closed {
            self.tables.remove(&key);
            self.memory.put(state.memory);
            return self.count_tables();
        }
        self.candidates.insert(key.clone());
        self.tables.insert(key, Some(state));
    }

    fn count_tables(&self) {
        self.parts.metrics.tables.set(i64::try_from(self.tables.len()).unwrap_or(i64::MAX));
    }
}

fn apply(state: &mut TableState, what: Meanwhile) {
    match what {
        Meanwhile::Noticed(notice) => state.notice(notice.sequence, notice.committed_at),
        Meanwhile::Replaced(subject) => state.replace(*subject, Instant::now()),
        Meanwhile::Retired => state.retire(),
    }
}
