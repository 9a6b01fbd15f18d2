//! SIGKILL of a service at a named stage of its pipeline, under load: nothing that a reader can see may tell the run
//! from an undisturbed one.
//!
//! A run takes one point and one pass per service, by a seed that is printed; `MESH_SEED=<n>` replays it.
//! `MESH_FAULTS=all` takes every point, and `MESH_FAULTS=ingest.commit.after@2,…` those that it names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use mesh_testkit::Seed;
use pretty_assertions::assert_eq;
use rand::Rng as _;
use serde_json::Value;
use support::nyc::{FLIGHTS, Line, Product, WEATHER, is_poison, lines, number, text};
use support::{Mesh, eventually};

/// Every service with its points; ingest passes those of the commit path as well.
fn services() -> [(&'static str, Vec<&'static str>); 4] {
    // A schema that somebody else registers is no part of this load; the publisher's own tests kill it there.
    let publisher = mesh_publisher::FAULT_POINTS.iter().filter(|point| **point != "publisher.registry.written");
    [
        ("publisher", publisher.copied().collect()),
        ("ingest", mesh_ingest::FAULT_POINTS.iter().chain(mesh_lakehouse::FAULT_POINTS).copied().collect()),
        ("quality", mesh_quality::FAULT_POINTS.to_vec()),
        ("query", mesh_query::FAULT_POINTS.to_vec()),
    ]
}

/// Passed once in the life of a process under this load; all others are passed at least twice.
const ONCE: &[&str] = &["publisher.provision.subject", "quality.recover.done"];

/// What is produced: flights, some of which are poison, in files of their own; and weather, which is JSON.
const FLIGHTS_LOADED: usize = 3000;
const WEATHER_LOADED: usize = 600;
const LOADED: [Product; 2] = [FLIGHTS, WEATHER];

/// What must be the same, whatever died on the way.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Per table: (topic, partition, offset) of each row.
    rows: BTreeMap<&'static str, Vec<String>>,
    /// Per table: the same of each dead letter, with its reason.
    dead_letters: BTreeMap<&'static str, Vec<String>>,
    /// Per check: outcome and finding.
    verdicts: BTreeMap<String, String>,
}

#[test]
fn a_service_that_dies_at_any_stage_changes_nothing() {
    let faults = chosen();
    let wanted = undisturbed();
    // Each is told, so that one that fails hides none of the others.
    let failed: Vec<_> = faults
        .into_iter()
        .filter(|fault| {
            let passed = std::panic::catch_unwind(|| disturbed(fault, &wanted)).is_ok();
            writeln!(std::io::stderr(), "fault {fault}: {}", if passed { "nothing changed" } else { "FAILED" })
                .unwrap();
            !passed
        })
        .collect();
    assert_eq!(failed, Vec::<String>::new());
}

/// The faults of this run.
fn chosen() -> Vec<String> {
    match std::env::var("MESH_FAULTS").ok().as_deref() {
        None | Some("") => {
            let mut rng = Seed::from_env_or_random().unwrap().rng();
            let one = |(_, points): (_, Vec<&str>)| {
                let point = points[rng.random_range(0..points.len())];
                let pass = if ONCE.contains(&point) { 1 } else { rng.random_range(1..=2) };
                format!("{point}@{pass}")
            };
            services().into_iter().map(one).collect()
        }
        Some("all") => {
            services().into_iter().flat_map(|(_, points)| points).map(|point| format!("{point}@1")).collect()
        }
        Some(named) => named.split(',').map(str::to_owned).collect(),
    }
}

fn undisturbed() -> Outcome {
    let mesh = Mesh::up();
    load(&mesh);
    mesh.await_judged(&LOADED);
    let outcome = outcome(&mesh);
    let covered = outcome.rows[FLIGHTS.name].len() + outcome.dead_letters[FLIGHTS.name].len();
    assert_eq!((covered, outcome.dead_letters[FLIGHTS.name].len()), (FLIGHTS_LOADED, 11), "the yardstick itself");
    history_is_announced(&mesh);
    outcome
}

fn disturbed(fault: &str, wanted: &Outcome) {
    let mut mesh = Mesh::up_with_fault(fault);
    load(&mesh);
    if fault.starts_with("query.") {
        answers_are_accounted(&mesh);
    }
    let died = || mesh.up_log().contains("a child ended and is restarted").then_some(());
    eventually(&format!("the death at {fault}"), Duration::from_secs(30), died);
    mesh.await_judged(&LOADED);
    assert_eq!(outcome(&mesh), *wanted, "{fault}");
    history_is_announced(&mesh);
    mesh.stop();
}

/// Two files of flights one after the other, so that there is more than one commit, announcement and verdict.
fn load(mesh: &Mesh) {
    mesh.admit_example();
    let flights = flights();
    let (first, second) = flights.split_at(FLIGHTS_LOADED / 2);
    mesh.produce(FLIGHTS, &mesh.cut("first.csv", first, FLIGHTS.data));
    mesh.produce(WEATHER, &mesh.cut("weather.csv", &lines(WEATHER.data)[..WEATHER_LOADED], WEATHER.data));
    mesh.produce(FLIGHTS, &mesh.cut("second.csv", second, FLIGHTS.data));
    mesh.await_announced(WEATHER, WEATHER_LOADED);
    mesh.await_announced(FLIGHTS, FLIGHTS_LOADED);
}

/// All poison of the month among good flights of its first days.
fn flights() -> Vec<Line> {
    let (poison, good): (Vec<_>, Vec<_>) = lines(FLIGHTS.data).into_iter().partition(is_poison);
    let every = (FLIGHTS_LOADED - poison.len()) / poison.len();
    let mut flights: Vec<_> = good.into_iter().take(FLIGHTS_LOADED - poison.len()).collect();
    for (n, flight) in poison.into_iter().enumerate() {
        flights.insert(n * (every + 1) + every / 2, flight);
    }
    flights
}

fn outcome(mesh: &Mesh) -> Outcome {
    let of = |query: fn(&Product) -> String| LOADED.map(|p| (p.name, sorted(mesh.sql(p.admin, &query(&p))))).into();
    Outcome {
        rows: of(|p| format!("SELECT _mesh['topic'] t, _mesh['partition'] p, _mesh['offset'] o FROM {}", p.name)),
        dead_letters: of(|p| {
            format!("SELECT topic t, partition p, \"offset\" o, place, reason FROM {}_dead_letters", p.table)
        }),
        verdicts: mesh.last_verdicts().into_iter().map(|(check, verdict)| (check, judged(&verdict))).collect(),
    }
}

/// Rows as texts; each offset is there once.
fn sorted(rows: Vec<Value>) -> Vec<String> {
    let mut texts: Vec<_> = rows.iter().map(Value::to_string).collect();
    texts.sort();
    let places: BTreeSet<_> =
        rows.iter().map(|row| (row["t"].to_string(), number(&row["p"]), number(&row["o"]))).collect();
    assert_eq!(places.len(), rows.len(), "an offset is there twice");
    texts
}

fn judged(verdict: &Value) -> String {
    // How long ago the last commit was is the one finding that time alone changes.
    let actual = if verdict["metric"] == "latency" { String::new() } else { text(&verdict["actual"]) };
    format!("{} {actual}", text(&verdict["outcome"]))
}

/// Every snapshot of a table's history was announced, in order, under its one id.
fn history_is_announced(mesh: &Mesh) {
    for product in LOADED {
        let history = mesh.history(product.table).snapshots;
        assert_eq!(mesh.announced_snapshots(product), history, "{}", product.name);
    }
}

/// A reader asks until there are answers again; each answer that was given has its audit record.
fn answers_are_accounted(mesh: &Mesh) {
    let mut answered = BTreeSet::new();
    let query = ["--as", "ana", "sql", "SELECT carrier, COUNT(*) FROM operations.flights GROUP BY carrier"];
    eventually("four answers", Duration::from_secs(60), || {
        let output = mesh.run(&query);
        match output.code {
            0 => _ = answered.insert(output.query_id()),
            code => assert_eq!(code, 3, "{output:?}"),
        }
        (answered.len() == 4).then_some(())
    });
    let audited: BTreeSet<_> = mesh.events("mesh.audit").iter().map(|event| text(&event.data["queryId"])).collect();
    assert!(answered.is_subset(&audited), "answers without a record: {:?}", answered.difference(&audited));
}
