//! The one shape of a service, and the `main` that runs it.
//!
//! In: a type that implements [`Service`], the command line. Out: configuration, telemetry, admin port, signals,
//! the ready line on stdout, an ordered drain, an exit code: 0 done, 2 usage or configuration, 3 the mesh is at fault.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, RuntimeConfig, Sources};
use crate::tasks::{TaskHandle, Tasks};
use crate::telemetry::{self, AnyExporter};
use crate::{AnyError, Check, Coded, Health, Metrics, Restart, RuntimeError, Shutdown, admin, limits, part, report};

/// How long the admin port may take to finish its answers.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// A service: how it is configured, built and run. Everything around it is the runtime's.
pub trait Service: Sized + Send + 'static {
    /// Short name, such as `ingest`: the binary is `mesh-<NAME>`, its variables are `MESH_<NAME>__…`.
    const NAME: &'static str;
    /// All sections but `[admin]`, `[log]` and `[drain]`, which are the runtime's.
    type Config: DeserializeOwned + Serialize + Send + Sync + 'static;
    type Error: Coded + Send + Sync + 'static;

    /// What types do not check of the configuration; `--check` runs it too. No I/O.
    fn validate(_config: &Self::Config) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Where spans go, beside a collector if one is configured; made before [`build`](Self::build).
    /// The exporter must emit no spans and no log lines on its way in (`mesh_bus::SpanExporter` does neither).
    fn span_exporter(_config: &Self::Config, _metrics: &Metrics) -> Result<Option<AnyExporter>, Self::Error> {
        Ok(None)
    }

    /// Connects, loads, listens. The service is ready when this returns.
    fn build(config: Self::Config, context: Context) -> impl Future<Output = Result<Self, Self::Error>> + Send;

    /// The public HTTP listener, for the ready line.
    fn http(&self) -> Option<SocketAddr> {
        None
    }

    /// Works until the shutdown is requested, then drains in order.
    fn run(self, shutdown: Shutdown) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What the runtime hands to a service that is built.
#[derive(Clone, Debug)]
pub struct Context {
    pub metrics: Metrics,
    pub health: Health,
    /// Starts the long tasks of the service.
    pub tasks: Tasks,
    /// Requested on SIGTERM; the same that `run` gets.
    pub shutdown: Shutdown,
}

impl Context {
    /// What a service needs around it, but for the admin port and the signals.
    pub fn new(metrics: Metrics, shutdown: Shutdown) -> Self {
        let health = Health::new();
        metrics.show(&health);
        let tasks = Tasks::new(health.clone(), &metrics);
        Self { metrics, health, tasks, shutdown }
    }

    /// A context without admin port and signals, for tests and for embedding.
    pub fn detached() -> Self {
        Self::new(Metrics::new(), Shutdown::new(Duration::from_secs(30)))
    }
}

/// The command line of every service.
#[derive(Debug, clap::Parser)]
#[command(version, disable_help_subcommand = true)]
struct Flags {
    /// The TOML file with the configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and stop.
    #[arg(long)]
    check: bool,
    /// Set one key, such as bus.bootstrap=127.0.0.1:9092; wins over environment and file.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// End when the parent process ends.
    #[arg(long)]
    child: bool,
}

/// The `main` of a service's own binary.
pub fn main<S: Service>() -> ExitCode {
    main_with_args::<S>(std::env::args_os())
}

/// The `main` of a service inside another binary; the first argument is the program's name, as in `args_os`.
/// Starts its own tokio runtime, so it must not be called from within one.
pub fn main_with_args<S: Service>(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let command = Flags::command().bin_name(format!("mesh-{}", S::NAME));
    let flags = match command.try_get_matches_from(args).and_then(|matches| Flags::from_arg_matches(&matches)) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match start::<S>(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::report(&error, error.code());
            ExitCode::from(if error.is_usage() { 2 } else { 3 })
        }
    }
}

fn start<S: Service>(flags: &Flags) -> Result<(), AnyError> {
    if flags.child {
        end_with_parent().map_err(AnyError::new)?;
    }
    let sources = Sources { file: flags.config.clone(), sets: flags.set.clone(), ..Sources::of_service(S::NAME) };
    let (runtime_config, config) = config::load::<S::Config>(&sources).map_err(AnyError::new)?;
    S::validate(&config).map_err(AnyError::new)?;
    if flags.check {
        return print(&format!("the configuration of mesh-{} is valid", S::NAME)).map_err(AnyError::new);
    }
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| AnyError::new(RuntimeError::System { what: "threads", source }))?;
    let result = runtime.block_on(serve::<S>(runtime_config, config));
    // A blocking librdkafka call may still wait for its timeout: nothing depends on it any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve<S: Service>(runtime: RuntimeConfig, config: S::Config) -> Result<(), AnyError> {
    let metrics = Metrics::new();
    let exporter = S::span_exporter(&config, &metrics).map_err(AnyError::new)?;
    let telemetry = telemetry::init(S::NAME, &runtime.log, exporter, &metrics).map_err(AnyError::new)?;
    let context = Context::new(metrics, Shutdown::new(runtime.drain.deadline));
    context.shutdown.on_signals().map_err(AnyError::new)?;
    let result = live::<S>(&runtime, config, context).await;
    telemetry.flush().await;
    result
}

/// From the admin port to the end of the drain. The admin port stays up while the service drains.
async fn live<S: Service>(runtime: &RuntimeConfig, config: S::Config, context: Context) -> Result<(), AnyError> {
    let health = context.health.clone();
    let tasks = context.tasks.clone();
    let shutdown = context.shutdown.clone();
    let (mut admin, address) = admin::start(runtime.admin.listen, &context).await.map_err(AnyError::new)?;
    let building = health.check("build");
    let service = tokio::select! {
        service = S::build(config, context) => service.map_err(AnyError::new)?,
        () = shutdown.requested() => return Ok(()),
    };
    building.up();
    let _leaving = leaving(&tasks, health.check("leaving"), &shutdown);
    ready_line(S::NAME, address, service.http()).map_err(AnyError::new)?;
    let run = service.run(shutdown.clone());
    let result = tokio::select! {
        result = run => result.map_err(AnyError::new),
        () = past_deadline(&shutdown) => {
            let unfinished = format!("service {}", S::NAME);
            Err(AnyError::new(RuntimeError::DrainDeadline { deadline: shutdown.deadline(), unfinished }))
        }
        () = shutdown.cut_off() => Err(AnyError::new(RuntimeError::DrainCutOff)),
    };
    admin.request_stop();
    // A client that does not take its answer holds up nothing.
    let _ = tokio::time::timeout(ADMIN_DRAIN, admin.ended()).await;
    result
}

/// A service that drains gets no new work: not ready from the shutdown to the end.
fn leaving(tasks: &Tasks, check: Check, shutdown: &Shutdown) -> TaskHandle {
    let shutdown = shutdown.clone();
    tasks.start(part::task("leaving"), Restart::default(), move |_| {
        let check = check.clone();
        let shutdown = shutdown.clone();
        async move {
            check.up();
            shutdown.requested().await;
            check.down("it drains, and then ends");
            std::future::pending::<()>().await;
        }
    })
}

/// Resolves when the drain should long have ended: a second more than a supervisor inside would allow itself.
async fn past_deadline(shutdown: &Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(shutdown.deadline() + Duration::from_secs(1)).await;
}

/// The child protocol: one line of JSON once the service works.
fn ready_line(name: &str, admin: SocketAddr, http: Option<SocketAddr>) -> Result<(), RuntimeError> {
    let line =
        serde_json::json!({ "ready": name, "admin": admin.to_string(), "http": http.map(|http| http.to_string()) });
    print(&line.to_string())
}

fn print(line: &str) -> Result<(), RuntimeError> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|source| RuntimeError::System { what: "writing to stdout", source })
}

/// SIGTERM when the thread that started us ends; at once if it has ended already.
#[cfg(target_os = "linux")]
pub fn end_with_parent() -> Result<(), RuntimeError> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let refused =
        |errno: rustix::io::Errno| RuntimeError::System { what: "the parent-death signal", source: errno.into() };
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(refused)?;
    match getppid() {
        Some(parent) if !parent.is_init() => Ok(()),
        _ => Err(RuntimeError::System {
            what: "to run as a child",
            source: std::io::Error::other("the parent has ended"),
        }),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn end_with_parent() -> Result<(), RuntimeError> {
    Ok(())
}
