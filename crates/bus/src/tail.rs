//! A whole topic from its beginning or its end, and the moment at which all that was there has been read.
//!
//! In: a topic. Out: its records as they come, and [`Next::CaughtUp`] once every partition was read to its end.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;

use crate::bus::create;
use crate::callbacks::Callbacks;
use crate::error::{Attempt, code_of, is_connection};
use crate::topics::TopicDescription;
use crate::{Bus, Message, Result, Start};

pub(crate) struct Tail {
    consumer: StreamConsumer<Callbacks>,
    callbacks: Callbacks,
    bus: Bus,
    topic: String,
    unfinished: HashSet<i32>,
    /// How long brokers may be lost before that is an error; `None`: as long as it takes.
    patience: Option<Duration>,
    lost_since: Option<Instant>,
}

pub(crate) enum Next<'a> {
    Record(Message<'a>),
    /// Given once.
    CaughtUp,
}

impl Tail {
    pub(crate) fn open(bus: &Bus, topic: &TopicDescription, start: Start, patience: Option<Duration>) -> Result<Self> {
        let mut client = bus.config().client();
        client
            // A name for ACLs: it is not joined, and nothing is committed.
            .set("group.id", "mesh-tail")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", "8192")
            .set("max.poll.interval.ms", "86400000");
        if patience.is_some() {
            // A person waits at a terminal, and the end of an empty partition is known only when a fetch returns.
            client.set("fetch.wait.max.ms", "50");
        }
        let callbacks = Callbacks::of(bus.address());
        let consumer = create(bus.config(), &client, callbacks.clone())?;
        let unfinished = (0..topic.partitions).collect();
        let tail = Self {
            consumer,
            callbacks,
            bus: bus.clone(),
            topic: topic.name.clone(),
            unfinished,
            patience,
            lost_since: None,
        };
        let mut partitions = TopicPartitionList::new();
        let added = (0..topic.partitions)
            .try_for_each(|partition| partitions.add_partition_offset(&topic.name, partition, start.into()));
        let assigned = added.and_then(|()| tail.consumer.assign(&partitions));
        assigned.map_err(|error| tail.failed(error))?;
        Ok(tail)
    }

    /// The next record. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Result<Next<'_>> {
        loop {
            let event = tokio::select! {
                event = self.consumer.recv() => event,
                () = impatience(self.lost_since, self.patience) => {
                    self.bus.reachable().await?;
                    self.lost_since = None;
                    continue;
                }
            };
            match event {
                Ok(message) => {
                    self.callbacks.succeeded();
                    self.lost_since = None;
                    return Ok(Next::Record(Message(message)));
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    if self.unfinished.remove(&partition) && self.unfinished.is_empty() {
                        return Ok(Next::CaughtUp);
                    }
                }
                Err(error) if code_of(&error).is_some_and(|code| self.waits_out(code)) => {
                    self.lost_since.get_or_insert_with(Instant::now);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Lost connections come back. Refused credentials may too, but for a person at a terminal they are an error at once.
    fn waits_out(&self, code: RDKafkaErrorCode) -> bool {
        let refused = matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL);
        is_connection(code) && !(refused && self.patience.is_some())
    }

    fn failed(&self, error: KafkaError) -> crate::BusError {
        let action = format!("read topic `{}`", self.topic);
        let address = self.bus.address();
        let heard = self.callbacks.heard();
        Attempt { action, topic: Some(&self.topic), partition: None, address, heard }.failed(error)
    }
}

/// Resolves when brokers have been lost for longer than they may.
pub(crate) async fn impatience(lost_since: Option<Instant>, patience: Option<Duration>) {
    match (lost_since, patience) {
        (Some(since), Some(patience)) => tokio::time::sleep_until(since + patience).await,
        _ => std::future::pending().await,
    }
}
