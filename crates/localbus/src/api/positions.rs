//! Where in a partition: offsets by time, the end of an epoch, and giving up what is before an offset.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::{Context, code};
use crate::log::partition::{Partition, ReadError, TimedOffset};

/// From this version on, answers name the epoch.
const LEADER_EPOCH: i16 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

pub(crate) fn list_offsets(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|wanted| {
        let partitions = wanted.partitions.iter().map(|place| {
            let found = partition(context, &wanted.name, place.partition_index)
                .and_then(|partition| locate(&partition, place.timestamp));
            let at = found.as_ref().copied().unwrap_or(TimedOffset { timestamp: -1, offset: -1 });
            ListOffsetsPartitionResponse::default()
                .with_partition_index(place.partition_index)
                .with_error_code(code(&found))
                .with_timestamp(at.timestamp)
                .with_offset(at.offset)
                .with_leader_epoch(if context.version >= LEADER_EPOCH { 0 } else { -1 })
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(wanted.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn partition(context: &Context, topic: &str, index: i32) -> Result<std::sync::Arc<Partition>, ResponseError> {
    let topic = context.broker.topics.get(topic);
    topic.and_then(|topic| topic.partition(index)).ok_or(ResponseError::UnknownTopicOrPartition)
}

fn locate(partition: &Partition, timestamp: i64) -> Result<TimedOffset, ResponseError> {
    let found = match timestamp {
        LATEST => return Ok(TimedOffset { timestamp: -1, offset: partition.end() }),
        EARLIEST => return Ok(TimedOffset { timestamp: -1, offset: partition.log_start() }),
        MAX_TIMESTAMP => partition.find_max_timestamp(),
        at => partition.find_time(at),
    };
    let found = found.map_err(|error| partition.unreadable(&error))?;
    Ok(found.unwrap_or(TimedOffset { timestamp: -1, offset: -1 }))
}

/// There is one epoch, and it ends where the log ends.
pub(crate) fn offset_for_leader_epoch(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|wanted| {
        let partitions = wanted.partitions.iter().map(|place| {
            let end = partition(context, &wanted.topic, place.partition).map(|partition| partition.end());
            EpochEndOffset::default()
                .with_partition(place.partition)
                .with_error_code(code(&end))
                .with_leader_epoch(0)
                .with_end_offset(end.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(wanted.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

pub(crate) fn delete_records(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|wanted| {
        let partitions = wanted.partitions.iter().map(|place| {
            let start = partition(context, &wanted.name, place.partition_index)
                .and_then(|partition| delete_before(context, &partition, place.offset));
            DeleteRecordsPartitionResult::default()
                .with_partition_index(place.partition_index)
                .with_error_code(code(&start))
                .with_low_watermark(start.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(wanted.name).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

/// -1 means the end.
fn delete_before(context: &Context, partition: &Partition, offset: i64) -> Result<i64, ResponseError> {
    let offset = if offset == -1 { partition.end() } else { offset };
    partition.delete_before(offset).map_err(|error| match error {
        ReadError::OutOfRange => ResponseError::OffsetOutOfRange,
        ReadError::Io(source) => {
            context.broker.note_storage::<()>(Err(&source));
            ResponseError::KafkaStorageError
        }
    })
}
