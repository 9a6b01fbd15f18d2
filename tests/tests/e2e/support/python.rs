//! Clients in Python: `mesh_testkit::python` says where it is, or why the test fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_cli::home::CatalogEndpoint;

use super::{Output, run, run_within};

/// Counts every table of a catalog.
const COUNT: &str = r#"
import json, sys
from pyiceberg.catalog.sql import SqlCatalog
catalog = SqlCatalog("mesh", uri=sys.argv[1], warehouse=sys.argv[2])
tables = [t for namespace in catalog.list_namespaces() for t in catalog.list_tables(namespace)]
print(json.dumps({".".join(t): catalog.load_table(t).scan().to_arrow().num_rows for t in tables}))
"#;

pub(crate) struct Python(PathBuf);

impl Python {
    /// The Python with clients; `None` only if `MESH_SKIP=python`.
    pub(crate) fn find() -> Option<Self> {
        mesh_testkit::python().unwrap().map(Self)
    }

    /// Runs a script that lies in a file.
    pub(crate) fn script(&self, path: &Path, args: &[&str], limit: Duration) -> Output {
        run_within(limit, Command::new(&self.0).arg(path).args(args))
    }

    pub(crate) fn run(&self, script: &str, args: &[&str]) -> Output {
        run(Command::new(&self.0).args(["-c", script]).args(args))
    }

    /// The rows of each table, as pyiceberg counts them.
    pub(crate) fn count(&self, catalog: &CatalogEndpoint) -> BTreeMap<String, i64> {
        serde_json::from_value(self.run(COUNT, &[&catalog.uri, &catalog.warehouse]).json()).unwrap()
    }
}
