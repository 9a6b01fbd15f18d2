//! `mesh`: the one command for people.
//!
//! In: a command line. Out: an answer on stdout (a table or JSON), everything else on stderr, and an exit code
//! ([`exit::Exit`]). The same binary holds the four services, so that a new user links once: `mesh up` starts it again
//! with the hidden `service` command.
//!
//! Must never happen: a key on a command line, an answer on stderr, a note on stdout.

pub mod args;
mod commands;
mod demo;
mod endpoints;
pub mod error;
pub mod exit;
pub mod home;
mod mesh_client;
mod print;
pub mod up;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command, IngestArgs, PolicyArgs, ServiceArgs, ServiceName};
use error::CliError;
use exit::Exit;
use home::Home;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Service(service) = &cli.command {
        return run_service(service);
    }
    // Those that publish events trace them too, and set up both once they know the bus.
    if !matches!(cli.command, Command::Produce(_) | Command::Demo(_)) {
        log_to_stderr();
    }
    match block_on(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            mesh_runtime::report(&error, error.code());
            error.exit().into()
        }
    }
}

fn block_on(cli: &Cli) -> Result<Exit, CliError> {
    // One thread, the process's first: Linux ends a child (`--child`) with the very thread that started it.
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        threads.map_err(|source| CliError::File { action: "start threads for", path: "mesh".into(), source })?;
    runtime.block_on(run(cli))
}

async fn run(cli: &Cli) -> Result<Exit, CliError> {
    let home = Home::locate(cli.mesh.as_deref());
    let (output, principal) = (cli.output, cli.principal.as_deref());
    match &cli.command {
        Command::Demo(demo) => demo::run(demo).await,
        Command::Up(up) => up::run(&home, up).await,
        Command::Bus(bus) => commands::bus::run(bus).await,
        Command::Validate(validate) => commands::validate::run(validate, output),
        Command::Apply(apply) => commands::apply::run(&home, principal, apply, output).await,
        Command::Products => commands::products::run(&home, output).await,
        Command::Show(show) => commands::show::run(&home, &show.product, output).await,
        Command::Produce(produce) => commands::produce::run(&home, principal, produce).await,
        Command::Watch(watch) => commands::watch::run(&home, watch, output).await,
        Command::Quality(quality) => commands::quality::run(&home, &quality.product, output).await,
        Command::Sql(sql) => commands::sql::run(&home, principal, &sql.query, output).await,
        Command::Lineage(lineage) => commands::lineage::run(&home, lineage, output).await,
        Command::Policy(PolicyArgs::Test { dir }) => commands::policy::test(dir, output),
        Command::Ingest(IngestArgs::Rebase(rebase)) => commands::ingest::rebase(&home, principal, rebase, output).await,
        // Handled before there was a runtime.
        Command::Service(_) => Ok(Exit::Usage),
    }
}

fn run_service(service: &ServiceArgs) -> ExitCode {
    let args = [OsString::from(format!("mesh-{}", service.name.as_str()))]
        .into_iter()
        .chain(service.flags.iter().map(OsString::from));
    match service.name {
        ServiceName::Publisher => mesh_runtime::service::main_with_args::<mesh_publisher::Publisher>(args),
        ServiceName::Ingest => mesh_runtime::service::main_with_args::<mesh_ingest::Ingest>(args),
        ServiceName::Quality => mesh_runtime::service::main_with_args::<mesh_quality::Quality>(args),
        ServiceName::Query => mesh_runtime::service::main_with_args::<mesh_query::Query>(args),
    }
}

/// Warnings of the libraries underneath, for people; `RUST_LOG` asks for more.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(print::LOG));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let _ = lines.with_env_filter(filter).without_time().try_init();
}
