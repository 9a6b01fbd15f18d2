//! A service as the process that it is.
//!
//! In: a service's program, its configuration, a fault. Out: its addresses once it is ready, its pages, how it ended.
//! Must never happen: a process that outlives its test.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a service may take to be ready, to die of a fault, or to drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service that is to be started.
#[derive(Debug)]
pub struct ServiceCommand(Command);

impl ServiceCommand {
    /// `program` is the `CARGO_BIN_EXE_…` of the service under test.
    pub fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.arg("--child").stdout(Stdio::piped()).kill_on_drop(true);
        command.env_remove("MESH_FAULT").env("RUST_LOG", "warn");
        Self(command)
    }

    /// The configuration's file.
    #[must_use]
    pub fn config(mut self, file: &Path) -> Self {
        self.0.arg("--config").arg(file);
        self
    }

    /// `key=value`, over the file's.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.0.args(["--set", setting]);
        self
    }

    /// `point@pass`: where it kills itself.
    #[must_use]
    pub fn fault(mut self, fault: Option<&str>) -> Self {
        self.0.envs(fault.map(|fault| ("MESH_FAULT", fault)));
        self
    }

    /// Its log is appended to a file, with what it logs by default.
    pub fn log_to(mut self, file: &Path) -> anyhow::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(file)?;
        self.0.stderr(log).env_remove("RUST_LOG");
        Ok(self)
    }

    /// Starts it. One with a fault may die before it is ready.
    pub fn spawn(mut self) -> anyhow::Result<ServiceProcess> {
        let child = self.0.spawn().with_context(|| format!("{:?} does not start", self.0))?;
        Ok(ServiceProcess { child, ready: Value::Null })
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> anyhow::Result<ServiceProcess> {
        let mut process = self.spawn()?;
        process.await_ready().await?;
        Ok(process)
    }
}

/// A running service; killed when dropped.
#[derive(Debug)]
pub struct ServiceProcess {
    child: Child,
    /// The line that it prints when it is ready.
    ready: Value,
}

impl ServiceProcess {
    /// Waits for the line that it prints when it is ready; once is enough.
    pub async fn await_ready(&mut self) -> anyhow::Result<()> {
        let Some(stdout) = self.child.stdout.take() else { return Ok(()) };
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("it is not ready in time")??;
        self.ready = serde_json::from_str(&line.context("it ended before it was ready")?)?;
        Ok(())
    }

    /// Where it serves people and programs, as a URL.
    pub fn url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.address("http")?))
    }

    /// `http` or `admin`: where it listens.
    pub fn address(&self, listener: &str) -> anyhow::Result<&str> {
        self.ready[listener].as_str().with_context(|| format!("no {listener} address in {}", self.ready))
    }

    /// Status and body of a page of its admin listener.
    pub async fn page(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address("admin")?).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        let (head, body) = page.split_once("\r\n\r\n").context("no head")?;
        Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.to_owned()))
    }

    /// A number among its metrics.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let (_, page) = self.page("/metrics").await?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.with_context(|| format!("no {name} in {page}"))
    }

    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// How it ended, once it has.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??)
    }

    /// SIGTERM; it must end well.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        anyhow::ensure!(status.success(), "it did not drain: {status}");
        Ok(())
    }
}
