//! `mesh-quality --config quality.toml`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_runtime::service::main::<mesh_quality::Quality>()
}
