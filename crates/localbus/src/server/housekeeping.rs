//! Retention and compaction, when they are due. Between deadlines this sleeps; an idle bus costs nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::log::partition::Partition;
use crate::log::{compaction, now_ms, retention};
use crate::topics::settings::Settings;

/// However often segments begin, passes are at least this far apart.
const BETWEEN_PASSES: Duration = Duration::from_secs(1);
/// Whatever fails is tried again after this.
const RETRY_MS: i64 = 60_000;

/// Runs until dropped.
pub(super) async fn run(broker: Arc<Broker>) {
    loop {
        let of_pass = Arc::clone(&broker);
        let pass = tokio::task::spawn_blocking(move || pass(&of_pass)).await;
        let due = pass.unwrap_or_else(|error| {
            tracing::error!(%error, "housekeeping failed");
            Some(now_ms().saturating_add(RETRY_MS))
        });
        tokio::time::sleep(BETWEEN_PASSES).await;
        match due.map(|due| u64::try_from(due - now_ms()).unwrap_or(0)) {
            Some(wait) => {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                    () = broker.housekeeping.notified() => {}
                }
            }
            None => broker.housekeeping.notified().await,
        }
    }
}

/// Does what is due everywhere; answers when the next thing is.
fn pass(broker: &Broker) -> Option<i64> {
    let delay_ms = i64::try_from(broker.config.cleanup_delay.as_millis()).unwrap_or(i64::MAX);
    let mut next = enforce(&broker.groups.offsets.log, &broker.groups.offsets.settings, delay_ms);
    for topic in broker.topics.all() {
        let settings = topic.settings();
        for partition in topic.partitions() {
            next = [next, enforce(&partition, &settings, delay_ms)].into_iter().flatten().min();
        }
    }
    next
}

fn enforce(partition: &Partition, settings: &Settings, delay_ms: i64) -> Option<i64> {
    let now = now_ms();
    let retained = retention::enforce(partition, settings, now, delay_ms);
    let compacted = compaction::enforce(partition, settings, now, delay_ms);
    [retained, compacted]
        .into_iter()
        .filter_map(|due| {
            due.unwrap_or_else(|error| {
                let code = "MESH-LOCALBUS-0010";
                let folder = partition.folder.display();
                tracing::error!(code, %folder, %error, "log cleanup failed");
                Some(now.saturating_add(RETRY_MS))
            })
        })
        .min()
}
