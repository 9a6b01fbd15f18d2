//! What can stop the publisher or one of its tasks. What is wrong with a submission is a finding, not an error.

use mesh_bus::BusError;
use mesh_proto::ProtoError;
use mesh_runtime::Coded;

/// An error of the publisher.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    #[error("`{key}` cannot be used: {why}")]
    Config { key: &'static str, why: &'static str },
    #[error("cannot {action}")]
    Bus {
        action: &'static str,
        #[source]
        source: Box<BusError>,
    },
    #[error("cannot {action}")]
    Lakehouse {
        action: String,
        #[source]
        source: Box<mesh_lakehouse::LakehouseError>,
    },
    #[error("the record at offset {offset} of topic `{topic}` is no message of this mesh; see who else writes there")]
    Foreign {
        topic: &'static str,
        offset: i64,
        #[source]
        source: ProtoError,
    },
    #[error("an event for topic `{topic}` cannot be written")]
    Unwritable {
        topic: &'static str,
        #[source]
        source: ProtoError,
    },
    #[error("the HTTP listener closed")]
    Door {
        #[source]
        source: mesh_runtime::RuntimeError,
    },
    #[error(transparent)]
    Runtime(#[from] mesh_runtime::RuntimeError),
}

impl PublisherError {
    /// Whether Kafka does not take the record because of its length.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Bus { source, .. } if matches!(**source, BusError::TooLarge { .. }))
    }

    /// The error's code, which names its page in `docs/errors/`: what comes from below keeps its own.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "MESH-PUBLISHER-0030",
            Self::Bus { source, .. } => source.code(),
            Self::Lakehouse { source, .. } => source.code(),
            Self::Foreign { .. } => "MESH-PUBLISHER-0031",
            Self::Unwritable { source, .. } => source.code(),
            Self::Door { .. } => "MESH-PUBLISHER-0032",
            Self::Runtime(source) => source.code(),
        }
    }
}

impl Coded for PublisherError {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Config { .. } => true,
            Self::Bus { source, .. } => source.is_usage(),
            Self::Runtime(source) => source.is_usage(),
            _ => false,
        }
    }
}

/// For `map_err` on the bus.
pub(crate) fn bus(action: &'static str) -> impl Fn(BusError) -> PublisherError {
    move |source| PublisherError::Bus { action, source: Box::new(source) }
}

/// For `map_err` on tables.
pub(crate) fn lakehouse(action: impl Into<String>) -> impl FnOnce(mesh_lakehouse::LakehouseError) -> PublisherError {
    let action = action.into();
    move |source| PublisherError::Lakehouse { action, source: Box::new(source) }
}
