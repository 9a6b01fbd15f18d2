//! Any span exporter as one type, run on the tokio runtime, counted.
//!
//! The SDK's exporter trait cannot be a trait object, and its batch processor calls it on a plain thread, where
//! neither reqwest nor tokio timers work: so the future is handed to the runtime and the thread waits for it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::encoding::EncodeLabelSet;
use tokio::runtime::Handle;

use crate::Metrics;
use crate::metrics::{Counter, Family};

/// A span exporter whose type does not matter.
#[derive(Debug)]
pub struct AnyExporter(Box<dyn Erased>);

impl AnyExporter {
    pub fn new(exporter: impl SpanExporter + 'static) -> Self {
        Self(Box::new(exporter))
    }

    /// `to` is where it exports to, for metrics and log lines.
    pub(super) fn on_runtime(self, to: &'static str, counts: Counts) -> OnRuntime {
        OnRuntime { handle: Handle::current(), exporter: Arc::new(self), to, counts, failing: Mutex::new(false) }
    }
}

trait Erased: Send + Sync + Debug {
    fn export(&self, batch: Vec<SpanData>) -> BoxFuture<'_, OTelSdkResult>;
    fn shutdown(&self, timeout: Duration) -> OTelSdkResult;
    fn set_resource(&mut self, resource: &Resource);
}

impl<E: SpanExporter> Erased for E {
    fn export(&self, batch: Vec<SpanData>) -> BoxFuture<'_, OTelSdkResult> {
        Box::pin(SpanExporter::export(self, batch))
    }

    fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        SpanExporter::set_resource(self, resource);
    }
}

/// How many spans ended and how many left the process.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    ended: Counter,
    exported: Family<Destination, Counter>,
    failed: Family<Destination, Counter>,
}

/// Where an exporter sends spans.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Destination {
    to: &'static str,
}

impl Counts {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            ended: metrics.counter("spans_ended", "spans that ended in this process"),
            exported: metrics.counters("spans_exported", "spans that the exporter took"),
            failed: metrics.counters("spans_failed", "spans that the exporter refused; they are lost"),
        }
    }
}

impl SpanProcessor for Counts {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, _span: SpanData) {
        self.ended.inc();
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The exporter that the batch processor's thread calls.
#[derive(Debug)]
pub(super) struct OnRuntime {
    handle: Handle,
    exporter: Arc<AnyExporter>,
    to: &'static str,
    counts: Counts,
    /// Logged at the change only, not for each batch.
    failing: Mutex<bool>,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exporter = self.exporter.clone();
        let exported = self.handle.spawn(async move { exporter.0.export(batch).await }).await;
        let result = exported.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        match &result {
            Ok(()) => self.counts.exported.get_or_create(&Destination { to: self.to }).inc_by(spans),
            Err(_) => self.counts.failed.get_or_create(&Destination { to: self.to }).inc_by(spans),
        };
        self.log_change(result.as_ref().err());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.0.shutdown(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.0.set_resource(resource);
        }
    }
}

impl OnRuntime {
    fn log_change(&self, error: Option<&OTelSdkError>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, *failing) {
            (Some(error), false) => tracing::warn!(to = self.to, %error, "span export failed"),
            (None, true) => tracing::info!(to = self.to, "span export recovered"),
            _ => {}
        }
        *failing = error.is_some();
    }
}
