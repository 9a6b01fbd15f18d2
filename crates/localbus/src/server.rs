//! The server: folder and port taken, connections served, everything given back at the end.
//!
//! In: a configuration. Out: a listening bus. Never two buses on one folder; never a port beyond loopback unasked;
//! a client's frame or number of connections never exhausts the bus.

mod connection;
mod dispatch;
mod frame;
mod guard;
mod housekeeping;

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use mesh_runtime::tasks::caught;
use mesh_runtime::{Restart, Tasks, limits, part};
use rustix::fs::FlockOperation;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::{LocalBusConfig, LocalBusError};

/// What the caller of a started bus holds.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) addr: SocketAddr,
    pub(crate) cluster_id: String,
}

/// Runs a bus on this thread until `stop`. Tells `ready` once, when clients can connect or why they cannot.
pub(crate) fn run(
    config: LocalBusConfig,
    stop: &CancellationToken,
    ready: oneshot::Sender<Result<Started, LocalBusError>>,
) {
    // The receiver of `ready` may be dropped; then nothing waits for the answer.
    let prepared = match Prepared::new(config) {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    prepared.runtime.block_on(async {
        match tokio::net::TcpListener::from_std(prepared.listener) {
            Ok(listener) => {
                let cluster_id = prepared.broker.cluster_id.to_string();
                let _ = ready.send(Ok(Started { addr: prepared.addr, cluster_id }));
                serve(listener, &prepared.broker, stop).await;
            }
            Err(source) => {
                let _ = ready.send(Err(LocalBusError::Listen { addr: prepared.addr, source }));
            }
        }
    });
    sync(&prepared.broker);
    tracing::info!(addr = %prepared.addr, "local bus stopped");
}

/// Everything that can fail before a bus serves.
struct Prepared {
    broker: Arc<Broker>,
    listener: TcpListener,
    addr: SocketAddr,
    runtime: tokio::runtime::Runtime,
    /// Holds the folder for as long as it is open.
    _lock: File,
}

impl Prepared {
    fn new(config: LocalBusConfig) -> Result<Self, LocalBusError> {
        if !config.allow_remote && !config.listen.ip().is_loopback() {
            return Err(LocalBusError::NotLoopback { addr: config.listen });
        }
        let lock = take_folder(&config.data)?;
        let listen = |source| LocalBusError::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        // Every segment is an open file.
        limits::raise_open_files();
        let broker = Arc::new(Broker::open(config, addr)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("localbus")
            .enable_all()
            .build()
            .map_err(LocalBusError::Thread)?;
        Ok(Self { broker, listener, addr, runtime, _lock: lock })
    }
}

fn take_folder(data: &Path) -> Result<File, LocalBusError> {
    let fail = |action, source| LocalBusError::Folder { action, path: data.to_owned(), source };
    std::fs::create_dir_all(data).map_err(|source| fail("create", source))?;
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(data.join("lock"));
    let file = open.map_err(|source| fail("write to", source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LocalBusError::Locked { path: data.to_owned() }),
        Err(errno) => Err(fail("lock", errno.into())),
    }
}

/// Accepts until `stop`, then waits for the connections to end.
async fn serve(listener: tokio::net::TcpListener, broker: &Arc<Broker>, stop: &CancellationToken) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(broker.config.max_connections));
    let of_keeper = Arc::clone(broker);
    let keeper = Tasks::detached()
        .start(part::task("housekeeping"), Restart::default(), move |_| housekeeping::run(Arc::clone(&of_keeper)));
    let mut next_connection = 0;
    // Each is logged when it begins, not for every client that meets it.
    let mut starved = false;
    let mut full = false;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, most likely: waiting lets connections end, retrying at once would spin.
                if !std::mem::replace(&mut starved, true) {
                    tracing::warn!(%error, "accept failed");
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            if !std::mem::replace(&mut full, true) {
                let limit = broker.config.max_connections;
                tracing::warn!(%peer, limit, "connection refused: too many");
            }
            continue;
        };
        (starved, full) = (false, false);
        next_connection += 1;
        let connection = connection::serve(socket, peer, next_connection, Arc::clone(broker));
        let connection = stop.clone().run_until_cancelled_owned(connection);
        connections.spawn(async move {
            // A panic is logged, and ends this connection alone.
            let _ = caught("connection", connection).await;
            drop(slot);
        });
    }
    drop(keeper);
    connections.close();
    connections.wait().await;
}

fn sync(broker: &Broker) {
    let partitions = broker.topics.all().into_iter().flat_map(|topic| topic.partitions());
    let results = partitions.map(|partition| partition.sync()).chain([broker.groups.offsets.log.sync()]);
    for error in results.filter_map(Result::err) {
        tracing::error!(code = "MESH-LOCALBUS-0008", %error, "log flush failed");
    }
}
