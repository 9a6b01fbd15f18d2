//! Documents and code say the same: error pages, the paths of the guide, the shape of services.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file below `dir` whose name ends in one of `extensions`.
fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
                found.push(path);
            }
        }
    }
    found
}

fn sources() -> Vec<PathBuf> {
    ["proto/src", "crates", "services", "cli/src"].iter().flat_map(|dir| files(&root().join(dir), &["rs"])).collect()
}

/// Codes that sources can give to a person: literals outside comments.
fn codes_in_sources() -> BTreeSet<String> {
    let literal = Regex::new(r#""[^"]*?(MESH-[A-Z]+-\d{4})"#).unwrap();
    let mut codes = BTreeSet::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let code_lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code_lines {
            codes.extend(literal.captures_iter(line).map(|found| found[1].to_owned()));
        }
    }
    codes
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = files(&root().join("docs/errors"), &["md"])
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("MESH-"))
        .collect();
    let codes = codes_in_sources();
    assert!(codes.len() > 20, "the pattern finds no codes any more: {codes:?}");
    let unexplained: Vec<_> = codes.difference(&pages).collect();
    let orphaned: Vec<_> = pages.difference(&codes).collect();
    assert!(unexplained.is_empty() && orphaned.is_empty(), "no page: {unexplained:?}; no code: {orphaned:?}");
}

#[test]
fn every_page_says_what_it_means_and_what_to_do() {
    for path in files(&root().join("docs/errors"), &["md"]) {
        let (name, text) = (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap());
        if !name.starts_with("MESH-") {
            continue;
        }
        assert!(text.starts_with(&format!("# {name}: ")), "{name}: the title is `# {name}: …`");
        for section in ["\n## What it means\n", "\n## What to do\n"] {
            let body = text.split(section).nth(1).map(|rest| rest.split("\n## ").next().unwrap().trim());
            assert!(body.is_some_and(|body| body.len() > 40), "{name}: `{}` is missing or empty", section.trim());
        }
    }
}

#[test]
fn every_path_in_the_documents_is_there() {
    let quoted = Regex::new(r"`((?:proto|crates|services|cli|tests|deploy|examples|docs|benches|\.ci)/[\w./{},*-]*)`").unwrap();
    let root = root();
    let mut documents = files(&root.join("docs"), &["md"]);
    documents.extend([root.join("README.md")]);
    let mut seen = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for path in quoted.captures_iter(&text).map(|found| found[1].to_owned()) {
            seen += 1;
            let plain = !path.contains(['{', '*']);
            assert!(!plain || root.join(&path).exists(), "{}: `{path}` does not exist", document.display());
        }
    }
    assert!(seen > 20, "the pattern finds no paths any more");
}

#[test]
fn every_service_has_the_one_shape() {
    for service in ["ingest", "publisher", "quality", "query"] {
        let src = root().join("services").join(service).join("src");
        for file in ["main.rs", "lib.rs", "config.rs", "error.rs", "telemetry.rs", "pipeline.rs", "pipeline"] {
            assert!(src.join(file).exists(), "services/{service}/src/{file} is missing");
        }
        let main = fs::read_to_string(src.join("main.rs")).unwrap().lines().count();
        assert!(main <= 60, "services/{service}/src/main.rs has {main} lines: it only parses, builds, waits and drains");
        for stage in files(&src.join("pipeline"), &["rs"]) {
            let text = fs::read_to_string(&stage).unwrap();
            assert!(text.starts_with("//!"), "{}: a stage says first what comes in and what goes out", stage.display());
        }
    }
}

#[test]
fn only_the_bus_is_unsafe() {
    let allowed = root().join("crates/bus/src/ffi.rs");
    let unsafe_code = Regex::new(r"\bunsafe\s*(\{|fn|impl|extern)").unwrap();
    for path in sources().into_iter().filter(|path| *path != allowed) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!unsafe_code.is_match(&text), "{}: unsafe code lives in crates/bus/src/ffi.rs only", path.display());
    }
}
