//! In: a request's key. Out: the principal whose key it is. Never: a key in a log line.

use std::sync::Arc;

use axum::http::HeaderMap;
use mesh_proto::v1::Principal;
use mesh_runtime::Credentials;

use crate::active_state::ActiveState;

/// The answer to a request without a known key.
pub(super) const UNKNOWN: &str = "the request carries no key of a principal of this mesh";

/// The principal whose key it is.
pub(super) fn principal(headers: &HeaderMap, active_state: &ActiveState) -> Option<Arc<Principal>> {
    let credentials = Credentials::of(headers)?;
    active_state.principals.values().find(|principal| credentials.are_of(principal)).cloned()
}
