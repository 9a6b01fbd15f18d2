//! `mesh-publisher`: parse, build, wait, drain — all of it the runtime's.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_runtime::service::main::<mesh_publisher::Publisher>()
}
