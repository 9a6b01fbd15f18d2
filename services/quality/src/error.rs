//! What can stop quality or one of its tasks. What is wrong with a product is a verdict, not an error.

use mesh_bus::BusError;
use mesh_proto::ProtoError;
use mesh_runtime::Coded;

/// An error of quality.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
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
        action: &'static str,
        #[source]
        source: Box<mesh_lakehouse::LakehouseError>,
    },
    #[error("cannot set up the engine that counts rows; see that the temporary folder can be written")]
    Engine {
        #[source]
        source: Box<datafusion::error::DataFusionError>,
    },
    #[error(
        "the record at offset {offset} of topic `{topic}`, partition {partition}, is no message of this mesh; \
         see who else writes there"
    )]
    Foreign {
        topic: String,
        partition: i32,
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
    #[error(transparent)]
    Runtime(#[from] mesh_runtime::RuntimeError),
}

impl QualityError {
    /// The error's code, which names its page in `docs/errors/`: what comes from below keeps its own.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "MESH-QUALITY-0001",
            Self::Bus { source, .. } => source.code(),
            Self::Lakehouse { source, .. } => source.code(),
            Self::Engine { .. } => "MESH-QUALITY-0002",
            Self::Foreign { .. } => "MESH-QUALITY-0003",
            Self::Unwritable { source, .. } => source.code(),
            Self::Runtime(source) => source.code(),
        }
    }
}

impl Coded for QualityError {
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
pub(crate) fn bus(action: &'static str) -> impl Fn(BusError) -> QualityError {
    move |source| QualityError::Bus { action, source: Box::new(source) }
}

/// For `map_err` on tables.
pub(crate) fn lakehouse(action: &'static str) -> impl Fn(mesh_lakehouse::LakehouseError) -> QualityError {
    move |source| QualityError::Lakehouse { action, source: Box::new(source) }
}
