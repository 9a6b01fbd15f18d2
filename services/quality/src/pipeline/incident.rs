//! Stage 6. In: a check's last verdict and its last incident. Out: the incident event that is missing, if one is. Pure,
//! so that after a crash the same comparison emits what was not emitted, under the same id.
//! Never: two open incidents of one check, an incident that stays open behind a pass.

use mesh_proto::v1::{Incident, IncidentState, Outcome, Verdict};
use uuid::Uuid;

/// Namespace of the ids derived here.
const IDS: Uuid = Uuid::from_u128(0x6d65_7368_2d71_7561_6c69_7479_2d69_6473);

/// An id that follows from these parts alone.
pub(crate) fn derived_id(parts: &[&str]) -> String {
    Uuid::new_v5(&IDS, parts.join("\n").as_bytes()).to_string()
}

/// What must be emitted so that incidents agree with the verdict (whose event id is `verdict_id`).
pub(crate) fn next(verdict: &Verdict, verdict_id: &str, last: Option<&Incident>) -> Option<Incident> {
    let open = last.filter(|incident| incident.state() != IncidentState::Resolved);
    match (verdict.outcome(), open) {
        (Outcome::Fail | Outcome::Error, None) => Some(opened(verdict, verdict_id)),
        (Outcome::Fail | Outcome::Error, Some(open)) if differs(verdict, open) => {
            Some(moved(open, verdict, IncidentState::Ongoing))
        }
        (Outcome::Pass, Some(open)) => Some(moved(open, verdict, IncidentState::Resolved)),
        // Nothing to judge resolves nothing.
        _ => None,
    }
}

/// The id of an incident's event.
pub(crate) fn event_id(incident: &Incident, verdict_id: &str) -> String {
    derived_id(&[&incident.incident_id, verdict_id, incident.state().as_str_name()])
}

fn opened(verdict: &Verdict, verdict_id: &str) -> Incident {
    Incident {
        incident_id: derived_id(&["incident", &verdict.check_id, verdict_id]),
        state: IncidentState::Opened.into(),
        check_id: verdict.check_id.clone(),
        product: verdict.product.clone(),
        major: verdict.major,
        summary: summary(verdict),
        opened_at: verdict.judged_at,
        at: verdict.judged_at,
        verdict: Some(verdict.clone()),
    }
}

fn moved(open: &Incident, verdict: &Verdict, state: IncidentState) -> Incident {
    Incident {
        state: state.into(),
        summary: summary(verdict),
        at: verdict.judged_at,
        verdict: Some(verdict.clone()),
        ..open.clone()
    }
}

/// An open incident of a check that the contract no longer has.
pub(crate) fn withdrawn(open: &Incident, at: pbjson_types::Timestamp) -> Incident {
    let summary = format!("{}: the contract no longer asks for this", open.product);
    Incident { state: IncidentState::Resolved.into(), summary, at: Some(at), ..open.clone() }
}

/// Whether the incident should say something new.
fn differs(verdict: &Verdict, open: &Incident) -> bool {
    let known = open.verdict.as_ref();
    known.is_none_or(|known| {
        (known.outcome, &known.expected, &known.actual, &known.detail)
            != (verdict.outcome, &verdict.expected, &verdict.actual, &verdict.detail)
    })
}

fn summary(verdict: &Verdict) -> String {
    let subject = match verdict.column.as_str() {
        "" => verdict.metric.clone(),
        column => format!("{} of `{column}`", verdict.metric),
    };
    match verdict.outcome() {
        Outcome::Error => format!("{}: {subject} cannot be judged: {}", verdict.product, verdict.detail),
        Outcome::Pass => format!("{}: {subject} is as promised again: {}", verdict.product, verdict.actual),
        _ => format!("{}: {subject} is {}, promised: {}", verdict.product, verdict.actual, verdict.expected),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn verdict(outcome: Outcome, actual: &str) -> Verdict {
        Verdict {
            check_id: "weather.hourly/v1/rows".into(),
            product: "weather.hourly".into(),
            metric: "rowCount".into(),
            outcome: outcome.into(),
            expected: "mustBe 2232 rows".into(),
            actual: actual.into(),
            ..Verdict::default()
        }
    }

    /// The states that a sequence of verdicts brings, `-` where nothing is emitted.
    fn check(outcomes: &[(Outcome, &str)], expected: &[&str]) {
        let mut last: Option<Incident> = None;
        let states = outcomes.iter().enumerate().map(|(at, (outcome, actual))| {
            match next(&verdict(*outcome, actual), &at.to_string(), last.as_ref()) {
                None => "-",
                Some(incident) => {
                    let state = incident.state();
                    last = Some(incident);
                    state.as_str_name().trim_start_matches("INCIDENT_STATE_")
                }
            }
        });
        assert_eq!(states.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_incident_opens_goes_on_and_is_resolved() {
        use Outcome::{Error, Fail, NoData, Pass};
        check(&[(Pass, "2232 rows")], &["-"]);
        check(
            &[(Fail, "1 rows"), (Fail, "1 rows"), (Fail, "2 rows"), (Pass, "")],
            &["OPENED", "-", "ONGOING", "RESOLVED"],
        );
        check(&[(Error, ""), (Fail, "1 rows"), (NoData, ""), (Pass, "")], &["OPENED", "ONGOING", "-", "RESOLVED"]);
        check(&[(Fail, "a"), (Pass, ""), (Pass, ""), (Fail, "a")], &["OPENED", "RESOLVED", "-", "OPENED"]);
    }

    #[test]
    fn the_same_verdict_has_the_same_ids() {
        let fail = verdict(Outcome::Fail, "1 rows");
        let (one, two) = (next(&fail, "v", None).unwrap(), next(&fail, "v", None).unwrap());
        assert_eq!((&one.incident_id, event_id(&one, "v")), (&two.incident_id, event_id(&two, "v")));
        assert_ne!(one.incident_id, next(&fail, "w", None).unwrap().incident_id);
    }

    #[test]
    fn an_acknowledged_incident_is_still_open() {
        let mut incident = next(&verdict(Outcome::Fail, "1 rows"), "v", None).unwrap();
        incident.set_state(IncidentState::Acknowledged);
        assert_eq!(next(&verdict(Outcome::Fail, "1 rows"), "w", Some(&incident)), None);
        let resolved = next(&verdict(Outcome::Pass, "2232 rows"), "x", Some(&incident)).unwrap();
        assert_eq!((resolved.state(), &resolved.incident_id), (IncidentState::Resolved, &incident.incident_id));
    }
}
