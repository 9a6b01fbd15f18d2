//! One task from its first run to its last.
//!
//! In: a maker of runs. Out: its check, its count of failures, log lines, and a fatal failure for the supervisor.
//! Never: a check that is up while the task does not run.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Registered, Restart, TaskEnd};
use crate::fault::TaskFaults;
use crate::metrics::Counter;
use crate::{AnyError, Check, Coded as _, RuntimeError, Shutdown, report};

/// A task that returned an error this often in a row turns its check down: one error may be a broker's restart. A panic
/// or an unexpected end is a defect, and turns it down at once.
pub(super) const RED_AFTER: u32 = 3;
/// A run that lasted this long counts as healthy: the failures before it are forgotten.
const STABLE_AFTER: Duration = Duration::from_secs(10);

pub(super) struct Runner {
    pub(super) name: String,
    pub(super) stop: Shutdown,
    pub(super) restart: Restart,
    pub(super) check: Check,
    pub(super) failures: Counter,
    /// Where a failure goes that ends the group.
    pub(super) fatal: Option<mpsc::UnboundedSender<RuntimeError>>,
    pub(super) faults: TaskFaults,
    pub(super) _registered: Registered,
}

/// Why a run is over though the task was not stopped.
struct Failure {
    error: AnyError,
    is_defect: bool,
}

impl Runner {
    pub(super) async fn supervise<F, R>(self, mut make: F)
    where
        F: FnMut(Shutdown) -> R,
        R: Future<Output: TaskEnd>,
    {
        let mut failures = 0u32;
        let mut pauses = self.pauses();
        self.check.up();
        loop {
            let started = Instant::now();
            let Err(failure) = self.watch(|| make(self.stop.clone())).await else { return };
            self.failures.inc();
            if started.elapsed() >= STABLE_AFTER {
                failures = 0;
                pauses = self.pauses();
            }
            failures += 1;
            let Some(pause) = pauses.as_mut().and_then(Iterator::next) else { return self.end(failure).await };
            self.failed(&failure, failures, pause);
            tokio::select! {
                () = self.stop.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Waits for one run; once it has lasted long enough, the check is up again.
    async fn watch<R: Future<Output: TaskEnd>>(&self, make: impl FnOnce() -> R) -> Result<(), Failure> {
        let run = AssertUnwindSafe(async { self.faults.run(&self.name, make()).await }).catch_unwind();
        tokio::pin!(run);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = tokio::time::sleep(STABLE_AFTER) => {
                self.check.up();
                run.await
            }
        };
        let task = self.name.clone();
        match ended {
            Ok(Ok(())) if self.stop.is_requested() => Ok(()),
            Ok(Ok(())) => Err(Failure::defect(RuntimeError::TaskEnded { task })),
            Ok(Err(error)) => Err(Failure { error, is_defect: false }),
            Err(panic) => Err(Failure::defect(RuntimeError::TaskPanicked { task, message: panic_message(&*panic) })),
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

    /// Tries again later.
    fn failed(&self, failure: &Failure, failures: u32, pause: Duration) {
        let Failure { error, is_defect } = failure;
        let text = report::chain(error);
        let retry_in_ms = pause.as_millis() as u64;
        tracing::error!(task = self.name, code = error.code(), error = text, failures, retry_in_ms, "task failed");
        if *is_defect || failures >= RED_AFTER {
            self.check.down(format!("failed {failures} times in a row: [{}] {text}", error.code()));
        }
    }

    /// Does not try again: the check stays down for as long as the task's handle lives.
    async fn end(self, failure: Failure) {
        let error = failure.error;
        let code = error.code();
        let failed = RuntimeError::TaskFailed { task: self.name.clone(), source: error };
        let text = report::chain(&failed);
        tracing::error!(task = self.name, code, error = text, "task ended");
        self.check.down(format!("[{code}] {text}"));
        if let Some(fatal) = &self.fatal {
            // The supervisor is dropped only if the service is stopping anyway.
            let _ = fatal.send(failed);
        }
        self.stop.requested().await;
    }
}

impl Failure {
    fn defect(error: RuntimeError) -> Self {
        Self { error: AnyError::new(error), is_defect: true }
    }
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
