//! What query counts and traces.

use std::time::Duration;

use mesh_proto::trace::TraceContext;
use mesh_runtime::Metrics;
use mesh_runtime::metrics::{Counter, Family, Histogram, LabelSet};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::catalog_view::ReadTable;

/// How a query ended: `done`, `cancelled`, or an error's code.
#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]
pub struct QueryOutcome {
    pub outcome: String,
}

/// Handles on the metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct QueryMetrics {
    queries: Family<QueryOutcome, Counter>,
    rows: Counter,
    seconds: Histogram,
}

impl QueryMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            queries: metrics.counters("query_queries", "queries that ended, by outcome"),
            rows: metrics.counter("query_rows", "rows that left"),
            seconds: metrics.seconds("query_duration_seconds", "how long queries took"),
        }
    }

    /// Counts a query that ended.
    pub fn ended(&self, outcome: &str, rows: u64, took: Duration) {
        self.queries.get_or_create(&QueryOutcome { outcome: outcome.to_owned() }).inc();
        self.rows.inc_by(rows);
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Links a query's span to the newest commits of a table that it reads.
pub fn link_commits(span: &Span, table: &ReadTable) {
    for (snapshot_id, commit) in &table.commits {
        let attributes = vec![
            KeyValue::new("mesh.table", table.table.clone()),
            KeyValue::new("mesh.product", table.product.clone()),
            KeyValue::new("mesh.snapshot_id", snapshot_id.to_string()),
        ];
        span.add_link_with_attributes(span_context(commit), attributes);
    }
}

fn span_context(remote: &TraceContext) -> SpanContext {
    let flags = if remote.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace = TraceId::from_bytes(remote.trace_id);
    let span = SpanId::from_bytes(remote.span_id);
    SpanContext::new(trace, span, flags, true, TraceState::default())
}
