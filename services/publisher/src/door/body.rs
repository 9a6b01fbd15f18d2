//! In: a request. Out: its body as text, short enough and in time, or why not.
//! Must never happen: a place at the door that somebody holds for ever by sending slowly.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest as _, Request};

/// Why there is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Longer than the router's limit.
    TooLong,
    /// Not all there within the time.
    TooSlow,
    /// The connection ended in the middle of it.
    Cut,
    NotUtf8,
}

pub(super) async fn text(request: Request, wait: Duration) -> Result<String, Unread> {
    let read = tokio::time::timeout(wait, Bytes::from_request(request, &())).await;
    let bytes = read.map_err(|_| Unread::TooSlow)?.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => Unread::TooLong,
        _ => Unread::Cut,
    })?;
    String::from_utf8(bytes.into()).map_err(|_| Unread::NotUtf8)
}
