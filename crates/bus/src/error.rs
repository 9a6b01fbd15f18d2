//! What can go wrong on the bus; each message names a remedy.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::ProtoError;
use mesh_runtime::Coded;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error of the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("no Kafka broker answers at {address} ({action}): {reason}; start it, or correct `bus.bootstrap`")]
    Unreachable { address: String, action: String, reason: String },
    #[error(
        "Kafka at {address} refuses the credentials ({action}): {reason}; check sasl.mechanism, sasl.username and sasl.password under [bus.properties]"
    )]
    Authentication { address: String, action: String, reason: String },
    #[error(
        "no TLS connection to Kafka at {address} ({action}): {reason}; check security.protocol and the ssl.* files under [bus.properties]"
    )]
    Tls { address: String, action: String, reason: String },
    #[error("topic `{topic}` does not exist on Kafka at {address}; apply its contract, create it, or correct the name")]
    TopicMissing { topic: String, address: String },
    #[error(
        "topic `{topic}` on Kafka at {address} has no partition {partition}; it was recreated with fewer partitions, or the number is wrong"
    )]
    PartitionMissing { topic: String, partition: i32, address: String },
    #[error(
        "Kafka at {address} does not allow this principal to {action}; grant the ACL (deploy/ lists those that the services need)"
    )]
    NotAllowed { address: String, action: String },
    #[error(
        "a record of {bytes} bytes is more than topic `{topic}` takes; raise the topic's max.message.bytes and message.max.bytes under [bus.properties], or send less"
    )]
    TooLarge { topic: String, bytes: usize },
    #[error("Kafka at {address} did not acknowledge a record for topic `{topic}` within {} s: {reason}; it may be written or not. Check the brokers and the topic's in-sync replicas", waited.as_secs())]
    NotAcknowledged { topic: String, address: String, waited: Duration, reason: String },
    #[error(
        "offset {offset} of topic `{topic}` partition {partition} is not in the log, which holds [{low}, {high}); the topic was truncated, recreated, or its retention is shorter than the reader was away"
    )]
    OffsetOutOfRange { topic: String, partition: i32, offset: i64, low: i64, high: i64 },
    #[error("topic `{topic}` exists but differs: {difference}; alter the topic, or change what asks for it")]
    TopicDiffers { topic: String, difference: String },
    #[error(
        "Kafka at {address} refuses to create topic `{topic}`: {reason}; change its name or shape, or the broker's policy"
    )]
    TopicRefused { topic: String, address: String, reason: String },
    #[error("the Kafka property `{property}` cannot be set: {message}; correct it under [bus.properties]")]
    Property { property: String, message: String },
    #[error(
        "record at offset {offset} of topic `{topic}` partition {partition} cannot be read; write the key {key:?} again, or a tombstone for it"
    )]
    Unreadable {
        topic: String,
        partition: i32,
        offset: i64,
        key: String,
        #[source]
        source: UnreadableCause,
    },
    #[error(
        "the producer for Kafka at {address} cannot go on without risking order: {reason}; the service restarts it"
    )]
    ProducerFailed { address: String, reason: String },
    #[error("the reader of `{topic}` has stopped: {reason}; restart the service")]
    Stopped { topic: String, reason: String },
    #[error("Kafka at {address} failed to {action}")]
    Kafka {
        address: String,
        action: String,
        #[source]
        source: Box<KafkaError>,
    },
}

/// Why a record of a typed topic cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableCause {
    #[error("its key is not UTF-8")]
    Key,
    #[error(transparent)]
    Event(Arc<ProtoError>),
}

impl BusError {
    /// The error's code, which names its page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "MESH-BUS-0001",
            Self::Authentication { .. } => "MESH-BUS-0002",
            Self::Tls { .. } => "MESH-BUS-0003",
            Self::TopicMissing { .. } => "MESH-BUS-0004",
            Self::PartitionMissing { .. } => "MESH-BUS-0005",
            Self::NotAllowed { .. } => "MESH-BUS-0006",
            Self::TooLarge { .. } => "MESH-BUS-0007",
            Self::NotAcknowledged { .. } => "MESH-BUS-0008",
            Self::OffsetOutOfRange { .. } => "MESH-BUS-0009",
            Self::TopicDiffers { .. } => "MESH-BUS-0010",
            Self::Property { .. } => "MESH-BUS-0011",
            Self::Unreadable { .. } => "MESH-BUS-0012",
            Self::ProducerFailed { .. } => "MESH-BUS-0013",
            Self::Stopped { .. } => "MESH-BUS-0014",
            Self::Kafka { .. } => "MESH-BUS-0015",
            Self::TopicRefused { .. } => "MESH-BUS-0016",
        }
    }

    /// True if the broker understood and refused: the same call fails until something is changed.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::TopicRefused { .. } | Self::TopicDiffers { .. } | Self::NotAllowed { .. })
    }

    /// True if the broker could not be reached: the same call may succeed later.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl Coded for BusError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Property { .. })
    }
}

/// What a call was about when librdkafka returned an error: the ingredients of a useful message.
#[derive(Clone, Debug)]
pub(crate) struct Attempt<'a> {
    /// Completes "Kafka failed to …".
    pub(crate) action: String,
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: Option<i32>,
    pub(crate) address: &'a str,
    /// What the client's callbacks last heard, if anything.
    pub(crate) heard: Option<(RDKafkaErrorCode, String)>,
}

impl Attempt<'_> {
    /// The error with what happened. What the callbacks received explains a bare "transport failure".
    pub(crate) fn failed(self, source: KafkaError) -> BusError {
        use RDKafkaErrorCode as Code;
        let code = code_of(&source);
        let address = self.address.to_owned();
        let action = self.action.clone();
        let topic = self.topic.unwrap_or_default().to_owned();
        match code {
            Some(code) if is_connection(code) => self.connection(&source),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => BusError::TopicMissing { topic, address },
            Some(Code::UnknownPartition) => {
                BusError::PartitionMissing { topic, partition: self.partition.unwrap_or(-1), address }
            }
            Some(
                Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed,
            ) => BusError::NotAllowed { address, action },
            Some(
                code @ (Code::PolicyViolation
                | Code::InvalidConfig
                | Code::InvalidTopic
                | Code::InvalidPartitions
                | Code::InvalidReplicationFactor
                | Code::InvalidReplicaAssignment),
            ) if self.topic.is_some() => BusError::TopicRefused { topic, address, reason: code.to_string() },
            _ => BusError::Kafka { address, action, source: Box::new(source) },
        }
    }

    fn connection(self, source: &KafkaError) -> BusError {
        let address = self.address.to_owned();
        let action = self.action;
        match self.heard {
            Some((RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed, reason)) => {
                BusError::Authentication { address, action, reason }
            }
            Some((code, reason)) if code == RDKafkaErrorCode::SSL || reason.contains("SSL handshake") => {
                BusError::Tls { address, action, reason }
            }
            Some((_, reason)) => BusError::Unreachable { address, action, reason },
            None => {
                let reason = code_of(source).map_or_else(|| source.to_string(), |code| code.to_string());
                BusError::Unreachable { address, action, reason }
            }
        }
    }
}

/// The code of an error. rdkafka's own look-up leaves out the codes of admin requests.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// True for librdkafka's codes for a connection that cannot be used.
pub(crate) fn is_connection(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::TimedOutQueue
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::BrokerNotAvailable
            | Code::NetworkException
    )
}
