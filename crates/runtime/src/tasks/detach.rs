//! Short work that outlives its caller: a request's, a notification's. It has no check and no restart.
//!
//! In: a future that ends by itself. Out: its result, or the panic as an error; the log has the panic in any case.
//! Never: a panic that is lost with a handle that is not awaited.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::runner::panic_message;
use crate::RuntimeError;

/// Work under way; it goes on when this is dropped.
#[derive(Debug)]
pub struct Detached<T> {
    name: &'static str,
    handle: JoinHandle<Result<T, RuntimeError>>,
}

/// Starts short work on the runtime of the caller, who must be within one.
pub fn detach<T: Send + 'static>(name: &'static str, work: impl Future<Output = T> + Send + 'static) -> Detached<T> {
    Detached { name, handle: tokio::spawn(caught(name, work)) }
}

/// Starts short work on a runtime, from anywhere.
pub fn detach_on<T: Send + 'static>(
    runtime: &Handle,
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> Detached<T> {
    Detached { name, handle: runtime.spawn(caught(name, work)) }
}

/// Work whose panic is logged and becomes an error, for those who keep their tasks in a set of their own.
pub async fn caught<T>(name: &'static str, work: impl Future<Output = T>) -> Result<T, RuntimeError> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
        let error = RuntimeError::TaskPanicked { task: name.to_owned(), message: panic_message(&*panic) };
        tracing::error!(task = name, code = error.code(), %error, "task panicked");
        error
    })
}

impl<T> Future for Detached<T> {
    type Output = Result<T, RuntimeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = std::task::ready!(Pin::new(&mut self.handle).poll(context));
        // Panics are caught within: what is left is a runtime that shut down.
        Poll::Ready(joined.unwrap_or_else(|_| Err(RuntimeError::TaskEnded { task: self.name.to_owned() })))
    }
}
