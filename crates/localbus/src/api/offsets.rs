//! Committed offsets of groups: commit, fetch, delete.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, code};
use crate::group::member::Claim;
use crate::group::offsets::{Committed, Place};
use crate::group::state::Phase;

/// Kafka's limit on what a client may attach to an offset.
const MAX_METADATA: usize = 4096;
/// From this version on, one request asks for several groups.
const MANY_GROUPS: i16 = 8;

pub(crate) fn commit(context: &Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let claim = Claim {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
    };
    let allowed = context.broker.groups.may_commit(&request.group_id, &claim);
    let mut changes = Vec::new();
    let mut verdicts = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let checked = allowed.and_then(|()| check(context, &topic.name, partition));
            verdicts.push(checked.as_ref().err().copied());
            changes.extend(checked.map(|(place, committed)| (place, Some(committed))));
        }
    }
    let stored = store(context, &request.group_id, changes);
    let mut verdicts = verdicts.into_iter().map(|refused| refused.map_or(stored, Err));
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(verdicts.next().map_or(0, |verdict| code(&verdict)))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn check(
    context: &Context,
    topic: &TopicName,
    partition: &OffsetCommitRequestPartition,
) -> Result<(Place, Committed), ResponseError> {
    let known = context.broker.topics.get(topic).and_then(|topic| topic.partition(partition.partition_index));
    known.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    if metadata.len() > MAX_METADATA {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let place = Place { topic: topic.to_string(), partition: partition.partition_index };
    let committed = Committed {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
    };
    Ok((place, committed))
}

fn store(context: &Context, group: &str, changes: Vec<(Place, Option<Committed>)>) -> Result<(), ResponseError> {
    match context.broker.groups.offsets.store(group, changes) {
        Ok(rolled) => {
            if rolled {
                context.broker.housekeeping.notify_one();
            }
            Ok(())
        }
        Err(error) => {
            context.broker.note_storage::<()>(Err(&error));
            Err(ResponseError::CoordinatorNotAvailable)
        }
    }
}

/// Per topic, what was requested: all there is, or these partitions with or without a commit.
type Found = BTreeMap<String, Vec<(i32, Option<Committed>)>>;

fn found(context: &Context, group: &str, wanted: Option<Vec<(TopicName, Vec<i32>)>>) -> Found {
    let offsets = &context.broker.groups.offsets;
    let mut found = Found::new();
    match wanted {
        None => {
            for (place, committed) in offsets.all_of(group) {
                found.entry(place.topic).or_default().push((place.partition, Some(committed)));
            }
        }
        Some(topics) => {
            for (topic, partitions) in topics {
                let entry = found.entry(topic.to_string()).or_default();
                entry.extend(
                    partitions.into_iter().map(|partition| {
                        (partition, offsets.get(group, &Place { topic: topic.to_string(), partition }))
                    }),
                );
            }
        }
    }
    found
}

fn nothing() -> Committed {
    Committed { offset: -1, leader_epoch: -1, metadata: String::new() }
}

fn topic_name(name: String) -> TopicName {
    TopicName(StrBytes::from_string(name))
}

pub(crate) fn fetch(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version < MANY_GROUPS {
        let wanted = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = found(context, &request.group_id, wanted).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(index, committed)| {
                let committed = committed.unwrap_or_else(nothing);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(committed.metadata)))
            });
            OffsetFetchResponseTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let wanted = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = found(context, &group.group_id, wanted).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(index, committed)| {
                let committed = committed.unwrap_or_else(nothing);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(committed.metadata)))
            });
            OffsetFetchResponseTopics::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_topics(topics.collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

pub(crate) fn delete(context: &Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let groups = &context.broker.groups;
    let allowed = match groups.describe(&request.group_id) {
        None => Err(ResponseError::GroupIdNotFound),
        Some(group) if group.phase != Phase::Empty => Err(ResponseError::NonEmptyGroup),
        Some(_) => Ok(()),
    };
    let place = |topic: &TopicName, partition| Place { topic: topic.to_string(), partition };
    let all = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (place(&topic.name, partition.partition_index), None))
    });
    let done = allowed.and_then(|()| store(context, &request.group_id, all.collect()));
    if done.is_err() {
        return OffsetDeleteResponse::default().with_error_code(code(&done));
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions =
            partitions.map(|of| OffsetDeleteResponsePartition::default().with_partition_index(of.partition_index));
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
