//! The local bus against the suite that a real Kafka passes whole, `tests/kafka-suite`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::python::Python;
use crate::support::{command, root};
use pretty_assertions::assert_eq;
use serde_json::Value;

/// What the local bus does not have: transactions, and groups of the new protocol.
const BEYOND: [&str; 5] =
    ["rebalance_kip848", "txn_commit_abort", "txn_fencing", "txn_open_hidden", "txn_send_offsets"];
/// Far more than the whole suite needs.
const LIMIT: Duration = Duration::from_secs(600);
/// Run side by side.
const PARTS: usize = 4;
const ROUNDS: &str = "3";

/// A local bus of the test's own.
struct Bus {
    process: Child,
    address: String,
}

impl Bus {
    fn start(data: &std::path::Path) -> Self {
        let mut bus = command();
        bus.args(["bus", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        let mut process = bus.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { process, address: ready["bootstrap"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn suite(script: &str) -> Option<(Python, PathBuf)> {
    let script = root().join("tests/kafka-suite").join(script);
    Python::find().map(|python| (python, script))
}

#[test]
fn all_pass_but_transactions_and_the_new_group_protocol() {
    let Some((python, script)) = suite("suite.py") else { return };
    let folder = mesh_testkit::folder().unwrap();
    let bus = Bus::start(folder.path());
    let ask = |which: &[String]| -> Vec<(String, bool, String)> {
        let which: Vec<&str> = std::iter::once(bus.address.as_str()).chain(which.iter().map(String::as_str)).collect();
        verdicts(&python.script(&script, &which, LIMIT).done())
    };
    let wanted = checks(&fs::read_to_string(&script).unwrap());
    assert_eq!(wanted.len() + BEYOND.len(), 38, "the suite has changed: {wanted:?}");
    // Most of them wait more than they work.
    let judged: Vec<_> = std::thread::scope(|scope| {
        let parts = wanted.chunks(wanted.len().div_ceil(PARTS)).map(|part| scope.spawn(|| ask(part)));
        parts.collect::<Vec<_>>().into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert_eq!(judged.len(), wanted.len(), "each has a verdict: {judged:?}");
    let failed: Vec<_> = judged.into_iter().filter(|(_, passed, _)| !passed).map(|(name, ..)| name).collect();
    if !failed.is_empty() {
        // Some have a time limit, and others ran beside them: once more, by themselves.
        let again = ask(&failed);
        assert!(again.len() == failed.len() && again.iter().all(|(_, passed, _)| *passed), "{again:#?}");
    }
}

/// What the suite checks, but for what the local bus does not have.
fn checks(suite: &str) -> Vec<String> {
    let names = suite.lines().filter_map(|line| line.strip_prefix("def t_")?.split('(').next());
    names.filter(|name| !BEYOND.contains(name)).map(str::to_owned).collect()
}

/// Of lines `PASS name [1.0s] …`, `FAIL name …`, `HANG name …`: the name, whether it passed, the line.
fn verdicts(printed: &str) -> Vec<(String, bool, String)> {
    let verdict = |line: &str| {
        let mut words = line.split(' ');
        let verdict = words.next().filter(|word| ["PASS", "FAIL", "HANG"].contains(word))?;
        Some((words.next()?.to_owned(), verdict == "PASS", line.to_owned()))
    };
    printed.lines().filter_map(verdict).collect()
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let Some((python, script)) = suite("crash.py") else { return };
    let folder = mesh_testkit::folder().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let bus = [env!("CARGO_BIN_EXE_mesh-under-test"), "bus", "--listen", &address, "--data"];
    let data = folder.path().join("bus");
    let args = [&[address.as_str(), ROUNDS, "1", "--"], &bus[..], &[data.to_str().unwrap()]].concat();
    let printed = python.script(&script, &args, LIMIT).done();
    let result = printed.lines().find(|line| line.starts_with("RESULT")).unwrap_or_else(|| panic!("{printed}"));
    for none in ["LOST(by offset)", "LOST(by value)", "WRONG", "duplicates", "out-of-order", "delivery failures"] {
        assert!(result.contains(&format!("{none}=0 ")), "{none}: {printed}");
    }
    assert!(result.contains(" eof=4 ") && !result.contains("acked=0 "), "{printed}");
    let committed: Vec<_> =
        printed.lines().filter_map(|line| line.split_once("want ")?.1.split_once(" got ")).collect();
    assert_eq!(committed.len(), 3, "{printed}");
    assert!(committed.iter().all(|(wanted, found)| wanted == found), "{printed}");
}
