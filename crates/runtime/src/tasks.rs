//! Supervised tasks: named, restarted with backoff, stopped in order.
//!
//! In: futures that run until told to stop. Out: a failure is logged once with its code, the task restarts after a
//! growing pause, and one that keeps failing turns readiness red. On shutdown the tasks stop one after the other, in
//! the order they were added: sources first, so that what they handed on is finished by those behind them.
//! Must never happen: a task that dies or panics unseen, a stop that waits for ever.

use std::any::Any;
use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::{AnyError, Check, Coded, Health, RuntimeError, Shutdown, report};

/// What happens after a task failed.
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// It starts again after a pause that grows from `first` to `longest` while it keeps failing.
    Backoff { first: Duration, longest: Duration },
    /// The supervisor stops everything and returns the failure.
    Never,
}

impl Default for Restart {
    /// 200 ms growing to 30 s.
    fn default() -> Self {
        Self::Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

/// A task that failed this often in a row turns its readiness check red.
const RED_AFTER: u32 = 3;
/// A run that lasted this long counts as healthy: the failures before it are forgotten.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A group of tasks that live and end together.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    health: Health,
    tasks: Vec<Task>,
    fatal: mpsc::UnboundedSender<RuntimeError>,
    failures: mpsc::UnboundedReceiver<RuntimeError>,
}

#[derive(Debug)]
struct Task {
    name: String,
    stop: Shutdown,
    handle: JoinHandle<()>,
}

impl Supervisor {
    pub fn new(shutdown: Shutdown, health: Health) -> Self {
        let (fatal, failures) = mpsc::unbounded_channel();
        Self { shutdown, health, tasks: Vec::new(), fatal, failures }
    }

    /// Starts a task. `make` is called for each run with the shutdown that the task must heed;
    /// a run that returns `Ok` has finished for good.
    pub fn spawn<F, R, E>(&mut self, name: impl Into<String>, restart: Restart, make: F)
    where
        F: FnMut(Shutdown) -> R + Send + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Coded + Send + Sync + 'static,
    {
        let name = name.into();
        // Not a child of the whole shutdown: the order of the drain decides when each task is told.
        let stop = Shutdown::new(self.shutdown.deadline());
        let check = self.health.check(format!("task:{name}"));
        let run = Runner { name: name.clone(), stop: stop.clone(), restart, check, fatal: self.fatal.clone() };
        self.tasks.push(Task { name, stop, handle: tokio::spawn(run.supervise(make)) });
    }

    /// Runs until the shutdown is requested or a task with [`Restart::Never`] fails, then drains.
    pub async fn run(mut self) -> Result<(), RuntimeError> {
        let failure = tokio::select! {
            () = self.shutdown.requested() => None,
            failure = self.failures.recv() => failure,
        };
        let drained = self.drain().await;
        failure.map_or(drained, Err)
    }

    /// Stops the tasks in the order they were added, each after the one before has ended.
    async fn drain(&mut self) -> Result<(), RuntimeError> {
        let deadline = self.shutdown.deadline();
        let until = Instant::now() + deadline;
        let mut unfinished = Vec::new();
        for task in &mut self.tasks {
            task.stop.request();
            if timeout_at(until, &mut task.handle).await.is_err() {
                task.handle.abort();
                unfinished.push(task.name.clone());
            }
        }
        self.tasks.clear();
        match unfinished.is_empty() {
            true => Ok(()),
            false => Err(RuntimeError::DrainDeadline { deadline, unfinished: unfinished.join(", ") }),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.stop.request();
        }
    }
}

struct Runner {
    name: String,
    stop: Shutdown,
    restart: Restart,
    check: Check,
    fatal: mpsc::UnboundedSender<RuntimeError>,
}

impl Runner {
    async fn supervise<F, R, E>(self, mut make: F)
    where
        F: FnMut(Shutdown) -> R,
        R: Future<Output = Result<(), E>>,
        E: Coded + Send + Sync + 'static,
    {
        let mut failures = 0u32;
        let mut pauses = self.pauses();
        loop {
            self.check_started(failures);
            let started = Instant::now();
            let Err(error) = self.watch(make(self.stop.clone())).await else { return };
            if started.elapsed() >= STABLE_AFTER {
                (failures, pauses) = (0, self.pauses());
            }
            failures += 1;
            let Some(pause) = pauses.as_mut().and_then(Iterator::next) else {
                let failed = RuntimeError::TaskFailed { task: self.name.clone(), source: error };
                self.check.down(report::chain(&failed));
                // The supervisor is gone only if the service is stopping anyway.
                let _ = self.fatal.send(failed);
                return;
            };
            self.failed(&error, failures, pause);
            tokio::select! {
                () = self.stop.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Waits for one run; once it has lasted long enough, the check is up again.
    async fn watch<E: Coded + Send + Sync + 'static>(
        &self,
        run: impl Future<Output = Result<(), E>>,
    ) -> Result<(), AnyError> {
        let run = AssertUnwindSafe(run).catch_unwind();
        tokio::pin!(run);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = tokio::time::sleep(STABLE_AFTER) => {
                self.check.up();
                run.await
            }
        };
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(AnyError::new(error)),
            Err(panic) => {
                let message = panic_message(&*panic);
                Err(AnyError::new(RuntimeError::TaskPanicked { task: self.name.clone(), message }))
            }
        }
    }

    fn pauses(&self) -> Option<impl Iterator<Item = Duration> + use<>> {
        match self.restart {
            Restart::Never => None,
            Restart::Backoff { first, longest } => {
                let builder = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
                Some(builder.without_max_times().with_jitter().build())
            }
        }
    }

    fn check_started(&self, failures: u32) {
        if failures < RED_AFTER {
            self.check.up();
        }
    }

    fn failed(&self, error: &AnyError, failures: u32, pause: Duration) {
        let text = report::chain(error);
        let retry_in_ms = pause.as_millis() as u64;
        tracing::error!(task = self.name, code = error.code(), error = text, failures, retry_in_ms, "task failed");
        if failures >= RED_AFTER {
            self.check.down(format!("failed {failures} times in a row: [{}] {text}", error.code()));
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests;
