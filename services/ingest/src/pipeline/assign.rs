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
use mesh_runtime::tasks::TaskHandle;
use mesh_runtime::{Restart, Shutdown, part};
use tokio::sync::watch;

use crate::error::IngestError;
use crate::pipeline::plan::table_name;
use crate::pipeline::table::{Shared, run};

/// A table whose task panicked is read again from its last commit.
const AFTER_PANIC: Restart = Restart::Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

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
    task: TaskHandle,
}

impl Assign {
    /// No tables yet.
    pub fn new(contracts: View<ActiveContract>, shared: Arc<Shared>) -> Self {
        Self { contracts, shared, tables: HashMap::new() }
    }

    /// Follows contracts and shards until the shutdown; then every table commits what it has, and the shards go.
    pub async fn run(mut self, shards: Shards, shutdown: Shutdown) -> Result<(), IngestError> {
        let mut owned = shards.owned();
        let mut contracts = self.contracts.changed();
        let ended = loop {
            contracts.mark_unchanged();
            let now = owned.borrow_and_update().clone();
            self.arrange(&now).await;
            shards.released(now.generation);
            tokio::select! {
                () = shutdown.requested() => break Ok(()),
                () = shards.ended() => break Err(IngestError::Stopped { what: "the thread of the shard group" }),
                _ = owned.changed() => {}
                _ = contracts.changed() => {}
            }
        };
        self.stop(|_| true).await;
        shards.leave().await;
        ended
    }

    /// Starts what is ours and does not run, hands on new revisions, stops what is not ours.
    async fn arrange(&mut self, owned: &Owned) {
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
                    let running = self.start(contract);
                    self.tables.insert(key, running);
                }
            }
        }
    }

    fn start(&self, contract: Arc<ActiveContract>) -> Running {
        let name = part::table(table_name(contract.table.as_ref()));
        let (contract, receiver) = watch::channel(contract);
        let shared = self.shared.clone();
        let task = self.shared.tasks.start(name, AFTER_PANIC, move |stop| run(shared.clone(), receiver.clone(), stop));
        Running { contract, task }
    }

    /// Stops tables together and waits for all of them.
    async fn stop(&mut self, which: impl Fn(&str) -> bool) {
        let stopped: Vec<String> = self.tables.keys().filter(|key| which(key)).cloned().collect();
        let mut stopped: Vec<Running> = stopped.iter().filter_map(|key| self.tables.remove(key)).collect();
        stopped.iter().for_each(|running| running.task.request_stop());
        for running in &mut stopped {
            running.task.ended().await;
        }
    }
}

fn is_ours(contract: &ActiveContract, owned: &Owned) -> bool {
    let uuid = contract.table.as_ref().and_then(|table| table.uuid.parse().ok());
    contract.topic.is_some() && uuid.is_some_and(|uuid| owned.shards.contains(&shard_of(&uuid)))
}
