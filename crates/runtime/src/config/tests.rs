#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    bus: Bus,
    #[serde(default)]
    loose: Loose,
    #[serde(default)]
    workers: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bus {
    bootstrap: String,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

/// A section whose author forgot `deny_unknown_fields`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Loose {
    interval: u32,
}

const FILE: &str = "[bus]\nbootstrap = \"file:9092\"\n";

fn load_from(file: &str, sets: &[&str]) -> Result<(RuntimeConfig, Example), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("example.toml");
    std::fs::write(&path, file).unwrap();
    let sets = sets.iter().map(ToString::to_string).collect();
    let sources = Sources { file: Some(path.clone()), env_prefix: String::new(), sets };
    load(&sources).map_err(|error| format!("{}: {error}", error.code()).replace(&path.display().to_string(), "FILE"))
}

fn check_error(file: &str, sets: &[&str], expected: &str) {
    assert_eq!(load_from(file, sets).unwrap_err(), expected);
}

#[test]
fn a_flag_wins_over_the_file() {
    let (_, config) = load_from(FILE, &["bus.bootstrap=flag:9092", "workers=3"]).unwrap();
    assert_eq!((config.bus.bootstrap.as_str(), config.workers), ("flag:9092", 3));
}

#[test]
fn the_runtime_reads_its_own_sections() {
    let file = format!("{FILE}[admin]\nlisten = \"127.0.0.1:9\"\n[drain]\ndeadline = \"5s\"\n");
    let (runtime, _) = load_from(&file, &["log.format=json"]).unwrap();
    assert_eq!(runtime.admin.listen.port(), 9);
    assert_eq!(runtime.drain.deadline, Duration::from_secs(5));
    assert_eq!(runtime.log.format, LogFormat::Json);
}

#[test]
fn a_map_takes_any_key() {
    let file = format!("{FILE}[bus.properties]\n\"security.protocol\" = \"SSL\"\n");
    let (_, config) = load_from(&file, &[]).unwrap();
    assert_eq!(config.bus.properties["security.protocol"], "SSL");
}

#[test]
fn an_unknown_key_names_itself_its_place_and_the_nearest() {
    check_error(
        &format!("{FILE}bootstrp = \"x\"\n"),
        &[],
        "MESH-RUNTIME-0002: unknown key `bus.bootstrp` in FILE; did you mean `bus.bootstrap`?",
    );
    check_error(
        &format!("{FILE}[adnim]\nlisten = 1\n"),
        &[],
        "MESH-RUNTIME-0002: unknown key `adnim` in FILE; did you mean `admin`?",
    );
    check_error(
        &format!("{FILE}[admin]\nport = 1\n"),
        &[],
        "MESH-RUNTIME-0002: unknown key `admin.port` in FILE; known here: listen",
    );
    check_error(
        FILE,
        &["wrkers=3"],
        "MESH-RUNTIME-0002: unknown key `wrkers` in a --set flag; did you mean `workers`?",
    );
}

#[test]
fn an_unknown_key_is_refused_even_where_the_type_would_ignore_it() {
    check_error(
        &format!("{FILE}[loose]\nintervall = 3\n"),
        &[],
        "MESH-RUNTIME-0002: unknown key `loose.intervall` in FILE; did you mean `loose.interval`?",
    );
}

#[test]
fn a_missing_key_and_a_wrong_type_say_where() {
    check_error(
        "[bus]\n",
        &[],
        "MESH-RUNTIME-0003: invalid configuration: `bus.bootstrap` is missing; set it in the file, the environment or with --set bus.bootstrap=… (in FILE)",
    );
    check_error(
        &format!("workers = \"many\"\n{FILE}"),
        &[],
        "MESH-RUNTIME-0003: invalid configuration: `workers`: invalid type: found string \"many\", expected u16 (in FILE)",
    );
}

#[test]
fn a_file_that_is_not_there_and_a_flag_that_is_none_are_errors() {
    let sources = Sources { file: Some("/nowhere/x.toml".into()), ..Sources::default() };
    assert_eq!(load::<Example>(&sources).unwrap_err().code(), "MESH-RUNTIME-0001");
    check_error(
        FILE,
        &["workers"],
        "MESH-RUNTIME-0004: `--set workers` is not of the form key=value, such as --set bus.bootstrap=127.0.0.1:9092",
    );
}
