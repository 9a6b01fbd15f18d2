//! `docs/asyncapi.json` is generated from the topics and messages; this fails when it is stale.
//! `MESH_UPDATE=1 cargo test -p mesh-proto --test asyncapi` writes it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod generate;

use std::path::Path;

use mesh_proto::topics;
use protox::prost_reflect::DescriptorPool;
use serde_json::Value;

fn generated() -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let messages = std::fs::read_dir(root.join("mesh/v1")).unwrap().map(|entry| entry.unwrap().path());
    let files = protox::compile(messages, [root]).unwrap();
    generate::asyncapi(&DescriptorPool::from_file_descriptor_set(files).unwrap())
}

#[test]
fn the_document_is_what_topics_and_messages_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/asyncapi.json");
    let expected = serde_json::to_string_pretty(&generated()).unwrap() + "\n";
    if std::env::var_os("MESH_UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/asyncapi.json is stale: MESH_UPDATE=1 cargo test -p mesh-proto --test asyncapi");
}

#[test]
fn every_topic_but_the_empty_one_says_what_lies_on_it() {
    let document = generated();
    for topic in topics::CONTROL_TOPICS {
        let messages = document["channels"][topic.name]["messages"].as_object().unwrap();
        assert_eq!(messages.is_empty(), topic.name == topics::INGEST_SHARDS, "{}", topic.name);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = generated();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
