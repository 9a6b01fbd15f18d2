//! The example's policies: their own tests pass, and on whole contracts they say what the issue asks of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use mesh_policy::{AdmissionInput, Module, PolicySet, PrincipalFacts, ProductFacts, testing};
use serde_json::{Value, json};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rego") {
            found.push(path);
        }
    }
}

fn policies() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nyc/policies");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    found.iter().map(|path| Module::new(name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_policies_pass_their_own_tests() {
    let report = testing::run(&policies()).unwrap();
    let lines: Vec<_> = report.tests.iter().map(ToString::to_string).collect();
    assert!(report.passed(), "{}", lines.join("\n"));
    assert!(lines.len() > 20, "{}", lines.join("\n"));
}

fn set() -> PolicySet {
    PolicySet::compile(policies().iter().filter(|module| !testing::is_test(&module.name))).unwrap()
}

/// A contract that breaks no rule.
fn good() -> Value {
    json!({
        "team": {"members": [{"username": "u", "role": "owner"}]},
        "tags": ["raw"],
        "customProperties": [{"property": "encryptionAtRest", "value": "volume"}],
        "slaProperties": [{"property": "latency", "value": 1, "unit": "h"}, {"property": "retention", "value": 90, "unit": "d"}],
        "schema": [{
            "name": "people",
            "quality": [{"metric": "rowCount", "mustBeGreaterThan": 0}],
            "properties": [
                {"name": "id", "logicalType": "string"},
                {"name": "email", "logicalType": "string", "customProperties": [{"property": "mask", "value": "sha-256-global"}]},
            ],
        }],
    })
}

/// The good contract with something else at a place is refused by these rules at these places.
#[track_caller]
fn refused(at: &str, instead: Value, expected: &[&str]) {
    let mut contract = good();
    *contract.pointer_mut(at).unwrap() = instead;
    let input = AdmissionInput::new("hr", "hr.people", &contract, &PrincipalFacts::default());
    let denials = set().admission(&input).unwrap();
    let found: Vec<String> = denials.iter().map(|denial| format!("{} {}", denial.rule, denial.path)).collect();
    assert_eq!(found, expected, "{contract}");
}

#[test]
fn what_the_issue_asks_of_a_contract() {
    refused("/tags", json!(["raw"]), &[]);
    refused("/team", json!({}), &["owner /team"]);
    refused("/slaProperties", json!([]), &["raw-retention /slaProperties", "sla /slaProperties"]);
    refused("/schema/0/quality", json!([]), &["quality-check /schema/0"]);
    refused("/schema/0/quality", json!([{"type": "text", "description": "looks fine"}]), &["quality-check /schema/0"]);
    refused("/customProperties", json!([]), &["encryption-at-rest /customProperties"]);
    refused(
        "/schema/0/properties/1",
        json!({"name": "email", "logicalType": "string"}),
        &["mask /schema/0/properties/1"],
    );
    refused(
        "/schema/0/properties/0",
        json!({"name": "id", "logicalType": "string", "classification": "PII"}),
        &["mask /schema/0/properties/0"],
    );
    refused("/slaProperties/1/value", json!(91), &["raw-retention /slaProperties/1"]);
    // Whatever it is called: the mesh keeps what `re` says too.
    refused(
        "/slaProperties",
        json!([{"property": "retention", "value": 90, "unit": "d"}, {"property": "Re", "value": 10, "unit": "y"}]),
        &["raw-retention /slaProperties/1"],
    );
}

/// Reading masks whole columns, so that is what a contract must say of what is personal inside one.
#[test]
fn what_is_personal_inside_a_column_cannot_be_read_bare() {
    let inside = json!({"name": "email", "customProperties": [{"property": "mask", "value": "sha-256-global"}]});
    for nested in [
        json!({"name": "id", "logicalType": "object", "properties": [inside]}),
        json!({"name": "id", "logicalType": "array", "items": {"logicalType": "object", "properties": [inside]}}),
        json!({"name": "id", "logicalType": "map", "map": {"key": {}, "value": {"logicalType": "object", "properties": [inside]}}}),
    ] {
        let mut contract = good();
        contract["schema"][0]["properties"][0] = nested.clone();
        let input = AdmissionInput::new("hr", "hr.people", &contract, &PrincipalFacts::default());
        let rules: Vec<String> = set().admission(&input).unwrap().into_iter().map(|denial| denial.rule).collect();
        assert_eq!(rules, ["mask", "mask-place"], "{nested}");
        let mut whole = nested;
        whole["customProperties"] = json!([{"property": "mask", "value": "replace-with-null"}]);
        contract["schema"][0]["properties"][0] = whole;
        let product = ProductFacts::of("hr", "people", 1, &contract, str::to_owned);
        let analyst = PrincipalFacts { roles: vec!["analyst".to_owned()], ..PrincipalFacts::default() };
        let masks = set().reading(&analyst, &product).unwrap().column_masks;
        assert_eq!(masks["id"].name(), "replace-with-null");
    }
}
