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
