//! In: what became of a document. Out: its event on `mesh.contract-events`.
//! Never: two verdicts of different ids on one document.

use chrono::Utc;
use mesh_bus::Delivered;
use mesh_contract::ProductContract;
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{ContractEvent, ContractState, DocumentKind, FieldChange, Finding, Submission};

use super::Submitted;
use super::decide::{Admission, Decision, ProvisionPlan, STATUS};
use super::read::{Body, Part};
use crate::error::PublisherError;
use crate::finding;
use crate::log::Log;

/// What subject the verdicts on principals files have.
const PRINCIPALS: &str = "principals";

/// The event of a decision.
pub fn of(submitted: &Submitted, part: &Part, decision: Decision) -> ContractEvent {
    match decision {
        Decision::Refused(findings) => refused(submitted, part, findings),
        Decision::Unchanged(warnings) => unchanged(submitted, part, warnings),
        Decision::Admitted(admission) => admitted(submitted, part, &admission),
    }
}

pub fn proposed(submitted: &Submitted, part: &Part, admission: &Admission) -> ContractEvent {
    let findings = admission.warnings.clone();
    let changes = admission.changes.clone();
    event(submitted, part, ContractState::Proposed, findings, changes)
}

pub fn refused(submitted: &Submitted, part: &Part, findings: Vec<Finding>) -> ContractEvent {
    event(submitted, part, ContractState::Refused, findings, Vec::new())
}

pub fn unchanged(submitted: &Submitted, part: &Part, warnings: Vec<Finding>) -> ContractEvent {
    event(submitted, part, ContractState::Unchanged, warnings, Vec::new())
}

pub fn admitted(submitted: &Submitted, part: &Part, admission: &Admission) -> ContractEvent {
    event(submitted, part, state(admission), admission.warnings.clone(), admission.changes.clone())
}

/// By the plan and the changes alone, so that a replay gives the same.
fn state(admission: &Admission) -> ContractState {
    let became_deprecated = |contract: &ProductContract| {
        let status = contract.contract().status.as_deref();
        status == Some("deprecated") && admission.changes.iter().any(|change| change.kind == STATUS)
    };
    match &admission.plan {
        ProvisionPlan::Retire(_) => ContractState::Retired,
        ProvisionPlan::Activate(contract, _) if became_deprecated(contract) => ContractState::Deprecated,
        _ if admission.changes.is_empty() => ContractState::Accepted,
        _ => ContractState::Changed,
    }
}

fn event(
    submitted: &Submitted,
    part: &Part,
    state: ContractState,
    findings: Vec<Finding>,
    changes: Vec<FieldChange>,
) -> ContractEvent {
    let submission = &submitted.submission;
    let about = About::of(part, &submission.file_name, submission.kind());
    ContractEvent {
        state: state.into(),
        submission_id: submission.submission_id.clone(),
        revision: submitted.revision,
        kind: about.kind.into(),
        subject: finding::name(&about.subject),
        major: about.major,
        product: about.product,
        version: finding::name(&about.version),
        principal: submission.principal.clone(),
        file_name: finding::name(&submission.file_name),
        findings: finding::bounded(findings),
        changes: finding::bounded_changes(changes),
        at: Some(mesh_proto::timestamp(Utc::now())),
    }
}

/// Whose document it is: its product, or what else it is about.
pub fn about(part: &Part, submission: &Submission) -> String {
    let about = About::of(part, &submission.file_name, submission.kind());
    if about.product.is_empty() { finding::name(&about.subject) } else { about.product }
}

/// What a document is about.
struct About {
    kind: DocumentKind,
    subject: String,
    product: String,
    version: String,
    major: u32,
}

impl About {
    fn of(part: &Part, file: &str, kind: DocumentKind) -> Self {
        let plain = |kind, subject: &str| Self {
            kind,
            subject: subject.to_owned(),
            product: String::new(),
            version: String::new(),
            major: 0,
        };
        match &part.body {
            Body::Contract(contract, _) => {
                let version = contract.version.clone();
                let about = Self { version, ..plain(DocumentKind::Contract, contract.id.as_str()) };
                match ProductContract::new(contract.as_ref().clone()) {
                    Ok(product) => Self { product: product.product().to_string(), major: product.major().0, ..about },
                    Err(_) => about,
                }
            }
            Body::DataProduct(product) => {
                let version = product.version.clone().unwrap_or_default();
                Self { version, ..plain(DocumentKind::DataProduct, product.id.as_str()) }
            }
            Body::Policy(package, _) => plain(DocumentKind::Policy, &package.to_string()),
            Body::Principals(_) => plain(DocumentKind::Principals, PRINCIPALS),
            Body::Unreadable(_) => plain(kind, if file.is_empty() { "unnamed" } else { file }),
        }
    }
}

/// Writes the event under its id.
pub async fn publish(log: &Log, id: &str, verdict: &ContractEvent) -> Result<Delivered, PublisherError> {
    let topic = topics::CONTRACT_EVENTS;
    let event = log.event(topic, event_type(verdict.state()), id, verdict)?;
    let event = event.keyed(&verdict.subject).about(&verdict.subject).in_sequence(verdict.revision);
    log.publish(topic, &event).await
}

fn event_type(state: ContractState) -> &'static str {
    match state {
        ContractState::Unspecified | ContractState::Proposed => types::CONTRACT_PROPOSED,
        ContractState::Accepted => types::CONTRACT_ACCEPTED,
        ContractState::Refused => types::CONTRACT_REFUSED,
        ContractState::Changed => types::CONTRACT_CHANGED,
        ContractState::Deprecated => types::CONTRACT_DEPRECATED,
        ContractState::Retired => types::CONTRACT_RETIRED,
        ContractState::Unchanged => types::CONTRACT_UNCHANGED,
    }
}
