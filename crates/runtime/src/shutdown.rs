//! The request to stop, and how long an orderly stop may take.
//!
//! In: SIGTERM, SIGINT, a failed task. Out: a token that every loop awaits; the same signal again cuts the drain off.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{RuntimeError, tasks};

/// A request to stop that can be awaited by many; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    impatient: CancellationToken,
    deadline: Duration,
}

impl Shutdown {
    /// A shutdown that is not requested yet. After the request, the drain may take `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self { token: CancellationToken::new(), impatient: CancellationToken::new(), deadline }
    }

    /// Requests a stop of all that hold this shutdown. Requesting it again changes nothing.
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

    /// Resolves when the drain is not to be waited for. Cancellation safe.
    pub async fn cut_off(&self) {
        self.impatient.cancelled().await;
    }

    /// Requests the shutdown on SIGTERM or SIGINT, and cuts it off when one of them comes again.
    pub fn on_signals(&self) -> Result<(), RuntimeError> {
        let refused = |source| RuntimeError::System { what: "a signal handler", source };
        let mut term = signal(SignalKind::terminate()).map_err(refused)?;
        let mut int = signal(SignalKind::interrupt()).map_err(refused)?;
        let shutdown = self.clone();
        // It ends with the process: nothing waits for it, and a panic within is logged.
        tasks::detach("signals", async move {
            let mut received = Vec::new();
            loop {
                let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
                // One of each is one wish, sent by a terminal and by a supervisor.
                if received.contains(&name) {
                    return shutdown.impatient.cancel();
                }
                if received.is_empty() {
                    tracing::info!(signal = name, "stopping");
                    shutdown.request();
                }
                received.push(name);
            }
        });
        Ok(())
    }
}
