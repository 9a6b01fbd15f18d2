//! One table's life while it is ours: load, settle, read, gather, commit, again.
//!
//! In: the active contract as it changes, chunks of its topic. Out: commits. Whatever goes wrong, the table is loaded
//! anew and read from what it records: a commit that was fenced, a schema that changed, a broker or a disk that failed.
//! An error is logged once and shown by readiness and metrics until it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_bus::{Bus, BusError};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{Catalog, LakehouseError, Table, summary};
use mesh_proto::v1::ActiveContract;
use mesh_runtime::{Shutdown, Tasks};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::IngestSettings;
use crate::error::IngestError;
use crate::pipeline::commit::{Base, commit};
use crate::pipeline::dead_letters::{self, PendingDeadLetters};
use crate::pipeline::decode::avro::{self, SchemaId, Schemas};
use crate::pipeline::fetch::{Fetcher, Subscription};
use crate::pipeline::lag::Lag;
use crate::pipeline::plan::{RecordFormat, TablePlan, table_ident};
use crate::pipeline::schemas::SchemaLog;
use crate::pipeline::source_batch::{SourceBatch, SourceRecord};
use crate::pipeline::transform::{Transformed, schema_ids, transform};
use crate::pipeline::write::PendingRows;
use crate::telemetry::{IngestMetrics, Of, OfTable, Refused};

mod failure;
mod topic;

use failure::TableFailure;
use topic::{gone, in_the_log, partitions, same_topic, still_the_topic};

/// What all tables of a process share.
#[derive(Debug)]
pub struct Shared {
    /// Kafka.
    pub bus: Bus,
    /// The tables.
    pub catalog: Catalog,
    /// The one reader.
    pub fetcher: Fetcher,
    /// The registered schemas.
    pub schemas: SchemaLog,
    /// Offsets for monitors.
    pub lag: Lag,
    /// How records become commits.
    pub config: IngestSettings,
    /// What is counted.
    pub telemetry: IngestMetrics,
    /// Starts the tables' tasks, and what readiness shows of them.
    pub tasks: Tasks,
    /// Told when a table has a new start: who waits after an error tries at once.
    pub rebased: watch::Sender<u64>,
}

/// Why a session ended without an error.
enum SessionOutcome {
    /// The table is not ours any more, or the service stops.
    Stopped,
    /// The table or its contract moved: load anew.
    Reload,
}

/// Feeds a table until it is told to stop.
pub async fn run(shared: Arc<Shared>, mut contract: watch::Receiver<Arc<ActiveContract>>, stop: Shutdown) {
    let active = contract.borrow().clone();
    let mut failure = TableFailure::new(&shared, &active);
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
    plan: Arc<TablePlan>,
    base: Base,
    dead_letters: Table,
    subscription: Subscription,
    partitions: i32,
    pending_rows: Option<PendingRows>,
    /// Up to where the dead-letter table has them already.
    had: BTreeMap<i32, i64>,
    /// Schemas whose unknown fields were told.
    told: BTreeSet<SchemaId>,
}

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared, active: &ActiveContract) -> Result<Self, IngestError> {
        let table = load(&shared.catalog, active).await?;
        let dead_letters = shared.catalog.load(&table_ident(active.dead_letters.as_ref())).await?;
        let plan = TablePlan::new(active, &table)?;
        let topic = shared.bus.describe_topic(&plan.topic).await?;
        let source = TopicSource { cluster: shared.bus.cluster_id().to_owned(), topic: topic.id.to_string() };
        let base = Base::load(table, source).await?;
        same_topic(&base, &plan)?;
        let dead_letters = match PendingDeadLetters::of(&base.table, &base.recorded.summary)? {
            Some(pending) => pending.settle(&shared.catalog, &dead_letters).await?,
            None => dead_letters,
        };
        let had = dead_letters::had(&dead_letters, &base.source).await?;
        let starts: BTreeMap<i32, i64> = (0..topic.partitions).map(|p| (p, base.start(p).offset())).collect();
        in_the_log(&shared.bus, &plan, &starts).await?;
        let subscription = shared.fetcher.subscribe(&plan.topic, starts)?;
        let (plan, partitions) = (Arc::new(plan), topic.partitions);
        let (pending_rows, told) = (None, BTreeSet::new());
        Ok(Self { shared, plan, base, dead_letters, subscription, partitions, pending_rows, had, told })
    }

    /// The publisher changes the table before it publishes the revision: under the old one a new column's values would
    /// be left out.
    fn is_early(&self, active: &ActiveContract) -> bool {
        let of_table = self.base.table.property(summary::CONTRACT_REVISION).and_then(|text| text.parse::<i64>().ok());
        of_table.is_some_and(|revision| revision > active.revision)
    }

    async fn work(
        &mut self,
        contract: &mut watch::Receiver<Arc<ActiveContract>>,
        stop: &Shutdown,
        failure: &mut TableFailure,
    ) -> Result<SessionOutcome, IngestError> {
        let mut look = Instant::now() + self.shared.config.topic_check;
        loop {
            let due =
                self.pending_rows.as_ref().map(|pending_rows| pending_rows.since + self.shared.config.commit_interval);
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
                    let now = partitions(&self.shared.bus, &self.plan, &self.base).await?;
                    if now.is_some_and(|now| now > self.partitions) && self.pending_rows.is_none() { return Ok(SessionOutcome::Reload) }
                    look = Instant::now() + self.shared.config.topic_check;
                    // Nothing gathered and nothing wrong since the last look: what was wrong is over.
                    if self.pending_rows.is_none() { failure.over() }
                }
                chunk = self.subscription.next() => {
                    let chunk = chunk.map_err(|error| self.gone(error))?;
                    if let Some(offence) = self.take(chunk).await? {
                        // What came before is good.
                        let ended = self.commit(stop).await?;
                        return ended.ok_or(offence);
                    }
                    let full = self.pending_rows.as_ref().is_some_and(|g| g.records >= self.shared.config.commit_rows);
                    if full && let Some(ended) = self.commit(stop).await? { return Ok(ended) }
                }
            }
        }
    }

    /// Takes a chunk to files, up to a record that a closed contract does not know: the error is about that.
    async fn take(&mut self, mut chunk: SourceBatch) -> Result<Option<IngestError>, IngestError> {
        let mut done = self.transform(&mut chunk).await?;
        let offence = self.offence(&done, &chunk);
        if let Some((at, _)) = offence {
            chunk.truncate(at);
            done = self.transform(&mut chunk).await?;
        }
        if !chunk.is_empty() {
            let had = |record: SourceRecord<'_>| {
                self.had.get(&record.partition()).is_some_and(|next| record.offset() < *next)
            };
            done.refusals.retain(|record| !had(chunk.record(record)));
            self.tell(&done);
            let mut pending_rows = match self.pending_rows.take() {
                Some(pending_rows) => pending_rows,
                None => PendingRows::new(&self.base.table)?,
            };
            pending_rows.take(&chunk, done, &self.plan, &self.dead_letters).await?;
            self.pending_rows = Some(pending_rows);
        }
        Ok(offence.map(|(_, error)| error))
    }

    /// Decodes and checks off the async threads; the chunk comes back.
    async fn transform(&mut self, chunk: &mut SourceBatch) -> Result<Transformed, IngestError> {
        let schemas = match &self.plan.format {
            RecordFormat::Avro => self.shared.schemas.get(&schema_ids(chunk), self.shared.config.schema_wait).await,
            RecordFormat::Json(_) => Schemas::new(),
        };
        let (plan, records) = (self.plan.clone(), std::mem::take(chunk));
        let work = move || (transform(&records, &plan, &schemas), records);
        let done = tokio::task::spawn_blocking(work).await;
        let (done, records) = done.map_err(|_| IngestError::Stopped { what: "the decoding of a chunk" })?;
        *chunk = records;
        done.map_err(|source| IngestError::Columns { table: self.plan.table.clone(), source })
    }

    /// The first record whose schema has more than a closed contract, and the error about it.
    fn offence(&self, done: &Transformed, chunk: &SourceBatch) -> Option<(u32, IngestError)> {
        if !self.plan.closed {
            return None;
        }
        let fields = |id| done.unknown.iter().find(|(unknown, _)| *unknown == id);
        let (at, (schema, fields)) =
            chunk.records().find_map(|(at, record)| Some((at, fields(avro::schema_id(record.value()?)?)?)))?;
        let (table, fields) = (self.plan.table.clone(), fields.join(", "));
        Some((at, IngestError::ClosedContract { table, schema: schema.0, fields }))
    }

    /// Counts refusals, and says once per schema what the contract lacks.
    fn tell(&mut self, done: &Transformed) {
        let telemetry = &self.shared.telemetry;
        for (_, refusal) in done.refusals.iter() {
            let label = Refused { product: self.plan.product.clone(), reason: refusal.reason.word() };
            telemetry.refused.get_or_create(&label).inc();
        }
        for (schema, fields) in &done.unknown {
            if self.told.insert(*schema) {
                tracing::warn!(
                    table = self.plan.table,
                    schema = schema.0,
                    fields = fields.join(", "),
                    "the contract lacks fields that are written"
                );
                telemetry.unknown_fields.get_or_create(&self.of()).inc_by(fields.len() as u64);
            }
        }
    }

    /// Commits what is gathered; nothing gathered, nothing done.
    async fn commit(&mut self, stop: &Shutdown) -> Result<Option<SessionOutcome>, IngestError> {
        let Some(pending_rows) = self.pending_rows.take() else { return Ok(None) };
        let (summary, files) = pending_rows.close().await?;
        let Some(partitions) = still_the_topic(&self.shared.bus, &self.plan, &self.base, stop).await? else {
            return Ok(Some(SessionOutcome::Stopped));
        };
        let done = commit(&self.shared.catalog, &self.base, &self.dead_letters, &self.plan, &summary, files).await;
        self.base = match done {
            Ok(base) => base,
            Err(IngestError::Lakehouse(
                error @ (LakehouseError::Fenced { .. } | LakehouseError::SchemaChanged { .. }),
            )) => {
                self.shared.telemetry.fenced.get_or_create(&self.of()).inc();
                tracing::info!(table = self.plan.table, code = error.code(), reason = %error, "the table is loaded anew");
                return Ok(Some(SessionOutcome::Reload));
            }
            Err(error) => return Err(error),
        };
        // What the table says, not what we wrote: another writer may have committed the same range.
        if let Some(pending) = PendingDeadLetters::of(&self.base.table, &self.base.recorded.summary)? {
            self.dead_letters = pending.settle(&self.shared.catalog, &self.dead_letters).await?;
        }
        let telemetry = &self.shared.telemetry;
        telemetry.commits.get_or_create(&self.of()).inc();
        telemetry.rows.get_or_create(&self.of()).inc_by(summary.rows);
        telemetry.dead_letters.get_or_create(&self.of()).inc_by(summary.dead);
        let of = OfTable { product: self.plan.product.clone(), table: self.plan.table.clone() };
        self.shared.lag.note(of, &self.plan.topic, &self.base.next());
        // The plan shapes rows for the schema that it was made with; a busy table sees new partitions only here.
        let evolved = self.base.table.metadata().current_schema_id() != summary.schema_id;
        Ok((evolved || partitions > self.partitions).then_some(SessionOutcome::Reload))
    }

    /// An offset that the log does not hold, in the table's words.
    fn gone(&self, error: IngestError) -> IngestError {
        match error {
            IngestError::Bus(BusError::OffsetOutOfRange { partition, offset, low, high, .. }) => {
                gone(&self.plan, partition, offset, (low, high))
            }
            other => other,
        }
    }

    fn of(&self) -> Of {
        Of { product: self.plan.product.clone() }
    }
}

/// The table that a contract names, if it is that one still.
pub(crate) async fn load(catalog: &Catalog, active: &ActiveContract) -> Result<Table, IngestError> {
    let table = catalog.load(&table_ident(active.table.as_ref())).await?;
    let wanted = active.table.as_ref().map_or("", |table| table.uuid.as_str());
    let found = table.uuid().to_string();
    if wanted != found {
        let table = table.ident().to_string();
        return Err(IngestError::OtherTable { table, found, wanted: wanted.to_owned() });
    }
    Ok(table)
}
