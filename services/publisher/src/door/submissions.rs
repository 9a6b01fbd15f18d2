//! `POST /v1/submissions`: a document from somebody known, written down with their name, answered with its verdict.
//!
//! In: a Bearer key, a document; `file`, `kind`, `dry_run`. Out: a record on `mesh.submissions`, and the verdict that
//! the pipeline gives on it, whichever publisher runs it.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{ContractEvent, DocumentKind, Principal, Submission};
use mesh_runtime::fault;
use serde::Deserialize;
use uuid::Uuid;

use super::answer::{self, Refusal, refusal};
use super::{Shared, authn};
use crate::authority::Needs;
use crate::finding::of_error;
use crate::pipeline::judge::{self, Case, Decision, forbidden};
use crate::pipeline::read::{self, Part};
use crate::pipeline::{Submitted, siblings, verdict};
use crate::world::World;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    file: String,
    kind: Option<String>,
}

pub(super) async fn submit(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match take(&shared, &asked, &headers, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn take(
    shared: &Shared,
    asked: &Asked,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let world = shared.memory.world();
    let principal = known(headers, &world)?;
    let submission = submission(shared, asked, &principal, body)?;
    let parts = read::read(&submission);
    for part in &parts {
        let needs = Needs::of(part);
        if !needs.granted_to(&principal) {
            let finding = forbidden(&principal.name, &needs);
            return Err(refusal(StatusCode::FORBIDDEN, "MESH-PUBLISHER-0002", finding.message, finding.remedy));
        }
    }
    let id = submission.submission_id.clone();
    if asked.dry_run {
        let submitted = Submitted { revision: -1, submission, parts };
        return Ok(answer::verdicts(&id, &dry_run(&world, &submitted), true));
    }
    let verdicts = written_down(shared, submission, &parts).await?;
    Ok(answer::verdicts(&id, &verdicts, false))
}

fn known(headers: &HeaderMap, world: &World) -> Result<std::sync::Arc<Principal>, Refusal> {
    authn::principal(headers, world).ok_or_else(|| {
        let message = authn::UNKNOWN;
        let remedy = "send `Authorization: Bearer KEY`; `mesh --as NAME` takes the key from credentials.toml";
        refusal(StatusCode::UNAUTHORIZED, "MESH-PUBLISHER-0001", message, remedy)
    })
}

fn submission(
    shared: &Shared,
    asked: &Asked,
    principal: &Principal,
    body: Result<Bytes, BytesRejection>,
) -> Result<Submission, Refusal> {
    let most = shared.bounds.max_body_bytes;
    let body = body.ok().filter(|body| body.len() <= most).ok_or_else(|| {
        let message = format!("the document is longer than {most} bytes");
        let remedy = "split it into several files, or raise `door.max_body_bytes`";
        refusal(StatusCode::PAYLOAD_TOO_LARGE, "MESH-PUBLISHER-0003", message, remedy)
    })?;
    let document = String::from_utf8(body.to_vec()).map_err(|_| {
        refusal(StatusCode::BAD_REQUEST, "MESH-PUBLISHER-0007", "the document is not UTF-8 text", "save it as UTF-8")
    })?;
    let kind = kind(asked, &document)?;
    Ok(Submission {
        submission_id: Uuid::now_v7().to_string(),
        principal: principal.name.clone(),
        kind: kind.into(),
        document,
        file_name: asked.file.clone(),
        submitted_at: Some(mesh_proto::timestamp(Utc::now())),
    })
}

fn kind(asked: &Asked, document: &str) -> Result<DocumentKind, Refusal> {
    match asked.kind.as_deref() {
        None => Ok(read::detect(&asked.file, document)),
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

/// What the pipeline would say now, without anything written.
fn dry_run(world: &World, submitted: &Submitted) -> Vec<ContractEvent> {
    let siblings = siblings(&submitted.parts);
    let (principal, file) = (submitted.submission.principal.as_str(), submitted.submission.file_name.as_str());
    let case = Case { world, principal, file, siblings: &siblings };
    let judged = submitted.parts.iter().map(|part| match judge::judge(part, &case) {
        Decision::Refused(findings) => verdict::refused(submitted, part, findings),
        Decision::Unchanged(warnings) => verdict::unchanged(submitted, part, warnings),
        Decision::Admitted(admission) => verdict::admitted(submitted, part, &admission),
    });
    judged.collect()
}

/// Writes the submission and waits for the verdicts on its documents.
async fn written_down(shared: &Shared, submission: Submission, parts: &[Part]) -> Result<Vec<ContractEvent>, Refusal> {
    let (log, topic) = (&shared.log, topics::SUBMISSIONS);
    let id = submission.submission_id.clone();
    let unavailable = |error: crate::error::Error| {
        let finding = of_error(&error);
        refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0005", finding, "try again when Kafka answers")
    };
    let event = log.event(topic, types::SUBMITTED, &id, &submission).map_err(unavailable)?;
    let about = parts.first().map(|part| verdict::about(part, &submission));
    let key = about.unwrap_or_else(|| submission.principal.clone());
    let delivered = log.publish(topic, &event.keyed(key)).await.map_err(unavailable)?;
    fault::point("publisher.door.submitted");
    let given = tokio::time::timeout(shared.bounds.verdict_wait, given(shared, delivered.offset, parts.len())).await;
    given.map_err(|_| {
        let message = format!(
            "submission {id} is written down as revision {}, but its verdict is not there yet",
            delivered.offset
        );
        let remedy = "do not submit it again: watch mesh.contract-events for its verdict";
        refusal(StatusCode::SERVICE_UNAVAILABLE, "MESH-PUBLISHER-0004", message, remedy)
    })
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
