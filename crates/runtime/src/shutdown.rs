//! The request to stop, and how long an orderly stop may take.
//!
//! In: SIGTERM, SIGINT, a failed task. Out: a token that every loop awaits; the same signal again cuts the drain off.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::RuntimeError;

/// A request to stop that can be awaited by many; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    impatient: CancellationToken,
    deadline: Duration,
}

impl Shutdown {
    /// A shutdown nobody has requested yet. After the request, the drain may take `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self { token: CancellationToken::new(), impatient: CancellationToken::new(), deadline }
    }

    /// Asks everybody who holds this shutdown to stop. Asking again changes nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for the request. Cancellation safe.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// How long the drain may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A shutdown that is requested with this one, or earlier by itself.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), impatient: self.impatient.clone(), deadline: self.deadline }
    }

    /// The token behind, for `tokio_util` helpers such as `run_until_cancelled`.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Resolves when whoever asked for the shutdown will not wait for the drain. Cancellation safe.
    pub async fn cut_off(&self) {
        self.impatient.cancelled().await;
    }

    /// Requests the shutdown on SIGTERM or SIGINT, and cuts it off when one of them comes again.
    pub fn on_signals(&self) -> Result<(), RuntimeError> {
        let refused = |source| RuntimeError::System { what: "a signal handler", source };
        let mut term = signal(SignalKind::terminate()).map_err(refused)?;
        let mut int = signal(SignalKind::interrupt()).map_err(refused)?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
                // One of each is one wish, told by a terminal and by a supervisor.
                if seen.contains(&name) {
                    return shutdown.impatient.cancel();
                }
                if seen.is_empty() {
                    tracing::info!(signal = name, "stopping");
                    shutdown.request();
                }
                seen.push(name);
            }
        });
        Ok(())
    }
}
