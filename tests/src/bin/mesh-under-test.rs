//! The command line as tests run it: built with this crate, so that no test meets yesterday's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_cli::main()
}
