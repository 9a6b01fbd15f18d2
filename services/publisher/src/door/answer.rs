//! Answers of the submission endpoint: refusals with code, message and remedy, and verdicts as the command line reads them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mesh_proto::v1::{ContractEvent, ContractState, Finding};
use serde::Serialize;
use serde_json::{Value, json};

use crate::finding::{GAVE_UP, is_error};

/// A request that got no verdict.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) remedy: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

pub(super) fn refusal(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    Refusal { status, code, message: message.into(), remedy: remedy.into() }
}

/// The verdicts on a submission's documents: the first refusal, or else the first, stands for all.
pub(super) fn verdicts(submission_id: &str, verdicts: &[ContractEvent], dry_run: bool) -> Response {
    let refused = verdicts.iter().find(|verdict| verdict.state() == ContractState::Refused);
    let reason = refused.and_then(|refused| refused.findings.iter().find(|finding| is_error(finding)));
    let status = match reason {
        Some(reason) if reason.code == GAVE_UP => StatusCode::SERVICE_UNAVAILABLE,
        _ if refused.is_some() => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    let mut body = refused.or(verdicts.first()).map(|first| verdict(first, dry_run)).unwrap_or_default();
    body["submissionId"] = json!(submission_id);
    body["dryRun"] = json!(dry_run);
    body["verdicts"] = verdicts.iter().map(|one| verdict(one, dry_run)).collect();
    if let Some(reason) = reason {
        body["code"] = json!(reason.code);
        body["message"] = json!(reason.message);
        body["remedy"] = json!(reason.remedy);
    }
    (status, Json(body)).into_response()
}

fn verdict(verdict: &ContractEvent, dry_run: bool) -> Value {
    json!({
        "state": state(verdict.state()),
        "subject": verdict.subject,
        "product": verdict.product,
        "version": verdict.version,
        "revision": (!dry_run).then_some(verdict.revision),
        "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
        "changes": verdict.changes,
    })
}

fn state(state: ContractState) -> String {
    state.as_str_name().trim_start_matches("CONTRACT_STATE_").to_ascii_lowercase()
}

fn finding(found: &Finding) -> Value {
    json!({
        "code": found.code,
        "severity": if is_error(found) { "error" } else { "warning" },
        "path": found.path,
        "line": found.line,
        "column": found.column,
        "message": found.message,
        "remedy": found.remedy,
    })
}
