//! The Kafka requests that the bus answers, a file per family, and the versions it speaks.
//!
//! In: decoded requests. Out: responses. What a single node without transactions cannot do is refused with an error
//! that clients treat as final, never half done.

pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod membership;
pub(crate) mod offsets;
pub(crate) mod positions;
pub(crate) mod produce;
pub(crate) mod topics;

use std::net::IpAddr;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::topics::TopicError;

/// What a handler knows beside the request.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) broker: Arc<Broker>,
    pub(crate) version: i16,
    pub(crate) client_id: StrBytes,
    pub(crate) peer: IpAddr,
    /// Tells connections apart.
    pub(crate) connection: u64,
}

/// A request type and the versions of it that are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Supported {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

const fn versions(key: ApiKey, min: i16, max: i16) -> Supported {
    Supported { key, min, max }
}

/// Everything the bus answers.
pub(crate) const SUPPORTED: &[Supported] = &[
    versions(ApiKey::Produce, 3, 13),
    versions(ApiKey::Fetch, 4, 16),
    versions(ApiKey::ListOffsets, 1, 7),
    versions(ApiKey::Metadata, 0, 12),
    versions(ApiKey::OffsetCommit, 2, 9),
    versions(ApiKey::OffsetFetch, 1, 9),
    versions(ApiKey::FindCoordinator, 0, 4),
    versions(ApiKey::JoinGroup, 0, 9),
    versions(ApiKey::Heartbeat, 0, 4),
    versions(ApiKey::LeaveGroup, 0, 5),
    versions(ApiKey::SyncGroup, 0, 5),
    versions(ApiKey::DescribeGroups, 0, 5),
    versions(ApiKey::ListGroups, 0, 5),
    versions(ApiKey::ApiVersions, 0, 4),
    versions(ApiKey::CreateTopics, 2, 7),
    versions(ApiKey::DeleteTopics, 1, 6),
    versions(ApiKey::DeleteRecords, 0, 2),
    versions(ApiKey::InitProducerId, 0, 4),
    versions(ApiKey::OffsetForLeaderEpoch, 2, 4),
    versions(ApiKey::DescribeConfigs, 1, 4),
    versions(ApiKey::AlterConfigs, 0, 2),
    versions(ApiKey::CreatePartitions, 0, 3),
    versions(ApiKey::DeleteGroups, 0, 2),
    versions(ApiKey::IncrementalAlterConfigs, 0, 1),
    versions(ApiKey::OffsetDelete, 0, 0),
    versions(ApiKey::DescribeCluster, 0, 1),
    versions(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The code in a response: 0 for success.
pub(crate) fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

/// An error with a sentence for people.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    pub(crate) error: ResponseError,
    pub(crate) message: String,
}

impl Explained {
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    /// Code and message as responses carry them.
    pub(crate) fn parts<T>(result: &Result<T, Self>) -> (i16, Option<StrBytes>) {
        match result {
            Ok(_) => (0, None),
            Err(why) => (why.error.code(), Some(StrBytes::from_string(why.message.clone()))),
        }
    }
}

impl From<TopicError> for Explained {
    fn from(why: TopicError) -> Self {
        let error = match &why {
            TopicError::Exists(_) => ResponseError::TopicAlreadyExists,
            TopicError::Name => ResponseError::InvalidTopicException,
            TopicError::Partitions(_) => ResponseError::InvalidPartitions,
            TopicError::Setting(_) => ResponseError::InvalidConfig,
            TopicError::Unknown => ResponseError::UnknownTopicOrPartition,
            TopicError::Io(_) | TopicError::Open(_) => ResponseError::KafkaStorageError,
        };
        if let TopicError::Io(source) = &why {
            tracing::error!(code = "MESH-LOCALBUS-0008", error = %source, "topic description failed");
        }
        Self::new(error, why.to_string())
    }
}

/// The answer to requests that only make sense with transactions.
pub(crate) fn no_transactions() -> Explained {
    let message = "the local bus has no transactions: remove transactional.id, or use Apache Kafka";
    Explained::new(ResponseError::TransactionalIdAuthorizationFailed, message)
}
