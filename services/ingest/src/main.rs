//! `mesh-ingest`: contracted topics into Iceberg tables, exactly once.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_runtime::service::main::<mesh_ingest::Ingest>()
}
