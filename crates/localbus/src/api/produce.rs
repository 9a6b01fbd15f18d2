//! Produce: one batch per partition, verified, then appended as it is.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::topics::find;
use super::{Context, Explained, no_transactions};
use crate::log::batch::{BadBatch, BatchHeader};
use crate::log::partition::{AppendError, Appended};
use crate::log::producers::Refusal;
use crate::log::records::each_record;
use crate::topics::Topic;
use crate::topics::settings::Settings;

/// Appends; `None` if the client wants no answer.
pub(crate) fn handle(context: &Context, request: ProduceRequest) -> Option<ProduceResponse> {
    let allowed = match request.acks {
        -1..=1 if request.transactional_id.is_none() => Ok(()),
        -1..=1 => Err(no_transactions()),
        _ => Err(Explained::new(ResponseError::InvalidRequiredAcks, "acks is -1, 0 or 1")),
    };
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic =
            find(context, 13, &data.name, data.topic_id).map_err(|error| Explained::new(error, "unknown topic"));
        let topic = allowed.clone().and(topic);
        let partitions = data.partition_data.into_iter().map(|partition| {
            let index = partition.index;
            let result = topic.as_ref().map_err(Clone::clone).and_then(|topic| append(context, topic, partition));
            respond(index, &result, topic.as_ref().ok().map(|topic| topic.as_ref()))
        });
        let partitions = partitions.collect();
        let response = TopicProduceResponse::default().with_name(data.name).with_topic_id(data.topic_id);
        responses.push(response.with_partition_responses(partitions));
    }
    (request.acks != 0).then(|| ProduceResponse::default().with_responses(responses))
}

fn respond(index: i32, result: &Result<Appended, Explained>, topic: Option<&Topic>) -> PartitionProduceResponse {
    let (error, message) = Explained::parts(result);
    let log_start = topic.and_then(|topic| topic.partition(index)).map_or(-1, |partition| partition.log_start());
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(error)
        .with_error_message(message as Option<StrBytes>)
        .with_base_offset(result.as_ref().map_or(-1, |appended| appended.base_offset))
        .with_log_append_time_ms(result.as_ref().map_or(-1, |appended| appended.append_time))
        .with_log_start_offset(log_start)
}

fn append(context: &Context, topic: &Topic, data: PartitionProduceData) -> Result<Appended, Explained> {
    let unknown = || Explained::new(ResponseError::UnknownTopicOrPartition, "no such partition");
    let partition = topic.partition(data.index).ok_or_else(unknown)?;
    let settings = topic.settings();
    let batch = data.records.unwrap_or_default();
    let header = check(&batch, &settings)?;
    match partition.append(&batch, header, &settings) {
        Ok(appended) => {
            context.broker.note_storage(Ok(()));
            if appended.rolled {
                context.broker.housekeeping.notify_one();
            }
            Ok(appended)
        }
        Err(AppendError::Deleted) => Err(unknown()),
        Err(AppendError::Refused(refusal)) => Err(refused(refusal)),
        Err(AppendError::Io(error)) => {
            context.broker.note_storage::<()>(Err(&error));
            Err(Explained::new(ResponseError::KafkaStorageError, format!("the bus cannot write its log: {error}")))
        }
    }
}

fn check(batch: &Bytes, settings: &Settings) -> Result<BatchHeader, Explained> {
    let refuse = |error, message: &str| Err(Explained::new(error, message));
    let header = match BatchHeader::verify(batch) {
        Ok(header) => header,
        Err(BadBatch::Magic) => {
            return refuse(ResponseError::UnsupportedForMessageFormat, "only record batches of magic 2 are stored");
        }
        Err(BadBatch::Inconsistent) => return refuse(ResponseError::InvalidRecord, "one record batch per partition"),
        Err(BadBatch::Truncated | BadBatch::Checksum) => {
            return refuse(ResponseError::CorruptMessage, "the batch does not match its checksum");
        }
    };
    if header.size > settings.max_message_bytes {
        let message =
            format!("a batch of {} bytes exceeds max.message.bytes={}", header.size, settings.max_message_bytes);
        return refuse(ResponseError::MessageTooLarge, &message);
    }
    if header.is_transactional() {
        return Err(no_transactions());
    }
    if header.is_control() || header.count <= 0 || header.last_offset_delta != header.count - 1 {
        return refuse(ResponseError::InvalidRecord, "the batch's counts contradict each other");
    }
    check_records(batch, &header, settings)?;
    Ok(header)
}

/// A batch whose records are not what its header says would stop every reader of the partition for ever.
fn check_records(batch: &Bytes, header: &BatchHeader, settings: &Settings) -> Result<(), Explained> {
    let refuse = |message: &str| Err(Explained::new(ResponseError::InvalidRecord, message));
    let mut next = header.base_offset;
    let mut in_order = true;
    let mut keyed = true;
    let readable = each_record(batch, header, |record| {
        in_order &= record.offset == next;
        keyed &= record.key.is_some();
        next = next.wrapping_add(1);
    });
    match readable {
        Err(_) => refuse("the batch's records cannot be read"),
        Ok(()) if !in_order => refuse("the batch's records are not numbered one by one"),
        Ok(()) if settings.compacts && !keyed => refuse("a compacted topic needs records that have keys"),
        Ok(()) => Ok(()),
    }
}

fn refused(refusal: Refusal) -> Explained {
    match refusal {
        Refusal::StaleEpoch => {
            Explained::new(ResponseError::InvalidProducerEpoch, "a newer instance of the producer exists")
        }
        Refusal::OutOfOrder => {
            Explained::new(ResponseError::OutOfOrderSequenceNumber, "a batch before this one is missing")
        }
        Refusal::OldDuplicate => {
            Explained::new(ResponseError::DuplicateSequenceNumber, "the batch was appended long ago")
        }
    }
}
