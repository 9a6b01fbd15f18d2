//! What a test needs that this tree does not bring: clients in Python. A test whose needs are not met fails.
//!
//! In: `MESH_PYTHON`, `MESH_SKIP`, `MESHWORK_SHARED`. Out: an interpreter with the clients of `.ci/requirements.txt`; without `MESH_PYTHON`
//! `.ci/python.sh` makes one, once, in the cache.
//! No crate is needed for this file: crates whose tests should not wait for the testkit's include it by its path.
//! Must never happen: a test that passes without what it tests. Without Python, set `MESH_SKIP=python`: each test
//! that is left out then prints so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A Python with pyiceberg and confluent-kafka; `None` only if `MESH_SKIP` lists `python`.
pub fn python() -> Result<Option<PathBuf>, String> {
    if is_skipped("python", std::env::var("MESH_SKIP").ok().as_deref()) {
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        let printed = writeln!(std::io::stderr().lock(), "skipped by MESH_SKIP=python: {test}");
        printed.map_err(|error| error.to_string())?;
        return Ok(None);
    }
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(python) => Ok(Some(python.clone())),
        Err(problem) => Err(format!(
            "{problem}. Install Python 3 with venv, or name an interpreter with the packages of .ci/requirements.txt in \
             MESH_PYTHON, or set MESH_SKIP=python to leave out the tests that need it"
        )),
    }
}

/// The folder of documents that others wrote, which lies outside the project. `None`, and printed so, where
/// `MESHWORK_SHARED` names none; `.ci/run` does.
pub fn shared() -> Result<Option<PathBuf>, String> {
    let Some(folder) = std::env::var_os("MESHWORK_SHARED").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        let line = format!("{test} runs without the documents that others wrote: MESHWORK_SHARED names no folder");
        writeln!(std::io::stderr().lock(), "{line}").map_err(|error| error.to_string())?;
        return Ok(None);
    };
    match folder.join("corpus").is_dir() {
        true => Ok(Some(folder)),
        false => Err(format!(
            "MESHWORK_SHARED={} has no folder `corpus`. Name the folder that has it, or unset the variable",
            folder.display()
        )),
    }
}

/// Whether a list as `python,other` names this need.
fn is_skipped(need: &str, list: Option<&str>) -> bool {
    list.is_some_and(|list| list.split(',').any(|skipped| skipped.trim() == need))
}

fn find() -> Result<PathBuf, String> {
    match std::env::var_os("MESH_PYTHON").filter(|path| !path.is_empty()) {
        Some(path) => runs(Path::new(&path)),
        None => runs(&made()?),
    }
}

/// The interpreter, if it has the clients.
fn runs(python: &Path) -> Result<PathBuf, String> {
    let shown = python.display();
    let imported = Command::new(python).args(["-c", "import pyiceberg, confluent_kafka"]).output();
    let output = imported.map_err(|error| format!("{shown} does not run: {error}"))?;
    match output.status.success() {
        true => Ok(python.to_owned()),
        false => Err(format!("{shown} lacks the clients: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn made() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut script = Command::new("bash");
    script.current_dir(root).args(["-c", "set -e; . .ci/python.sh >&2; printf %s \"$MESH_PYTHON\""]);
    let output = script.output().map_err(|error| format!("bash does not run .ci/python.sh: {error}"))?;
    match output.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).into_owned())),
        false => Err(format!(".ci/python.sh failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Whether the long form of a test is wanted: `.ci/long` sets `MESH_LONG=1`, `.ci/run` does not.
pub fn is_long() -> bool {
    std::env::var("MESH_LONG").is_ok_and(|long| !long.is_empty() && long != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_list_names_is_skipped() {
        for (list, skipped) in [(None, false), (Some(""), false), (Some("python"), true), (Some("kafka, python"), true)]
        {
            assert_eq!(is_skipped("python", list), skipped, "{list:?}");
        }
        assert!(!is_skipped("python", Some("pythons")));
    }

    #[test]
    fn an_interpreter_without_the_clients_is_refused() {
        for (python, says) in [("/no/such/python", "does not run"), ("/bin/false", "lacks the clients")] {
            assert!(runs(Path::new(python)).is_err_and(|problem| problem.contains(says)), "{python}");
        }
    }
}
