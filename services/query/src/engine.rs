//! Where queries are planned and run: threads of their own, apart from those of the listener and the health checks.
//!
//! In: work on behalf of a query. Out: its result, or a coded error by its deadline. Never: a listener that stops
//! answering because a query does not yield, a panic that becomes an answer without a code.

use std::future::Future;

use datafusion::common::runtime::SpawnedTask;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;
use tracing::Instrument;

use crate::error::QueryError;

/// Planner and expressions recurse as deep as the statement is ([`crate::pipeline::parse::bounds`] bounds that).
const STACK_BYTES: usize = 64 << 20;
/// Readers of files; each has a stack of that size, of which only what is used takes memory.
const FILE_THREADS: usize = 64;

/// The threads.
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Engine {
    pub fn start() -> Result<Self, QueryError> {
        let runtime = Builder::new_multi_thread()
            .thread_name("query-engine")
            .thread_stack_size(STACK_BYTES)
            .max_blocking_threads(FILE_THREADS)
            .enable_all()
            .build()
            .map_err(QueryError::Engine)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Starts work that ends with the returned task.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> SpawnedTask<T> {
        let _on_engine = self.handle.enter();
        SpawnedTask::spawn(work.in_current_span())
    }

    /// Does work by a deadline. Work that does not yield is left to its thread.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Limit,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        match tokio::time::timeout_at(limit.at, self.spawn(work)).await {
            Err(_) => Err(limit.passed()),
            Ok(Err(_panicked)) => Err(QueryError::Crashed),
            Ok(Ok(result)) => result,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A runtime must not be waited for where others wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// When a query must have ended.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub at: Instant,
    /// How long it had.
    pub allowed: std::time::Duration,
}

impl Limit {
    /// The error of a query that runs longer.
    pub fn passed(self) -> QueryError {
        QueryError::Deadline { after: self.allowed }
    }
}
