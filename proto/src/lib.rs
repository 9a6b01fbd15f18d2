//! The language of the bus: messages, topic names, the CloudEvents envelope; what a record holds; schema ids.
//!
//! Every control topic carries CloudEvents 1.0 in Kafka binary mode: `ce_*` headers and a body of proto3 canonical
//! JSON (the lineage topic: OpenLineage JSON). This crate never does I/O.

pub mod cloudevents;
pub mod error;
pub mod record;
pub mod registry;
pub mod topics;
pub mod trace;

pub use error::ProtoError;

/// The messages of `mesh/v1/*.proto`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/meshwork.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/meshwork.v1.serde.rs"));
}

/// The protobuf form of a moment.
pub fn timestamp(at: chrono::DateTime<chrono::Utc>) -> pbjson_types::Timestamp {
    at.into()
}
