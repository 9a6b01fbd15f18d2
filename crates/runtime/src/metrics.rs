//! The registry that `/metrics` shows. Services register what they count and keep the handles.
//!
//! Names get the prefix `mesh_`; counters get the suffix `_total`; units belong in the name (`ingest_commit_seconds`).

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::registry::{Metric, Registry};

use crate::Health;

pub use prometheus_client::encoding::EncodeLabelSet as LabelSet;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The content type of the text that [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One process's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("mesh"))) }
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers any metric and hands it back. A name must be registered once.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.lock().register(name, help, metric.clone());
        metric
    }

    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// A histogram of seconds, from 1 ms to about 65 s.
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.register(name, help, seconds())
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: impl IntoIterator<Item = f64>) -> Histogram {
        self.register(name, help, Histogram::new(buckets))
    }

    pub fn counters<L: Labels>(&self, name: &str, help: &str) -> Family<L, Counter> {
        self.register(name, help, Family::default())
    }

    pub fn gauges<L: Labels>(&self, name: &str, help: &str) -> Family<L, Gauge> {
        self.register(name, help, Family::default())
    }

    /// Histograms of seconds by label.
    pub fn seconds_by<L: Labels>(&self, name: &str, help: &str) -> Family<L, Histogram, fn() -> Histogram> {
        self.register(name, help, Family::new_with_constructor(seconds as fn() -> Histogram))
    }

    /// Shows each check as the gauge `mesh_up`. Once per process.
    pub fn show(&self, health: &Health) {
        self.lock().register_collector(Box::new(health.clone()));
    }

    /// The OpenMetrics text. Encoding into a string cannot fail; if a metric's own encoder does, the text has the reason.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match text::encode(&mut text, &self.lock()) {
            Ok(()) => text,
            Err(error) => format!("# metrics could not be encoded: {error}\n# EOF\n"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a metric's labels must be: `#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]`.
pub trait Labels: Clone + Hash + Eq + Send + Sync + Debug + EncodeLabelSet + 'static {}
impl<L: Clone + Hash + Eq + Send + Sync + Debug + EncodeLabelSet + 'static> Labels for L {}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}
