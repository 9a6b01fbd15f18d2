//! ONE-VERDICT: `mesh validate`'s own check, the dry run and apply agree on every document, over a mesh that changes with
//! each of them. MESH_SEED replays a run; MESH_LONG tries the whole corpus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code, unreachable_pub)]

mod mesh;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh::{ADMIN_KEY, Mesh, Publisher};
use mesh_contract::{ContractError, Document, ProductContract, Severity};
use pretty_assertions::assert_eq;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

/// Documents of the corpus that a short run tries.
const OF_CORPUS: usize = 30;
/// Files of several documents.
const FILES: usize = 30;

/// A file's verdicts, without what only a written submission has.
fn verdicts(body: &Value) -> Value {
    let mut verdicts = body["verdicts"].clone();
    let each = verdicts.as_array_mut().unwrap_or_else(|| panic!("no verdicts: {body}"));
    for verdict in each {
        verdict.as_object_mut().unwrap().remove("revision");
    }
    verdicts
}

/// Codes of the errors that the offline check finds.
fn validated(file: &str, text: &str) -> BTreeSet<String> {
    let parsed = mesh_contract::parse(file, text);
    let errors = parsed.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let mut codes: BTreeSet<String> = errors.map(|finding| finding.code.to_owned()).collect();
    for document in &parsed.documents {
        if let Document::Contract(contract) = document
            && let Err(problem) = ProductContract::new(contract.as_ref().clone())
        {
            match problem {
                ContractError::Invalid { findings } | ContractError::NotRunnable { findings, .. } => {
                    codes.extend(findings.iter().map(|finding| finding.code.to_owned()));
                }
                other => drop(codes.insert(other.code().to_owned())),
            }
        }
    }
    codes
}

/// Dry run and apply say the same, word by word; what only the contract itself decides, the offline check says as well.
async fn check(publisher: &Publisher, file: &str, text: &str) -> bool {
    let name: String = file.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    let (dry, dry_body) = publisher.post(Some(ADMIN_KEY), &format!("file={name}&dry_run=true"), text).await;
    let (status, body) = publisher.post(Some(ADMIN_KEY), &format!("file={name}"), text).await;
    if body["verdicts"].is_null() {
        assert_eq!((dry, &dry_body["code"]), (status, &body["code"]), "{file}: {body}");
        return false;
    }
    assert_eq!((dry, verdicts(&dry_body)), (status, verdicts(&body)), "{file}\n{text}");
    let offline = validated(&name, text);
    let findings =
        body["verdicts"].as_array().unwrap().iter().flat_map(|verdict| verdict["findings"].as_array().unwrap());
    let errors =
        findings.filter(|finding| finding["severity"] == "error").map(|finding| finding["code"].as_str().unwrap());
    let of_the_document: BTreeSet<String> = errors
        .filter(|code| code.starts_with("MESH-CONTRACT") || code.starts_with("MESH-LAKEHOUSE"))
        .map(str::to_owned)
        .collect();
    assert!(
        of_the_document.is_subset(&offline),
        "{file}: apply refuses with {of_the_document:?}, validate says {offline:?}\n{text}"
    );
    assert!(
        offline.is_empty() || status == 422,
        "{file}: validate refuses with {offline:?}, apply admits: {body}\n{text}"
    );
    status == 200
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|of| of.to_str()) {
            _ if path.is_dir() => files(&path, found),
            Some("yaml" | "yml" | "json") => found.push(path),
            _ => {}
        }
    }
}

/// A contract of the mesh, by what documents differ in.
fn contract(name: &str, version: &str, status: &str, format: &str, columns: &[Value]) -> Value {
    json!({
        "apiVersion": "v3.1.0", "kind": "DataContract", "id": format!("urn:{name}"), "name": name, "version": version,
        "status": status, "domain": "operations", "dataProduct": name,
        "servers": [{"server": "mesh", "type": "kafka", "host": "mesh:9092", "format": format}],
        "schema": [{"name": name, "physicalName": format!("operations.{name}.v1"), "physicalType": "topic",
                    "logicalType": "object", "properties": columns}],
    })
}

/// One document each for types and partition transforms, those that fit and those that do not.
fn typed() -> Vec<Value> {
    let types = [
        ("integer", None),
        ("integer", Some("int64")),
        ("number", Some("decimal(6,2)")),
        ("string", None),
        ("string", Some("uuid")),
        ("string", Some("binary")),
        ("boolean", None),
        ("date", None),
        ("timestamp", None),
        ("time", None),
        ("number", Some("decimal(39,2)")),
        ("number", None),
    ];
    let transforms = [
        "identity",
        "year",
        "month",
        "day",
        "hour",
        "bucket[16]",
        "bucket[0]",
        "truncate[4]",
        "truncate[3000000000]",
        "void",
        "none",
    ];
    let mut documents = Vec::new();
    for (number, (logical, physical)) in types.into_iter().enumerate() {
        for transform in transforms {
            let mut column = json!({"name": "v", "logicalType": logical, "partitioned": true, "partitionKeyPosition": 1,
                "customProperties": [{"property": "partitionTransform", "value": transform}]});
            physical.into_iter().for_each(|physical| column["physicalType"] = physical.into());
            let name = format!("t{number}_{}", transform.replace(['[', ']'], "_"));
            documents.push(contract(
                &name,
                "1.0.0",
                "active",
                "json",
                &[json!({"name": "id", "logicalType": "integer"}), column],
            ));
        }
    }
    documents
}

/// Revisions of a few products that agree and clash with one another.
fn revisions() -> Vec<Value> {
    let column =
        |name: &str, logical: &str, required: bool| json!({"name": name, "logicalType": logical, "required": required});
    let (id, tail, note) =
        (column("id", "integer", true), column("tail", "string", false), column("note", "date", false));
    let mut documents = Vec::new();
    for name in ["one", "two"] {
        for (version, columns) in [
            ("1.0.0", vec![id.clone()]),
            ("1.1.0", vec![id.clone(), tail.clone()]),
            ("1.1.0-rc.1", vec![id.clone(), tail.clone()]),
            ("1.2.0", vec![id.clone(), tail.clone(), note.clone()]),
            ("1.2.0", vec![tail.clone()]),
            ("2.0.0", vec![tail.clone()]),
            ("1.0", vec![id.clone()]),
            ("1.3.0", vec![id.clone(), column("tail", "integer", false)]),
            ("1.4.0", vec![id.clone(), column("need", "string", true)]),
            ("1.5.0", vec![id.clone(), id.clone()]),
        ] {
            for status in ["active", "deprecated", "retired", "draft"] {
                documents.push(contract(name, version, status, "json", &columns));
            }
            let mut stolen = contract(name, version, "active", "avro", &columns);
            stolen["id"] = "urn:thief".into();
            documents.push(stolen.clone());
            stolen["dataProduct"] = "thief".into();
            documents.push(stolen);
        }
        let port = json!({"name": name, "version": "1.0.0", "contractId": format!("urn:{name}")});
        documents
            .push(json!({"apiVersion": "v1.0.0", "kind": "DataProduct", "id": format!("urn:p-{name}"), "name": name,
            "version": "1.0.0", "status": "active", "domain": "operations", "outputPorts": [port]}));
    }
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_dry_run_and_apply_give_one_verdict() {
    let seed = std::env::var("MESH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("MESH_SEED={seed}");
    let long = std::env::var_os("MESH_LONG").is_some();
    let mut random = StdRng::seed_from_u64(seed);
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;

    let shared = mesh_testkit::shared().unwrap().map(|shared| shared.join("corpus"));
    let mut corpus = Vec::new();
    shared.into_iter().for_each(|shared| files(&shared, &mut corpus));
    corpus.sort();
    corpus.shuffle(&mut random);
    for path in corpus.iter().take(if long { usize::MAX } else { OF_CORPUS }) {
        if let Ok(text) = std::fs::read_to_string(path) {
            check(&publisher, path.file_name().unwrap().to_str().unwrap(), &text).await;
        }
    }

    let mut typed = typed();
    typed.shuffle(&mut random);
    let mut admitted = 0;
    for document in typed.iter().take(if long { usize::MAX } else { 40 }) {
        admitted += usize::from(check(&publisher, "typed.json", &document.to_string()).await);
    }
    let revisions = revisions();
    for _ in 0..if long { 600 } else { 60 } {
        admitted +=
            usize::from(check(&publisher, "revision.json", &revisions.choose(&mut random).unwrap().to_string()).await);
    }
    for _ in 0..if long { 10 * FILES } else { FILES } {
        let count = random.random_range(2..5);
        let documents: Vec<String> = revisions.choose_multiple(&mut random, count).map(Value::to_string).collect();
        admitted += usize::from(check(&publisher, "several.yaml", &documents.join("\n---\n")).await);
    }
    assert!(admitted > 5, "{admitted} were admitted: a run of refusals shows little");
    publisher.stop().await;
}
