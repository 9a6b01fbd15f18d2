//! The README's first command, as a new user runs it: `mesh demo` to its end, what it says to try next, and Ctrl-C.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::nyc::number;
use crate::support::processes::{child_with, children, is_alive, signal};
use crate::support::python::Python;
use crate::support::{Mesh, Output, command, eventually, run_within, wait};
use pretty_assertions::assert_eq;
use rustix::process::Signal;

/// Far more than it needs: how long it took is printed, not judged, since other tests run beside it.
const LIMIT: Duration = Duration::from_secs(300);

/// What the demo shows at the least, in this order.
const SHOWN: &[&str] = &[
    "accepted operations.flights 1.0.0",
    "── A contract that is refused, for a reason that its author can act on",
    "passengers.odcs.yaml:46:9: MESH-PUBLISHER-0016: column `email` is personal",
    "published 27004 events to operations.flights",
    "product-changed operations.flights snapshot",
    "── What the tables hold: every event is a row or a dead letter",
    "── Verdicts: each product against its own promises",
    "2226 rows",
    "0.5742 percent (155 of 26993 rows)",
    "── A question across three domains",
    "1: calm, below 5 mph",
    "4: strong, above 25 mph",
    "── The same table, asked by a partner: only its own carrier's rows",
    "UA",
    "4637",
    "── Where the analyst's answer came from",
    "by ana",
    "fleet.planes_v1",
    "events to fleet.planes.v1",
    "operations.flights_v1",
    "weather.hourly_v1",
    "── The same, by columns",
    "operations.flights_v1.dep_delay",
    "── What to try next",
];

#[test]
fn the_demo_shows_what_the_data_gives_and_what_it_suggests_works() {
    let folder = mesh_testkit::folder().unwrap();
    let data = folder.path().join("mesh");
    let since = Instant::now();
    let shown = run_within(LIMIT, command().args(["demo", "--data"]).arg(&data)).done();
    writeln!(std::io::stderr(), "the demo took {:?}", since.elapsed()).unwrap();
    let mut rest = shown.as_str();
    for text in SHOWN {
        let at = rest.find(text).unwrap_or_else(|| panic!("the demo does not show {text:?} in its place:\n{shown}"));
        rest = &rest[at + text.len()..];
    }
    let table: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        ["fleet.planes", "3322", "3322", "0"],
        ["weather.hourly", "2226", "2226", "0"],
        ["operations.flights", "27004", "26993", "11"],
    ] {
        assert!(table.iter().any(|line| line.starts_with(&row)), "no line {row:?}:\n{shown}");
    }
    outsiders_count_the_same(&data);
    suggestions_work(&data, rest);
    the_next_demo_replaces_the_mesh_and_nothing_else(&data);
}

/// In the same folder, and left running until Ctrl-C.
fn the_next_demo_replaces_the_mesh_and_nothing_else(data: &Path) {
    let notes = data.join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    let ended = interrupted(&["demo", "--keep", "--data"], data, "The mesh keeps running", || {
        let counted = run_within(LIMIT, command().arg("--mesh").arg(data).args(["-o", "json", "sql", COUNT])).json();
        assert_eq!(number(&counted[0]["n"]), 3322, "of the new mesh alone");
    });
    assert!(ended.stdout.contains("── What to try next") && !ended.stdout.contains(" -- up "), "{ended:?}");
    assert_eq!(std::fs::read_to_string(notes).unwrap(), "mine");
}

const COUNT: &str = "SELECT COUNT(*) AS n FROM fleet.planes";

/// pyiceberg opens the catalog of the finished demo.
fn outsiders_count_the_same(data: &Path) {
    let Some(python) = Python::find() else { return };
    let root = data.canonicalize().unwrap();
    let catalog = mesh_cli::home::Home::own(&root).endpoints().unwrap().catalog;
    let wanted = [
        ("fleet.planes_v1", 3322),
        ("fleet.planes_v1_dead_letters", 0),
        ("operations.flights_v1", 26_993),
        ("operations.flights_v1_dead_letters", 11),
        ("weather.hourly_v1", 2226),
        ("weather.hourly_v1_dead_letters", 0),
    ];
    let wanted: BTreeMap<_, _> = wanted.into_iter().map(|(table, rows)| (table.to_owned(), rows)).collect();
    assert_eq!(python.count(&catalog), wanted);
}

/// The first suggestion starts the mesh again, the others ask it.
fn suggestions_work(data: &Path, text: &str) {
    let mut suggested = text.lines().filter_map(|line| line.trim().strip_prefix("cargo run -- "));
    assert_eq!(words(suggested.next().unwrap()), ["up", "--data", data.to_str().unwrap()]);
    let mut mesh = Mesh::up_in(data);
    let mut tried = 0;
    for line in suggested {
        let mut words = words(line);
        let wanted = match words.iter().any(|word| word == "apply") {
            true => 1,
            false => 0,
        };
        if words.iter().any(|word| word == "watch") {
            words.extend(["--count", "20"].map(str::to_owned));
        }
        let output = run_within(LIMIT, command().args(&words));
        assert_eq!(output.code, wanted, "{words:?}: {output:?}");
        assert!(!output.stdout.trim().is_empty(), "{words:?} says nothing: {output:?}");
        tried += 1;
    }
    assert_eq!(tried, 6, "every suggestion was found");
    mesh.stop();
}

/// A line's words as a shell reads them: quotes hold together, `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" # ").next().unwrap();
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[test]
fn ctrl_c_in_the_middle_of_the_demo_drains_it() {
    let folder = mesh_testkit::folder().unwrap();
    let ended = interrupted(&["demo", "--data"], &folder.path().join("mesh"), "published 3322 events", || ());
    assert!(ended.stderr.contains("draining"), "{ended:?}");
}

#[test]
fn ctrl_c_while_services_start_drains_those_that_did() {
    let folder = mesh_testkit::folder().unwrap();
    let data = folder.path().join("mesh");
    interrupted(&["up", "--data"], &data, "started bus", || ());
    assert!(!data.join("mesh.toml").exists(), "no command looks for a mesh that is not there");
    // The folder is as good as before.
    Mesh::up_in(&data).stop();
}

#[test]
fn a_second_ctrl_c_waits_for_nobody() {
    let mut mesh = Mesh::up();
    let query = child_with(mesh.pid(), "query").unwrap();
    signal(query, Signal::STOP);
    signal(mesh.pid(), Signal::INT);
    eventually("the drain", Duration::from_secs(10), || mesh.up_log().contains("draining").then_some(()));
    let started = children(mesh.pid());
    signal(mesh.pid(), Signal::INT);
    assert_eq!(mesh.ended_within(Duration::from_secs(10)), Some(3));
    signal(query, Signal::CONT);
    let all_ended = || started.iter().all(|pid| !is_alive(*pid)).then_some(());
    eventually("the end of its children", Duration::from_secs(60), all_ended);
}

/// Starts a command, and interrupts it once it says `when` and `meanwhile` is done; it ends well, and so did its children:
/// none was killed.
fn interrupted(args: &[&str], data: &Path, when: &str, meanwhile: impl Fn()) -> Output {
    let mut command = command();
    command.args(args).arg(data).env("RUST_LOG", "mesh_cli=debug");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (lines, hear) = std::sync::mpsc::channel();
    let stdout = tell(child.stdout.take().unwrap(), lines.clone());
    let stderr = tell(child.stderr.take().unwrap(), lines);
    while !hear.recv_timeout(LIMIT).expect("it says so").contains(when) {}
    let started = children(child.id());
    assert!(!started.is_empty());
    meanwhile();
    signal(child.id(), Signal::INT);
    let code = wait(&mut child, LIMIT).expect("it ends").code().unwrap_or(-1);
    let ended = Output { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    assert_eq!(ended.code, 0, "{ended:?}");
    let all_ended = || started.iter().all(|pid| !is_alive(*pid)).then_some(());
    eventually("the end of its children", Duration::from_secs(5), all_ended);
    let all = [ended.stdout.as_str(), &ended.stderr].concat();
    assert!(all.matches("a child has drained").count() >= started.len(), "each of {}: {ended:?}", started.len());
    assert!(!all.contains("signal: 9") && !all.contains("is killed"), "{ended:?}");
    ended
}

/// Passes on each line; all of them in the end.
fn tell(
    pipe: impl std::io::Read + Send + 'static,
    to: std::sync::mpsc::Sender<String>,
) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(pipe).lines().map(Result::unwrap) {
            all.push_str(&line);
            all.push('\n');
            let _ = to.send(line);
        }
        all
    })
}
