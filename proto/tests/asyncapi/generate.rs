//! In: the control topics and the compiled messages. Out: an AsyncAPI 3 document. Pure.

use std::collections::BTreeSet;

use mesh_proto::cloudevents::types;
use mesh_proto::topics::{self, CONTROL_TOPICS, ControlTopic};
use protox::prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// The events of a topic: type and message. OpenLineage's run events are described elsewhere.
fn events(topic: &str) -> Vec<(&'static str, &'static str)> {
    let products = vec![
        (types::PRODUCT_CHANGED, "ProductChanged"),
        (types::PRODUCT_REWOUND, "ProductRewound"),
        (types::PRODUCT_GAP, "ProductGap"),
        (types::PRODUCT_DROPPED, "ProductDropped"),
        (types::PRODUCT_RECREATED, "ProductRecreated"),
    ];
    match topic {
        topics::SUBMISSIONS => vec![(types::SUBMITTED, "Submission")],
        topics::CONTRACTS => vec![(types::ACTIVE_CONTRACT, "ActiveContract")],
        topics::POLICIES => vec![(types::POLICY, "Policy")],
        topics::PRINCIPALS => vec![(types::PRINCIPAL, "Principal")],
        topics::SCHEMAS => vec![(types::SCHEMA, "RegisteredSchema")],
        topics::CONTRACT_EVENTS => [
            types::CONTRACT_PROPOSED,
            types::CONTRACT_ACCEPTED,
            types::CONTRACT_REFUSED,
            types::CONTRACT_CHANGED,
            types::CONTRACT_UNCHANGED,
            types::CONTRACT_DEPRECATED,
            types::CONTRACT_RETIRED,
        ]
        .map(|kind| (kind, "ContractEvent"))
        .to_vec(),
        topics::PRODUCT_CHANGES | topics::PLATFORM_CHANGES => products,
        topics::ANNOUNCED => vec![(types::ANNOUNCED, "Announced")],
        topics::QUALITY => vec![(types::VERDICT, "Verdict")],
        topics::INCIDENTS => {
            [types::INCIDENT_OPENED, types::INCIDENT_ONGOING, types::INCIDENT_ACKNOWLEDGED, types::INCIDENT_RESOLVED]
                .map(|kind| (kind, "Incident"))
                .to_vec()
        }
        topics::AUDIT => vec![(types::AUDIT, "AuditRecord")],
        topics::LINEAGE => vec![(types::LINEAGE, LINEAGE)],
        topics::USAGE => vec![(types::USAGE, "Usage")],
        topics::SPANS => vec![(types::SPAN, "SpanRecord")],
        _ => Vec::new(),
    }
}

const LINEAGE: &str = "OpenLineageRunEvent";

/// The whole document.
pub(crate) fn asyncapi(pool: &DescriptorPool) -> Value {
    let named = |kind: &str| kind.trim_start_matches("org.meshwork.").to_owned();
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    let mut needed = BTreeSet::new();
    for topic in CONTROL_TOPICS {
        let events = events(topic.name);
        let mut of_channel = Map::new();
        for (kind, message) in &events {
            let reference = json!({ "$ref": format!("#/components/messages/{}", named(kind)) });
            of_channel.insert(named(kind), reference);
            messages.insert(named(kind), event(kind, message, topic));
            needed.insert((*message).to_owned());
        }
        let channel = json!({
            "address": topic.name,
            "description": format!("{} (key: {}; written by: {})", topic.what, topic.key, topic.writer),
            "messages": of_channel,
            "bindings": { "kafka": { "partitions": topic.partitions, "topicConfiguration": configuration(topic) } },
        });
        channels.insert(topic.name.to_owned(), channel);
        let reference = json!({ "$ref": format!("#/channels/{}", topic.name) });
        if !events.is_empty() {
            operations.insert(format!("{}.send", topic.name), json!({ "action": "send", "channel": reference }));
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Meshwork control topics",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 in Kafka binary mode; bodies are proto3 canonical JSON.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas(pool, needed) },
    })
}

fn configuration(topic: &ControlTopic) -> Map<String, Value> {
    let value = |key: &str, text: String| match (key, text.parse::<i64>()) {
        ("cleanup.policy", _) => json!([text]),
        (_, Ok(number)) => json!(number),
        _ => json!(text),
    };
    topic.config().into_iter().map(|(key, text)| (key.to_owned(), value(key, text))).collect()
}

fn event(kind: &str, message: &str, topic: &ControlTopic) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "name": kind,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"],
            "properties": {
                "ce_specversion": { "const": "1.0" },
                "ce_id": text("unique per source"),
                "ce_source": text("/meshwork/<cluster id>/<service>"),
                "ce_type": { "const": kind },
                "ce_time": { "type": "string", "format": "date-time" },
                "ce_subject": text("what the event is about"),
                "ce_sequence": text("zero-padded place in the order of the partition key"),
                "ce_partitionkey": text("the record's key"),
                "traceparent": text("W3C trace context"),
            },
        },
        "payload": { "$ref": format!("#/components/schemas/{message}") },
        "bindings": { "kafka": { "key": { "type": "string", "description": topic.key } } },
    })
}

/// The schemas of these messages and of all that they hold.
fn schemas(pool: &DescriptorPool, mut waiting: BTreeSet<String>) -> Map<String, Value> {
    let mut schemas = Map::new();
    while let Some(name) = waiting.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        let full = format!("meshwork.v1.{name}");
        let schema = match (pool.get_message_by_name(&full), pool.get_enum_by_name(&full)) {
            (Some(message), _) => object(&message, &mut waiting),
            (_, Some(of)) => enumeration(&of),
            (None, None) => {
                json!({ "type": "object", "description": "https://openlineage.io/spec/2-0-2/OpenLineage.json" })
            }
        };
        schemas.insert(name, schema);
    }
    schemas.sort_keys();
    schemas
}

fn object(message: &MessageDescriptor, waiting: &mut BTreeSet<String>) -> Value {
    let properties: Map<String, Value> =
        message.fields().map(|field| (field.json_name().to_owned(), property(&field, waiting))).collect();
    json!({ "type": "object", "properties": properties })
}

fn enumeration(of: &EnumDescriptor) -> Value {
    json!({ "type": "string", "enum": of.values().map(|value| value.name().to_owned()).collect::<Vec<_>>() })
}

fn property(field: &FieldDescriptor, waiting: &mut BTreeSet<String>) -> Value {
    if field.is_map() {
        return json!({ "type": "object", "additionalProperties": { "type": "string" } });
    }
    let one = scalar(&field.kind(), waiting);
    if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
}

/// As proto3's canonical JSON has it: 64-bit numbers are strings.
fn scalar(kind: &Kind, waiting: &mut BTreeSet<String>) -> Value {
    let mut reference = |name: &str| {
        waiting.insert(name.to_owned());
        json!({ "$ref": format!("#/components/schemas/{name}") })
    };
    match kind {
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            json!({ "type": "string", "format": "date-time" })
        }
        Kind::Message(message) => reference(message.name()),
        Kind::Enum(of) => reference(of.name()),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Double | Kind::Float => json!({ "type": "number" }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer" }),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            json!({ "type": "string", "pattern": "^-?[0-9]+$" })
        }
        Kind::String | Kind::Bytes => json!({ "type": "string" }),
    }
}
