//! In: a request. Out: its body as text, short enough and in time, or why not.

use axum::extract::Request;
use mesh_runtime::body::{self, BodyBounds};

use super::Shared;

/// Why there is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Longer than the endpoint takes, or a record.
    TooLong,
    /// Not all there within the time.
    TooSlow,
    /// The publisher stops, and not all of it was there.
    Stopping,
    /// The connection ended in the middle of it.
    Cut,
    NotUtf8,
}

pub(super) async fn text(request: Request, shared: &Shared) -> Result<String, Unread> {
    let bounds = BodyBounds { bytes: shared.bounds.max_body_bytes, wait: shared.bounds.body_wait };
    let bytes = body::read(request, bounds, &shared.shutdown).await.map_err(|unread| match unread {
        body::Unread::TooLong { .. } => Unread::TooLong,
        body::Unread::TooSlow { .. } => Unread::TooSlow,
        body::Unread::Stopping => Unread::Stopping,
        body::Unread::Cut { .. } => Unread::Cut,
    })?;
    String::from_utf8(bytes.into()).map_err(|_| Unread::NotUtf8)
}
