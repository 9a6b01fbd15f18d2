//! The command line from outside, where no mesh is needed: verdicts, exit codes, errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn mesh(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesh")).args(args).env_remove("MESH_HOME").env_remove("MESH_KEY").output().unwrap()
}

/// Runs a command and checks its exit code, and that the texts are in its output.
fn check(args: &[&str], exit: i32, says: &[&str]) -> Output {
    let output = mesh(args);
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "mesh {args:?} printed:\n{printed}");
    for text in says {
        assert!(printed.contains(text), "mesh {args:?} did not print {text:?}, but:\n{printed}");
    }
    output
}

fn example(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nyc").join(path).display().to_string()
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_valid_contract_is_done() {
    check(&["validate", &example("contracts/flights.odcs.yaml")], 0, &["flights.odcs.yaml: valid, 1 document"]);
}

#[test]
fn a_broken_contract_is_a_no_with_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(example("contracts/flights.odcs.yaml")).unwrap();
    let broken = file(&dir, "broken.yaml", &text.replace("\ntags:", "\ntagss:"));
    let line = text.lines().position(|line| line.starts_with("tags:")).unwrap() + 1;
    let place = format!("broken.yaml:{line}:1");
    check(&["validate", &broken.display().to_string()], 1, &[&place, "`tagss`", "`tags`", "MESH-CONTRACT-"]);
}

#[test]
fn one_bad_file_among_good_ones_is_a_no() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(&dir, "bad.yaml", "a: [").display().to_string();
    check(
        &["validate", &example("contracts/planes.odcs.yaml"), &bad],
        1,
        &["planes.odcs.yaml: valid", "bad.yaml: refused"],
    );
}

#[test]
fn policies_judge_offline_and_name_the_line() {
    let (refused, policies) = (example("refused/passengers.odcs.yaml"), example("policies"));
    check(&["validate", &refused], 0, &["no policy judged them: --policies DIR"]);
    check(&["validate", "--policies", &policies, &refused], 1, &["passengers.odcs.yaml:46:9", "`email` is personal"]);
}

/// "Valid" after policies were named means that one judged: whatever the folder holds instead of policies is an error, and
/// a policy of another domain is a warning.
#[test]
fn a_folder_whose_policies_judge_nothing_is_no_pass() {
    let contract = example("contracts/flights.odcs.yaml");
    let none: [&[(&str, &str)]; 4] = [
        &[],
        &[("README.md", "policies")],
        &[("a_test.rego", "package a_test\n\ntest_no if { 1 == 1 }\n")],
        &[("policies.rego.bak", "package mesh.platform.admission\n")],
    ];
    for files in none {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| _ = file(&dir, name, text));
        let here = dir.path().display().to_string();
        check(&["validate", "--policies", &here, &contract], 2, &["MESH-CLI-0018", &here, "leave --policies out"]);
    }
    let reading = example("policies/operations");
    let says = &["MESH-CLI-0018", "neither mesh.platform.admission nor mesh.domain.operations.admission"];
    check(&["validate", "--policies", &reading, &contract], 0, says);
    // The remedies.
    check(&["validate", &contract], 0, &["flights.odcs.yaml: valid", "no policy judged them"]);
    let judged = check(&["validate", "--policies", &example("policies"), &contract], 0, &["flights.odcs.yaml: valid"]);
    assert!(!String::from_utf8_lossy(&judged.stdout).contains("MESH-CLI-0018"), "{judged:?}");
}

#[test]
fn findings_are_json_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(&dir, "bad.yaml", "apiVersion: v9\nkind: DataContract\n").display().to_string();
    let output = check(&["validate", "--output", "json", &bad], 1, &[]);
    let verdicts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &verdicts[0]["findings"][0];
    assert_eq!(verdicts[0]["valid"], false);
    assert!(finding["line"].is_u64() && finding["remedy"].is_string(), "{finding}");
}

#[test]
fn the_examples_policies_pass_their_tests() {
    check(&["policy", "test", &example("policies")], 0, &["PASS"]);
}

#[test]
fn a_failing_policy_test_is_a_no() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "a_test.rego", "package a_test\n\ntest_no if { 1 == 2 }\n");
    check(&["policy", "test", &dir.path().display().to_string()], 1, &["test_no", "FAIL"]);
}

#[test]
fn a_folder_without_a_mesh_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display().to_string();
    check(&["--mesh", &here, "products"], 2, &["MESH-CLI-0001", &here, "mesh up"]);
}

#[test]
fn a_broken_mesh_file_is_the_meshs_fault() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "mesh.toml", "[bus\n");
    check(&["--mesh", &dir.path().display().to_string(), "products"], 3, &["MESH-CLI-0002", "caused by"]);
}

#[test]
fn a_folder_that_holds_somebodys_mesh_is_not_the_demos() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "mesh.toml", "");
    check(&["demo", "--example", &example(""), "--data", &dir.path().display().to_string()], 2, &["MESH-CLI-0009"]);
    assert!(dir.path().join("mesh.toml").exists());
}

#[test]
fn a_folder_that_holds_anything_else_is_not_the_demos() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "thesis.txt", "years of work");
    for _ in 0..2 {
        let data = dir.path().display().to_string();
        check(&["demo", "--example", &example(""), "--data", &data], 2, &["MESH-CLI-0009", "choose another"]);
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn without_the_example_the_demo_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, none) = (dir.path().join("data"), dir.path().join("none").display().to_string());
    check(&["demo", "--data", &data.display().to_string(), "--example", &none], 2, &["MESH-CLI-0006", &none]);
    assert!(!data.exists());
}

#[test]
fn a_folder_has_one_mesh_and_the_demo_leaves_a_running_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    file(&dir, "made-by-mesh-demo", "");
    let held = std::fs::File::create(dir.path().join("lock")).unwrap();
    held.try_lock().unwrap();
    check(&["up", "--data", &data], 2, &["MESH-CLI-0015", &data]);
    check(&["demo", "--example", &example(""), "--data", &data], 2, &["MESH-CLI-0015", &data]);
    assert!(dir.path().join("made-by-mesh-demo").exists());
}

#[test]
fn a_kafka_that_does_not_answer_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    check(&["up", "--data", &data, "--kafka", "127.0.0.1:1"], 3, &["MESH-BUS-0001", "127.0.0.1:1"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let below_a_file = file(&dir, "file", "").join("data").display().to_string();
    check(&["up", "--data", &below_a_file], 2, &["MESH-CLI-0006", &below_a_file]);
}

#[test]
fn an_unknown_flag_is_usage() {
    check(&["products", "--colour"], 2, &["--colour"]);
}

#[test]
fn a_service_checks_its_configuration_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        file(&dir, "ingest.toml", "[bus]\nbootstrap = \"127.0.0.1:1\"\nbootstrapp = 1\n").display().to_string();
    check(
        &["service", "ingest", "--config", &config, "--check"],
        2,
        &["MESH-RUNTIME-0002", "bootstrapp", "ingest.toml"],
    );
}
