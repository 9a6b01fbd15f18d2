//! What the sources of the whole tree are held to, whichever crate they belong to: public names, and tests that test.
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
