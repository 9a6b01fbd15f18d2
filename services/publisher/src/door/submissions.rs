//! `POST /v1/submissions`: a document from a known principal, recorded with its name, answered with its verdict.
//!
//! In: a Bearer key, a document; `file`, `kind`, `dry_run`. Out: a record on `mesh.submissions`, and the verdict that
//! the pipeline gives on it, whichever publisher runs it.
//! Never: a long document that keeps other requests, or the health page, from a thread.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use mesh_proto::cloudevents::types;
use mesh_proto::record::{RECORD_BYTES, json_bytes};
use mesh_proto::topics;
use mesh_proto::v1::{ContractEvent, DocumentKind, Principal, Submission};
use mesh_runtime::fault;
use serde::Deserialize;
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::answer::{self, Refusal, refusal};
use super::body::Unread;
use super::{Shared, authn, body};
use crate::active_state::ActiveState;
use crate::authority::needed;
use crate::error::PublisherError;
use crate::finding::{self, of_error};
use crate::pipeline::decide::{Decision, forbidden};
use crate::pipeline::existing::Existing;
use crate::pipeline::preview::Preview;
use crate::pipeline::read::{self, Part};
use crate::pipeline::{Submitted, gave_up, verdict};

#[derive(Debug, Default, Deserialize)]
pub(super) struct SubmissionQuery {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    file: String,
    kind: Option<String>,
}

pub(super) async fn submit(
    State(shared): State<Shared>,
    query: Result<Query<SubmissionQuery>, QueryRejection>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    match take(&shared, query, &headers, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn take(
    shared: &Shared,
    query: Result<Query<SubmissionQuery>, QueryRejection>,
    headers: &HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    let active_state = shared.memory.active_state();
    // Before the body: a client without a key sends none of it.
    let principal = known(headers, &active_state)?;
    let Query(query) = query.map_err(|problem| {
        let remedy = "send `file`, `kind` and `dry_run=true` or `false`";
        refusal(StatusCode::BAD_REQUEST, "MESH-PUBLISHER-0033", problem.body_text(), remedy)
    })?;
    let document = body::text(request, shared).await.map_err(|unread| no_document(shared, unread))?;
    let submission = submission(shared, &query, &principal, document)?;
    let parts = block_in_place(|| read::read(&submission));
    for part in &parts {
        let needs = needed(part);
        if !needs.granted_to(&principal.roles, &principal.admin_of) {
            let finding = forbidden(&principal.name, &needs);
            return Err(refusal(StatusCode::FORBIDDEN, "MESH-PUBLISHER-0002", finding.message, finding.remedy));
        }
    }
    let id = submission.submission_id.clone();
    if query.dry_run {
        let submitted = Submitted { revision: 0, submission, parts };
        return Ok(answer::verdicts(&id, &dry_run(shared, &active_state, submitted).await, true));
    }
    let verdicts = recorded(shared, submission, &parts).await?;
    Ok(answer::verdicts(&id, &verdicts, false))
}

fn known(headers: &HeaderMap, active_state: &ActiveState) -> Result<std::sync::Arc<Principal>, Refusal> {
    authn::principal(headers, active_state).ok_or_else(|| {
        let message = authn::UNKNOWN;
        let remedy = "send `Authorization: Bearer KEY`; `mesh --as NAME` takes the key from credentials.toml";
        refusal(StatusCode::UNAUTHORIZED, "MESH-PUBLISHER-0001", message, remedy)
    })
}

fn submission(
    shared: &Shared,
    query: &SubmissionQuery,
    principal: &Principal,
    document: String,
) -> Result<Submission, Refusal> {
    if json_bytes(&document) > RECORD_BYTES {
        return Err(no_document(shared, Unread::TooLong));
    }
    let kind = kind(query, &document)?;
    Ok(Submission {
        submission_id: Uuid::now_v7().to_string(),
        principal: principal.name.clone(),
        kind: kind.into(),
        document,
        file_name: finding::name(&query.file),
        submitted_at: Some(mesh_proto::timestamp(Utc::now())),
    })
}

fn no_document(shared: &Shared, unread: Unread) -> Refusal {
    let bounds = &shared.bounds;
    match unread {
        Unread::TooLong => {
            let most = bounds.max_body_bytes.min(RECORD_BYTES);
            let message = format!("the document is longer than {most} bytes, as it is or as a record");
            let remedy = "split it into several files; or raise `door.max_body_bytes`, as far as a record reaches";
            refusal(StatusCode::PAYLOAD_TOO_LARGE, "MESH-PUBLISHER-0003", message, remedy)
        }
        Unread::TooSlow => {
            let message = format!("the document did not come within {} s", bounds.body_wait.as_secs_f32());
            let remedy = "send it again over a faster way, or raise `door.body_wait`";
            refusal(StatusCode::REQUEST_TIMEOUT, "MESH-PUBLISHER-0008", message, remedy)
        }
        Unread::Stopping => {
            let message = "the publisher stops, and not all of the document was there";
            refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0008", message, "send it again")
        }
        Unread::Cut => {
            let message = "the connection ended before the document did";
            refusal(StatusCode::BAD_REQUEST, "MESH-PUBLISHER-0008", message, "send it again")
        }
        Unread::NotUtf8 => {
            let message = "the document is not UTF-8 text";
            refusal(StatusCode::BAD_REQUEST, "MESH-PUBLISHER-0007", message, "save it as UTF-8")
        }
    }
}

fn kind(query: &SubmissionQuery, document: &str) -> Result<DocumentKind, Refusal> {
    match query.kind.as_deref() {
        None => Ok(read::detect(&query.file, document)),
        Some("contract") => Ok(DocumentKind::Contract),
        Some("data-product") => Ok(DocumentKind::DataProduct),
        Some("policy") => Ok(DocumentKind::Policy),
        Some("principals") => Ok(DocumentKind::Principals),
        Some(other) => {
            let remedy = "use contract, data-product, policy or principals, or leave `kind` out";
            let message = format!("`kind={other}` is no kind of document");
            Err(refusal(StatusCode::BAD_REQUEST, "MESH-PUBLISHER-0006", message, remedy))
        }
    }
}

/// The decisions of the pipeline on what is there now, without anything written or made.
async fn dry_run(shared: &Shared, active_state: &ActiveState, mut submitted: Submitted) -> Vec<ContractEvent> {
    let mut preview = Preview::of(active_state.clone());
    let parts = submitted.parts.clone();
    let mut verdicts = Vec::new();
    for part in &parts {
        let decision = match existing(shared, part).await {
            Ok(existing) => {
                submitted.revision = existing.next_revision;
                block_in_place(|| preview.decide(&submitted, part, existing))
            }
            Err(failure) => Decision::Refused(vec![gave_up(&failure)]),
        };
        verdicts.push(verdict::of(&submitted, part, decision));
    }
    verdicts
}

/// What is there of a document's product, in one look.
async fn existing(shared: &Shared, part: &Part) -> Result<Existing, String> {
    let Some(contract) = part.contract() else { return Ok(Existing::default()) };
    let looked = tokio::time::timeout(shared.bounds.verdict_wait, shared.provisioner.existing(&contract)).await;
    looked.map_or_else(|_| Err("it takes too long".to_owned()), |existing| existing.map_err(|error| of_error(&error)))
}

/// Records the submission and waits for the verdicts on its documents.
async fn recorded(shared: &Shared, submission: Submission, parts: &[Part]) -> Result<Vec<ContractEvent>, Refusal> {
    let (log, topic) = (&shared.log, topics::SUBMISSIONS);
    if let Some(why) = shared.progress.held_up(shared.bounds.verdict_wait) {
        let remedy = "nothing was written: submit it again once that is over; the publisher's log says more";
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0010", why, remedy));
    }
    let until = Instant::now() + shared.bounds.verdict_wait;
    let id = submission.submission_id.clone();
    let event = log.event(topic, types::SUBMITTED, &id, &submission).map_err(|error| unwritten(&error))?;
    let about = parts.first().map(|part| verdict::about(part, &submission));
    let event = event.keyed(about.unwrap_or_else(|| submission.principal.clone()));
    let delivered = timeout_at(until, log.publish(topic, &event)).await.map_err(|_| not_acknowledged())?;
    let delivered = delivered.map_err(|error| unwritten(&error))?;
    fault::point("publisher.door.submitted");
    let given = timeout_at(until, given(shared, delivered.offset, parts.len())).await;
    given.map_err(|_| {
        let message = format!(
            "submission {id} is written down as revision {}, but its verdict is not there yet",
            delivered.offset
        );
        let remedy = "do not submit it again: watch mesh.contract-events for its verdict";
        refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0004", message, remedy)
    })
}

fn unwritten(error: &PublisherError) -> Refusal {
    match error.is_too_large() {
        true => {
            let remedy = "split it into several files, or raise the broker's message.max.bytes";
            refusal(StatusCode::PAYLOAD_TOO_LARGE, "MESH-PUBLISHER-0003", of_error(error), remedy)
        }
        false => {
            let remedy = "submit it again when Kafka answers";
            refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0005", of_error(error), remedy)
        }
    }
}

fn not_acknowledged() -> Refusal {
    let message = "Kafka did not acknowledge the submission in time; it may be written down or not";
    let remedy = "submit it again when Kafka answers: a document that is active by then is `unchanged`";
    refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0005", message, remedy)
}

async fn given(shared: &Shared, revision: i64, parts: usize) -> Vec<ContractEvent> {
    let mut changes = shared.memory.changes();
    loop {
        if let Some(verdicts) = shared.memory.verdicts(|verdicts| verdicts.of(revision, parts)) {
            return verdicts;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
