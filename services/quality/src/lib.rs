//! **quality** judges each product's snapshots and each clock tick against the contract, and keeps incidents.
//!
//! In: `mesh.contracts` (what is promised), `mesh.product-changes` (a table moved; the table itself says how),
//! `mesh.platform-changes` (when platform tables last moved), the tables.
//! Out: `mesh.quality` (verdicts), `mesh.incidents` (opened, ongoing, resolved).
//!
//! What holds:
//! - NEVER-SILENT: every check of an active contract has a verdict. What cannot be run has the verdict `error`, with
//!   the reason; `text` rules are documentation.
//! - A verdict is about the table as of one snapshot, so that how ranges were merged never shows in it (ADR 0090).
//! - AT-REST: a table that did not move, and a clock that changed nothing, emit nothing.
//! - Memory is bounded: rows stream through Arrow kernels, look-ups of duplicates spill.
//!
//! A crash: there is no private store. What was judged is read back from `mesh.quality` and `mesh.incidents`; what is
//! missing there is judged again. An event's id comes from the check and the snapshot (or, without one, from what it says
//! and the verdict before), so what is emitted twice has one id.

mod config;
mod error;
mod pipeline;
mod telemetry;

use mesh_bus::{Bus, ProducerOptions, SpanExporter};
use mesh_lakehouse::Catalog;
use mesh_proto::v1::{ActiveContract, Verdict};
use mesh_runtime::telemetry::AnyExporter;
use mesh_runtime::{Context, Metrics, Restart, Service, Shutdown, Supervisor, part};

pub use config::{Judge, QualityConfig};
pub use error::QualityError;

use pipeline::Parts;

/// The checks that an active contract asks for, each as a verdict that was not given yet.
pub fn checks(active: &ActiveContract) -> Vec<Verdict> {
    pipeline::blank_verdicts(active)
}

/// Where the fault tests may kill the service (`mesh_runtime::fault`).
pub const FAULT_POINTS: &[&str] = &[
    "quality.recover.done",
    "quality.measure.before",
    "quality.measure.after",
    "quality.verdicts.before",
    "quality.verdicts.between",
    "quality.verdicts.after",
    "quality.incidents.after",
];

/// The service.
#[derive(Debug)]
pub struct Quality {
    parts: Parts,
    context: Context,
}

impl Service for Quality {
    const NAME: &'static str = "quality";
    type Config = QualityConfig;
    type Error = QualityError;

    fn validate(config: &QualityConfig) -> Result<(), QualityError> {
        config.validate()
    }

    fn span_exporter(config: &QualityConfig, _metrics: &Metrics) -> Result<Option<AnyExporter>, QualityError> {
        let exporter = SpanExporter::new(&config.bus, Self::NAME).map_err(error::bus("write spans"))?;
        Ok(Some(AnyExporter::new(exporter)))
    }

    async fn build(config: QualityConfig, context: Context) -> Result<Self, QualityError> {
        let bus = Bus::connect_for(config.bus.clone(), &context.tasks).await.map_err(error::bus("connect"))?;
        bus.ensure_control_topics().await.map_err(error::bus("make the control topics"))?;
        let catalog = Catalog::open(config.catalog.clone()).await.map_err(error::lakehouse("open the catalog"))?;
        let producer = bus.producer(ProducerOptions::default()).map_err(error::bus("make a producer"))?;
        let metrics = telemetry::QualityMetrics::new(&context.metrics);
        let parts = Parts { bus, catalog, producer, metrics, judge: config.judge };
        Ok(Self { parts, context })
    }

    async fn run(self, shutdown: Shutdown) -> Result<(), QualityError> {
        let mut tasks = Supervisor::new(shutdown.clone(), self.context.tasks.clone());
        let parts = self.parts;
        tasks.spawn(part::task("judge"), Restart::default(), move |stop| pipeline::run(parts.clone(), stop));
        tasks.run().await.map_err(QualityError::Runtime)
    }
}
