//! The example's policies: their own tests pass, and they admit and refuse the example's contracts as they should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use mesh_policy::{Module, testing};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rego") {
            found.push(path);
        }
    }
}

fn policies() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nyc/policies");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    found.iter().map(|path| Module::new(name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_policies_pass_their_own_tests() {
    let report = testing::run(&policies()).unwrap();
    let lines: Vec<_> = report.tests.iter().map(ToString::to_string).collect();
    assert!(report.passed(), "{}", lines.join("\n"));
    assert!(lines.len() > 20, "{}", lines.join("\n"));
}
