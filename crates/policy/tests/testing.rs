//! The policies' own tests, run as `opa test` runs them.
#![allow(clippy::unwrap_used)]

use mesh_policy::Module;
use mesh_policy::testing::{self, Outcome};

const POLICY: &str = "package mesh.platform.reading\nimport rego.v1\nallow if input.principal.name == \"ana\"\n";

const TESTS: &str = r#"package mesh.platform.reading_test
import rego.v1
import data.mesh.platform.reading

test_ana_reads if reading.allow with input as {"principal": {"name": "ana"}}

test_bob_reads if reading.allow with input as {"principal": {"name": "bob"}}

test_is_false := false

test_breaks if to_number("ana") == 1

todo_test_later if false

helper := 1
"#;

fn run(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let modules: Vec<_> = files.iter().map(|(name, rego)| Module::new(*name, *rego)).collect();
    let report = testing::run(&modules).map_err(|error| error.code().to_owned())?;
    let shown = report.tests.iter().map(|test| {
        let outcome = match &test.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Error(error) => error.code(),
            Outcome::Skipped => "skipped",
        };
        format!("{}:{} {} {outcome}", test.file, test.line, test.name)
    });
    Ok(shown.collect())
}

#[test]
fn every_test_is_reported_with_its_place() {
    assert_eq!(
        run(&[("reading.rego", POLICY), ("reading_test.rego", TESTS)]).unwrap(),
        [
            "reading_test.rego:5 test_ana_reads pass",
            "reading_test.rego:7 test_bob_reads fail",
            "reading_test.rego:9 test_is_false fail",
            "reading_test.rego:11 test_breaks MESH-POLICY-0005",
            "reading_test.rego:13 todo_test_later skipped",
        ]
    );
}

#[test]
fn a_test_may_live_in_the_package_that_it_tests() {
    let tests = "package mesh.platform.reading\nimport rego.v1\ntest_ana if allow with input as {\"principal\": {\"name\": \"ana\"}}";
    assert_eq!(run(&[("p.rego", POLICY), ("p_test.rego", tests)]).unwrap(), ["p_test.rego:3 test_ana pass"]);
}

#[test]
fn only_tests_that_ran_and_held_pass() {
    let passed = |files: &[(&str, &str)]| {
        let modules: Vec<_> = files.iter().map(|(name, rego)| Module::new(*name, *rego)).collect();
        testing::run(&modules).unwrap().passed()
    };
    let good = "package mesh.platform.reading_test\nimport rego.v1\ntest_one if 1 == 1";
    let later = "package mesh.platform.reading_test\nimport rego.v1\ntodo_test_one if 1 == 1";
    assert!(passed(&[("p.rego", POLICY), ("p_test.rego", good)]));
    assert!(!passed(&[("p.rego", POLICY)]));
    assert!(!passed(&[("p.rego", POLICY), ("p_test.rego", later)]));
    assert!(!passed(&[("p.rego", POLICY), ("p_test.rego", TESTS)]));
}

#[test]
fn a_broken_file_runs_nothing() {
    assert_eq!(
        run(&[("p.rego", POLICY), ("p_test.rego", "package x\ntest_one if {")]),
        Err("MESH-POLICY-0001".to_owned())
    );
    assert_eq!(run(&[("p.rego", "package mesh.other\nallow := true")]), Err("MESH-POLICY-0002".to_owned()));
}
