//! ingest turns a contracted topic into an Iceberg table, exactly once.
//!
//! In: the topics that `mesh.contracts` names; `mesh.contracts` (which tables there are, and what is true of their
//! rows), `mesh.announced` (what upkeep may expire), `mesh.schemas` (what Avro values were written with), the group over `mesh.ingest-shards` (which tables are
//! ours), `mesh.principals` (who may ask for a new start). Out: rows and dead letters in tables; consumer-group offsets
//! for lag monitors; spans; `mesh.audit`, when a table is given a new start. No other topic is written.
//!
//! Invariants, by their ids in the design:
//! - **EXACTLY-ONCE** rows and dead letters together are the records of [start, recorded), each once;
//! - **OFFSETS-TRAVEL** a commit that moves an offset makes a snapshot that records it, empty if need be;
//! - **FENCED** a commit on a base that another writer moved is given up, and the table is loaded again;
//! - **NEVER-SILENT** what cannot be decoded or checked is a dead letter or stops its table with a code;
//! - **AT-REST** without new records nothing is committed, traced or written.
//!
//! A crash loses nothing and doubles nothing, wherever it hits: offsets live in the table, so the next start reads on
//! from the last commit; files of a commit that was not made are orphans; dead-letter files that a commit names
//! and the dead-letter table lacks are committed there before anything else ([`FAULT_POINTS`] are the moments that
//! tests try).

pub mod config;
pub mod door;
pub mod error;
pub mod pipeline;
pub mod rebase;
pub mod telemetry;
pub mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_bus::{Bus, ProducerOptions, ShardOptions, Shards, SpanExporter};
use mesh_lakehouse::Catalog;
use mesh_lakehouse::maintenance::ExpirePolicy;
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Announced, Principal};
use mesh_runtime::telemetry::AnyExporter;
use mesh_runtime::{Context, Metrics, Restart, Service, Shutdown, Supervisor, part};

pub use config::IngestConfig;
pub use error::IngestError;

use door::IngestListener;
use pipeline::assign::Assign;
use pipeline::fetch::{Fetcher, Router};
use pipeline::lag::Lag;
use pipeline::schemas::SchemaLog;
use pipeline::table::Shared;
use pipeline::topics::TopicDescriptions;
use pipeline::write::WriterBudget;
use rebase::Rebaser;
use telemetry::IngestMetrics;
use upkeep::Upkeep;

/// Where the fault tests kill the service. `lakehouse.commit.*` are passed on the way as well.
pub const FAULT_POINTS: &[&str] = &[
    "ingest.fetch.received",
    "ingest.write.chunk_written",
    "ingest.write.files_closed",
    "ingest.commit.before",
    "ingest.commit.after",
    "ingest.dead_letters.before",
    "ingest.dead_letters.after",
    "ingest.lag.before",
];

/// The service.
#[derive(Debug)]
pub struct Ingest {
    shards: Shards,
    assign: Assign,
    reader: Router,
    lag: Lag,
    upkeep: Upkeep,
    listener: IngestListener,
    context: Context,
}

impl Service for Ingest {
    const NAME: &'static str = "ingest";
    type Config = IngestConfig;
    type Error = IngestError;

    fn validate(config: &IngestConfig) -> Result<(), IngestError> {
        config.validate()
    }

    fn span_exporter(config: &IngestConfig, _metrics: &Metrics) -> Result<Option<AnyExporter>, IngestError> {
        Ok(Some(AnyExporter::new(SpanExporter::new(&config.bus, Self::NAME)?)))
    }

    async fn build(config: IngestConfig, context: Context) -> Result<Self, IngestError> {
        let bus = Bus::connect_for(config.bus.clone(), &context.tasks).await?;
        bus.ensure_control_topics().await?;
        let catalog = Catalog::open(config.catalog.clone()).await?;
        let contracts = bus.view::<ActiveContract>(topics::CONTRACTS, |contract| contract.revision).await?;
        let announced = bus.view::<Announced>(topics::ANNOUNCED, |_| 0).await?;
        let principals = bus.view::<Principal>(topics::PRINCIPALS, |principal| principal.revision).await?;
        let schemas = SchemaLog::open(&bus, &context.tasks)?;
        contracts.loaded().await?;
        schemas.loaded().await?;
        let telemetry = IngestMetrics::register(&context.metrics);
        let (fetcher, reader) = Fetcher::open(&bus, config.ingest.prefetch_bytes, &context.health)?;
        let (rebased, _) = tokio::sync::watch::channel(0);
        let producer = bus.producer(ProducerOptions::default())?;
        let rebaser = Rebaser { bus: bus.clone(), catalog: catalog.clone(), producer };
        let shared = door::Shared { rebaser, contracts: contracts.clone(), principals, rebased: rebased.clone() };
        let listener = IngestListener::bind(config.http.listen, shared).await?;
        let lag = Lag::new(bus.clone(), telemetry.clone());
        let policy = ExpirePolicy { delete_after: config.ingest.expired_files_after, ..ExpirePolicy::default() };
        let rounds = (policy, config.ingest.upkeep_interval);
        let upkeep = Upkeep::new(catalog.clone(), announced, rounds, telemetry.clone(), &context.health);
        let shared = Shared {
            upkeep: upkeep.clone(),
            fetcher,
            lag: lag.clone(),
            topics: TopicDescriptions::new(bus.clone()),
            budget: WriterBudget::new(config.ingest.writer_bytes),
            bus: bus.clone(),
            catalog,
            schemas,
            config: config.ingest.clone(),
            telemetry,
            tasks: context.tasks.clone(),
            rebased,
        };
        let shards = bus.shards(ShardOptions {
            instance: config.ingest.instance.clone(),
            session: config.ingest.session,
            ..ShardOptions::default()
        })?;
        let assign = Assign::new(contracts, Arc::new(shared));
        Ok(Self { shards, assign, reader, lag, upkeep, listener, context })
    }

    fn http(&self) -> Option<SocketAddr> {
        Some(self.listener.address())
    }

    /// Tables commit what they have before what they need goes: the listener first, the reader after the tables.
    async fn run(self, shutdown: Shutdown) -> Result<(), IngestError> {
        let Self { shards, assign, reader, lag, upkeep, listener, context } = self;
        let mut tasks = Supervisor::new(shutdown, context.tasks);
        tasks.spawn_once(part::LISTENER, move |stop| listener.serve(stop));
        // Without one of these the process is of no use: another one is, which starts in its place.
        tasks.spawn_once(part::task("assign"), move |stop| assign.run(shards, stop));
        tasks.spawn_once(part::task("reader"), move |stop| reader.run(stop));
        tasks.spawn(part::task("lag"), Restart::default(), move |stop| lag.clone().run(stop));
        tasks.spawn(part::task("upkeep"), Restart::default(), move |stop| upkeep.clone().run(stop));
        Ok(tasks.run().await?)
    }
}
