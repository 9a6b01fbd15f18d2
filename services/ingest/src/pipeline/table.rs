//! One table's life while it is ours: load, settle, read, gather, commit, again.
//!
//! In: the active contract as it changes, chunks of its topic. Out: commits. Whatever goes wrong, the table is loaded
//! anew and read from what it records: a commit that was fenced, a schema that changed, a broker or a disk that failed.
//! An error is logged once and shown by readiness and metrics until it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Bus, BusError};
use mesh_lakehouse::offsets::Source;
use mesh_lakehouse::{Catalog, Error as TableError, Table, summary};
use mesh_proto::v1::ActiveContract;
use mesh_runtime::{Check, Health, Shutdown, report};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::pipeline::chunk::{Chunk, Record};
use crate::pipeline::commit::{Base, commit};
use crate::pipeline::dead_letters::{self, Pending};
use crate::pipeline::decode::avro::{self, SchemaId, Schemas};
use crate::pipeline::fetch::{Fetcher, Subscription};
use crate::pipeline::lag::Lag;
use crate::pipeline::plan::{Format, Plan, table_ident, table_name};
use crate::pipeline::schemas::SchemaLog;
use crate::pipeline::transform::{Transformed, schema_ids, transform};
use crate::pipeline::write::Gathered;
use crate::telemetry::{Of, OfTable, Refused, Telemetry};

const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks for a broker that is gone.
const BROKER_PAUSE: Duration = Duration::from_secs(1);
/// An error that did not come for so long is news again.
const FORGOTTEN: Duration = Duration::from_secs(600);

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
    pub config: IngestConfig,
    /// What is counted.
    pub telemetry: Telemetry,
    /// What readiness shows.
    pub health: Health,
    /// Told when a table has a new start: who waits after an error tries at once.
    pub rebased: watch::Sender<u64>,
}

/// Why a session ended without an error.
enum Ended {
    /// The table is not ours any more, or the service stops.
    Stopped,
    /// The table or its contract moved: load anew.
    Moved,
}

/// Feeds a table until it is told to stop.
pub async fn run(shared: Arc<Shared>, mut contract: watch::Receiver<Arc<ActiveContract>>, stop: Shutdown) {
    let active = contract.borrow().clone();
    let mut trouble = Trouble::new(&shared, &active);
    let mut rebased = shared.rebased.subscribe();
    while !stop.is_requested() {
        let active = contract.borrow_and_update().clone();
        let session = async {
            let opened = tokio::select! {
                () = stop.requested() => return Ok(Ended::Stopped),
                opened = Session::open(&shared, &active) => opened,
            };
            let mut session = opened?;
            if session.is_early(&active) {
                tokio::select! {
                    () = stop.requested() => return Ok(Ended::Stopped),
                    changed = contract.changed() => return Ok(changed.map_or(Ended::Stopped, |()| Ended::Moved)),
                    () = sleep(shared.config.schema_wait) => {}
                }
            }
            session.work(&mut contract, &stop, &mut trouble).await
        };
        match session.await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Moved) => {}
            Err(error) => {
                let pause = trouble.note(&error);
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

/// An error that lasts, or comes again and again: logged once until it is another one, shown while it lasts.
struct Trouble {
    of: OfTable,
    telemetry: Telemetry,
    check: Check,
    last: Option<Noted>,
    /// The log says that the table is not fed.
    told: bool,
}

/// The last error.
struct Noted {
    /// What it is known by.
    mark: String,
    at: Instant,
    /// How long to wait before the next try.
    pause: Duration,
}

impl Trouble {
    fn new(shared: &Shared, active: &ActiveContract) -> Self {
        let table = table_name(active.table.as_ref()).to_string();
        let check = shared.health.check(format!("table:{table}"));
        check.up();
        let of = OfTable { product: active.product.clone(), table };
        Self { of, telemetry: shared.telemetry.clone(), check, last: None, told: false }
    }

    fn note(&mut self, error: &IngestError) -> Duration {
        let text = report::chain(error);
        self.check.down(format!("[{}] {text}", error.code()));
        self.telemetry.stopped.get_or_create(&self.of).set(1);
        // The same again, though something went well in between: a record that always fails comes after good ones.
        let mark = mark(&text);
        let again = self.last.take().filter(|last| last.mark == mark && last.at.elapsed() < FORGOTTEN);
        if again.is_none() {
            tracing::error!(table = self.of.table, code = error.code(), error = text, "the table is not fed");
            self.told = true;
        }
        let pause = again.map_or(PAUSE, |last| (last.pause * 2).min(LONGEST_PAUSE));
        self.last = Some(Noted { mark, at: Instant::now(), pause });
        pause
    }

    fn over(&mut self) {
        if std::mem::take(&mut self.told) {
            tracing::info!(table = self.of.table, "the table is fed again");
        }
        self.check.up();
        self.telemetry.stopped.get_or_create(&self.of).set(0);
    }
}

/// An error's text without the names of files, which are new with each try; their folders tell tables apart.
fn mark(text: &str) -> String {
    let folder = |word: &str| word.rsplit_once('/').map_or(word, |(folder, _)| folder).to_owned();
    text.split(' ').map(folder).collect::<Vec<_>>().join(" ")
}

impl Drop for Trouble {
    /// The table goes to another process, or is no more: what stopped it is not stopped here.
    fn drop(&mut self) {
        self.telemetry.stopped.get_or_create(&self.of).set(0);
    }
}

/// From one loading of the table to the next.
struct Session<'a> {
    shared: &'a Shared,
    plan: Arc<Plan>,
    base: Base,
    dead_letters: Table,
    subscription: Subscription,
    partitions: i32,
    gathered: Option<Gathered>,
    /// Up to where the dead-letter table has them already.
    had: BTreeMap<i32, i64>,
    /// Schemas whose unknown fields were told.
    told: BTreeSet<SchemaId>,
}

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared, active: &ActiveContract) -> Result<Self, IngestError> {
        let table = load(&shared.catalog, active).await?;
        let dead_letters = shared.catalog.load(&table_ident(active.dead_letters.as_ref())).await?;
        let plan = Plan::new(active, &table)?;
        let topic = shared.bus.describe_topic(&plan.topic).await?;
        let source = Source { cluster: shared.bus.cluster_id().to_owned(), topic: topic.id.to_string() };
        let base = Base::load(table, source).await?;
        same_topic(&base, &plan)?;
        let dead_letters = match Pending::of(&base.table, &base.recorded.summary)? {
            Some(pending) => pending.settle(&shared.catalog, &dead_letters).await?,
            None => dead_letters,
        };
        let had = dead_letters::had(&dead_letters, &base.source).await?;
        let starts: BTreeMap<i32, i64> = (0..topic.partitions).map(|p| (p, base.start(p).offset())).collect();
        in_the_log(&shared.bus, &plan, &starts).await?;
        let subscription = shared.fetcher.subscribe(&plan.topic, starts)?;
        let (plan, partitions) = (Arc::new(plan), topic.partitions);
        let (gathered, told) = (None, BTreeSet::new());
        Ok(Self { shared, plan, base, dead_letters, subscription, partitions, gathered, had, told })
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
        trouble: &mut Trouble,
    ) -> Result<Ended, IngestError> {
        let mut look = Instant::now() + self.shared.config.topic_check;
        loop {
            let due = self.gathered.as_ref().map(|gathered| gathered.since + self.shared.config.commit_interval);
            tokio::select! {
                biased;
                () = stop.requested() => {
                    self.commit(stop).await?;
                    return Ok(Ended::Stopped);
                }
                changed = contract.changed() => {
                    return Ok(if changed.is_ok() { Ended::Moved } else { Ended::Stopped });
                }
                () = sleep_until(due.unwrap_or(look)), if due.is_some() => {
                    if let Some(ended) = self.commit(stop).await? { return Ok(ended) }
                    trouble.over();
                }
                () = sleep_until(look) => {
                    let now = partitions(&self.shared.bus, &self.plan, &self.base).await?;
                    if now.is_some_and(|now| now > self.partitions) && self.gathered.is_none() { return Ok(Ended::Moved) }
                    look = Instant::now() + self.shared.config.topic_check;
                    // Nothing gathered and nothing wrong since the last look: what was wrong is over.
                    if self.gathered.is_none() { trouble.over() }
                }
                chunk = self.subscription.next() => {
                    let chunk = chunk.map_err(|error| self.gone(error))?;
                    if let Some(offence) = self.take(chunk).await? {
                        // What came before is good.
                        let ended = self.commit(stop).await?;
                        return ended.ok_or(offence);
                    }
                    let full = self.gathered.as_ref().is_some_and(|g| g.records >= self.shared.config.commit_rows);
                    if full && let Some(ended) = self.commit(stop).await? { return Ok(ended) }
                }
            }
        }
    }

    /// Takes a chunk to files, up to a record that a closed contract does not know: the error is about that.
    async fn take(&mut self, mut chunk: Chunk) -> Result<Option<IngestError>, IngestError> {
        let mut done = self.transform(&mut chunk).await?;
        let offence = self.offence(&done, &chunk);
        if let Some((at, _)) = offence {
            chunk.truncate(at);
            done = self.transform(&mut chunk).await?;
        }
        if !chunk.is_empty() {
            let had =
                |record: Record<'_>| self.had.get(&record.partition()).is_some_and(|next| record.offset() < *next);
            done.refusals.retain(|record| !had(chunk.record(record)));
            self.tell(&done);
            let mut gathered = match self.gathered.take() {
                Some(gathered) => gathered,
                None => Gathered::new(&self.base.table)?,
            };
            gathered.take(&chunk, done, &self.plan, &self.dead_letters).await?;
            self.gathered = Some(gathered);
        }
        Ok(offence.map(|(_, error)| error))
    }

    /// Decodes and checks off the async threads; the chunk comes back.
    async fn transform(&mut self, chunk: &mut Chunk) -> Result<Transformed, IngestError> {
        let schemas = match &self.plan.format {
            Format::Avro => self.shared.schemas.get(&schema_ids(chunk), self.shared.config.schema_wait).await,
            Format::Json(_) => Schemas::new(),
        };
        let (plan, records) = (self.plan.clone(), std::mem::take(chunk));
        let work = move || (transform(&records, &plan, &schemas), records);
        let done = tokio::task::spawn_blocking(work).await;
        let (done, records) = done.map_err(|_| IngestError::Stopped { what: "the decoding of a chunk" })?;
        *chunk = records;
        done.map_err(|source| IngestError::Columns { table: self.plan.table.clone(), source })
    }

    /// The first record whose schema has more than a closed contract, and the error about it.
    fn offence(&self, done: &Transformed, chunk: &Chunk) -> Option<(u32, IngestError)> {
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
    async fn commit(&mut self, stop: &Shutdown) -> Result<Option<Ended>, IngestError> {
        let Some(gathered) = self.gathered.take() else { return Ok(None) };
        let (summary, files) = gathered.close().await?;
        let Some(partitions) = still_the_topic(&self.shared.bus, &self.plan, &self.base, stop).await? else {
            return Ok(Some(Ended::Stopped));
        };
        let done = commit(&self.shared.catalog, &self.base, &self.dead_letters, &self.plan, &summary, files).await;
        self.base = match done {
            Ok(base) => base,
            Err(IngestError::Lakehouse(error @ (TableError::Fenced { .. } | TableError::SchemaChanged { .. }))) => {
                self.shared.telemetry.fenced.get_or_create(&self.of()).inc();
                tracing::info!(table = self.plan.table, code = error.code(), reason = %error, "the table is loaded anew");
                return Ok(Some(Ended::Moved));
            }
            Err(error) => return Err(error),
        };
        // What the table says, not what we wrote: another writer may have committed the same range.
        if let Some(pending) = Pending::of(&self.base.table, &self.base.recorded.summary)? {
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
        Ok((evolved || partitions > self.partitions).then_some(Ended::Moved))
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

/// Before offsets are recorded: they are of the topic that was read, which has so many partitions now. Waits for a broker
/// that is gone; nothing if the service is to stop before it is back: the records are read again.
async fn still_the_topic(bus: &Bus, plan: &Plan, base: &Base, stop: &Shutdown) -> Result<Option<i32>, IngestError> {
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
async fn partitions(bus: &Bus, plan: &Plan, base: &Base) -> Result<Option<i32>, IngestError> {
    match bus.describe_topic(&plan.topic).await {
        Ok(topic) if topic.id.to_string() == base.source.topic => Ok(Some(topic.partitions)),
        Ok(topic) => Err(recreated(plan, &base.source.topic, &topic.id.to_string())),
        Err(BusError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
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

/// Offsets of another topic than the one to be read stop the table.
fn same_topic(base: &Base, plan: &Plan) -> Result<(), IngestError> {
    let mut others = base.recorded.offsets.iter().map(|(source, ..)| source).filter(|source| *source != base.source);
    let known = base.recorded.offsets.iter().any(|(source, ..)| source == base.source);
    match others.next() {
        Some(other) if !known => Err(recreated(plan, &other.topic, &base.source.topic)),
        _ => Ok(()),
    }
}

/// Records that come next are in the log, or after its end. The reader cannot always tell: it starts where the table
/// that is furthest behind wants to.
async fn in_the_log(bus: &Bus, plan: &Plan, starts: &BTreeMap<i32, i64>) -> Result<(), IngestError> {
    for (partition, offset) in starts {
        let (low, high) = bus.watermarks(&plan.topic, *partition).await?;
        if *offset < low || *offset > high {
            return Err(gone(plan, *partition, *offset, (low, high)));
        }
    }
    Ok(())
}

fn gone(plan: &Plan, partition: i32, offset: i64, (low, high): (i64, i64)) -> IngestError {
    let (product, table, topic) = (plan.product.clone(), plan.table.clone(), plan.topic.clone());
    IngestError::OffsetGone { product, table, topic, partition, offset, low, high }
}

fn recreated(plan: &Plan, recorded: &str, found: &str) -> IngestError {
    IngestError::TopicRecreated {
        product: plan.product.clone(),
        table: plan.table.clone(),
        topic: plan.topic.clone(),
        recorded: recorded.to_owned(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mesh_runtime::Metrics;

    use super::*;

    #[test]
    fn a_stopped_major_is_shown_while_the_other_is_fed() {
        let (metrics, health) = (Metrics::new(), Health::new());
        let telemetry = Telemetry::register(&metrics);
        let of = |table: &str| OfTable { product: "d.p".into(), table: table.into() };
        let trouble = |table: &str| Trouble {
            of: of(table),
            telemetry: telemetry.clone(),
            check: health.check(format!("table:{table}")),
            last: None,
            told: false,
        };
        let (mut one, mut two) = (trouble("d.p_v1"), trouble("d.p_v2"));
        one.note(&IngestError::Stopped { what: "it" });
        two.over();
        let stopped = ["d.p_v1", "d.p_v2"].map(|table| telemetry.stopped.get_or_create(&of(table)).get());
        assert_eq!(stopped, [1, 0]);
    }

    #[test]
    fn an_error_that_comes_again_is_told_once_and_tried_ever_more_rarely() {
        let (metrics, health) = (Metrics::new(), Health::new());
        let mut trouble = Trouble {
            of: OfTable { product: "d.p".into(), table: "d.t".into() },
            telemetry: Telemetry::register(&metrics),
            check: health.check("table:d.t"),
            last: None,
            told: false,
        };
        let error = |what| IngestError::Stopped { what };
        assert_eq!(trouble.note(&error("one")), PAUSE);
        assert!(trouble.told && !health.is_ready());
        // A commit went well, then the same record comes again.
        trouble.over();
        assert!(health.is_ready());
        assert_eq!(trouble.note(&error("one")), PAUSE * 2);
        assert!(!trouble.told && !health.is_ready(), "shown, not told again");
        let pauses: Vec<Duration> = (0..10).map(|_| trouble.note(&error("one"))).collect();
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(trouble.note(&error("another")), PAUSE);
        assert!(trouble.told);
        trouble.over();
        // Each try has files of its own.
        assert_eq!(trouble.note(&error("the writing of file:///w/d/t/data/1.parquet")), PAUSE);
        assert_eq!(trouble.note(&error("the writing of file:///w/d/t/data/2.parquet")), PAUSE * 2);
        assert_eq!(trouble.note(&error("the writing of file:///w/d/t/metadata/3.avro")), PAUSE);
    }
}
