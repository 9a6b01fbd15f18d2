//! In: policies and their `*_test.rego`. Out: what became of each `test_*` rule, as `opa test` says it.
//! Never: a test that could not run counted as passed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use regorus::{Engine, Value};

use crate::engine::{self, BUDGET};
use crate::error::PolicyError;
use crate::package::Module;
use crate::set::PolicySet;

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The rule is true.
    Pass,
    /// The rule is false or undefined.
    Fail,
    /// The rule could not be evaluated.
    Error(PolicyError),
    /// The rule's name begins with `todo_test_`.
    Skipped,
}

/// One `test_*` rule and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCase {
    pub file: String,
    pub line: u32,
    pub package: String,
    pub name: String,
    pub outcome: Outcome,
    pub took: Duration,
}

/// What became of all tests, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TestReport {
    pub tests: Vec<TestCase>,
}

impl TestReport {
    /// Whether there are tests and none failed. Without tests nothing is shown, so that is no pass.
    pub fn passed(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Pass)) > 0
            && self.count(|outcome| matches!(outcome, Outcome::Fail | Outcome::Error(_))) == 0
    }

    /// How many tests ended so.
    pub fn count(&self, ended: impl Fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|test| ended(&test.outcome)).count()
    }
}

impl fmt::Display for TestCase {
    /// As `opa test --verbose` prints it, with the place in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: data.{}.{}: ", self.file, self.line, self.package, self.name)?;
        match &self.outcome {
            Outcome::Pass => write!(f, "PASS ({} µs)", self.took.as_micros()),
            Outcome::Fail => write!(f, "FAIL ({} µs)", self.took.as_micros()),
            Outcome::Error(error) => write!(f, "ERROR: {error}"),
            Outcome::Skipped => f.write_str("SKIPPED"),
        }
    }
}

/// Whether a file holds tests, by OPA's convention.
pub fn is_test(file: &str) -> bool {
    file.ends_with("_test.rego")
}

/// Runs every test in `files`; those that are no `*_test.rego` must be a valid [`PolicySet`].
///
/// # Errors
/// A file that cannot be compiled: then no test ran.
pub fn run(files: &[Module]) -> Result<TestReport, PolicyError> {
    engine::apart("the tests", || run_here(files))
}

fn run_here(files: &[Module]) -> Result<TestReport, PolicyError> {
    let (tests, policies): (Vec<&Module>, Vec<&Module>) = files.iter().partition(|file| is_test(&file.name));
    PolicySet::compile(policies.iter().copied())?;
    let mut engine = engine::new_engine(BUDGET);
    for policy in policies {
        engine::add_module(&mut engine, policy)?;
    }
    let mut found = Vec::new();
    for test in tests {
        found.extend(tests_of(&mut engine, test)?);
    }
    if let Some(first) = found.first() {
        engine::analyse(&mut engine, &format!("data.{}.{}", first.package, first.name))?;
    }
    for test in &mut found {
        run_one(&engine, test);
    }
    Ok(TestReport { tests: found })
}

fn tests_of(engine: &mut Engine, file: &Module) -> Result<Vec<TestCase>, PolicyError> {
    let loaded = engine::add_module(engine, file)?;
    let mut seen = BTreeSet::new();
    let named = |name: &str| name.starts_with("test_") || name.starts_with("todo_test_");
    let tests = loaded.rules.into_iter().filter(|rule| named(&rule.name) && seen.insert(rule.name.clone()));
    Ok(tests
        .map(|rule| TestCase {
            file: file.name.clone(),
            line: rule.line,
            package: loaded.package.clone(),
            name: rule.name,
            outcome: Outcome::Skipped,
            took: Duration::ZERO,
        })
        .collect())
}

fn run_one(engine: &Engine, test: &mut TestCase) {
    if test.name.starts_with("todo_") {
        return;
    }
    let begun = Instant::now();
    let rule = format!("data.{}.{}", test.package, test.name);
    test.outcome = match engine::evaluate(&mut engine.clone(), &rule, BUDGET) {
        Ok(Some(Value::Bool(true))) => Outcome::Pass,
        Ok(_) => Outcome::Fail,
        Err(error) => Outcome::Error(error),
    };
    test.took = begun.elapsed();
}
