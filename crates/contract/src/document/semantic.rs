//! What a JSON schema cannot say.

use serde_json::Value;

use super::explain::Problem;
use super::standard::Kind;
use crate::finding::Severity;

pub(crate) struct Noted {
    pub(crate) problem: Problem,
    pub(crate) severity: Severity,
}

pub(crate) fn check(_kind: Kind, _document: &Value) -> Vec<Noted> {
    Vec::new()
}
