//! `mesh-query`: governed SQL across domains.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_runtime::service::main::<mesh_query::Query>()
}
