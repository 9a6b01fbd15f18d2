//! A mesh that one test owns: `mesh up` on a folder of its own, used as a person uses it.
//!
//! In: what to break, if anything. Out: a [`Mesh`] whose services are ready, its command line, its events.
//! Must never happen: a process or a folder that outlives its test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub(crate) mod fixture;
pub(crate) mod lake;
pub(crate) mod nyc;
pub(crate) mod processes;
pub(crate) mod python;

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh_bus::{Bus, Start};
use mesh_cli::home::{Home, MeshFile};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(90);
/// No command of a test takes longer, unless it hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One event of a topic.
#[derive(Debug, Clone)]
pub(crate) struct ReadEvent {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) partition_key: Option<String>,
    pub(crate) sequence: Option<String>,
    pub(crate) data: Value,
}

/// A running mesh.
pub(crate) struct Mesh {
    folder: PathBuf,
    /// Goes with the mesh, unless the folder is somebody else's.
    _data: Option<TempDir>,
    up: Child,
    runtime: Runtime,
}

/// The command line under test; it knows of no mesh but the one that it is given.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-under-test"));
    for variable in ["MESH_HOME", "MESH_KEY", "MESH_FAULT", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.current_dir(root());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    run_within(COMMAND_LIMIT, command)
}

/// Runs a command that may take longer than others.
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let Some(status) = wait(&mut child, limit) else {
        child.kill().unwrap();
        panic!("{command:?} did not end within {limit:?}");
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap();
    Output { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

/// The repository's root: commands run there, as the README's do.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < within, "waited {within:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Output {
    /// The answer of a command that succeeded.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// The coded error it ended with; the code has a page.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, code: &str) {
        assert_eq!(self.code, exit, "{self:?}");
        let printed = self.stdout.contains(code) || self.stderr.contains(code);
        assert!(printed, "says nothing of {code}: {self:?}");
        assert!(root().join(format!("docs/errors/{code}.md")).exists(), "{code} has no page");
    }

    /// The id that `mesh sql` prints on stderr.
    #[track_caller]
    pub(crate) fn query_id(&self) -> String {
        let id = self.stderr.lines().find_map(|line| line.strip_prefix("query "));
        id.unwrap_or_else(|| panic!("no query id: {self:?}")).to_owned()
    }
}

impl Mesh {
    /// A mesh on the local bus.
    pub(crate) fn up() -> Self {
        Self::start(None, None)
    }

    /// A mesh on the broker that `MESH_TEST_KAFKA=host:port` names, which must be a fresh one; else on the local bus.
    pub(crate) fn up_on_tested_kafka() -> Self {
        let kafka = std::env::var("MESH_TEST_KAFKA").ok().filter(|address| !address.is_empty());
        Self::start(kafka.as_deref(), None)
    }

    /// A mesh that kills one of its services at the n-th pass of a named point.
    pub(crate) fn up_with_fault(fault: &str) -> Self {
        Self::start(None, Some(fault))
    }

    /// The mesh that lies in a folder, running again.
    pub(crate) fn up_in(folder: &Path) -> Self {
        Self::start_in(folder.to_owned(), None, None, None)
    }

    fn start(kafka: Option<&str>, fault: Option<&str>) -> Self {
        let data = mesh_testkit::folder().unwrap();
        Self::start_in(data.path().to_owned(), Some(data), kafka, fault)
    }

    fn start_in(folder: PathBuf, data: Option<TempDir>, kafka: Option<&str>, fault: Option<&str>) -> Self {
        let log = File::create(folder.join("up.log")).unwrap();
        let mut command = command();
        command.arg("up").arg("--data").arg(&folder).args(kafka.iter().flat_map(|k| ["--kafka", k]));
        command.envs(fault.map(|fault| ("MESH_FAULT", fault)));
        let up = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn().unwrap();
        let mut mesh = Self { folder, _data: data, up, runtime: Runtime::new().unwrap() };
        mesh.await_ready();
        mesh
    }

    fn await_ready(&mut self) {
        let since = Instant::now();
        while !self.is_ready() {
            let ended = self.up.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < START_LIMIT, "the mesh does not start ({ended:?})");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Every service says so itself: an endpoint that has not read the principals yet refuses every request.
    fn is_ready(&self) -> bool {
        // The file of the run before may lie there still, and may be torn.
        let endpoints = self.home().endpoints();
        endpoints.is_ok_and(|endpoints| {
            endpoints.admin.values().all(|address| get(address, "/health/ready").starts_with("HTTP/1.1 200"))
        })
    }

    /// What a service says about itself.
    pub(crate) fn readiness(&self, service: &str) -> String {
        get(&self.endpoints().admin[service], "/health/ready")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn home(&self) -> Home {
        Home::locate(Some(&self.folder))
    }

    pub(crate) fn endpoints(&self) -> MeshFile {
        self.home().endpoints().unwrap()
    }

    /// `mesh` with these arguments, on this mesh.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.arg("--mesh").arg(&self.folder).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// The rows of an answer, as `who` sees them.
    #[track_caller]
    pub(crate) fn sql(&self, who: &str, query: &str) -> Vec<Value> {
        let Value::Array(rows) = self.run(&["--as", who, "--output", "json", "sql", query]).json() else {
            panic!("no rows")
        };
        rows
    }

    /// Runs what talks to the mesh's Kafka or catalog.
    pub(crate) fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) async fn bus(&self) -> Bus {
        Bus::connect(self.endpoints().bus).await.unwrap()
    }

    /// Every event that a topic holds now, in its order.
    pub(crate) fn events(&self, topic: &str) -> Vec<ReadEvent> {
        self.wait_for(async {
            let mut reader = self.bus().await.read_topic(topic, Start::Beginning).await.unwrap();
            let mut events = Vec::new();
            while let Some(received) = reader.next_until_caught_up().await.unwrap() {
                let Ok(event) = received.event else { continue };
                events.push(ReadEvent {
                    data: serde_json::from_slice(&event.data).unwrap(),
                    id: event.id,
                    event_type: event.event_type,
                    partition_key: event.partition_key,
                    sequence: event.sequence,
                });
            }
            events
        })
    }

    /// Asks the mesh to stop and waits until it has drained.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        processes::signal(self.up.id(), Signal::TERM);
        let status = wait(&mut self.up, STOP_LIMIT).expect("the mesh drains in time");
        assert_eq!(status.code(), Some(0), "{status:?}");
    }

    /// The exit code of a mesh that ends by itself.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> Option<i32> {
        wait(&mut self.up, limit)?.code()
    }

    /// The log of the supervisor so far.
    pub(crate) fn up_log(&self) -> String {
        fs::read_to_string(self.folder.join("up.log")).unwrap()
    }

    /// The supervisor's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.up.id()
    }

    fn print_logs(&self) {
        let logs = self.folder.join("logs");
        let services = fs::read_dir(logs).into_iter().flatten().map(|entry| entry.unwrap().path());
        for path in services.chain([self.folder.join("up.log")]) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("── end of {}\n{tail}", path.file_name().unwrap().to_string_lossy());
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        if let Ok(None) = self.up.try_wait() {
            // The supervisor first, or it would start its children again.
            let children = processes::children(self.up.id());
            processes::signal(self.up.id(), Signal::KILL);
            children.iter().for_each(|child| processes::signal(*child, Signal::KILL));
            let _ = self.up.wait();
        }
    }
}

/// The answer to a GET; nothing if there is none.
fn get(address: &str, path: &str) -> String {
    answer(address, &format!("GET {path} HTTP/1.1\r\n"), "")
}

/// The answer to a POST with a principal's key; nothing if there is none.
fn post(address: &str, path: &str, key: &str, body: &str) -> String {
    answer(address, &format!("POST {path} HTTP/1.1\r\nAuthorization: Bearer {key}\r\n"), body)
}

fn answer(address: &str, head: &str, body: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        let length = body.len();
        write!(stream, "{head}Host: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let since = Instant::now();
    while since.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
