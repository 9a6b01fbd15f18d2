//! What can be wrong with a message on the bus.

/// A record that is not the CloudEvent it should be.
#[derive(Debug, thiserror::Error)]
pub enum ProtoError {
    /// A header that CloudEvents requires is absent.
    #[error("the record has no `{header}` header; every mesh topic carries CloudEvents 1.0 in binary mode")]
    MissingHeader { header: &'static str },
    /// A header's bytes are not what CloudEvents requires.
    #[error("the header `{header}` holds {found:?}, not {wanted}")]
    BadHeader { header: &'static str, found: String, wanted: &'static str },
    /// The body is not the message that `ce_type` names.
    #[error("the body of a `{event_type}` event is not the JSON of that message")]
    BadBody {
        event_type: String,
        #[source]
        source: serde_json::Error,
    },
    /// A message that cannot be written as JSON: a timestamp outside year 1 to 9999.
    #[error("the `{event_type}` event cannot be written as JSON")]
    Unwritable {
        event_type: String,
        #[source]
        source: serde_json::Error,
    },
    /// Another type of event than the reader of this topic knows.
    #[error("the topic holds a `{found}` event where `{wanted}` was expected")]
    UnexpectedType { found: String, wanted: &'static str },
}

impl ProtoError {
    /// The code of this error's page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "MESH-PROTO-0001",
            Self::BadHeader { .. } => "MESH-PROTO-0002",
            Self::BadBody { .. } => "MESH-PROTO-0003",
            Self::Unwritable { .. } => "MESH-PROTO-0004",
            Self::UnexpectedType { .. } => "MESH-PROTO-0005",
        }
    }
}
