//! Governed SQL across the mesh: `POST /v1/sql` answers a reader's query under that reader's rights.
//!
//! - **In**: HTTP; the compacted topics `mesh.contracts`, `mesh.principals`, `mesh.policies`; Iceberg tables.
//! - **Out**: rows; `mesh.audit`, `mesh.lineage`, `mesh.usage`, spans. Writes nothing else.
//! - **NO-LEAK** Restricted readers read through the [`barrier`]; errors from within it are sealed. That a product
//!   exists is not hidden; `information_schema` and suggestions name only what the reader may read.
//! - **ACCOUNTED** The audit record is acknowledged by the bus before the first row leaves; else the query is refused.
//! - **NEVER-SILENT** A policy, filter or mask that cannot be evaluated refuses the query. Until principals, policies
//!   and contracts are loaded every query is refused.
//!
//! A crash loses running queries and their usage records, nothing else: the service keeps no state. A query that was
//! audited and never answered shows as a START without COMPLETE or FAIL on `mesh.lineage`.

pub mod barrier;
pub mod catalog_view;
pub mod config;
pub mod door;
pub mod engine;
pub mod error;
pub mod functions;
pub mod lineage;
pub mod pipeline;
pub mod telemetry;

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_bus::{Bus, ProducerOptions, SpanExporter};
use mesh_lakehouse::Catalog;
use mesh_runtime::telemetry::AnyExporter;
use mesh_runtime::{Context, Metrics, Service, Shutdown, Supervisor, Tasks, part};

pub use config::QueryConfig;
pub use error::QueryError;

/// Where the fault tests may kill this process (`mesh_runtime::fault`).
pub const FAULT_POINTS: &[&str] = &[
    "query.audit.before_publish",
    "query.audit.after_publish",
    "query.execute.after_first_batch",
    "query.account.before_usage",
];

/// The service.
#[derive(Debug)]
pub struct Query {
    listener: door::QueryListener,
    tasks: Tasks,
}

impl Service for Query {
    const NAME: &'static str = "query";
    type Config = QueryConfig;
    type Error = QueryError;

    fn validate(config: &QueryConfig) -> Result<(), QueryError> {
        config.validate()
    }

    fn span_exporter(config: &QueryConfig, _: &Metrics) -> Result<Option<AnyExporter>, QueryError> {
        Ok(Some(AnyExporter::new(SpanExporter::new(&config.bus, Self::NAME)?)))
    }

    async fn build(config: QueryConfig, context: Context) -> Result<Self, QueryError> {
        let key = config.masking.key()?;
        let bus = Bus::connect_for(config.bus.clone(), &context.tasks).await?;
        bus.ensure_control_topics().await?;
        let catalog = Catalog::open(config.catalog.clone()).await?;
        let catalog_view = catalog_view::CatalogView::open(&bus, catalog).await?;
        // A record is a reader who waits: it is sent at once, and given up before the reader gives up.
        let options = ProducerOptions {
            delivery_timeout: std::time::Duration::from_secs(10),
            linger: std::time::Duration::ZERO,
            ..Default::default()
        };
        let pipeline = pipeline::QueryPipeline::new(
            catalog_view,
            pipeline::audit::Ledger::new(bus.producer(options)?, &bus),
            telemetry::QueryMetrics::register(&context.metrics),
            config.limits.clone(),
            key,
        )?;
        let listener = door::QueryListener::bind(config.http.listen, Arc::new(pipeline)).await?;
        Ok(Self { listener, tasks: context.tasks })
    }

    fn http(&self) -> Option<SocketAddr> {
        Some(self.listener.address())
    }

    async fn run(self, shutdown: Shutdown) -> Result<(), QueryError> {
        let Self { listener, tasks } = self;
        let mut group = Supervisor::new(shutdown, tasks);
        group.spawn_once(part::LISTENER, move |stop| listener.serve(stop));
        Ok(group.run().await?)
    }
}
