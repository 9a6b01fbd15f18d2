//! Which tables are ours, and a task for each.
//!
//! In: the active contracts and the shards that Kafka gave us. Out: one task per table whose shard is ours and whose
//! contract names a topic; a contract's new revision goes to its task. Shards are handed back only when the tasks of
//! their tables have ended. No I/O here but that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Owned, Shards, View, shard_of};
use mesh_proto::v1::ActiveContract;
use mesh_runtime::{Check, Shutdown, report};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::pipeline::table::{Shared, run};

/// How long a table rests whose task panicked.
const AFTER_PANIC: Duration = Duration::from_secs(10);
/// How often somebody looks whether all contracts can be read.
const LOOK: Duration = Duration::from_secs(10);

/// The tables of this process.
#[derive(Debug)]
pub struct Assign {
    contracts: View<ActiveContract>,
    shared: Arc<Shared>,
    tables: HashMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    contract: watch::Sender<Arc<ActiveContract>>,
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl Assign {
    /// No tables yet.
    pub fn new(contracts: View<ActiveContract>, shared: Arc<Shared>) -> Self {
        Self { contracts, shared, tables: HashMap::new() }
    }

    /// A record of `mesh.contracts` that cannot be read leaves its table under the revision before: somebody must see it.
    async fn show(&self, check: &Check) {
        match self.contracts.loaded().await {
            Ok(()) => check.up(),
            Err(error) => check.down(format!("[{}] {}", error.code(), report::chain(&error))),
        }
    }

    /// Follows contracts and shards until the shutdown; then every table commits what it has, and the shards go.
    pub async fn run(mut self, shards: Shards, shutdown: Shutdown) {
        let mut owned = shards.owned();
        let mut contracts = self.contracts.changed();
        let check = self.shared.health.check("contracts");
        loop {
            self.show(&check).await;
            contracts.mark_unchanged();
            let now = owned.borrow_and_update().clone();
            self.arrange(&now, &shutdown).await;
            shards.released(now.generation);
            let alive = tokio::select! {
                () = shutdown.requested() => false,
                changed = owned.changed() => changed.is_ok(),
                changed = contracts.changed() => changed.is_ok(),
                () = tokio::time::sleep(LOOK) => true,
            };
            if !alive {
                break;
            }
        }
        self.stop(|_| true).await;
        shards.leave().await;
    }

    /// Starts what is ours and does not run, tells new revisions, stops what is not ours.
    async fn arrange(&mut self, owned: &Owned, shutdown: &Shutdown) {
        let ours: HashMap<String, Arc<ActiveContract>> =
            self.contracts.snapshot().into_iter().filter(|(_, contract)| is_ours(contract, owned)).collect();
        self.stop(|key| !ours.contains_key(key)).await;
        for (key, contract) in ours {
            match self.tables.get(&key) {
                Some(running) if !running.task.is_finished() => {
                    running.contract.send_if_modified(|known| {
                        let newer = *known != contract;
                        *known = contract.clone();
                        newer
                    });
                }
                _ => {
                    let running = self.start(contract, shutdown);
                    self.tables.insert(key, running);
                }
            }
        }
    }

    fn start(&self, contract: Arc<ActiveContract>, shutdown: &Shutdown) -> Running {
        // Not a child of the whole shutdown: tables are stopped here, together, and awaited.
        let stop = Shutdown::new(shutdown.deadline());
        let (contract, receiver) = watch::channel(contract);
        let task = tokio::spawn(keep_running(self.shared.clone(), receiver, stop.clone()));
        Running { contract, stop, task }
    }

    /// Stops tables together and waits for all of them.
    async fn stop(&mut self, which: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.tables.keys().filter(|key| which(key)).cloned().collect();
        let gone: Vec<Running> = gone.iter().filter_map(|key| self.tables.remove(key)).collect();
        gone.iter().for_each(|running| running.stop.request());
        for running in gone {
            if let Err(error) = running.task.await {
                tracing::error!(%error, "a table's task could not be awaited");
            }
        }
    }
}

/// A table's task, and after a panic (a defect) another one: the table is read again from its last commit.
async fn keep_running(shared: Arc<Shared>, contract: watch::Receiver<Arc<ActiveContract>>, stop: Shutdown) {
    while let Err(error) = tokio::spawn(run(shared.clone(), contract.clone(), stop.clone())).await {
        tracing::error!(%error, "a table's task panicked");
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(AFTER_PANIC) => {}
        }
    }
}

fn is_ours(contract: &ActiveContract, owned: &Owned) -> bool {
    let uuid = contract.table.as_ref().and_then(|table| table.uuid.parse().ok());
    contract.topic.is_some() && uuid.is_some_and(|uuid| owned.shards.contains(&shard_of(&uuid)))
}
