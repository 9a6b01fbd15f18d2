//! `mesh policy test`: the policies' own tests, as `opa test` runs them.

use std::path::{Path, PathBuf};

use mesh_policy::testing::{Outcome, TestCase};
use mesh_policy::{Module, PolicySet};

use crate::args::Output;
use crate::error::{CliError, pure};
use crate::exit::Exit;
use crate::print;

/// The policies of a folder, without their tests. A folder without policies is an error: it would refuse nothing.
pub(crate) fn load(dir: &Path) -> Result<PolicySet, CliError> {
    let modules =
        modules(dir)?.into_iter().filter(|module| !mesh_policy::testing::is_test(&module.name)).collect::<Vec<_>>();
    if modules.is_empty() {
        return Err(CliError::NoPolicies { dir: dir.to_owned() });
    }
    PolicySet::compile(&modules).map_err(pure)
}

/// The policies' files of a folder, without their tests, in the order of their paths.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut paths = rego_files(dir)?;
    paths.retain(|path| !mesh_policy::testing::is_test(&path.display().to_string()));
    paths.sort();
    Ok(paths)
}

/// Every Rego module below `dir`, in the order of their paths.
pub(crate) fn modules(dir: &Path) -> Result<Vec<Module>, CliError> {
    let mut paths = rego_files(dir)?;
    paths.sort();
    paths.into_iter().map(|path| Ok(Module::new(path.display().to_string(), read(&path)?))).collect()
}

fn rego_files(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |source| CliError::File { action: "read", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            found.extend(rego_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rego") {
            found.push(path);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File { action: "read", path: path.to_owned(), source })
}

/// `mesh policy test DIR`: exit 1 if a test fails, or if there are none.
pub(crate) fn test(dir: &Path, output: Output) -> Result<Exit, CliError> {
    let report = mesh_policy::testing::run(&modules(dir)?).map_err(pure)?;
    match output {
        Output::Table => report.tests.iter().try_for_each(|test| print::line(&test.to_string()))?,
        Output::Json => print::json(&report.tests.iter().map(as_json).collect::<Vec<_>>())?,
    }
    if report.tests.is_empty() {
        print::note(&format!("there are no `test_` rules in *_test.rego files below {}", dir.display()));
    }
    let passed = report.count(|outcome| matches!(outcome, Outcome::Pass));
    print::note(&format!("{passed} of {} tests passed", report.tests.len()));
    Ok(if report.passed() { Exit::Done } else { Exit::No })
}

fn as_json(test: &TestCase) -> serde_json::Value {
    let outcome = match &test.outcome {
        Outcome::Pass => "pass".to_owned(),
        Outcome::Fail => "fail".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::Error(error) => format!("error: {error}"),
    };
    serde_json::json!({
        "file": test.file, "line": test.line, "package": test.package, "name": test.name,
        "outcome": outcome, "micros": u64::try_from(test.took.as_micros()).unwrap_or(u64::MAX),
    })
}
