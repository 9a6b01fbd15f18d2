//! Run events are what OpenLineage's own schemas say they are.

use jsonschema::Registry;
use mesh_proto::topics;
use serde_json::{Value, json};

use super::mesh::Mesh;

const SPEC: &str = "https://openlineage.io/spec/";

fn registry() -> Registry<'static> {
    let mut registry = Registry::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openlineage");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let id = schema["$id"].as_str().unwrap().to_owned();
            registry = registry.add(&id, schema).unwrap();
        }
    }
    registry.prepare().unwrap()
}

/// Holds `value` against the schema at `url`.
fn hold(registry: &Registry<'static>, url: &str, value: &Value) {
    let validator = jsonschema::options()
        .with_registry(registry)
        .should_validate_formats(true)
        .build(&json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": url}))
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(errors.is_empty(), "{url}: {errors:?}\n{value:#}");
}

/// Everything in `value` that names its schema, by the schema that it names.
fn hold_facets(registry: &Registry<'static>, value: &Value) -> usize {
    let children: Vec<&Value> = match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => return 0,
    };
    let within: usize = children.into_iter().map(|child| hold_facets(registry, child)).sum();
    match value["_schemaURL"].as_str().filter(|url| url.starts_with(SPEC)) {
        Some(url) => {
            hold(registry, url, value);
            within + 1
        }
        None => within,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_events_are_valid_openlineage() {
    let mesh = Mesh::full().await;
    let registry = registry();
    let good = "SELECT f.tailnum, CASE WHEN p.year > 2000 THEN f.delay END AS d, rank() OVER (ORDER BY f.delay) AS r \
                FROM operations.flights f JOIN fleet.planes p ON f.tailnum = p.tailnum WHERE f.delay > -10";
    let bad = "SELECT 1 / (delay - 2) FROM operations.flights";
    for (sql, last, facets) in [(good, "COMPLETE", 5), (bad, "FAIL", 5)] {
        let answer = mesh.ask("pat", sql).await;
        let events = mesh.records(topics::LINEAGE, &answer.id, 2).await;
        let runs: Vec<Value> = events.iter().map(|event| serde_json::from_slice(&event.data).unwrap()).collect();
        assert_eq!(
            (runs[0]["eventType"].as_str(), runs[1]["eventType"].as_str()),
            (Some("START"), Some(last)),
            "{sql}"
        );
        for run in &runs {
            hold(&registry, run["schemaURL"].as_str().unwrap(), run);
        }
        assert_eq!(hold_facets(&registry, &runs[1]), facets, "{:#}", runs[1]);
    }
    mesh.end().await;
}
