//! One child process of a mesh: started, awaited until ready, restarted when it dies, drained on request.
//!
//! In: a program's arguments. Out: its ready line, its log file, and a state that others can watch.
//! Must never happen: a child that dies without a log line, or one that outlives the mesh.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::tasks::TaskHandle;
use mesh_runtime::{Restart, Shutdown, Tasks, part};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child as Process, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

const START_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
const TAIL_BYTES: u64 = 8 << 10;
/// A log that is longer is put aside; one earlier part is kept.
const LOG_LIMIT: u64 = 16 << 20;
const LOG_LOOK: Duration = Duration::from_secs(10);
/// After a child has lived this long, its backoff starts from the beginning.
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

/// What to run, and how to run it again at the same addresses.
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
    pid: watch::Receiver<Option<u32>>,
    ready: Ready,
    supervisor: TaskHandle,
}

impl Child {
    /// Starts the child and waits until it is ready; if a stop is requested meanwhile, it drains the child and returns none.
    pub async fn start(spec: Spec, stop: &CancellationToken) -> Result<Option<Self>, CliError> {
        let Some((process, ready)) = launch(&spec, &[], stop).await? else { return Ok(None) };
        let (pid_sender, pid) = watch::channel(process.id());
        let pid_sender = Arc::new(pid_sender);
        let name = spec.name;
        let addresses = ready.clone();
        let mut first = Some(process);
        let supervisor = Tasks::detached().start(part::task(name), Restart::default(), move |stop| {
            supervise(spec.clone(), first.take(), addresses.clone(), stop, pid_sender.clone())
        });
        Ok(Some(Self { name, pid, ready, supervisor }))
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
    pub async fn stop(mut self) {
        self.supervisor.request_stop();
        self.supervisor.ended().await;
    }
}

/// Waits for the child's death and starts it again, until the mesh stops. Without a process, it starts one first.
async fn supervise(
    spec: Spec,
    process: Option<Process>,
    mut ready: Ready,
    stop: Shutdown,
    pid: Arc<watch::Sender<Option<u32>>>,
) {
    let stop = stop.token();
    let mut backoff = FIRST_BACKOFF;
    let mut process = match process {
        Some(process) => process,
        None => match relaunch(&spec, &ready, &mut backoff, stop).await {
            Some((process, _)) => process,
            None => return,
        },
    };
    pid.send_replace(process.id());
    let mut look = interval(LOG_LOOK);
    loop {
        let since = Instant::now();
        let status = loop {
            tokio::select! {
                () = stop.cancelled() => return drain(spec.name, &mut process).await,
                _ = look.tick() => keep_short(&spec.log, LOG_LIMIT),
                status = process.wait() => break status.map_or_else(|e| e.to_string(), |status| status.to_string()),
            }
        };
        tracing::warn!(service = spec.name, %status, log = %spec.log.display(), "child ended");
        pid.send_replace(None);
        if since.elapsed() > HEALTHY_AFTER {
            backoff = FIRST_BACKOFF;
        }
        match relaunch(&spec, &ready, &mut backoff, stop).await {
            Some(again) => (process, ready) = again,
            None => return,
        }
        pid.send_replace(process.id());
    }
}

/// Tries again, later and later, until the child is ready; none when a stop was requested.
async fn relaunch(
    spec: &Spec,
    last: &Ready,
    backoff: &mut Duration,
    stop: &CancellationToken,
) -> Option<(Process, Ready)> {
    loop {
        stop.run_until_cancelled(sleep(*backoff)).await?;
        *backoff = (*backoff * 2).min(LONGEST_BACKOFF);
        match launch(spec, &(spec.again)(last), stop).await {
            Ok(again) => return again,
            Err(error) => tracing::error!(code = error.code(), "{error}"),
        }
    }
}

async fn drain(name: &str, process: &mut Process) {
    if let Some(pid) = process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    match timeout(DRAIN_LIMIT, process.wait()).await {
        Ok(Ok(status)) => tracing::debug!(service = name, %status, "a child has drained"),
        Ok(Err(error)) => tracing::warn!(service = name, %error, "a child cannot be waited for"),
        Err(_) => {
            tracing::warn!(service = name, limit = ?DRAIN_LIMIT, "a child has not drained in time and is killed");
            let _ = process.kill().await;
        }
    }
}

/// None if a stop was requested before the child was ready: it is drained then, as one that works.
async fn launch(
    spec: &Spec,
    again: &[OsString],
    stop: &CancellationToken,
) -> Result<Option<(Process, Ready)>, CliError> {
    let mut process = spawn(spec, again)?;
    let line = first_line(process.stdout.take());
    let ready = tokio::select! {
        ready = timeout(START_LIMIT, line) => ready,
        () = stop.cancelled() => {
            drain(spec.name, &mut process).await;
            return Ok(None);
        }
    };
    let what = match ready {
        Ok(Some(ready)) => return Ok(Some((process, ready))),
        Ok(None) => "ended while starting".to_owned(),
        Err(_) => format!("was not ready after {} s", START_LIMIT.as_secs()),
    };
    drain(spec.name, &mut process).await;
    let (service, log) = (spec.name.to_owned(), spec.log.clone());
    Err(CliError::ChildFailed { service, what, tail: tail(&log), log })
}

fn spawn(spec: &Spec, again: &[OsString]) -> Result<Process, CliError> {
    let program = this_program()?;
    let log = open_log(&spec.log)?;
    let mut command = Command::new(&program);
    if !again.is_empty() {
        // A fault that a test injects happens once.
        command.env_remove("MESH_FAULT");
    }
    command
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
        .map_err(|source| CliError::File { action: "start", path: program, source })
}

/// This very binary, even when its file was replaced by a newer build meanwhile.
fn this_program() -> Result<PathBuf, CliError> {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe().map_err(|source| CliError::File { action: "find", path: "this program".into(), source })
}

async fn first_line(stdout: Option<ChildStdout>) -> Option<Ready> {
    let mut lines = BufReader::new(stdout?).lines();
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

/// Puts a log that has grown aside, in place of what was put aside before, and starts an empty one. Its writer appends, so it
/// goes on at the beginning; a line written between the two steps is in neither part.
fn keep_short(log: &Path, limit: u64) {
    let cut = || -> io::Result<()> {
        if fs::metadata(log)?.len() > limit {
            fs::copy(log, log.with_extension("log.1"))?;
            OpenOptions::new().write(true).open(log)?.set_len(0)?;
        }
        Ok(())
    };
    if let Err(error) = cut() {
        tracing::warn!(log = %log.display(), %error, "a log cannot be kept short");
    }
}

/// The last lines of a log, shown to a person when its process ended.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_that_has_grown_begins_anew_and_keeps_its_earlier_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ingest.log");
        let mut log = open_log(&path).unwrap();
        log.write_all(b"short").unwrap();
        keep_short(&path, 5);
        assert_eq!(fs::read(&path).unwrap(), b"short");
        log.write_all(b"!").unwrap();
        keep_short(&path, 5);
        log.write_all(b"new").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(dir.path().join("ingest.log.1")).unwrap()),
            (b"new".to_vec(), b"short!".to_vec())
        );
    }
}
