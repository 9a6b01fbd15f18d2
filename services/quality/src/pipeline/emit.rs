//! Stage 5. In: findings. Out: verdicts on `mesh.quality`, then the incidents that follow on `mesh.incidents`, both under
//! ids that follow from the check and the snapshot. What was acknowledged is remembered.
//! Never: an incident before its verdict.

use chrono::Utc;
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{Incident, IncidentState, Outcome, Verdict};
use mesh_runtime::fault;

use super::Parts;
use super::checks::{Check, Subject};
use super::incident;
use super::memory::{LastVerdict, Memory};
use crate::error::{self, QualityError};

/// Emits verdicts in their order.
pub(crate) async fn verdicts(
    parts: &Parts,
    memory: &mut Memory,
    verdicts: Vec<LastVerdict>,
) -> Result<(), QualityError> {
    fault::point("quality.verdicts.before");
    let mut pending = Vec::with_capacity(verdicts.len());
    for (at, one) in verdicts.iter().enumerate() {
        let event = verdict_event(parts, one)?;
        let delivery =
            parts.producer.queue_event(topics::QUALITY, &event).await.map_err(error::bus("write verdicts"))?;
        if at == 0 {
            delivery.await.map_err(error::bus("write verdicts"))?;
            fault::point("quality.verdicts.between");
        } else {
            pending.push(delivery);
        }
    }
    for delivery in pending {
        delivery.await.map_err(error::bus("write verdicts"))?;
    }
    fault::point("quality.verdicts.after");
    for one in verdicts {
        parts.metrics.verdict(outcome_label(one.verdict.outcome()));
        memory.verdicts.insert(one.verdict.check_id.clone(), one);
    }
    Ok(())
}

fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Error => "error",
        Outcome::NoData => "no-data",
        Outcome::Unspecified => "unspecified",
    }
}

fn verdict_event(parts: &Parts, last: &LastVerdict) -> Result<Event, QualityError> {
    let source = parts.bus.source("quality");
    let verdict = &last.verdict;
    let event = Event::new(types::VERDICT, &source, last.id.clone(), Utc::now(), verdict)
        .map_err(unwritable(topics::QUALITY))?;
    Ok(event.keyed(verdict.product.clone()).about(verdict.check_id.clone()).traced(last.trace))
}

/// Emits what incidents lack, given the last verdicts: after a crash as well as in the ordinary course.
/// Open ones of other checks than these are withdrawn.
pub(crate) async fn incidents(parts: &Parts, memory: &mut Memory, checks: &[Check]) -> Result<(), QualityError> {
    let mut missing = Vec::new();
    for check in checks {
        let Some(last) = memory.verdicts.get(&check.id) else { continue };
        if let Some(incident) = incident::next(&last.verdict, &last.id, memory.incidents.get(&check.id)) {
            missing.push((incident::event_id(&incident, &last.id), incident));
        }
    }
    let withdrawn = |incident: &&Incident| {
        incident.state() != IncidentState::Resolved && !checks.iter().any(|check| check.id == incident.check_id)
    };
    for open in memory.incidents.values().filter(withdrawn) {
        let incident = incident::withdrawn(open, mesh_proto::timestamp(Utc::now()));
        missing.push((incident::event_id(&incident, "withdrawn"), incident));
    }
    for (id, incident) in missing {
        let event = incident_event(parts, &id, &incident)?;
        parts.producer.publish(topics::INCIDENTS, &event).await.map_err(error::bus("write incidents"))?;
        fault::point("quality.incidents.after");
        memory.incidents.insert(incident.check_id.clone(), incident);
    }
    Ok(())
}

fn incident_event(parts: &Parts, id: &str, incident: &Incident) -> Result<Event, QualityError> {
    let event_type = match incident.state() {
        IncidentState::Opened => types::INCIDENT_OPENED,
        IncidentState::Acknowledged => types::INCIDENT_ACKNOWLEDGED,
        IncidentState::Resolved => types::INCIDENT_RESOLVED,
        IncidentState::Ongoing | IncidentState::Unspecified => types::INCIDENT_ONGOING,
    };
    let source = parts.bus.source("quality");
    let event = Event::new(event_type, &source, id, Utc::now(), incident).map_err(unwritable(topics::INCIDENTS))?;
    Ok(event.keyed(incident.product.clone()).about(incident.incident_id.clone()))
}

fn unwritable(topic: &'static str) -> impl Fn(mesh_proto::ProtoError) -> QualityError {
    move |source| QualityError::Unwritable { topic, source }
}

/// A verdict of this subject, without what it found.
pub(crate) fn blank(subject: &Subject, check: &Check) -> Verdict {
    Verdict {
        check_id: check.id.clone(),
        product: subject.product.clone(),
        major: subject.major,
        table: Some(subject.table.clone()),
        contract_revision: subject.revision,
        metric: check.metric.clone(),
        column: check.column.clone(),
        expected: check.expected.clone(),
        dimension: check.dimension.clone(),
        severity: check.severity.clone(),
        judged_at: Some(mesh_proto::timestamp(Utc::now())),
        ..Verdict::default()
    }
}
