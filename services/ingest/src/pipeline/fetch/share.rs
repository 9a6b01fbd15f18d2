//! What each table wants of what is read, and what it could not take yet.
//!
//! In: batches of records of any topics. Out: batches in the tables' channels; what does not fit waits here, one batch
//! for a table. Must never happen: a record given twice, left out, or given after an error.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_bus::{Batch, BusError, TopicPartition};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::pipeline::source_batch::SourceBatch;

/// What a table is given: records, or why there are no more.
pub type Fetched = Result<SourceBatch, Arc<BusError>>;

/// What one table reads.
pub(super) struct Share {
    topic: String,
    /// The next offset it wants, by partition.
    next: BTreeMap<i32, i64>,
    batches: mpsc::Sender<Fetched>,
    /// What did not fit into the channel.
    behind: SourceBatch,
    /// The error that ends it, until there is room for that.
    failure: Option<Arc<BusError>>,
    /// It failed, or its session ended: nothing else may be given.
    ended: bool,
}

/// The tables that read, by their subscription's id.
#[derive(Default)]
pub(super) struct Shares {
    by_id: HashMap<u64, Share>,
    by_topic: HashMap<String, Vec<u64>>,
}

impl Share {
    pub(super) fn new(topic: String, next: BTreeMap<i32, i64>, batches: mpsc::Sender<Fetched>) -> Self {
        Self { topic, next, batches, behind: SourceBatch::default(), failure: None, ended: false }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = TopicPartition> {
        self.next.keys().map(|partition| TopicPartition::new(self.topic.clone(), *partition))
    }

    /// Ends it with an error, in place of whatever it has not taken yet.
    pub(super) fn fail(&mut self, error: Arc<BusError>) {
        self.behind = SourceBatch::default();
        self.failure = Some(error);
        self.ended = true;
    }

    /// An error about this offset is about this table: it has not come further in that partition.
    fn wants(&self, partition: i32, offset: Option<i64>) -> bool {
        self.next.get(&partition).is_some_and(|next| offset.is_none_or(|offset| *next <= offset))
    }

    /// Hands over what is behind, if there is room.
    fn hand_over(&mut self) {
        let fetched = match self.failure.take() {
            Some(error) => Err(error),
            None if self.behind.is_empty() => return,
            None => Ok(std::mem::take(&mut self.behind)),
        };
        match self.batches.try_send(fetched) {
            Ok(()) => {}
            Err(TrySendError::Full(Ok(batch))) => self.behind = batch,
            Err(TrySendError::Full(Err(error))) => self.failure = Some(error),
            Err(TrySendError::Closed(_)) => self.ended = true,
        }
    }
}

impl Shares {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn insert(&mut self, id: u64, share: Share) {
        self.by_topic.entry(share.topic.clone()).or_default().push(id);
        self.by_id.insert(id, share);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Share> {
        let removed = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_topic.get_mut(&removed.topic) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_topic.remove(&removed.topic);
            }
        }
        Some(removed)
    }

    /// Every partition that some table reads.
    pub(super) fn places(&self) -> BTreeSet<TopicPartition> {
        self.by_id.values().flat_map(Share::places).collect()
    }

    /// The partitions of tables that do not keep up.
    pub(super) fn behind(&self) -> BTreeSet<TopicPartition> {
        self.by_id.values().filter(|share| !share.behind.is_empty() && !share.ended).flat_map(Share::places).collect()
    }

    /// Where reading goes on for the tables that have no error; `None` if none of them wants the partition.
    pub(super) fn next(&self, place: &TopicPartition) -> Option<i64> {
        let ids = self.by_topic.get(&place.topic)?;
        let well = ids.iter().filter_map(|id| self.by_id.get(id)).filter(|share| !share.ended);
        well.filter_map(|share| share.next.get(&place.partition)).min().copied()
    }

    /// The tables that an error about a partition (or a whole topic) and an offset is about.
    pub(super) fn concerned(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        offset: Option<i64>,
    ) -> impl Iterator<Item = &mut Share> {
        self.by_id.values_mut().filter(move |share| {
            !share.ended && share.topic == topic && partition.is_none_or(|p| share.wants(p, offset))
        })
    }

    /// Copies a batch to the tables that want it, and hands over what there is room for.
    pub(super) fn route(&mut self, batch: Batch<'_>) {
        for message in batch.iter() {
            let Some(ids) = self.by_topic.get(message.topic()) else { continue };
            for id in ids {
                let Some(share) = self.by_id.get_mut(id).filter(|share| !share.ended) else { continue };
                if let Some(next) = share.next.get_mut(&message.partition())
                    && *next <= message.offset()
                {
                    *next = message.offset() + 1;
                    share.behind.push(message);
                }
            }
        }
        drop(batch);
        self.hand_over();
    }

    /// Everything before this offset of a partition was routed.
    pub(super) fn reach(&mut self, place: &TopicPartition, reached: i64) {
        let Some(ids) = self.by_topic.get(&place.topic) else { return };
        for id in ids {
            let Some(share) = self.by_id.get_mut(id).filter(|share| !share.ended) else { continue };
            if let Some(next) = share.next.get_mut(&place.partition)
                && *next < reached
            {
                *next = reached;
                share.behind.reach(place.partition, reached);
            }
        }
        self.hand_over();
    }

    /// Hands over what there is room for.
    pub(super) fn hand_over(&mut self) {
        self.by_id.values_mut().for_each(Share::hand_over);
    }
}
