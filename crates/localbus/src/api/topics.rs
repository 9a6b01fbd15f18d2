//! Topics: describe, create, grow, delete.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::configs::values;
use super::{Context, Explained};
use crate::broker::NODE_ID;
use crate::topics::Topic;
use crate::topics::settings::Overrides;

/// The topic a request names: by id from version `ids_from` on, else by name.
pub(crate) fn find(context: &Context, ids_from: i16, name: &str, id: Uuid) -> Result<Arc<Topic>, ResponseError> {
    if context.version >= ids_from {
        return context.broker.topics.get_by_id(id).ok_or(ResponseError::UnknownTopicId);
    }
    context.broker.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(crate) fn metadata(context: &Context, request: MetadataRequest) -> MetadataResponse {
    let broker = &context.broker;
    let create = request.allow_auto_topic_creation && broker.config.auto_create_topics;
    let topics = match request.topics {
        // The oldest version has no null: there, an empty list means everything.
        Some(wanted) if !(wanted.is_empty() && context.version == 0) => {
            let described = wanted.into_iter().map(|topic| match topic.name {
                Some(name) => describe_by_name(context, name, create),
                None => match broker.topics.get_by_id(topic.topic_id) {
                    Some(found) => describe(&found),
                    None => unknown(None, ResponseError::UnknownTopicId).with_topic_id(topic.topic_id),
                },
            });
            described.collect()
        }
        _ => broker.topics.all().iter().map(|topic| describe(topic)).collect(),
    };
    let node = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(broker.advertised.host.clone()))
        .with_port(i32::from(broker.advertised.port));
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
}

fn unknown(name: Option<TopicName>, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(name).with_error_code(error.code())
}

fn describe_by_name(context: &Context, name: TopicName, create: bool) -> MetadataResponseTopic {
    let topics = &context.broker.topics;
    if let Some(topic) = topics.get(&name) {
        return describe(&topic);
    }
    if !create {
        return unknown(Some(name), ResponseError::UnknownTopicOrPartition);
    }
    match topics.create(&name, context.broker.config.default_partitions, Overrides::new()) {
        Ok(topic) => describe(&topic),
        // Two clients may ask at once; the second finds what the first created.
        Err(why) => match topics.get(&name) {
            Some(topic) => describe(&topic),
            None => unknown(Some(name), Explained::from(why).error),
        },
    }
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let node = || vec![BrokerId(NODE_ID)];
    let partitions = (0..topic.partition_count()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(0)
            .with_replica_nodes(node())
            .with_isr_nodes(node())
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

pub(crate) fn describe_topic_partitions(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.into_iter().map(|wanted| {
        let response = DescribeTopicPartitionsResponseTopic::default().with_name(Some(wanted.name.clone()));
        let Some(topic) = context.broker.topics.get(&wanted.name) else {
            return response.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        };
        let node = || vec![BrokerId(NODE_ID)];
        let partitions = (0..topic.partition_count()).map(|index| {
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(NODE_ID))
                .with_leader_epoch(0)
                .with_replica_nodes(node())
                .with_isr_nodes(node())
                // Nullable, but Java's admin client reads them as they come.
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        response.with_topic_id(topic.id).with_partitions(partitions.collect())
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

pub(crate) fn create_topics(context: &Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let results = request.topics.into_iter().map(|wanted| {
        let name = wanted.name.clone();
        let created = create(context, wanted, request.validate_only);
        let (error, message) = Explained::parts(&created);
        let result = CreatableTopicResult::default().with_name(name).with_error_code(error).with_error_message(message);
        match created {
            Ok(Some(topic)) => {
                let configs = values(&topic).into_iter().map(|value| {
                    CreatableTopicConfigs::default()
                        .with_name(value.name)
                        .with_value(value.value)
                        .with_config_source(value.config_source)
                });
                result
                    .with_topic_id(topic.id)
                    .with_num_partitions(topic.partition_count())
                    .with_replication_factor(1)
                    .with_configs(Some(configs.collect()))
            }
            Ok(None) | Err(_) => result.with_num_partitions(-1).with_replication_factor(-1),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

/// `None` if it was only to be checked.
fn create(context: &Context, wanted: CreatableTopic, dry_run: bool) -> Result<Option<Arc<Topic>>, Explained> {
    let assigned = i32::try_from(wanted.assignments.len()).unwrap_or(i32::MAX);
    let partitions = match wanted.num_partitions {
        -1 if assigned > 0 => assigned,
        -1 => context.broker.config.default_partitions,
        given => given,
    };
    if !matches!(wanted.replication_factor, -1 | 1) {
        let message = "the local bus is one node: the replication factor is 1";
        return Err(Explained::new(ResponseError::InvalidReplicationFactor, message));
    }
    let given =
        wanted.configs.into_iter().filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
    let overrides: Overrides = given.collect();
    let topics = &context.broker.topics;
    if dry_run {
        topics.check(&wanted.name, partitions, &overrides)?;
        return Ok(None);
    }
    Ok(Some(topics.create(&wanted.name, partitions, overrides)?))
}

pub(crate) fn create_partitions(context: &Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|wanted| {
        let topic = context.broker.topics.get(&wanted.name);
        let unknown = || Explained::new(ResponseError::UnknownTopicOrPartition, "unknown topic");
        let grown = topic.ok_or_else(unknown).and_then(|topic| {
            if request.validate_only {
                return Ok(());
            }
            context.broker.topics.grow(&topic, wanted.count).map_err(Explained::from)
        });
        let (error, message) = Explained::parts(&grown);
        CreatePartitionsTopicResult::default().with_name(wanted.name).with_error_code(error).with_error_message(message)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub(crate) fn delete_topics(context: &Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let wanted = by_name.chain(request.topics.into_iter().map(|topic| (topic.name, topic.topic_id)));
    let responses = wanted.map(|(name, id)| {
        let topic = match &name {
            Some(name) => context.broker.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition),
            None => context.broker.topics.get_by_id(id).ok_or(ResponseError::UnknownTopicId),
        };
        let known = topic.as_ref().map(|topic| topic.id).unwrap_or(id);
        let name = name.or_else(|| topic.as_ref().ok().map(|topic| topic_name(&topic.name)));
        let deleted =
            topic.map_err(|error| Explained::new(error, "unknown topic")).and_then(|topic| delete(context, &topic));
        let (error, message) = Explained::parts(&deleted);
        DeletableTopicResult::default()
            .with_name(name)
            .with_topic_id(known)
            .with_error_code(error)
            .with_error_message(message)
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

fn delete(context: &Context, topic: &Topic) -> Result<(), Explained> {
    context.broker.topics.delete(&topic.name)?;
    // A topic of the same name would otherwise be read from where its predecessor was left.
    context.broker.groups.offsets.forget(None, Some(&topic.name)).map_err(|source| {
        context.broker.note_storage::<()>(Err(&source));
        Explained::new(ResponseError::KafkaStorageError, "the topic is deleted, its committed offsets are not")
    })
}
