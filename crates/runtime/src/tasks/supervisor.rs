//! A group of tasks: sources first, drained in the order in which they were added.
//!
//! In: tasks, a shutdown. Out: the first failure that the group cannot do without, or how the drain ended.
//! Never: a drain that takes longer than its deadline.

use std::future::Future;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Restart, TaskEnd, TaskHandle, Tasks, once};
use crate::{RuntimeError, Shutdown};

/// A group of tasks that live and end together.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    tasks: Tasks,
    handles: Vec<TaskHandle>,
    fatal: mpsc::UnboundedSender<RuntimeError>,
    failures: mpsc::UnboundedReceiver<RuntimeError>,
}

impl Supervisor {
    pub fn new(shutdown: Shutdown, tasks: Tasks) -> Self {
        let (fatal, failures) = mpsc::unbounded_channel();
        Self { shutdown, tasks, handles: Vec::new(), fatal, failures }
    }

    /// Starts a task. `make` is called for each run with the shutdown that the task must heed; a run that returns
    /// before that was requested has failed.
    pub fn spawn<F, R>(&mut self, name: impl Into<String>, restart: Restart, make: F)
    where
        F: FnMut(Shutdown) -> R + Send + 'static,
        R: Future<Output: TaskEnd> + Send + 'static,
    {
        // Not a child of the whole shutdown: the order of the drain decides when each task is stopped.
        let stop = Shutdown::new(self.shutdown.deadline());
        self.handles.push(self.tasks.launch(name.into(), stop, restart, Some(self.fatal.clone()), make));
    }

    /// [`spawn`](Self::spawn) for a task that cannot be made a second time: its failure stops the group.
    pub fn spawn_once<R>(&mut self, name: impl Into<String>, make: impl FnOnce(Shutdown) -> R + Send + 'static)
    where
        R: Future<Output: TaskEnd> + Send + 'static,
    {
        self.spawn(name, Restart::Never, once(make));
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
        for mut task in self.handles.drain(..) {
            task.request_stop();
            if timeout_at(until, task.ended()).await.is_err() {
                // The drop of its handle cuts it off.
                unfinished.push(task.name().to_owned());
            }
        }
        match unfinished.is_empty() {
            true => Ok(()),
            false => Err(RuntimeError::DrainDeadline { deadline, unfinished: unfinished.join(", ") }),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for task in self.handles.drain(..) {
            task.release();
        }
    }
}
