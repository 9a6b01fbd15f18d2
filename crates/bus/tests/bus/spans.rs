use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use mesh_bus::{SpanExporter, Start};
use mesh_proto::topics::SPANS;
use mesh_proto::v1::SpanRecord;
use mesh_testkit::broker;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use crate::PATIENCE;

fn context(trace: u128, span: u64) -> SpanContext {
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn span(trace: u128) -> SpanData {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut links = SpanLinks::default();
    links.links.push(Link::new(context(7, 8), vec![KeyValue::new("mesh.table", "operations.flights_v1")], 0));
    SpanData {
        span_context: context(trace, 2),
        parent_span_id: SpanId::from(1u64),
        parent_span_is_remote: false,
        span_kind: SpanKind::Producer,
        name: Cow::Borrowed("ingest.commit"),
        start_time: start,
        end_time: start + Duration::from_millis(5),
        attributes: vec![KeyValue::new("mesh.rows", 42)],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: Status::error("no"),
        instrumentation_scope: InstrumentationScope::default(),
    }
}

#[tokio::test]
async fn a_span_becomes_an_event_keyed_by_its_trace() -> anyhow::Result<()> {
    let broker = broker().await?;
    let bus = broker.connect().await?;
    bus.ensure_control_topics().await?;
    let trace = u128::from_be_bytes(*uuid::Uuid::new_v4().as_bytes());
    SpanExporter::new(&broker.config(), "ingest")?.export(vec![span(trace)]).await?;

    let mut reader = bus.read_topic(SPANS, Start::Beginning).await?;
    let wanted = TraceId::from(trace).to_string();
    let received = loop {
        let received = tokio::time::timeout(PATIENCE, reader.next()).await??;
        if received.key.as_deref() == Some(&wanted) {
            break received;
        }
    };
    let record: SpanRecord = received.event?.decode()?;
    assert_eq!(
        (record.trace_id, record.span_id, record.parent_span_id),
        (wanted, "0000000000000002".into(), "0000000000000001".into())
    );
    assert_eq!(
        (record.service.as_str(), record.name.as_str(), record.kind.as_str()),
        ("ingest", "ingest.commit", "producer")
    );
    assert_eq!((record.attributes["mesh.rows"].as_str(), record.error.as_str()), ("42", "no"));
    assert_eq!(record.links[0].attributes["mesh.table"], "operations.flights_v1");
    Ok(())
}

#[tokio::test]
async fn spans_without_a_broker_are_an_error_within_bounds() -> anyhow::Result<()> {
    let exporter = SpanExporter::new(&mesh_bus::BusConfig::new("127.0.0.1:1"), "ingest")?;
    let refused = tokio::time::timeout(PATIENCE, exporter.export(vec![span(1)])).await?;
    assert!(refused.is_err_and(|error| error.to_string().contains("MESH-BUS-0001")));
    Ok(())
}
