//! `mesh policy test`: the policies' own tests, as `opa test` runs them.

use std::path::{Path, PathBuf};

use mesh_policy::{Module, PolicySet};

use crate::args::Output;
use crate::error::{CliError, below};
use crate::exit::Exit;
use crate::print;

/// The policies of a folder, without their tests.
pub(crate) fn load(dir: &Path) -> Result<PolicySet, CliError> {
    let modules = modules(dir)?.into_iter().filter(|module| !module.name.ends_with("_test.rego")).collect::<Vec<_>>();
    PolicySet::compile(&modules).map_err(below)
}

/// Every Rego module below `dir`, in the order of their paths.
pub(crate) fn modules(dir: &Path) -> Result<Vec<Module>, CliError> {
    let mut paths = rego_files(dir)?;
    paths.sort();
    paths.into_iter().map(|path| Ok(Module { name: path.display().to_string(), rego: read(&path)? })).collect()
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
