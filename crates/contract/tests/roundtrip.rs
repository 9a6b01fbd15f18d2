//! Documents go out as JSON and as YAML, and come back as they were.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mesh_contract::{Document, ProductContract, compare, parse};
use proptest::prelude::*;
use saphyr::{LoadableYamlNode, Yaml, YamlEmitter};
use serde_json::{Value, json};

/// Text that YAML readers trip over, and any other.
fn text() -> impl Strategy<Value = String> {
    let traps = [
        "NO",
        "yes",
        "~",
        "null",
        "1.0",
        "0x1f",
        "0123",
        "2026-01-31",
        "12:30:00",
        "a: b",
        "- a",
        "# a",
        "'",
        "\"",
        "*a",
        "&a",
        "!t",
        "",
        " a ",
        "é\u{1F600}",
        "a\nb",
        ".nan",
        "<<",
        "%a",
        "@a",
        "`a`",
        "{a}",
        "[a",
        "|",
        ">",
    ];
    prop_oneof![prop::sample::select(traps.to_vec()).prop_map(str::to_owned), "[ -~]{0,20}"]
}

/// `most` bounds integers: saphyr's writer makes floats of those beyond 63 bits.
fn value(most: u64) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..=most).prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn property(depth: u32) -> BoxedStrategy<Value> {
    let options = prop_oneof![
        (0..50u32, 50..99u32)
            .prop_map(|(a, b)| json!({"logicalType": "integer", "logicalTypeOptions": {"minimum": a, "maximum": b}})),
        (0..5u32).prop_map(
            |n| json!({"logicalType": "string", "logicalTypeOptions": {"minLength": n, "pattern": "^[a-z]+$"}})
        ),
        Just(json!({"logicalType": "string", "enum": [{"value": "NO"}, {"value": "1"}]})),
        Just(
            json!({"logicalType": "timestamp", "logicalTypeOptions": {"timezone": false, "minimum": "2020-01-01T00:00:00"}})
        ),
        Just(json!({"logicalType": "number", "physicalType": "decimal(12,3)"})),
        Just(json!({"logicalType": "date"})),
    ];
    if depth == 0 {
        return options.boxed();
    }
    let nested = properties(depth - 1).prop_map(|list| json!({"logicalType": "object", "properties": list}));
    let items = property(depth - 1).prop_map(|items| json!({"logicalType": "array", "items": items}));
    let map = property(depth - 1)
        .prop_map(|value| json!({"logicalType": "map", "map": {"key": {"logicalType": "string"}, "value": value}}));
    prop_oneof![3 => options, 1 => nested, 1 => items, 1 => map].boxed()
}

fn properties(depth: u32) -> BoxedStrategy<Value> {
    prop::collection::vec((property(depth), any::<bool>(), text()), 1..4)
        .prop_map(|list| {
            let named = list.into_iter().enumerate().map(|(i, (mut property, required, description))| {
                property["name"] = json!(format!("Field {i}"));
                property["required"] = json!(required);
                property["description"] = json!(description);
                property
            });
            Value::Array(named.collect())
        })
        .boxed()
}

fn document(most: u64) -> impl Strategy<Value = Value> {
    (properties(2), value(most), text(), 1..9u32).prop_map(|(properties, custom, purpose, hours)| {
        json!({
            "apiVersion": "v3.2.0", "kind": "DataContract", "id": "x", "version": "1.0.0", "domain": "d",
            "description": {"purpose": purpose},
            "customProperties": [{"property": "any", "value": custom}],
            "slaProperties": [{"property": "latency", "value": hours, "unit": "h"}],
            "schema": [{"name": "T", "properties": properties, "quality": [{"metric": "rowCount", "mustBeGreaterThan": hours}]}],
        })
    })
}

fn port(most: u64) -> impl Strategy<Value = Value> {
    (text(), value(most), prop::collection::vec(text(), 0..3)).prop_map(|(description, custom, inputs)| {
        let inputs: Vec<Value> = inputs.iter().map(|id| json!({"id": id, "version": "1.0.0"})).collect();
        json!({
            "description": description, "inputContracts": inputs,
            "customProperties": [{"property": "any", "value": custom}],
        })
    })
}

/// ODPS, in both of its versions.
fn product(most: u64) -> impl Strategy<Value = Value> {
    (prop::collection::vec(port(most), 0..4), value(most), text(), any::<bool>()).prop_map(|(ports, custom, usage, old)| {
        let ports = ports.into_iter().enumerate().map(|(i, mut port)| {
            port["name"] = json!(format!("port {i}"));
            port["version"] = json!("v1.0.0");
            port["contractId"] = json!(usage);
            port
        });
        let members = json!([{"username": usage, "role": "owner"}]);
        json!({
            "apiVersion": if old { "v0.9.0" } else { "v1.0.0" }, "kind": "DataProduct", "id": "x", "status": "active",
            "description": {"usage": usage},
            "team": if old { members } else { json!({"name": "t", "members": members}) },
            "outputPorts": ports.collect::<Vec<_>>(),
            "customProperties": [{"property": "any", "value": custom}],
        })
    })
}

fn as_yaml(document: &Value) -> String {
    let mut yaml = String::new();
    YamlEmitter::new(&mut yaml).dump(&Yaml::load_from_str(&document.to_string()).unwrap()[0]).unwrap();
    yaml
}

/// What is left of a file's documents once they are read.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let parsed = parse("f", text);
    if !parsed.is_valid() {
        return Err(format!("{:?}\n{text}", parsed.findings));
    }
    Ok(parsed
        .documents
        .into_iter()
        .map(|document| match document {
            Document::Contract(contract) => contract.document,
            Document::DataProduct(product) => product.document,
        })
        .collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json(document in document(u64::MAX)) {
        let contract = ProductContract::parse("f", &document.to_string()).unwrap();
        prop_assert_eq!(&contract.contract().document, &document);
        let again = ProductContract::parse("f", &contract.contract().to_json()).unwrap();
        prop_assert_eq!(again.object(), contract.object());
        prop_assert_eq!(compare(&contract, &again).changes, vec![]);
    }

    /// What another's YAML writer makes of documents of both standards, in one file, are the same documents.
    #[test]
    fn yaml(contract in document(i64::MAX as u64), product in product(i64::MAX as u64)) {
        let both = format!("{}\n{}", as_yaml(&contract), as_yaml(&product));
        prop_assert_eq!(documents(&both), Ok(vec![contract, product]), "{}", both);
    }

    /// A product goes out as JSON and comes back as it was, typed too.
    #[test]
    fn product_json(document in product(u64::MAX)) {
        let read = |text: &str| match parse("f", text).documents.pop() {
            Some(Document::DataProduct(product)) => *product,
            other => panic!("{other:?}"),
        };
        let product = read(&document.to_string());
        prop_assert_eq!(&product.document, &document);
        let again = read(&product.document.to_string());
        prop_assert_eq!(format!("{again:?}"), format!("{product:?}"));
        prop_assert_eq!(product.output_ports.len(), document["outputPorts"].as_array().unwrap().len());
        prop_assert_eq!(product.team.members.len(), 1);
    }

    /// Whatever the bytes, an answer with places, never a panic.
    #[test]
    fn any_text(text in "[ -~\n\t:#\\-\\[\\]{}&*!|>'\"%@`,?é]{0,200}") {
        for finding in parse("f", &text).findings {
            prop_assert!(finding.line >= 1 && finding.column >= 1 && !finding.remedy.is_empty());
        }
    }
}
