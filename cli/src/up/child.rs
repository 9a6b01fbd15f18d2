//! One child process of a mesh: started, awaited until ready, restarted when it dies, drained when asked.
//!
//! In: a program's arguments. Out: its ready line, its log file, and a state that others can watch.
//! Must never happen: a child that dies unseen, or one that outlives the mesh.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child as Process, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

const START_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
const TAIL_BYTES: u64 = 8 << 10;
/// A child that lived this long starts its backoff anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// The line a child prints when it is ready; the addresses it took.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    pub ready: String,
    #[serde(default)]
    pub admin: Option<String>,
    #[serde(default)]
    pub http: Option<String>,
    /// Of the bus: where clients connect.
    #[serde(default)]
    pub bootstrap: Option<String>,
}

/// What to run, and how to run it again at the addresses it had.
#[derive(Debug, Clone)]
pub struct Spec {
    pub name: &'static str,
    /// Arguments of this very binary.
    pub args: Vec<OsString>,
    /// Arguments that keep the addresses of the last start.
    pub again: fn(&Ready) -> Vec<OsString>,
    pub log: PathBuf,
}

/// A child under supervision.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    stop: CancellationToken,
    pid: watch::Receiver<Option<u32>>,
    ready: Ready,
    supervisor: tokio::task::JoinHandle<()>,
}

impl Child {
    /// Starts the child and waits until it is ready.
    pub async fn start(spec: Spec) -> Result<Self, CliError> {
        let (process, ready) = launch(&spec, &[]).await?;
        let stop = CancellationToken::new();
        let (pid_sender, pid) = watch::channel(process.id());
        let name = spec.name;
        let supervisor = tokio::spawn(supervise(spec, process, ready.clone(), stop.clone(), pid_sender));
        Ok(Self { name, stop, pid, ready, supervisor })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The process id of the moment; none while it is being restarted.
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// SIGTERM, and SIGKILL when the drain takes too long.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.supervisor.await;
    }
}

/// Waits for the child's death and starts it again, until the mesh stops.
async fn supervise(
    spec: Spec,
    mut process: Process,
    mut ready: Ready,
    stop: CancellationToken,
    pid: watch::Sender<Option<u32>>,
) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let since = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return drain(&mut process).await,
            status = process.wait() => {
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                tracing::warn!(service = spec.name, %status, log = %spec.log.display(), "a child ended and is restarted");
            }
        }
        pid.send_replace(None);
        if since.elapsed() > HEALTHY_AFTER {
            backoff = FIRST_BACKOFF;
        }
        match stop.run_until_cancelled(relaunch(&spec, &ready, &mut backoff)).await {
            Some(again) => (process, ready) = again,
            None => return,
        }
        pid.send_replace(process.id());
    }
}

/// Tries again, later and later, until the child is ready.
async fn relaunch(spec: &Spec, last: &Ready, backoff: &mut Duration) -> (Process, Ready) {
    loop {
        sleep(*backoff).await;
        *backoff = (*backoff * 2).min(LONGEST_BACKOFF);
        match launch(spec, &(spec.again)(last)).await {
            Ok(again) => return again,
            Err(error) => tracing::error!(code = error.code(), "{error}"),
        }
    }
}

async fn drain(process: &mut Process) {
    if let Some(pid) = process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(DRAIN_LIMIT, process.wait()).await.is_err() {
        let _ = process.kill().await;
    }
}

async fn launch(spec: &Spec, again: &[OsString]) -> Result<(Process, Ready), CliError> {
    let program = this_program()?;
    let log = open_log(&spec.log)?;
    let mut command = Command::new(&program);
    if !again.is_empty() {
        // A fault asked for by a test happens once.
        command.env_remove("MESH_FAULT");
    }
    let mut process = command
        .arg0("mesh")
        .args(&spec.args)
        .args(again)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C is for the mesh, which then stops its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CliError::File { action: "start", path: program, source })?;
    match timeout(START_LIMIT, first_line(&mut process)).await.ok().flatten() {
        Some(ready) => Ok((process, ready)),
        None => {
            let _ = process.kill().await;
            Err(CliError::ChildFailed { service: spec.name.to_owned(), log: spec.log.clone(), tail: tail(&spec.log) })
        }
    }
}

/// This very binary, even when its file was replaced by a newer build meanwhile.
fn this_program() -> Result<PathBuf, CliError> {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe().map_err(|source| CliError::File { action: "find", path: "this program".into(), source })
}

async fn first_line(process: &mut Process) -> Option<Ready> {
    let mut lines = BufReader::new(process.stdout.take()?).lines();
    let line = lines.next_line().await.ok().flatten()?;
    serde_json::from_str(&line).ok()
}

fn open_log(path: &Path) -> Result<File, CliError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|source| CliError::File {
        action: "open",
        path: path.to_owned(),
        source,
    })
}

/// The last lines of a log, for a person who is told that its process ended.
fn tail(path: &Path) -> String {
    let text = last_bytes(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Logs are appended to for as long as the mesh lives: only their end is read.
fn last_bytes(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
