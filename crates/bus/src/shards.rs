//! A consumer group over an empty topic as a lease on work: who is assigned a partition does its share.
//!
//! In: Kafka's assignments. Out: the set of shards that are ours, and a generation that grows with each change.
//! A shard that is revoked is announced first; Kafka learns that it is given up only when the work has released it
//! ([`Shards::released`]) or took too long. Other members get it after that.
//! Never: I/O in a rebalance callback. The group has a thread of its own, and the callback there only
//! announces and waits. (That two members may believe to own a shard for a moment is what commits are fenced for.)

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mesh_proto::topics::{INGEST_SHARDS, SHARDS};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::watch;

use crate::bus::create;
use crate::callbacks::Callbacks;
use crate::error::{code_of, is_connection};
use crate::{Bus, BusError, Result};

/// How a member joins.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    pub topic: String,
    pub group: String,
    /// A name that survives restarts (static membership): a member that comes back within the session time-out gets
    /// its shards again at once and no other member is disturbed. Must be unique in the group.
    pub instance: Option<String>,
    /// How long after a member vanished its shards go to others.
    pub session: Duration,
    /// How long the work may take to let go of a revoked shard.
    pub release: Duration,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            topic: INGEST_SHARDS.into(),
            group: "mesh-ingest".into(),
            instance: None,
            session: Duration::from_secs(6),
            release: Duration::from_secs(20),
        }
    }
}

/// The shards that are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Grows with each change.
    pub generation: u64,
    pub shards: BTreeSet<i32>,
}

/// A membership. Dropping it leaves the group.
#[derive(Debug)]
pub struct Shards {
    lease: Arc<Lease>,
    owned: watch::Receiver<Owned>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Its sender lives as long as the thread.
    alive: watch::Receiver<()>,
}

impl Shards {
    pub(crate) fn join(bus: &Bus, options: ShardOptions) -> Result<Self> {
        let (sender, owned) = watch::channel(Owned::default());
        let lease = Arc::new(Lease::new(sender, options.release));
        let mut client = bus.config().client();
        client
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", options.session.as_millis().to_string())
            .set("heartbeat.interval.ms", (options.session.as_millis() / 3).to_string())
            // A release must fit well within it, or the broker takes the member for hung.
            .set(
                "max.poll.interval.ms",
                (options.release + options.session + Duration::from_secs(30)).as_millis().to_string(),
            )
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest")
            .set("allow.auto.create.topics", "false");
        if let Some(instance) = &options.instance {
            client.set("group.instance.id", instance);
        }
        let member = Member { callbacks: Callbacks::of(bus.address()), lease: lease.clone() };
        let consumer: BaseConsumer<Member> = create(bus.config(), &client, member)?;
        let failed = |source| BusError::Kafka {
            address: bus.address().to_owned(),
            action: "join the shard group".into(),
            source: Box::new(source),
        };
        consumer.subscribe(&[&options.topic]).map_err(failed)?;
        let group = lease.clone();
        let (of_thread, alive) = watch::channel(());
        let run = move || {
            let _alive = of_thread;
            serve(&consumer, &group);
        };
        let thread = std::thread::Builder::new().name("mesh-shards".into()).spawn(run);
        let stopped =
            |error: std::io::Error| BusError::Stopped { topic: options.topic.clone(), reason: error.to_string() };
        Ok(Self { lease, owned, thread: Some(thread.map_err(stopped)?), alive })
    }

    /// The shards that are ours, as they change.
    pub fn owned(&self) -> watch::Receiver<Owned> {
        self.owned.clone()
    }

    /// Resolves when the group's thread has ended, by a panic: nothing is assigned or revoked any more, and the broker
    /// gives the shards to others. Cancellation safe.
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Called by the work once it holds no shard any more that generation `generation` does not hold.
    pub fn released(&self, generation: u64) {
        self.lease.released(generation);
    }

    /// Leaves the group; the shards go to others at once. Call it after the work has let go of all.
    pub async fn leave(mut self) {
        self.lease.stop();
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, there is nothing left to leave.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.lease.stop();
    }
}

/// The shard of a table: stable for ever, even over all shards. The low half of a UUID is random in every version in use.
pub fn shard_of(table: &uuid::Uuid) -> i32 {
    let (_, low) = table.as_u64_pair();
    i32::try_from(low % SHARDS.unsigned_abs() as u64).unwrap_or(0)
}

/// What the group's thread and the work share.
#[derive(Debug)]
struct Lease {
    owned: watch::Sender<Owned>,
    released: Mutex<u64>,
    changed: Condvar,
    stopping: AtomicBool,
    patience: Duration,
}

impl Lease {
    fn new(owned: watch::Sender<Owned>, patience: Duration) -> Self {
        Self { owned, released: Mutex::new(0), changed: Condvar::new(), stopping: AtomicBool::new(false), patience }
    }

    fn released(&self, generation: u64) {
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        *released = generation.max(*released);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn gain(&self, shards: &BTreeSet<i32>) {
        self.owned.send_modify(|owned| {
            owned.generation += 1;
            owned.shards.extend(shards);
        });
    }

    /// Announces the loss; the generation that no longer holds the shards.
    fn lose(&self, shards: &BTreeSet<i32>) -> u64 {
        self.owned.send_modify(|owned| {
            owned.generation += 1;
            owned.shards.retain(|shard| !shards.contains(shard));
        });
        self.owned.borrow().generation
    }

    /// Waits until the work has let go of what `generation` does not hold; false if it took too long.
    fn await_release(&self, generation: u64) -> bool {
        let until = Instant::now() + self.patience;
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        while *released < generation && !self.is_stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // Short, since stopping is not signalled under this lock.
            let waited = self.changed.wait_timeout(released, left.min(Duration::from_millis(100)));
            released = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The callbacks of one member.
#[derive(Clone)]
struct Member {
    callbacks: Callbacks,
    lease: Arc<Lease>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.callbacks.log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.callbacks.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        let generation = self.lease.lose(&shards(partitions));
        // A lost assignment has gone to others already: waiting would only delay joining again.
        if !consumer.assignment_lost() && !self.lease.await_release(generation) {
            tracing::warn!(
                generation,
                "revoked shards were not released in time; commits are fenced, so nothing is lost"
            );
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                // The topic is empty for ever: fetching from it would only make noise.
                if let Err(error) = consumer.pause(partitions) {
                    tracing::debug!(%error, "shards are fetched from although they are empty");
                }
                let gained = shards(partitions);
                tracing::info!(shards = gained.len(), "shards assigned");
                self.lease.gain(&gained);
            }
            Rebalance::Revoke(partitions) => tracing::info!(shards = partitions.count(), "shards revoked"),
            Rebalance::Error(error) => tracing::error!(%error, "rebalance failed"),
        }
    }
}

fn shards(partitions: &TopicPartitionList) -> BTreeSet<i32> {
    partitions.elements().iter().map(|element| element.partition()).collect()
}

/// The group's thread: polls, so that callbacks run, until the membership ends.
fn serve(consumer: &BaseConsumer<Member>, lease: &Lease) {
    while !lease.is_stopping() {
        mesh_runtime::fault::point("bus.shards.poll");
        if let Some(Err(error)) = consumer.poll(Duration::from_millis(100)) {
            let connection = code_of(&error).is_some_and(is_connection);
            if !connection {
                tracing::error!(code = "MESH-BUS-0015", %error, "shard group failed");
            }
        }
    }
    // Leaves the group and runs the revoke callback once more.
    consumer.unsubscribe();
    let until = Instant::now() + Duration::from_secs(2);
    while !lease.owned.borrow().shards.is_empty() && Instant::now() < until {
        consumer.poll(Duration::from_millis(20));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lease(patience: Duration) -> (Arc<Lease>, watch::Receiver<Owned>) {
        let (sender, owned) = watch::channel(Owned::default());
        (Arc::new(Lease::new(sender, patience)), owned)
    }

    #[test]
    fn a_revoked_shard_is_given_up_only_after_the_work_released_it() {
        let (lease, owned) = lease(Duration::from_secs(30));
        lease.gain(&BTreeSet::from([1, 2]));
        let generation = lease.lose(&BTreeSet::from([2]));
        assert_eq!(*owned.borrow(), Owned { generation, shards: BTreeSet::from([1]) });
        let work = std::thread::spawn({
            let lease = lease.clone();
            move || lease.released(generation)
        });
        assert!(lease.await_release(generation));
        work.join().unwrap();
    }

    #[test]
    fn a_release_that_never_comes_is_not_waited_for_for_ever() {
        let (lease, _owned) = lease(Duration::from_millis(10));
        let generation = lease.lose(&BTreeSet::from([2]));
        assert!(!lease.await_release(generation));
    }

    #[test]
    fn a_table_keeps_its_shard() {
        let table = uuid::Uuid::from_u64_pair(u64::MAX, 3 * 256 + 7);
        assert_eq!(shard_of(&table), 7);
    }
}
