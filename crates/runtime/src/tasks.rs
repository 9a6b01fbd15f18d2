//! Supervised tasks: every long task of a process has a name, and what its end means.
//!
//! In: futures that run until they are stopped. Out: a failure is logged once with its code and counted; the task
//! restarts after a growing pause, or its end fails the process. Readiness shows a task that does not work under the
//! task's own name ([`crate::part`]). On shutdown the tasks of a [`Supervisor`] stop one after the other, in the order
//! they were added: sources first, so that what they handed on is finished by those behind them.
//! Never: a task that returns, fails or panics unseen; a stop that waits for ever.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::fault::TaskFaults;
use crate::metrics::{Counter, Family};
use crate::{AnyError, Coded, Health, Metrics, RuntimeError, Shutdown};

mod detach;
mod runner;
mod supervisor;

pub use detach::{Detached, caught, detach, detach_on};
pub use supervisor::Supervisor;

use runner::Runner;

/// What happens after a task failed: it returned an error, it panicked, or it returned though nothing stopped it.
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// It starts again after a pause that grows from `first` to `longest` while it keeps failing.
    Backoff { first: Duration, longest: Duration },
    /// It stays ended, and its check down. A [`Supervisor`] stops everything and returns the failure.
    Never,
}

impl Default for Restart {
    /// 200 ms growing to 30 s.
    fn default() -> Self {
        Self::Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

/// What a run of a task may return.
pub trait TaskEnd: Send + 'static {
    fn into_result(self) -> Result<(), AnyError>;
}

impl TaskEnd for () {
    fn into_result(self) -> Result<(), AnyError> {
        Ok(())
    }
}

impl<E: Coded + Send + Sync + 'static> TaskEnd for Result<(), E> {
    fn into_result(self) -> Result<(), AnyError> {
        self.map_err(AnyError::new)
    }
}

/// The label of a task's metrics.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfTask {
    task: String,
}

/// Starts the long tasks of one service and knows their names; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    health: Health,
    failures: Family<OfTask, Counter>,
    running: Arc<Mutex<BTreeMap<String, usize>>>,
    faults: TaskFaults,
}

impl Tasks {
    /// Tasks whose state `health` shows and whose failures `metrics` counts. Once per process: it registers a metric.
    pub fn new(health: Health, metrics: &Metrics) -> Self {
        let failures = metrics.counters("task_failures", "Failed runs of long tasks: errors, panics, unexpected ends");
        Self { health, failures, running: Arc::default(), faults: TaskFaults::default() }
    }

    /// Tasks of a program without an admin port, such as a command line: failures are logged, nothing more.
    pub fn detached() -> Self {
        let health = Health::new();
        Self { health, failures: Family::default(), running: Arc::default(), faults: TaskFaults::default() }
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The names of the tasks that run or wait for their restart.
    pub fn names(&self) -> Vec<String> {
        self.running().keys().cloned().collect()
    }

    /// Makes the task of this name panic or return, once: the run under way, or the next.
    #[cfg(debug_assertions)]
    pub fn arm(&self, name: &str, fault: crate::fault::TaskFault) {
        self.faults.arm(name, fault);
    }

    /// Starts a task, which ends when the handle is dropped. `make` is called for each run with the shutdown that the
    /// run must heed; a run that returns before that was requested has failed.
    pub fn start<F, R>(&self, name: impl Into<String>, restart: Restart, make: F) -> TaskHandle
    where
        F: FnMut(Shutdown) -> R + Send + 'static,
        R: Future<Output: TaskEnd> + Send + 'static,
    {
        // Only the holder of the handle drains such a task, and decides how long to wait.
        self.launch(name.into(), Shutdown::new(Duration::MAX), restart, None, make)
    }

    /// [`start`](Self::start) for a task that cannot be made a second time: after a failure it stays ended.
    pub fn start_once<R>(
        &self,
        name: impl Into<String>,
        make: impl FnOnce(Shutdown) -> R + Send + 'static,
    ) -> TaskHandle
    where
        R: Future<Output: TaskEnd> + Send + 'static,
    {
        self.start(name, Restart::Never, once(make))
    }

    fn launch<F, R>(
        &self,
        name: String,
        stop: Shutdown,
        restart: Restart,
        fatal: Option<mpsc::UnboundedSender<RuntimeError>>,
        make: F,
    ) -> TaskHandle
    where
        F: FnMut(Shutdown) -> R + Send + 'static,
        R: Future<Output: TaskEnd> + Send + 'static,
    {
        let registered = Registered::new(self.running.clone(), &name);
        let runner = Runner {
            name: name.clone(),
            stop: stop.clone(),
            restart,
            check: self.health.check(&name),
            failures: self.failures.get_or_create(&OfTask { task: name.clone() }).clone(),
            fatal,
            faults: self.faults.clone(),
            _registered: registered,
        };
        TaskHandle { name, stop, handle: Some(tokio::spawn(runner.supervise(make))) }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that can be made once, in the shape of those that can be made again.
fn once<R>(make: impl FnOnce(Shutdown) -> R + Send + 'static) -> impl FnMut(Shutdown) -> BoxedRun + Send + 'static
where
    R: Future<Output: TaskEnd> + Send + 'static,
{
    let mut make = Some(make);
    move |shutdown| {
        let run = make.take().map(|make| make(shutdown));
        Box::pin(async move {
            match run {
                Some(run) => run.await.into_result(),
                None => Ok(()),
            }
        })
    }
}

type BoxedRun = std::pin::Pin<Box<dyn Future<Output = Result<(), AnyError>> + Send>>;

/// A task's place in the list of those that run, for as long as its runner lives.
#[derive(Debug)]
struct Registered {
    running: Arc<Mutex<BTreeMap<String, usize>>>,
    name: String,
}

impl Registered {
    fn new(running: Arc<Mutex<BTreeMap<String, usize>>>, name: &str) -> Self {
        *running.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default() += 1;
        Self { running, name: name.to_owned() }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.name);
            }
        }
    }
}

/// A running task. Dropped, it is cut off where it waits.
#[derive(Debug)]
pub struct TaskHandle {
    name: String,
    stop: Shutdown,
    /// `None` once it was let go.
    handle: Option<JoinHandle<()>>,
}

impl TaskHandle {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the task to end in order.
    pub fn request_stop(&self) {
        self.stop.request();
    }

    /// True once it will not run again.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it will not run again. Cancellation safe.
    pub async fn ended(&mut self) {
        if let Some(handle) = &mut self.handle {
            // The runner catches what the task does, so there is nothing to learn from the result.
            let _ = handle.await;
            self.handle = None;
        }
    }

    /// Asks the task to end, and lets it do so without anybody who waits.
    pub fn release(mut self) {
        self.stop.request();
        self.handle = None;
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests;
