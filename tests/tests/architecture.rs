//! The tree keeps the shape that the design gives it: dependencies point one way, the pure stay pure, one arrow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Left to right: a crate depends only on crates of lower ranks.
const RANKS: &[(&str, u32)] = &[
    ("mesh-contract", 0),
    ("mesh-policy", 0),
    ("mesh-proto", 1),
    ("mesh-runtime", 2),
    ("mesh-bus", 3),
    ("mesh-lakehouse", 3),
    ("mesh-localbus", 3),
    ("mesh-testkit", 4),
    ("mesh-ingest", 5),
    ("mesh-publisher", 5),
    ("mesh-quality", 5),
    ("mesh-query", 5),
    ("mesh", 6),
    ("mesh-tests", 7),
];

/// The rank of the services, none of which depends on another.
const SERVICES: u32 = 5;

/// What decides must not be able to wait: these never reach a runtime, a broker, a table or an engine.
const PURE: &[&str] = &["mesh-contract", "mesh-policy"];
const IMPURE: &[&str] = &["tokio", "rdkafka", "iceberg", "datafusion", "reqwest", "hyper"];

/// Crates that may stand in Cargo.lock only once.
const ONCE: &[&str] = &["arrow", "arrow-schema", "parquet", "datafusion", "iceberg", "libsqlite3-sys", "openssl-src"];

/// What this machine builds. Nothing else was downloaded: a fresh machine has no crates of other systems.
fn metadata() -> Metadata {
    let options = ["--locked", "--offline", "--filter-platform", &host()];
    MetadataCommand::new().other_options(options.map(str::to_owned)).exec().unwrap()
}

fn host() -> String {
    let cargo = std::process::Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let printed = String::from_utf8(cargo.stdout).unwrap();
    printed.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn every_crate_has_a_rank() {
    let known: BTreeSet<_> = RANKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<_> = metadata().workspace_packages().iter().map(|p| p.name.to_string()).collect();
    assert_eq!(found, known, "give a new crate its place in RANKS, and the design its row");
}

#[test]
fn dependencies_point_leftward() {
    let ranks: BTreeMap<_, _> = RANKS.iter().copied().collect();
    for package in metadata().workspace_packages() {
        let mine = ranks[package.name.as_str()];
        for dependency in &package.dependencies {
            if let Some(&theirs) = ranks.get(dependency.name.as_str()) {
                // Tests may use what lies beside their crate and the testkit, but a service never another.
                let service = theirs == mine && mine == SERVICES;
                let allowed = theirs < mine || dependency.kind == DependencyKind::Development && !service;
                assert!(allowed, "{} must not depend on {}", package.name, dependency.name);
            }
        }
    }
}

#[test]
fn the_pure_reach_nothing_that_waits() {
    let metadata = metadata();
    for pure in PURE {
        let reached = reached_from(&metadata, pure);
        for impure in IMPURE {
            assert!(!reached.contains(*impure), "{pure} reaches {impure}: see `cargo tree -p {pure} -i {impure}`");
        }
    }
}

#[test]
fn heavy_crates_come_in_one_version() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    for name in ONCE {
        let packages = lock.split("[[package]]\n").filter_map(|p| p.strip_prefix(&format!("name = \"{name}\"\n")));
        let versions: Vec<_> = packages.filter_map(|package| package.lines().next()).collect();
        assert_eq!(versions.len(), 1, "{name} stands in Cargo.lock as {versions:?}");
    }
}

/// Names of all packages that `root` builds with, itself included; dev-dependencies do not count.
fn reached_from(metadata: &Metadata, root: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = &metadata.packages.iter().find(|p| p.name == root).unwrap().id;
    let (mut seen, mut waiting) = (BTreeSet::from([start]), vec![start]);
    while let Some(id) = waiting.pop() {
        for dep in &nodes[id].deps {
            let normal = dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
            if normal && seen.insert(&dep.pkg) {
                waiting.push(&dep.pkg);
            }
        }
    }
    seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
}

/// Where a task or a thread may be started by hand, and why its end is seen without the supervisor.
const STARTS: &[(&str, &str)] = &[
    ("crates/runtime/src/tasks.rs", "the supervisor itself"),
    ("crates/runtime/src/tasks/detach.rs", "short work; a panic is logged and becomes an error"),
    ("crates/runtime/src/telemetry/exporter.rs", "one export, awaited with its error"),
    ("crates/bus/src/shards.rs", "librdkafka's callbacks block; `Shards::ended` is awaited by the work"),
    ("crates/localbus/src/lib.rs", "the local bus's own runtime; `RunningBus::stopped` resolves when it ends"),
    ("crates/localbus/src/server.rs", "a connection, within `tasks::caught`"),
    ("crates/policy/src/engine.rs", "a policy's thread, joined with its error"),
    ("services/query/src/engine.rs", "a query's work on the engine's threads, awaited with its error"),
    ("services/query/src/pipeline/execute.rs", "the same; a reader sees its end as MESH-QUERY-0023"),
    ("cli/src/mesh_client.rs", "readers within `tasks::caught`; a panic is an error of the stream"),
];

/// Ways to start something that may end unseen. `Supervisor::spawn` and `spawn_once` are the way that is seen.
const STARTERS: &[&str] = &[
    r"tokio::spawn\(",
    r"task::spawn\(",
    r"spawn_local\(",
    r"\bJoinSet\b",
    r"\bTaskTracker\b",
    r"\bSpawnedTask::spawn\(",
    r"thread::spawn\(",
    r"thread::Builder::new\(",
    r"Handle::current\(\)\.spawn\(",
    r"(?:handle|runtime|engine|scope|connections|readers)\.spawn\(",
    r"\baxum::serve\(",
];

/// The one place of each rule, and how it looks where it is written a second time.
const HOMES: &[(&str, &str, &[&str])] = &[
    (
        "a schema's id is the offset after its first record",
        "proto/src/registry.rs",
        &[
            r"struct SchemaId\b",
            r"unwrap_or\(\w+\.offset \+ 1\)",
            r"or_insert\(offset \+ 1\)",
            r"u32::try_from\(offset \+ 1\)",
        ],
    ),
    (
        "a framed value begins with 0 and its schema's id",
        "proto/src/registry.rs",
        &[r"\[0, a, b, c, d", r"FRAME: usize"],
    ),
    ("a record holds so many bytes", "proto/src/record.rs", &[r"\b900_?000\b"]),
    ("a text that is cut ends in …", "proto/src/record.rs", &[r#"format!\("\{\}…""#, r"\bCUT: &str"]),
    (
        "a key of a compacted topic is what its highest revision made of it",
        "crates/bus/src/compacted.rs",
        &[r"\bERASED_AT: &str", r"erased: BTreeMap"],
    ),
    ("how many dead letters a snapshot has", "crates/lakehouse/src/summary.rs", &[r#""mesh\.dead-letters""#]),
    (
        "HTTP is served without delay",
        "crates/runtime/src/http.rs",
        &[r"\baxum::serve\(", r"TcpListener::bind\(address\)"],
    ),
    ("a process may open as many files as the system allows", "crates/runtime/src/limits.rs", &[r"Resource::Nofile"]),
    ("the names of a service's parts", "crates/runtime/src/part.rs", &[r#""(?:view|table|task):\{"#]),
];

/// Library sources without their tests: path from the root, text up to the first test module.
fn sources() -> Vec<(String, String)> {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut waiting: Vec<_> = ["proto/src", "cli/src"].map(|folder| root.join(folder)).into();
    for group in ["crates", "services"] {
        let crates = std::fs::read_dir(root.join(group)).unwrap();
        waiting.extend(crates.map(|found| found.unwrap().path().join("src")).filter(|path| path.is_dir()));
    }
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let is_test = name.ends_with("tests.rs") || name.contains("/tests/") || name.ends_with("testing.rs");
            if name.ends_with(".rs") && !is_test && !name.starts_with("crates/testkit/") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
                let code = code.split("#[cfg(test)]\n#[allow(").next().unwrap().to_owned();
                found.push((name, code));
            }
        }
    }
    assert!(found.len() > 200, "only {} sources were found", found.len());
    found
}

/// Lines of code that match, without comments: `path:line: text`.
fn lines_with(sources: &[(String, String)], pattern: &str) -> Vec<(String, String)> {
    let pattern = regex::Regex::new(pattern).unwrap();
    let mut found = Vec::new();
    for (path, text) in sources {
        for (number, line) in text.lines().enumerate() {
            if !line.trim_start().starts_with("//") && pattern.is_match(line) {
                found.push((path.clone(), format!("{path}:{}: {}", number + 1, line.trim())));
            }
        }
    }
    found
}

#[test]
fn every_long_task_is_started_by_the_supervisor() {
    let sources = sources();
    let mut used = BTreeSet::new();
    for starter in STARTERS {
        for (path, line) in lines_with(&sources, starter) {
            let allowed = STARTS.iter().any(|(known, _)| *known == path) || path == "crates/runtime/src/http.rs";
            assert!(
                allowed,
                "{line}\nstart it with `mesh_runtime::Supervisor` or `Tasks` under a name of `mesh_runtime::part`; short work with `tasks::detach`"
            );
            used.insert(path);
        }
    }
    for (path, why) in STARTS {
        assert!(used.contains(*path), "{path} starts nothing any more ({why}): take it from STARTS");
    }
}

#[test]
fn every_rule_has_one_home() {
    let sources = sources();
    for (rule, home, forms) in HOMES {
        let mut at_home = false;
        for form in *forms {
            for (path, line) in lines_with(&sources, form) {
                assert_eq!(path, *home, "{rule}: its home is {home}, and here it is written again\n{line}");
                at_home = true;
            }
        }
        assert!(at_home, "{rule}: {home} does not look like its home any more; correct HOMES");
    }
}
