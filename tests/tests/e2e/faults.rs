//! SIGKILL of a service at a named stage of its pipeline, under load: nothing that a reader can see may tell the run
//! from an undisturbed one.
//!
//! A run takes one point and one pass per service, by a seed that is printed; `MESH_SEED=<n>` replays it.
//! `MESH_FAULTS=all` takes every point, and `MESH_FAULTS=ingest.commit.after@2,…` those that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::nyc::{FLIGHTS, PLANES, PRODUCTS, Product, WEATHER, lines, number, text};
use crate::support::{Mesh, eventually, root};
use mesh_testkit::Seed;
use pretty_assertions::assert_eq;
use rand::Rng as _;
use serde_json::Value;

/// Every service with its points; ingest passes those of the commit path as well.
fn services() -> [(&'static str, Vec<&'static str>); 4] {
    [
        ("publisher", mesh_publisher::FAULT_POINTS.to_vec()),
        ("ingest", mesh_ingest::FAULT_POINTS.iter().chain(mesh_lakehouse::FAULT_POINTS).copied().collect()),
        ("quality", mesh_quality::FAULT_POINTS.to_vec()),
        ("query", mesh_query::FAULT_POINTS.to_vec()),
    ]
}

/// Passed once in the life of a process under this load; all others are passed at least twice.
const ONCE: &[&str] = &["publisher.provision.subject", "quality.recover.done"];

/// The demo's load, and its poison.
const LOADED: [Product; 3] = PRODUCTS;
const POISON: usize = 11;

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
    // Each is printed, so that one that fails hides none of the others.
    let holds = |fault: &String| {
        let since = Instant::now();
        let passed = std::panic::catch_unwind(|| disturbed(fault, &wanted)).is_ok();
        let outcome = if passed { "nothing changed" } else { "FAILED" };
        writeln!(std::io::stderr(), "fault {fault}: {outcome} ({:?})", since.elapsed()).unwrap();
        passed
    };
    let failed: Vec<_> = faults.iter().filter(|fault| !holds(fault)).collect();
    assert_eq!(failed, Vec::<&String>::new());
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
    load_under_questions(&mesh);
    mesh.await_judged(&LOADED);
    let outcome = outcome(&mesh);
    let covered = outcome.rows[FLIGHTS.name].len() + outcome.dead_letters[FLIGHTS.name].len();
    let wanted = (lines(FLIGHTS.data).len(), POISON);
    assert_eq!((covered, outcome.dead_letters[FLIGHTS.name].len()), wanted, "the yardstick itself");
    history_is_announced(&mesh);
    outcome
}

fn disturbed(fault: &str, wanted: &Outcome) {
    let mut mesh = Mesh::up_with_fault(fault);
    load_under_questions(&mesh);
    let service = service_of(fault);
    eventually(&format!("the death of {service} at {fault}"), Duration::from_secs(30), || {
        mesh.up_log().lines().any(|line| is_death_of(service, line)).then_some(())
    });
    mesh.await_judged(&LOADED);
    assert_eq!(outcome(&mesh), *wanted, "{fault}");
    history_is_announced(&mesh);
    mesh.stop();
}

/// Who passes a point under this load: commits are ingest's, though the publisher has the same code.
fn service_of(fault: &str) -> &str {
    match fault.split('.').next() {
        Some("lakehouse") | None => "ingest",
        Some(service) => service,
    }
}

/// The supervisor's line on a service that was killed, whatever colour it has.
fn is_death_of(service: &str, line: &str) -> bool {
    let name = line.split("service").nth(1).is_some_and(|rest| rest.contains(&format!("\"{service}\"")));
    name && line.contains("child ended") && line.contains("SIGKILL")
}

/// The load, while a reader asks without end: so the query service, too, dies under load. Each answer that the reader got
/// has its audit record.
fn load_under_questions(mesh: &Mesh) {
    mesh.admit_example();
    let loaded = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let reader = scope.spawn(|| ask_until(mesh, &loaded));
        // Whatever becomes of the load, the reader must come to its end.
        let load = std::panic::catch_unwind(AssertUnwindSafe(|| load(mesh)));
        loaded.store(true, Ordering::Relaxed);
        let answered = reader.join().unwrap();
        load.unwrap();
        answered
    });
    assert!(answered.len() >= ANSWERS, "the reader got {} answers", answered.len());
    let audited: BTreeSet<_> = mesh.events("mesh.audit").iter().map(|event| text(&event.data["queryId"])).collect();
    assert!(answered.is_subset(&audited), "answers without a record: {:?}", answered.difference(&audited));
}

/// Enough that each point of the query service is passed twice.
const ANSWERS: usize = 4;

fn ask_until(mesh: &Mesh, loaded: &AtomicBool) -> BTreeSet<String> {
    let query = ["--as", "ana", "sql", "SELECT carrier, COUNT(*) FROM operations.flights GROUP BY carrier"];
    let mut answered = BTreeSet::new();
    let since = Instant::now();
    while !loaded.load(Ordering::Relaxed) || answered.len() < ANSWERS {
        assert!(since.elapsed() < Duration::from_secs(300), "the reader has waited in vain");
        let output = mesh.run(&query);
        match output.code {
            0 => _ = answered.insert(output.query_id()),
            // A service that was killed is the mesh's fault, and nothing else.
            code => assert_eq!(code, 3, "{output:?}"),
        }
    }
    answered
}

/// The demo's files; flights in two parts, so that there is certainly more than one commit, announcement and verdict. Two
/// schemas of a producer's own, so that the registry is written to.
fn load(mesh: &Mesh) {
    for column in ["air_time", "arr_delay"] {
        mesh.register_without(FLIGHTS, column);
    }
    for product in [PLANES, WEATHER] {
        mesh.produce(product, &root().join(product.data));
    }
    let flights = lines(FLIGHTS.data);
    let (first, second) = flights.split_at(flights.len() / 2);
    mesh.produce(FLIGHTS, &mesh.cut("first.csv", first, FLIGHTS.data));
    mesh.await_announced(FLIGHTS, first.len());
    mesh.produce(FLIGHTS, &mesh.cut("second.csv", second, FLIGHTS.data));
    for product in LOADED {
        mesh.await_announced(product, lines(product.data).len());
    }
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
