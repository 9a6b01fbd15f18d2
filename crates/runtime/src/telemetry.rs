//! Logs and spans of one process.
//!
//! In: `tracing` events and spans of Meshwork's crates. Out: log lines on stderr; spans to the exporter that the service
//! handed in, since lineage is drawn from them, and also to a collector if the standard `OTEL_*` variables name one.
//! Never: a span about exporting spans (only targets `mesh*` become spans, and exporters emit none),
//! an export that holds up the service (a bounded queue, its own thread), a span lost unseen
//! (`mesh_spans_ended_total` less `mesh_spans_exported_total` is what is queued or dropped, for each place they go to).

mod exporter;
mod propagation;
mod variables;

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfig, BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogConfig, LogFormat};
use crate::{Metrics, RuntimeError};

pub use exporter::AnyExporter;
pub use propagation::{Links, current, follow, link, trace_context};

use variables::Spans;

/// How long finished spans wait for others before they are exported together.
const EXPORT_DELAY: Duration = Duration::from_millis(500);
/// Finished spans that may wait; more are dropped and show in the metrics.
const QUEUE: usize = 16_384;

/// Keeps the exporters alive; [`flush`](Self::flush) before the process ends.
#[derive(Debug)]
#[must_use = "spans are lost if this is not flushed at the end"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Exports what is queued, for at most five seconds.
    pub async fn flush(self) {
        let Some(provider) = self.provider else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_secs(5))).await;
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "span flush failed"),
            Err(error) => tracing::warn!(%error, "span flush failed"),
        }
    }
}

/// Installs the process's subscriber. `exporter` is where spans go, beside a collector if one is configured.
/// Call it once, inside a tokio runtime.
pub fn init(
    service: &str,
    log: &LogConfig,
    exporter: Option<AnyExporter>,
    metrics: &Metrics,
) -> Result<Telemetry, RuntimeError> {
    variables::check().map_err(|message| RuntimeError::Telemetry { message })?;
    let handed_in = exporter.map(|exporter| ("mesh", exporter));
    let exporters: Vec<_> = match variables::spans_go() {
        Spans::Nowhere => Vec::new(),
        Spans::AlsoToCollector => handed_in.into_iter().chain([("collector", otlp()?)]).collect(),
        Spans::WhereTheServiceSays => handed_in.into_iter().collect(),
    };
    let provider = (!exporters.is_empty()).then(|| provider(service, exporters, metrics));
    let spans = provider.as_ref().map(|provider| {
        let tracer = provider.tracer("meshwork");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        let ours = FilterFn::new(|metadata| metadata.is_span() && metadata.target().starts_with("mesh"));
        layer.with_tracked_inactivity(false).with_target(false).with_filter(LevelFilter::INFO).with_filter(ours)
    });
    let installed = tracing_subscriber::registry().with(stderr(log)?).with(spans).try_init();
    installed.map_err(|error| RuntimeError::Telemetry { message: error.to_string() })?;
    Ok(Telemetry { provider })
}

fn stderr(log: &LogConfig) -> Result<Box<dyn Layer<Registry> + Send + Sync>, RuntimeError> {
    let filter = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let (filter, place) = match filter {
        Some(filter) => (filter, "the variable RUST_LOG"),
        None => (log.filter.clone(), "`log.filter`"),
    };
    let parsed = EnvFilter::try_new(&filter);
    let invalid =
        |error| RuntimeError::ConfigInvalid { message: format!("log filter `{filter}`: {error}"), place: place.into() };
    let filter = parsed.map_err(invalid)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match log.format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

fn provider(service: &str, exporters: Vec<(&'static str, AnyExporter)>, metrics: &Metrics) -> SdkTracerProvider {
    let counts = exporter::Counts::register(metrics);
    let instance = opentelemetry::KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string());
    let mut resource = Resource::builder().with_attribute(instance);
    if !variables::name_the_service() {
        resource = resource.with_service_name(format!("mesh-{service}"));
    }
    let provider = SdkTracerProvider::builder().with_resource(resource.build()).with_span_processor(counts.clone());
    // A queue and a thread each: a collector that is slow or lost holds up nothing else.
    let processor = |(to, exporter): (_, AnyExporter)| {
        BatchSpanProcessor::builder(exporter.on_runtime(to, counts.clone())).with_batch_config(batches()).build()
    };
    exporters.into_iter().map(processor).fold(provider, |provider, next| provider.with_span_processor(next)).build()
}

fn batches() -> BatchConfig {
    let mut config = BatchConfigBuilder::default();
    if variables::given("OTEL_BSP_MAX_QUEUE_SIZE").is_none() {
        config = config.with_max_queue_size(QUEUE);
    }
    if variables::given("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        config = config.with_scheduled_delay(EXPORT_DELAY);
    }
    config.build()
}

fn otlp() -> Result<AnyExporter, RuntimeError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build();
    exporter.map(AnyExporter::new).map_err(|error| RuntimeError::Telemetry { message: error.to_string() })
}
