//! What the sources of the whole tree are held to, whichever crate they belong to: public names, one home for
//! each rule, an owner for each task, and tests that test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// A Rust file of the tree, by its path from the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The folder of the crate: `crates/bus`, `proto`.
    fn crate_folder(&self) -> String {
        let depth = if self.path.starts_with("crates/") || self.path.starts_with("services/") { 2 } else { 1 };
        self.path.split('/').take(depth).collect::<Vec<_>>().join("/")
    }

    fn is_in_src(&self) -> bool {
        self.path.strip_prefix(&self.crate_folder()).is_some_and(|rest| rest.starts_with("/src/"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let mut found = Vec::new();
    for folder in ["crates", "services", "proto", "cli", "tests"] {
        collect(&root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 200, "the tree has more files than {}", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries: BTreeSet<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source { path: path.strip_prefix(root).unwrap().display().to_string(), text });
        }
    }
}

/// Each public type with the crates that define one of that name.
fn public_types(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let definition = Regex::new(r"(?m)^\s*pub\s+(?:unsafe\s+)?(?:struct|enum|union|trait|type)\s+([A-Z]\w*)").unwrap();
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_in_src()) {
        for found in definition.captures_iter(&source.text) {
            types.entry(found[1].to_owned()).or_default().insert(source.crate_folder());
        }
    }
    types
}

/// An alias of the standard library's type is that type, with the crate's own error.
const ALIASES: &[&str] = &["Result"];

#[test]
fn a_public_type_name_stands_in_one_crate() {
    let types = public_types(&sources());
    assert!(types.len() > 200, "found only {types:?}");
    let twice: Vec<_> =
        types.iter().filter(|(name, crates)| crates.len() > 1 && !ALIASES.contains(&name.as_str())).collect();
    assert!(twice.is_empty(), "rename one of each, by the words of docs/architecture.md: {twice:#?}");
}

#[test]
fn a_name_in_two_crates_is_found_whatever_its_kind() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let kinds = ["pub struct Seen(u8);", "    pub enum Seen {", "pub trait Seen {}", "pub type Seen = u8;"];
    for kind in kinds {
        let sources = [source("crates/bus/src/a.rs", kind), source("proto/src/b.rs", "pub struct Seen;")];
        assert_eq!(public_types(&sources)["Seen"].len(), 2, "{kind}");
    }
    let apart =
        [source("crates/bus/src/a.rs", "pub(crate) struct Seen;"), source("proto/tests/b.rs", "pub enum Seen {}")];
    assert!(public_types(&apart).is_empty());
}

/// What a test reads from its surroundings, it reads through the testkit, which fails where it is missing: a test that looks
/// itself returns early sooner or later, and passes without what it tests.
#[test]
fn only_the_testkit_decides_whether_a_test_can_run() {
    let forbidden = ["\"MESH_PYTHON\"", "\"MESHWORK_SHARED\"", "\"MESH_SKIP\"", "println!(\"skipped"];
    let excepted = ["crates/testkit/src/needs.rs", "tests/tests/sources.rs"];
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| !excepted.contains(&source.path.as_str()))
        .flat_map(|source| {
            let lines = source.text.lines().zip(1..);
            let bad = lines.filter(|(line, _)| forbidden.iter().any(|word| line.contains(word)));
            bad.map(|(line, number)| format!("{}:{number}: {}", source.path, line.trim())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "use mesh_testkit::python(), or #[ignore] with the reason: {found:#?}");
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
    (
        "which version comes before which, and what may follow it",
        "crates/contract/src/version.rs",
        &[r"\bsemver::Version\b", r"\bcmp_precedence\b", r"split\(\['-', '\+'\]\)"],
    ),
    (
        "how a length of time is written",
        "crates/contract/src/duration.rs",
        &[r"humantime::parse_duration", r#""weeks" =>"#],
    ),
    (
        "who administers what",
        "crates/policy/src/authority.rs",
        &[r#"\brole == (?:ADMIN|"admin")"#, r"admin_of\.(?:contains|iter\(\)\.any)"],
    ),
    ("the names of a service's parts", "crates/runtime/src/part.rs", &[r#""(?:view|table|task):\{"#]),
];

/// Code of the crates, without their tests: path from the root, text up to the first test module.
fn code() -> Vec<(String, String)> {
    let is_code = |source: &Source| {
        let is_test = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
        source.is_in_src()
            && !is_test
            && !source.path.ends_with("testing.rs")
            && !source.path.ends_with("oracle.rs")
            && !source.path.starts_with("crates/testkit/")
    };
    let without_tests = |text: &str| {
        let end = ["#[cfg(test)]\nmod ", "#[cfg(test)]\n#[allow("].iter().filter_map(|start| text.find(start)).min();
        text[..end.unwrap_or(text.len())].to_owned()
    };
    sources().into_iter().filter(is_code).map(|source| (source.path, without_tests(&source.text))).collect()
}

/// Lines of code that match, without comments: `path:line: text`.
fn lines_with(sources: &[(String, String)], pattern: &str) -> Vec<(String, String)> {
    let pattern = Regex::new(pattern).unwrap();
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
    let sources = code();
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
    let sources = code();
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
