//! Spans to `mesh.spans`, from which lineage is drawn, collector or not.
//!
//! In: batches from the SDK's own thread. Out: one `SpanRecord` event for each span, keyed by trace.
//! It holds nothing up: a batch waits here, not in the service, and what a broker does not take in time is counted as
//! failed (`mesh_spans_failed_total`, counted by the runtime).
//! Never: a span about exporting spans. Nothing in this crate's producer opens one.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{SpanLink, SpanRecord};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;

use crate::{BusConfig, Producer, ProducerOptions, Result};

/// Writes finished spans to `mesh.spans`. Hand it to the runtime:
/// `AnyExporter::new(SpanExporter::new(&config.bus, "ingest")?)`.
#[derive(Debug)]
pub struct SpanExporter {
    producer: Producer,
    service: String,
}

impl SpanExporter {
    /// An exporter for one service; it connects in the background.
    pub fn new(config: &BusConfig, service: &str) -> Result<Self> {
        let options = ProducerOptions {
            delivery_timeout: Duration::from_secs(10),
            max_in_flight_bytes: 8 << 20,
            ..Default::default()
        };
        Ok(Self { producer: Producer::new(config, options)?, service: service.to_owned() })
    }

    async fn write(&self, batch: Vec<SpanData>) -> std::result::Result<(), String> {
        let mut pending = Vec::with_capacity(batch.len());
        for span in batch {
            let event = self.event(span).map_err(|error| error.to_string())?;
            pending.push(self.producer.queue_event(topics::SPANS, &event).await.map_err(|error| text(&error))?);
        }
        for delivery in pending {
            delivery.await.map_err(|error| text(&error))?;
        }
        Ok(())
    }

    fn event(&self, span: SpanData) -> std::result::Result<Event, mesh_proto::ProtoError> {
        let ended = span.end_time.into();
        let record = record(&self.service, span);
        // Not `/meshwork/<cluster id>/…`: spans are written before a cluster has answered.
        let source = format!("/meshwork/spans/{}", self.service);
        let id = format!("{}-{}", record.trace_id, record.span_id);
        let key = record.trace_id.clone();
        Ok(Event::new(types::SPAN, &source, id, ended, &record)?.keyed(key))
    }
}

fn text(error: &crate::BusError) -> String {
    format!("[{}] {}", error.code(), mesh_runtime::report::chain(error))
}

impl opentelemetry_sdk::trace::SpanExporter for SpanExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.write(batch).await.map_err(OTelSdkError::InternalFailure)
    }

    fn set_resource(&mut self, _resource: &Resource) {}
}

fn record(service: &str, span: SpanData) -> SpanRecord {
    let links = span.links.iter().map(|link| SpanLink {
        trace_id: link.span_context.trace_id().to_string(),
        span_id: link.span_context.span_id().to_string(),
        attributes: attributes(&link.attributes),
    });
    SpanRecord {
        trace_id: span.span_context.trace_id().to_string(),
        span_id: span.span_context.span_id().to_string(),
        parent_span_id: match span.parent_span_id {
            SpanId::INVALID => String::new(),
            parent => parent.to_string(),
        },
        service: service.to_owned(),
        name: span.name.to_string(),
        kind: kind(&span.span_kind).to_owned(),
        started_at: Some(mesh_proto::timestamp(span.start_time.into())),
        ended_at: Some(mesh_proto::timestamp(span.end_time.into())),
        attributes: attributes(&span.attributes),
        links: links.collect(),
        error: match span.status {
            Status::Error { description } => description.to_string(),
            Status::Unset | Status::Ok => String::new(),
        },
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes.iter().map(|kv| (kv.key.to_string(), kv.value.to_string())).collect()
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    }
}
