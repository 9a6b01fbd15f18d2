//! Faults that tests put into a debug build: named points at which it is killed or panics, and tasks that end.
//!
//! In: `MESH_FAULT="<point>@<n>"` or `"<point>@<n>=panic"`, a point being `<service>.<stage>.<moment>`; from within a
//! test, [`Tasks::arm`](crate::Tasks::arm). Out: at the n-th pass of that point (from 1) the process sends itself SIGKILL: no drain, no
//! destructor, as if the machine had failed; with `=panic` the code at that point panics. An armed task panics or
//! returns where it waits. Release builds contain nothing of this.

#[cfg(debug_assertions)]
use std::collections::BTreeMap;
use std::future::Future;
#[cfg(debug_assertions)]
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(debug_assertions)]
use tokio::sync::Notify;

use crate::AnyError;
use crate::tasks::TaskEnd;

/// What an armed task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFault {
    Panic,
    Return,
}

/// Passes a named point.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    if let Some(target) = armed::target() {
        target.pass(name);
    }
}

/// Passes a named point: nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

/// The faults that a test armed for the tasks of one service; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskFaults {
    #[cfg(debug_assertions)]
    armed: Arc<Mutex<BTreeMap<String, TaskFault>>>,
    #[cfg(debug_assertions)]
    changed: Arc<Notify>,
}

#[cfg(debug_assertions)]
impl TaskFaults {
    pub(crate) fn arm(&self, name: &str, fault: TaskFault) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), fault);
        self.changed.notify_waiters();
    }

    /// Resolves once a fault is armed for this name.
    async fn of(&self, name: &str) -> TaskFault {
        loop {
            // Made before the look, so that no change falls in between.
            let changed = self.changed.notified();
            if let Some(fault) = self.armed.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
                return fault;
            }
            changed.await;
        }
    }

    /// A run of a task, to its end or to the fault that a test armed for it.
    pub(crate) async fn run<R: Future<Output: TaskEnd>>(&self, name: &str, run: R) -> Result<(), AnyError> {
        tokio::select! {
            ended = run => ended.into_result(),
            fault = self.of(name) => match fault {
                TaskFault::Panic => std::panic::resume_unwind(Box::new("armed by a test")),
                TaskFault::Return => Ok(()),
            },
        }
    }
}

#[cfg(not(debug_assertions))]
impl TaskFaults {
    /// A run of a task, to its end.
    pub(crate) async fn run<R: Future<Output: TaskEnd>>(&self, _name: &str, run: R) -> Result<(), AnyError> {
        run.await.into_result()
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    #[derive(Debug)]
    pub(super) struct Target {
        point: String,
        at: u64,
        panics: bool,
        passed: AtomicU64,
    }

    pub(super) fn target() -> Option<&'static Target> {
        static TARGET: OnceLock<Option<Target>> = OnceLock::new();
        TARGET.get_or_init(|| Target::parse(&std::env::var("MESH_FAULT").ok()?)).as_ref()
    }

    impl Target {
        /// `None` for what is not `<point>@<n>`: logged, since a fault test that kills nothing would prove nothing.
        pub(super) fn parse(text: &str) -> Option<Self> {
            let (place, panics) = text.strip_suffix("=panic").map_or((text, false), |place| (place, true));
            let parsed = place.rsplit_once('@').and_then(|(point, at)| Some((point, at.parse().ok()?)));
            let Some((point, at)) = parsed else {
                tracing::error!(MESH_FAULT = text, "fault not armed: not of the form <point>@<n>[=panic]");
                return None;
            };
            Some(Self { point: point.to_owned(), at, panics, passed: AtomicU64::new(0) })
        }

        /// True at the n-th pass of the target's point.
        pub(super) fn hits(&self, name: &str) -> bool {
            name == self.point && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at
        }

        pub(super) fn pass(&self, name: &str) {
            if !self.hits(name) {
                return;
            }
            if self.panics {
                std::panic::resume_unwind(Box::new("armed by MESH_FAULT"));
            }
            if kill_process(getpid(), Signal::KILL).is_ok() {
                // The signal may reach another thread first; this one must not get past the point.
                loop {
                    std::thread::park();
                }
            }
        }
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use super::*;

        #[test]
        fn a_fault_hits_at_the_nth_pass_of_its_own_point_only() {
            let target = Target::parse("ingest.commit.before_cas@2").unwrap();
            let passes = ["ingest.commit.before_cas", "other", "ingest.commit.before_cas", "ingest.commit.before_cas"];
            assert_eq!(passes.map(|name| target.hits(name)), [false, false, true, false]);
        }

        #[test]
        fn an_action_is_part_of_the_fault() {
            let target = Target::parse("bus.shards.poll@1=panic").unwrap();
            assert!(std::panic::catch_unwind(|| target.pass("bus.shards.poll")).is_err());
            target.pass("bus.shards.poll");
        }

        #[test]
        fn what_is_not_a_fault_arms_nothing() {
            for text in ["ingest.commit", "ingest.commit@often", "ingest.commit@1=faint"] {
                assert!(Target::parse(text).is_none(), "{text}");
            }
        }
    }
}
