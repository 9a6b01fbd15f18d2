//! Fetch: whole batches from many partitions, waiting for the first to come if there are none.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Context;
use super::topics::find;
use crate::log::partition::{Partition, ReadError};

/// From this version on, topics are named by id.
const TOPIC_IDS: i16 = 13;
/// An answer carries no more than this, whatever the client asks for: Kafka's `fetch.max.bytes` of a broker.
const LARGEST_ANSWER: usize = 55 * 1024 * 1024;
/// A client waits at most this long, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Reads, and waits up to `max_wait_ms` for `min_bytes`.
pub(crate) async fn handle(context: &Context, request: FetchRequest) -> FetchResponse {
    let first = Answer::read(context, &request);
    if first.is_enough(&request) {
        return first.response;
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait;
    let waiting = Waiting::new(context, &request);
    loop {
        // Read after the waiting began: an append between the two wakes at once.
        let answer = Answer::read(context, &request);
        if answer.is_enough(&request) {
            return answer.response;
        }
        tokio::select! {
            () = waiting.notify.notified() => {}
            () = tokio::time::sleep_until(deadline) => return answer.response,
        }
    }
}

/// This fetch among the waiters of its partitions, until dropped.
struct Waiting {
    connection: u64,
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

impl Waiting {
    fn new(context: &Context, request: &FetchRequest) -> Self {
        let notify = Arc::new(Notify::new());
        let mut partitions = Vec::new();
        for wanted in &request.topics {
            let Ok(topic) = find(context, TOPIC_IDS, &wanted.topic, wanted.topic_id) else { continue };
            partitions.extend(wanted.partitions.iter().filter_map(|partition| topic.partition(partition.partition)));
        }
        partitions.iter().for_each(|partition| partition.waiters.add(context.connection, &notify));
        Self { connection: context.connection, notify, partitions }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.partitions.iter().for_each(|partition| partition.waiters.remove(self.connection));
    }
}

/// What there is to answer at one moment.
struct Answer {
    response: FetchResponse,
    bytes: usize,
    has_error: bool,
}

impl Answer {
    fn is_enough(&self, request: &FetchRequest) -> bool {
        let wanted = usize::try_from(request.min_bytes).unwrap_or(0);
        self.has_error || self.bytes >= wanted || request.topics.is_empty()
    }

    fn read(context: &Context, request: &FetchRequest) -> Self {
        let mut answer = Self { response: FetchResponse::default(), bytes: 0, has_error: false };
        let limit = usize::try_from(request.max_bytes).unwrap_or(0).min(LARGEST_ANSWER);
        for wanted in &request.topics {
            let topic = find(context, TOPIC_IDS, &wanted.topic, wanted.topic_id);
            let mut partitions = Vec::with_capacity(wanted.partitions.len());
            for place in &wanted.partitions {
                let partition = topic
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|topic| topic.partition(place.partition).ok_or(ResponseError::UnknownTopicOrPartition));
                partitions.push(answer.read_partition(place, partition, limit));
            }
            let response =
                FetchableTopicResponse::default().with_topic(wanted.topic.clone()).with_topic_id(wanted.topic_id);
            answer.response.responses.push(response.with_partitions(partitions));
        }
        answer
    }

    fn read_partition(
        &mut self,
        place: &FetchPartition,
        partition: Result<Arc<Partition>, ResponseError>,
        limit: usize,
    ) -> PartitionData {
        let data = PartitionData::default()
            .with_partition_index(place.partition)
            .with_preferred_read_replica((-1).into())
            .with_aborted_transactions(None);
        let read = partition.and_then(|partition| {
            let most = usize::try_from(place.partition_max_bytes).unwrap_or(0).min(limit.saturating_sub(self.bytes));
            let bytes = partition.read(place.fetch_offset, most, self.bytes == 0).map_err(|error| match error {
                ReadError::OutOfRange => ResponseError::OffsetOutOfRange,
                ReadError::Io(source) => partition.unreadable(&source),
            })?;
            Ok((partition, bytes))
        });
        match read {
            Ok((partition, bytes)) => {
                self.bytes += bytes.len();
                data.with_high_watermark(partition.end())
                    .with_last_stable_offset(partition.end())
                    .with_log_start_offset(partition.log_start())
                    .with_records(Some(bytes))
            }
            Err(error) => {
                self.has_error = true;
                data.with_error_code(error.code())
                    .with_high_watermark(-1)
                    .with_last_stable_offset(-1)
                    .with_log_start_offset(-1)
                    .with_records(Some(bytes::Bytes::new()))
            }
        }
    }
}
