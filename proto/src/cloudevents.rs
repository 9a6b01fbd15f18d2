//! CloudEvents 1.0 in Kafka's binary mode: attributes are `ce_*` headers, the data is the record's value.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ProtoError;
use crate::trace::TraceContext;

/// Types of events, one per message. Their names end in the version of the message's shape.
pub mod types {
    pub const SUBMITTED: &str = "org.meshwork.submission.received.v1";
    pub const ACTIVE_CONTRACT: &str = "org.meshwork.contract.active.v1";
    pub const POLICY: &str = "org.meshwork.policy.active.v1";
    pub const PRINCIPAL: &str = "org.meshwork.principal.active.v1";
    pub const SCHEMA: &str = "org.meshwork.schema.registered.v1";
    pub const CONTRACT_PROPOSED: &str = "org.meshwork.contract.proposed.v1";
    pub const CONTRACT_ACCEPTED: &str = "org.meshwork.contract.accepted.v1";
    pub const CONTRACT_REFUSED: &str = "org.meshwork.contract.refused.v1";
    pub const CONTRACT_CHANGED: &str = "org.meshwork.contract.changed.v1";
    pub const CONTRACT_UNCHANGED: &str = "org.meshwork.contract.unchanged.v1";
    pub const CONTRACT_DEPRECATED: &str = "org.meshwork.contract.deprecated.v1";
    pub const CONTRACT_RETIRED: &str = "org.meshwork.contract.retired.v1";
    pub const PRODUCT_CHANGED: &str = "org.meshwork.product.changed.v1";
    pub const PRODUCT_REWOUND: &str = "org.meshwork.product.rewound.v1";
    pub const PRODUCT_GAP: &str = "org.meshwork.product.gap.v1";
    pub const PRODUCT_DROPPED: &str = "org.meshwork.product.dropped.v1";
    pub const PRODUCT_RECREATED: &str = "org.meshwork.product.recreated.v1";
    pub const ANNOUNCED: &str = "org.meshwork.announced.v1";
    pub const VERDICT: &str = "org.meshwork.quality.verdict.v1";
    pub const INCIDENT_OPENED: &str = "org.meshwork.incident.opened.v1";
    pub const INCIDENT_ONGOING: &str = "org.meshwork.incident.ongoing.v1";
    pub const INCIDENT_ACKNOWLEDGED: &str = "org.meshwork.incident.acknowledged.v1";
    pub const INCIDENT_RESOLVED: &str = "org.meshwork.incident.resolved.v1";
    pub const AUDIT: &str = "org.meshwork.audit.query.v1";
    pub const LINEAGE: &str = "org.meshwork.lineage.run.v1";
    pub const USAGE: &str = "org.meshwork.usage.query.v1";
    pub const SPAN: &str = "org.meshwork.span.ended.v1";
}

/// One event as it lies on a topic, its data already (or still) in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique per source: a consumer that saw it drops it.
    pub id: String,
    /// `/meshwork/<cluster id>/<service>`.
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub time: DateTime<Utc>,
    /// The `sequence` extension: lexical order is the order per partition key.
    pub sequence: Option<String>,
    /// The `partitionkey` extension; also the record's key.
    pub partition_key: Option<String>,
    pub trace: Option<TraceContext>,
    pub data: Vec<u8>,
}

/// Headers of a record, in their order.
pub type Headers = Vec<(String, Vec<u8>)>;

const JSON: &str = "application/json";

impl Event {
    /// An event with `data` in proto3 canonical JSON.
    pub fn new<M: Serialize>(
        event_type: &str,
        source: &str,
        id: impl Into<String>,
        time: DateTime<Utc>,
        data: &M,
    ) -> Result<Self, ProtoError> {
        let data = serde_json::to_vec(data)
            .map_err(|source| ProtoError::Unwritable { event_type: event_type.to_owned(), source })?;
        Ok(Self {
            id: id.into(),
            source: source.to_owned(),
            event_type: event_type.to_owned(),
            subject: None,
            time,
            sequence: None,
            partition_key: None,
            trace: None,
            data,
        })
    }

    /// Sets the key that keeps this event in order with its like.
    #[must_use]
    pub fn keyed(mut self, key: impl Into<String>) -> Self {
        self.partition_key = Some(key.into());
        self
    }

    /// Sets what the event is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets the place in the order of its partition key, zero-padded so that lexical order is numeric order.
    #[must_use]
    pub fn in_sequence(mut self, sequence: i64) -> Self {
        self.sequence = Some(format!("{sequence:020}"));
        self
    }

    /// Sets the trace that this event belongs to.
    #[must_use]
    pub fn traced(mut self, trace: Option<TraceContext>) -> Self {
        self.trace = trace;
        self
    }

    /// The event's headers in Kafka binary mode.
    pub fn headers(&self) -> Headers {
        let mut headers: Headers = Vec::with_capacity(10);
        let mut put = |name: &str, value: &str| headers.push((name.to_owned(), value.as_bytes().to_vec()));
        put("ce_specversion", "1.0");
        put("ce_id", &self.id);
        put("ce_source", &self.source);
        put("ce_type", &self.event_type);
        put("ce_time", &self.time.to_rfc3339_opts(SecondsFormat::Micros, true));
        put("content-type", JSON);
        for (name, value) in
            [("ce_subject", &self.subject), ("ce_sequence", &self.sequence), ("ce_partitionkey", &self.partition_key)]
        {
            if let Some(value) = value {
                put(name, value);
            }
        }
        if let Some(trace) = self.trace {
            put("traceparent", &trace.to_string());
        }
        headers
    }

    /// Reads a record's headers and value. Headers that are not CloudEvents' own are left alone.
    pub fn read<'a>(
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
        data: &[u8],
    ) -> Result<Self, ProtoError> {
        let mut found = Attributes::default();
        for (name, value) in headers {
            found.take(name, value.unwrap_or_default())?;
        }
        found.into_event(data)
    }

    /// The data as the message that its type stands for.
    pub fn decode<M: DeserializeOwned>(&self) -> Result<M, ProtoError> {
        serde_json::from_slice(&self.data)
            .map_err(|source| ProtoError::BadBody { event_type: self.event_type.clone(), source })
    }

    /// The data, if the event is of the one type that is wanted here.
    pub fn decode_as<M: DeserializeOwned>(&self, wanted: &'static str) -> Result<M, ProtoError> {
        if self.event_type != wanted {
            return Err(ProtoError::UnexpectedType { found: self.event_type.clone(), wanted });
        }
        self.decode()
    }
}

#[derive(Default)]
struct Attributes {
    spec_version: Option<String>,
    id: Option<String>,
    source: Option<String>,
    event_type: Option<String>,
    time: Option<String>,
    subject: Option<String>,
    sequence: Option<String>,
    partition_key: Option<String>,
    trace: Option<TraceContext>,
}

impl Attributes {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), ProtoError> {
        let (header, slot) = match name {
            "ce_specversion" => ("ce_specversion", &mut self.spec_version),
            "ce_id" => ("ce_id", &mut self.id),
            "ce_source" => ("ce_source", &mut self.source),
            "ce_type" => ("ce_type", &mut self.event_type),
            "ce_time" => ("ce_time", &mut self.time),
            "ce_subject" => ("ce_subject", &mut self.subject),
            "ce_sequence" => ("ce_sequence", &mut self.sequence),
            "ce_partitionkey" => ("ce_partitionkey", &mut self.partition_key),
            "traceparent" => {
                // A broken trace context never costs an event.
                self.trace = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                return Ok(());
            }
            _ => return Ok(()),
        };
        let text = std::str::from_utf8(value).map_err(|_| ProtoError::BadHeader {
            header,
            found: String::from_utf8_lossy(value).into_owned(),
            wanted: "UTF-8 text",
        })?;
        *slot = Some(text.to_owned());
        Ok(())
    }

    fn into_event(self, data: &[u8]) -> Result<Event, ProtoError> {
        let spec_version = require(self.spec_version, "ce_specversion")?;
        if spec_version != "1.0" {
            return Err(ProtoError::BadHeader { header: "ce_specversion", found: spec_version, wanted: "1.0" });
        }
        let time = require(self.time, "ce_time")?;
        let time = DateTime::parse_from_rfc3339(&time)
            .map_err(|_| ProtoError::BadHeader { header: "ce_time", found: time, wanted: "an RFC 3339 time" })?
            .with_timezone(&Utc);
        Ok(Event {
            id: require(self.id, "ce_id")?,
            source: require(self.source, "ce_source")?,
            event_type: require(self.event_type, "ce_type")?,
            subject: self.subject,
            time,
            sequence: self.sequence,
            partition_key: self.partition_key,
            trace: self.trace,
            data: data.to_vec(),
        })
    }
}

fn require(value: Option<String>, header: &'static str) -> Result<String, ProtoError> {
    value.filter(|text| !text.is_empty()).ok_or(ProtoError::MissingHeader { header })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::v1::{ProductGap, TableRef};
    use proptest::prelude::*;

    fn gap() -> ProductGap {
        ProductGap {
            table: Some(TableRef { namespace: "operations".into(), name: "flights_v1".into(), uuid: "u".into() }),
            product: "operations.flights".into(),
            last_announced_snapshot_id: i64::MAX,
            first_known_snapshot_id: 2,
            at: Some(crate::timestamp(DateTime::from_timestamp(1_700_000_000, 5_000).unwrap())),
        }
    }

    fn event() -> Event {
        let at = DateTime::from_timestamp_micros(1_700_000_000_000_005).unwrap();
        Event::new(types::PRODUCT_GAP, "/meshwork/c/publisher", "u-2", at, &gap()).unwrap()
    }

    fn read_back(event: &Event) -> Result<Event, ProtoError> {
        let headers = event.headers();
        Event::read(headers.iter().map(|(k, v)| (k.as_str(), Some(v.as_slice()))), &event.data)
    }

    #[test]
    fn the_body_is_canonical_json() {
        let body = String::from_utf8(event().data).unwrap();
        assert!(body.contains(r#""lastAnnouncedSnapshotId":"9223372036854775807""#), "{body}");
        assert_eq!(event().decode_as::<ProductGap>(types::PRODUCT_GAP).unwrap(), gap());
    }

    #[test]
    fn another_type_is_an_error_that_names_both() {
        let error = event().decode_as::<ProductGap>(types::PRODUCT_CHANGED).unwrap_err();
        assert_eq!(error.code(), "MESH-PROTO-0005");
        assert!(error.to_string().contains(types::PRODUCT_GAP), "{error}");
    }

    #[test]
    fn a_missing_attribute_is_named() {
        let headers = event().headers();
        for wanted in ["ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion"] {
            let rest = headers.iter().filter(|(k, _)| k != wanted);
            let error = Event::read(rest.map(|(k, v)| (k.as_str(), Some(v.as_slice()))), b"{}").unwrap_err();
            assert!(matches!(error, ProtoError::MissingHeader { header } if header == wanted), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in "\\PC{1,20}", subject in proptest::option::of("\\PC{1,20}"), micros in 0i64..4_000_000_000_000_000,
            sequence in proptest::option::of(0i64..i64::MAX), key in proptest::option::of("\\PC{1,20}"),
        ) {
            let mut written = event();
            written.id = id;
            written.subject = subject;
            written.time = DateTime::from_timestamp_micros(micros).unwrap();
            written.sequence = sequence.map(|s| format!("{s:020}"));
            written.partition_key = key;
            prop_assert_eq!(read_back(&written).unwrap(), written);
        }

        #[test]
        fn sequences_sort_as_numbers_do(a in 0i64.., b in 0i64..) {
            let of = |n| event().in_sequence(n).sequence.unwrap();
            prop_assert_eq!(a.cmp(&b), of(a).cmp(&of(b)));
        }
    }
}
