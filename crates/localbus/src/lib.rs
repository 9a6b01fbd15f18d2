//! A single-node log that speaks the Kafka protocol, for laptops and tests.
//!
//! For: running a whole mesh on one machine, and tests with real Kafka clients, with nothing to install.
//! Not for: production, ever. One node and no replicas, no transactions, no authentication, no TLS. An
//! acknowledged record is in the page cache, as with Apache Kafka's defaults: it survives SIGKILL of the bus, not a
//! power cut.
//!
//! A request's way: [`server`] reads a frame and dispatches it, [`api`] answers it, out of [`topics`] and their
//! [`log`]s, or out of a [`group`].

mod api;
mod broker;
mod config;
mod error;
mod group;
mod log;
mod server;
mod topics;

pub use config::{Advertised, LocalBusConfig};
pub use error::LocalBusError;

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Starts buses.
#[derive(Debug)]
pub struct LocalBus;

impl LocalBus {
    /// Opens the data folder, recovers its logs, listens, and answers once clients can connect.
    ///
    /// The bus runs on threads of its own, so it also serves callers that block their runtime.
    pub async fn start(config: LocalBusConfig) -> Result<RunningBus, LocalBusError> {
        let stop = CancellationToken::new();
        let stopped = CancellationToken::new();
        let (ready, started) = oneshot::channel();
        let of_thread = stop.clone();
        let on_exit = stopped.clone().drop_guard();
        let run = move || {
            let _on_exit: DropGuard = on_exit;
            server::run(config, &of_thread, ready);
        };
        let thread =
            std::thread::Builder::new().name("localbus".to_owned()).spawn(run).map_err(LocalBusError::Thread)?;
        let started = started.await.map_err(|_| LocalBusError::Stopped)??;
        tracing::info!(addr = %started.addr, cluster_id = started.cluster_id, "local bus listens");
        Ok(RunningBus { addr: started.addr, cluster_id: started.cluster_id, stop, stopped, thread: Some(thread) })
    }
}

/// A bus that serves; stops when dropped.
#[derive(Debug)]
pub struct RunningBus {
    addr: SocketAddr,
    cluster_id: String,
    stop: CancellationToken,
    stopped: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl RunningBus {
    /// The address it listens on, with the port that the system picked.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a Kafka client calls `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.addr.to_string()
    }

    /// The cluster id, the same after each restart on the same folder.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Resolves when the bus no longer serves, for whatever reason.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Closes all connections, writes everything to the disk and releases folder and port.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

impl Drop for RunningBus {
    /// Waits, so that folder and port are free afterwards; the bus has threads of its own and needs none of the caller's.
    fn drop(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("local bus panicked");
        }
    }
}
