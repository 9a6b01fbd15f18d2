//! A service as its parent process sees it: the command line, the ready line, the admin port, the drain, the exit code.
//!
//! This binary is both sides: the tests start it again as the service (`MESH_TEST_CHILD`), so it has its own `main`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use mesh_runtime::metrics::Counter;
use mesh_runtime::telemetry::AnyExporter;
use mesh_runtime::{Context, Metrics, Restart, RuntimeError, Service, Shutdown, Supervisor, fault, service};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    greeting: String,
    stubborn: bool,
    /// Building never ends.
    slow: bool,
    http: mesh_runtime::config::HttpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self { greeting: "hello".into(), stubborn: false, slow: false, http: Default::default() }
    }
}

/// Drains a task, unless it is configured to be stubborn.
struct Example {
    config: Config,
    context: Context,
    drained: Counter,
}

impl Service for Example {
    const NAME: &'static str = "example";
    type Config = Config;
    type Error = RuntimeError;

    /// What a service without a collector does with its spans: here they go to stderr.
    fn span_exporter(_: &Config, _: &Metrics) -> Result<Option<AnyExporter>, RuntimeError> {
        Ok(Some(AnyExporter::new(ToStderr)))
    }

    async fn build(config: Config, context: Context) -> Result<Self, RuntimeError> {
        fault::point("example.build.start");
        if config.slow {
            eprintln!("building");
            std::future::pending::<()>().await;
        }
        let drained = context.metrics.counter("example_drained", "tasks that ended in order");
        Ok(Self { config, context, drained })
    }

    async fn run(self, shutdown: Shutdown) -> Result<(), RuntimeError> {
        let mut tasks = Supervisor::new(shutdown, self.context.tasks.clone());
        let (stubborn, drained, greeting) = (self.config.stubborn, self.drained.clone(), self.config.greeting);
        tasks.spawn("task:work", Restart::Never, move |stop| {
            let (drained, greeting) = (drained.clone(), greeting.clone());
            async move {
                tracing::info_span!(target: "mesh_example", "greet", mesh.greeting = greeting).in_scope(|| ());
                stop.requested().await;
                if stubborn {
                    std::future::pending::<()>().await;
                }
                drained.inc();
                tracing::info!("drained");
                Ok::<_, RuntimeError>(())
            }
        });
        tasks.run().await
    }
}

#[derive(Debug)]
struct ToStderr;

impl SpanExporter for ToStderr {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter().for_each(|span| eprintln!("handed in: {}", span.name));
        Ok(())
    }
}

fn main() -> ExitCode {
    if std::env::var_os("MESH_TEST_CHILD").is_some() {
        return service::main::<Example>();
    }
    let tests: &[(&str, fn())] = &[
        ("a_service_says_when_it_is_ready_and_drains_on_sigterm", ready_then_drains),
        ("environment_wins_over_file_and_flags_over_both", precedence),
        ("check_validates_and_stops", check_only),
        ("a_usage_error_is_exit_code_2_and_a_stuck_drain_3", exit_codes),
        ("a_second_signal_of_a_kind_cuts_the_drain_off", second_signal),
        ("a_service_that_is_still_building_stops_at_once", stop_while_building),
        ("a_taken_port_is_an_error_with_a_code", taken_port),
        ("a_fault_kills_at_its_point", fault_kills),
        ("a_child_ends_with_its_parent", ends_with_parent),
        ("spans_go_to_the_collector_that_the_variables_name", spans_to_collector),
        ("the_standard_variables_are_followed", variables_followed),
        ("a_variable_that_cannot_be_followed_is_an_error", variables_refused),
        ("spans_without_a_collector_go_where_the_service_says", spans_without_collector),
    ];
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, test) in tests.iter().filter(|(name, _)| filter.iter().all(|part| name.contains(part))) {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    command.env("MESH_TEST_CHILD", "1").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the ready line.
fn ready(child: &mut Child) -> serde_json::Value {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a ready line: {line:?}, {}", rest(child.stderr.take())))
}

fn rest(mut from: Option<impl std::io::Read>) -> String {
    let mut text = String::new();
    from.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

/// Runs to the end: exit code, stdout, stderr.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let mut child = command.spawn().unwrap();
    // What should end and does not is a failure, not a test that never ends.
    let until = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn get(address: &str, path: &str) -> (u16, String) {
    let url = format!("http://{address}{path}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = reqwest::get(url).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    })
}

/// Waits until readiness answers so.
fn becomes(admin: &str, code: u16, part: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (found, page) = get(admin, "/health/ready");
        if found == code && page.contains(part) {
            return;
        }
        assert!(Instant::now() < until, "{code} {part}: {found} {page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ready_then_drains() {
    let mut child = command(&[]).spawn().unwrap();
    let line = ready(&mut child);
    assert_eq!((line["ready"].as_str(), line["http"].is_null()), (Some("example"), true));
    let admin = line["admin"].as_str().unwrap();
    assert_eq!(get(admin, "/health/live").0, 200);
    let (code, page) = get(admin, "/health/ready");
    assert!(code == 200 || page.contains("task:work"), "{page}");
    assert!(get(admin, "/metrics").1.contains("mesh_example_drained_total 0"));
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(rest(child.stderr.take()).contains("drained"));
}

fn precedence() {
    let file = |dir: &Path| {
        let path = dir.join("example.toml");
        std::fs::write(&path, "greeting = 3\n").unwrap();
        path.display().to_string()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    // The file alone is wrong; a stronger source mends it, or spoils it again.
    let with = |env: Option<&str>, set: Option<&str>| {
        let mut command = command(&["--check", "--config", &path]);
        command.envs(env.map(|value| ("MESH_EXAMPLE__GREETING", value)));
        command.args(set.map(|value| format!("--set=greeting={value}")));
        run(command).0
    };
    assert_eq!(with(None, None), Some(2));
    assert_eq!(with(Some("text"), None), Some(0));
    assert_eq!(with(Some("text"), Some("4")), Some(2));
}

fn check_only() {
    let (code, out, _) = run(command(&["--check"]));
    assert_eq!((code, out.as_str()), (Some(0), "the configuration of mesh-example is valid\n"));
    let mut unknown = command(&["--check"]);
    unknown.env("MESH_EXAMPLE__GREETNG", "x");
    let (code, _, err) = run(unknown);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("error[MESH-RUNTIME-0002]: unknown key `greetng`") && err.contains("did you mean `greeting`?"),
        "{err}"
    );
}

fn exit_codes() {
    assert_eq!(run(command(&["--nonsense"])).0, Some(2));
    let mut child = command(&["--set", "stubborn=true", "--set", "drain.deadline=100ms"]).spawn().unwrap();
    ready(&mut child);
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let err = rest(child.stderr.take());
    assert!(err.contains("error[MESH-RUNTIME-0006]") && err.contains("work"), "{err}");
}

/// Two signals of a kind before the first is taken count as one: the drain must have begun.
fn second_signal() {
    let mut child = command(&["--set", "stubborn=true"]).spawn().unwrap();
    let admin = ready(&mut child)["admin"].as_str().unwrap().to_owned();
    becomes(&admin, 200, "ready");
    terminate(&child);
    becomes(&admin, 503, "it drains");
    // One signal of a terminal and one of a supervisor are one wish.
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it drains");
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let err = rest(child.stderr.take());
    assert!(err.contains("error[MESH-RUNTIME-0011]"), "{err}");
}

fn stop_while_building() {
    let mut child = command(&["--set", "slow=true"]).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("building") {
        line.clear();
        assert_ne!(err.read_line(&mut line).unwrap(), 0, "it ended before it was stopped");
    }
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(rest(child.stdout.take()), "", "it was never ready");
}

fn taken_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(command(&["--set", &format!("admin.listen={address}")]));
    assert_eq!(code, Some(3));
    assert!(
        err.contains("error[MESH-RUNTIME-0005]") && err.contains(&address) && err.contains("admin.listen"),
        "{err}"
    );
}

fn fault_kills() {
    use std::os::unix::process::ExitStatusExt as _;
    let mut command = command(&[]);
    command.env("MESH_FAULT", "example.build.start@1");
    assert_eq!(command.output().unwrap().status.signal(), Some(9));
}

/// A shell in between starts the service and is killed: the service must see to its own end.
fn ends_with_parent() {
    let exe = std::env::current_exe().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" --child & echo $!; wait", &exe.display().to_string()]);
    let mut shell = shell.env("MESH_TEST_CHILD", "1").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(shell.stdout.take().unwrap());
    let (mut pid, mut line) = (String::new(), String::new());
    out.read_line(&mut pid).unwrap();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"ready\":\"example\""), "{pid}{line}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    // The service holds the pipe's other end: it reads as ended once the service has ended.
    let mut left = String::new();
    out.read_to_string(&mut left).unwrap();
}

/// What a collector is sent: the path, the headers, the body.
type Export = (String, HeaderMap, Bytes);

/// An OTLP collector that hands on what it gets; its address.
fn collector() -> (String, mpsc::Receiver<Export>) {
    let (sender, exports) = mpsc::channel();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let take = move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let _ = sender.send((uri.path().to_owned(), headers, body));
        async {}
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, Router::new().fallback(take)).await.unwrap();
        });
    });
    (address, exports)
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    format!("{:?}", found.unwrap_or_else(|| panic!("no {name} in {attributes:?}")).value)
}

/// Runs the service with these variables beside a collector's address until it exports.
fn exported(variables: &[(&str, &str)]) -> (Export, String) {
    let (address, exports) = collector();
    let mut child = command(&["--set", "greeting=good morning"]);
    let child = child.env("OTEL_EXPORTER_OTLP_ENDPOINT", address).envs(variables.iter().copied());
    let mut child = child.spawn().unwrap();
    ready(&mut child);
    let export = exports.recv_timeout(Duration::from_secs(20)).expect("no span within 20 s");
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    (export, rest(child.stderr.take()))
}

fn spans_to_collector() {
    let ((path, headers, body), err) = exported(&[]);
    assert_eq!((path.as_str(), headers["content-type"].to_str().unwrap()), ("/v1/traces", "application/x-protobuf"));
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let resource = &export.resource_spans[0];
    let span = &resource.scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.trace_id.len()), ("greet", 16));
    assert!(text(&span.attributes, "mesh.greeting").contains("good morning"));
    assert!(text(&resource.resource.as_ref().unwrap().attributes, "service.name").contains("mesh-example"));
    assert!(err.contains("handed in: greet"), "lineage is drawn from spans, collector or not: {err}");
}

fn variables_followed() {
    let variables = [
        ("OTEL_SERVICE_NAME", "greeter"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=mesh"),
    ];
    let ((_, headers, body), _) = exported(&variables);
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let attributes = &export.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert!(text(attributes, "service.name").contains("greeter"));
    assert!(text(attributes, "deployment.environment.name").contains("test"));
    assert_eq!(headers["x-tenant"], "mesh");
}

fn variables_refused() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ] {
        let mut command = command(&[]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").env(name, value);
        let (code, _, err) = run(command);
        assert_eq!(code, Some(2), "{name}: {err}");
        assert!(err.contains("error[MESH-RUNTIME-0009]") && err.contains(value), "{name}: {err}");
    }
    let mut disabled = command(&[]);
    disabled.env("OTEL_SDK_DISABLED", "true").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let mut child = disabled.spawn().unwrap();
    ready(&mut child);
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!rest(child.stderr.take()).contains("handed in"), "no spans at all");
}

fn spans_without_collector() {
    // A collector that is named and switched off is none; how it would be reached does not matter.
    let off = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    for variables in [&[][..], &off] {
        let mut child = command(&[]).envs(variables.iter().copied()).spawn().unwrap();
        ready(&mut child);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let err = rest(child.stderr.take());
        assert!(err.contains("handed in: greet") && !err.contains("do not arrive"), "{err}");
    }
}
