//! One table's life while it is ours: load, settle, read, commit, again.
//!
//! In: the active contract as it changes, batches of its topic. Out: commits. Whatever goes wrong, the table is loaded
//! again and read from what it records: a commit that was fenced, a schema that changed, a broker or a disk that failed.
//! An error is logged once and shown by readiness and metrics until it is over.
//! The steps of a commit are [`TableProgress`]'s; here they meet the bus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Bus, BusError};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{Catalog, summary};
use mesh_proto::v1::ActiveContract;
use mesh_runtime::{Shutdown, Tasks};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::IngestSettings;
use crate::error::IngestError;
use crate::pipeline::decode::avro::{self, SchemaId, Schemas};
use crate::pipeline::fetch::{Fetcher, Subscription};
use crate::pipeline::lag::{Lag, LagOf};
use crate::pipeline::plan::{RecordFormat, table_name, topic_name};
use crate::pipeline::progress::{CommitVerdict, TableProgress};
use crate::pipeline::schemas::SchemaLog;
use crate::pipeline::source_batch::SourceBatch;
use crate::pipeline::topics::TopicDescriptions;
use crate::pipeline::transform::{Transformed, schema_ids, transform};
use crate::pipeline::write::{PendingRows, WriterBudget};
use crate::telemetry::{IngestMetrics, Of, OfTable, Refused};
use crate::upkeep::Upkeep;

mod failure;
mod topic;

use failure::TableFailure;
use topic::{first_offsets, in_the_log, not_in_the_log, partitions, still_the_topic};

/// What all tables of a process share.
#[derive(Debug)]
pub struct Shared {
    /// Kafka.
    pub bus: Bus,
    /// The topics' ids, with one request for many tables.
    pub topics: TopicDescriptions,
    /// The tables.
    pub catalog: Catalog,
    /// The one reader.
    pub fetcher: Fetcher,
    /// The registered schemas.
    pub schemas: SchemaLog,
    /// Offsets for monitors.
    pub lag: Lag,
    /// What the writers of all tables may hold in memory.
    pub budget: WriterBudget,
    /// How records become commits.
    pub config: IngestSettings,
    /// What is counted.
    pub telemetry: IngestMetrics,
    /// Starts the tables' tasks, and what readiness shows of them.
    pub tasks: Tasks,
    /// Expiry and retired metadata of the tables that are fed.
    pub upkeep: Upkeep,
    /// Changes when a table has a new start: a table that waits after an error tries at once.
    pub rebased: watch::Sender<u64>,
}

/// Why a session ended without an error.
enum SessionOutcome {
    /// The table is not ours any more, or the service stops.
    Stopped,
    /// The table or its contract changed: load it again.
    Reload,
}

/// Feeds a table until it is to stop.
pub async fn run(shared: Arc<Shared>, mut contract: watch::Receiver<Arc<ActiveContract>>, stop: Shutdown) {
    let active = contract.borrow().clone();
    let mut failure = TableFailure::new(&shared, &active);
    let of = OfTable { product: active.product.clone(), table: table_name(active.table.as_ref()).to_string() };
    let _reported = shared.lag.reported(of);
    let _keeping = shared.upkeep.keep(&active);
    let mut rebased = shared.rebased.subscribe();
    while !stop.is_requested() {
        let active = contract.borrow_and_update().clone();
        let session = async {
            let opened = tokio::select! {
                () = stop.requested() => return Ok(SessionOutcome::Stopped),
                opened = Session::open(&shared, &active) => opened,
            };
            let mut session = opened?;
            if session.is_early(&active) {
                tokio::select! {
                    () = stop.requested() => return Ok(SessionOutcome::Stopped),
                    changed = contract.changed() => return Ok(changed.map_or(SessionOutcome::Stopped, |()| SessionOutcome::Reload)),
                    () = sleep(shared.config.schema_wait) => {}
                }
            }
            session.work(&mut contract, &stop, &mut failure).await
        };
        match session.await {
            Ok(SessionOutcome::Stopped) => return,
            Ok(SessionOutcome::Reload) => {}
            Err(error) => {
                let pause = failure.note(&error);
                rebased.mark_unchanged();
                tokio::select! {
                    () = stop.requested() => return,
                    changed = contract.changed() => if changed.is_err() { return },
                    _ = rebased.changed() => {}
                    () = sleep(pause) => {}
                }
            }
        }
    }
}

/// From one loading of the table to the next.
struct Session<'a> {
    shared: &'a Shared,
    progress: TableProgress,
    subscription: Subscription,
    lag: LagOf,
    /// Schemas whose unknown fields were logged.
    logged: BTreeSet<SchemaId>,
}

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared, active: &ActiveContract) -> Result<Self, IngestError> {
        let topic = shared.topics.describe(topic_name(active)).await?;
        let source = TopicSource { cluster: shared.bus.cluster_id().to_owned(), topic: topic.id.to_string() };
        let mut progress = TableProgress::open(&shared.catalog, active, source, topic.partitions).await?;
        if progress.plan().from_earliest {
            let first = first_offsets(&shared.bus, progress.plan(), progress.positions()).await?;
            progress.start_at(&first);
        }
        let (topic, next) = (progress.plan().topic.clone(), progress.positions().next());
        in_the_log(&shared.bus, progress.plan(), &next).await?;
        let of = OfTable { product: progress.plan().product.clone(), table: progress.plan().table.clone() };
        let lag = shared.lag.of(of, &topic);
        lag.note(&next);
        let subscription = shared.fetcher.subscribe(&topic, next)?;
        Ok(Self { shared, progress, subscription, lag, logged: BTreeSet::new() })
    }

    /// The publisher changes the table before it publishes the revision: under the old one a new column's values would
    /// be left out.
    fn is_early(&self, active: &ActiveContract) -> bool {
        let of_table = self.progress.base().table.property(summary::CONTRACT_REVISION);
        let of_table = of_table.and_then(|text| text.parse::<i64>().ok());
        of_table.is_some_and(|revision| revision > active.revision)
    }

    fn commit_interval(&self) -> Duration {
        self.progress.plan().commit_interval.unwrap_or(self.shared.config.commit_interval)
    }

    async fn work(
        &mut self,
        contract: &mut watch::Receiver<Arc<ActiveContract>>,
        stop: &Shutdown,
        failure: &mut TableFailure,
    ) -> Result<SessionOutcome, IngestError> {
        let interval = self.commit_interval();
        let mut look = Instant::now() + self.shared.config.topic_check;
        loop {
            let due = self.progress.pending().map(|pending| pending.since + interval);
            tokio::select! {
                biased;
                () = stop.requested() => {
                    self.commit(stop).await?;
                    return Ok(SessionOutcome::Stopped);
                }
                changed = contract.changed() => {
                    return Ok(if changed.is_ok() { SessionOutcome::Reload } else { SessionOutcome::Stopped });
                }
                () = sleep_until(due.unwrap_or(look)), if due.is_some() => {
                    if let Some(ended) = self.commit(stop).await? { return Ok(ended) }
                    failure.over();
                }
                () = sleep_until(look) => {
                    if self.progress.pending().is_none() {
                        if self.changed_at_rest().await? { return Ok(SessionOutcome::Reload) }
                        // Nothing pending and no error since the last look: what was wrong is over.
                        failure.over();
                    }
                    look = Instant::now() + self.shared.config.topic_check;
                }
                batch = self.subscription.next() => {
                    let batch = batch.map_err(|error| self.explain(error))?;
                    if let Some(offence) = self.take(batch).await? {
                        // What came before is good.
                        let ended = self.commit(stop).await?;
                        return ended.ok_or(offence);
                    }
                    if self.is_full() && let Some(ended) = self.commit(stop).await? { return Ok(ended) }
                }
            }
        }
    }

    /// Enough records for a commit, or the writers of all tables hold more than they may: this one has just added to it.
    fn is_full(&self) -> bool {
        let full = |pending: &PendingRows| {
            pending.records >= self.shared.config.commit_rows || self.shared.budget.is_exceeded()
        };
        self.progress.pending().is_some_and(full)
    }

    /// While nothing comes: new partitions, another topic of the name (an error), a table that was rolled back.
    async fn changed_at_rest(&mut self) -> Result<bool, IngestError> {
        let now = partitions(&self.shared.topics, self.progress.plan(), self.progress.positions().source()).await?;
        let grown = now.is_some_and(|now| now > self.progress.positions().partitions());
        Ok(grown || !self.progress.is_current().await?)
    }

    /// Takes a batch to files, up to a record that a closed contract does not know: the error is about that.
    async fn take(&mut self, mut batch: SourceBatch) -> Result<Option<IngestError>, IngestError> {
        let mut offence = None;
        if batch.has_records() {
            let mut done = self.transform(&mut batch).await?;
            offence = self.offence(&done, &batch);
            if let Some((at, _)) = offence {
                batch.truncate(at);
                done = self.transform(&mut batch).await?;
            }
            if batch.has_records() {
                self.log_unknown_fields(&done);
                let refused = self.progress.take(&batch, done).await?;
                for (reason, count) in refused {
                    let label = Refused { product: self.progress.plan().product.clone(), reason };
                    self.shared.telemetry.refused.get_or_create(&label).inc_by(count);
                }
                self.progress.account(&self.shared.budget);
            }
        }
        self.progress.reach(batch.reached())?;
        Ok(offence.map(|(_, error)| error))
    }

    /// Decodes and checks off the async threads; the batch comes back.
    async fn transform(&mut self, batch: &mut SourceBatch) -> Result<Transformed, IngestError> {
        let plan = self.progress.plan().clone();
        let schemas = match &plan.format {
            RecordFormat::Avro => self.shared.schemas.get(&schema_ids(batch), self.shared.config.schema_wait).await,
            RecordFormat::Json(_) => Schemas::new(),
        };
        let (table, records) = (plan.table.clone(), std::mem::take(batch));
        let work = move || (transform(&records, &plan, &schemas), records);
        let done = tokio::task::spawn_blocking(work).await;
        let (done, records) = done.map_err(|_| IngestError::Stopped { what: "the decoding of a batch" })?;
        *batch = records;
        done.map_err(|source| IngestError::Columns { table, source })
    }

    /// The first record whose schema has more than a closed contract, and the error about it.
    fn offence(&self, done: &Transformed, batch: &SourceBatch) -> Option<(u32, IngestError)> {
        let plan = self.progress.plan();
        if !plan.closed {
            return None;
        }
        let fields = |id| done.unknown.iter().find(|(unknown, _)| *unknown == id);
        let (at, (schema, fields)) =
            batch.records().find_map(|(at, record)| Some((at, fields(avro::schema_id(record.value()?)?)?)))?;
        let (table, fields) = (plan.table.clone(), fields.join(", "));
        Some((at, IngestError::ClosedContract { table, schema: schema.0, fields }))
    }

    /// Logs once per schema what the contract lacks.
    fn log_unknown_fields(&mut self, done: &Transformed) {
        for (schema, fields) in &done.unknown {
            if self.logged.insert(*schema) {
                tracing::warn!(
                    table = self.progress.plan().table,
                    schema = schema.0,
                    fields = fields.join(", "),
                    "contract lacks fields"
                );
                self.shared.telemetry.unknown_fields.get_or_create(&self.of()).inc_by(fields.len() as u64);
            }
        }
    }

    /// Commits what is pending; nothing pending, nothing done.
    async fn commit(&mut self, stop: &Shutdown) -> Result<Option<SessionOutcome>, IngestError> {
        let Some(closed) = self.progress.close().await? else { return Ok(None) };
        let (plan, source) = (self.progress.plan(), self.progress.positions().source());
        let Some(partitions) = still_the_topic(&self.shared.topics, plan, source, stop).await? else {
            return Ok(Some(SessionOutcome::Stopped));
        };
        let (rows, dead, schema_id) = (closed.summary.rows, closed.summary.dead, closed.summary.schema_id);
        let telemetry = &self.shared.telemetry;
        if let CommitVerdict::Fenced(error) = self.progress.commit(closed).await? {
            telemetry.fenced.get_or_create(&self.of()).inc();
            return Ok(Some(self.reload(&format!("[{}] {error}", error.code()))));
        }
        self.progress.settle().await?;
        telemetry.commits.get_or_create(&self.of()).inc();
        telemetry.rows.get_or_create(&self.of()).inc_by(rows);
        telemetry.dead_letters.get_or_create(&self.of()).inc_by(dead);
        if let Some(reason) = self.progress.outdated(schema_id) {
            return Ok(Some(self.reload(reason)));
        }
        self.lag.note(&self.progress.positions().next());
        // A busy table sees new partitions only here.
        Ok((partitions > self.progress.positions().partitions()).then_some(SessionOutcome::Reload))
    }

    fn reload(&self, reason: &str) -> SessionOutcome {
        tracing::info!(table = self.progress.plan().table, reason, "table reloaded");
        SessionOutcome::Reload
    }

    /// An offset that the log does not hold, as an error of this table.
    fn explain(&self, error: IngestError) -> IngestError {
        match error {
            IngestError::Bus(BusError::OffsetOutOfRange { partition, offset, low, high, .. }) => {
                not_in_the_log(self.progress.plan(), partition, offset, (low, high))
            }
            other => other,
        }
    }

    fn of(&self) -> Of {
        Of { product: self.progress.plan().product.clone() }
    }
}
