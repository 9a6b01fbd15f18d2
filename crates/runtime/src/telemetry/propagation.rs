//! W3C trace context between a span here and one elsewhere.

use std::collections::HashSet;

use mesh_proto::trace::TraceContext;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The span's place in its trace, if the span is recorded.
pub fn trace_context(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| TraceContext {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        sampled: context.is_sampled(),
    })
}

/// [`trace_context`] of the span that is entered now.
pub fn current() -> Option<TraceContext> {
    trace_context(&Span::current())
}

/// Makes the remote span the parent; false if the span was entered before and it is too late.
pub fn follow(span: &Span, remote: &TraceContext) -> bool {
    span.set_parent(Context::new().with_remote_span_context(to_otel(remote))).is_ok()
}

/// Links the span to the remote one.
pub fn link(span: &Span, remote: &TraceContext) {
    span.add_link(to_otel(remote));
}

fn to_otel(remote: &TraceContext) -> SpanContext {
    let flags = if remote.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace = TraceId::from_bytes(remote.trace_id);
    let span = SpanId::from_bytes(remote.span_id);
    SpanContext::new(trace, span, flags, true, TraceState::default())
}

/// Distinct remote spans, of which a span links the first few and counts the rest (SDKs cut links at 128).
#[derive(Clone, Debug)]
pub struct Links {
    max: usize,
    distinct: HashSet<TraceContext>,
    kept: Vec<TraceContext>,
}

impl Links {
    pub fn at_most(max: usize) -> Self {
        Self { max, distinct: HashSet::new(), kept: Vec::new() }
    }

    /// Notes a remote span.
    pub fn add(&mut self, remote: TraceContext) {
        if self.distinct.insert(remote) && self.kept.len() < self.max {
            self.kept.push(remote);
        }
    }

    /// How many distinct spans were noted.
    pub fn distinct(&self) -> usize {
        self.distinct.len()
    }

    /// Adds the links to the span, and the attribute `mesh.links_dropped` if not all fit.
    pub fn apply(&self, span: &Span) {
        for remote in &self.kept {
            link(span, remote);
        }
        let dropped = self.distinct.len() - self.kept.len();
        if dropped > 0 {
            span.set_attribute("mesh.links_dropped", dropped as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_distinct_and_bounded() {
        let mut links = Links::at_most(2);
        for last in [1, 1, 2, 3] {
            links.add(TraceContext { trace_id: [9; 16], span_id: [last; 8], sampled: true });
        }
        assert_eq!((links.distinct(), links.kept.len()), (3, 2));
    }
}
