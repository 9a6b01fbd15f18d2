//! Findings as verdict events carry them, from whatever found them, and never more than a record holds: a verdict that
//! Kafka does not take would be tried for ever.

use mesh_contract::ContractError;
use mesh_policy::{Denial, PolicyError};
use mesh_proto::record::{cut_at_chars, cut_at_json_bytes};
use mesh_proto::v1::{FieldChange, Finding, Severity};

/// Findings that one verdict carries; an author begins with the first ones anyway.
const MOST: usize = 100;
/// Bytes of one text within a record: messages quote what an author wrote, however long that is.
const LONGEST: usize = 1000;
/// Characters of a name: ids are record keys.
const LONGEST_NAME: usize = 255;

/// The code of a refusal that is the mesh's fault, not the document's.
pub(crate) const GAVE_UP: &str = "MESH-PUBLISHER-0028";

/// A finding about a whole document.
pub(crate) fn error(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        code: code.to_owned(),
        severity: Severity::Error.into(),
        message: message.into(),
        remedy: remedy.into(),
        ..Finding::default()
    }
}

pub(crate) fn warning(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning.into(), ..error(code, message, remedy) }
}

/// The finding at a place of the document.
pub(crate) fn at(path: impl Into<String>, finding: Finding) -> Finding {
    Finding { path: path.into(), ..finding }
}

pub(crate) fn is_error(finding: &Finding) -> bool {
    finding.severity() != Severity::Warning
}

pub(crate) fn of_contract(found: &mesh_contract::Finding) -> Finding {
    let severity = match found.severity {
        mesh_contract::Severity::Error => Severity::Error,
        mesh_contract::Severity::Warning => Severity::Warning,
    };
    Finding {
        code: found.code.to_owned(),
        severity: severity.into(),
        path: found.path.clone(),
        line: u32::try_from(found.line).unwrap_or(u32::MAX),
        column: u32::try_from(found.column).unwrap_or(u32::MAX),
        message: found.message.clone(),
        remedy: found.remedy.clone(),
    }
}

/// Why a valid document is no contract that a mesh can run.
pub(crate) fn of_contract_error(problem: &ContractError) -> Vec<Finding> {
    match problem {
        ContractError::Invalid { findings } | ContractError::NotRunnable { findings, .. } => {
            findings.iter().map(of_contract).collect()
        }
        other => vec![error(other.code(), mesh_runtime::report::chain(other), page(other.code()))],
    }
}

pub(crate) fn of_policy(problem: &PolicyError) -> Finding {
    let (line, column) = match problem {
        PolicyError::Broken { line, column, .. } | PolicyError::UnknownPackage { line, column, .. } => (*line, *column),
        _ => (0, 0),
    };
    Finding { line, column, ..error(problem.code(), problem.to_string(), page(problem.code())) }
}

/// A policy's refusal.
pub(crate) fn of_denial(denial: &Denial) -> Finding {
    let message = format!("{} ({}: {})", denial.message, denial.package, denial.rule);
    at(denial.path.clone(), error("MESH-PUBLISHER-0016", message, denial.remedy.clone()))
}

/// Where a remedy does not fit in a line.
pub(crate) fn page(code: &str) -> String {
    format!("see docs/errors/{code}.md")
}

/// An error with its code and causes, for a message.
pub(crate) fn of_error(problem: &crate::error::PublisherError) -> String {
    format!("[{}] {}", problem.code(), mesh_runtime::report::chain(problem))
}

/// At most so many findings as a verdict carries, errors first where some must go.
pub(crate) fn bounded(findings: Vec<Finding>) -> Vec<Finding> {
    let count = findings.len();
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) = match count > MOST {
        true => findings.into_iter().partition(is_error),
        false => (findings, Vec::new()),
    };
    let short = |found: Finding| Finding {
        path: clip(&found.path),
        message: clip(&found.message),
        remedy: clip(&found.remedy),
        ..found
    };
    let mut bounded: Vec<Finding> = errors.into_iter().chain(warnings).take(MOST).map(short).collect();
    if count > MOST {
        let message = format!("{} more findings are not shown", count - MOST);
        bounded.push(warning("MESH-PUBLISHER-0009", message, "correct these first; `mesh validate FILE` shows all"));
    }
    bounded
}

/// The first so many changes, as much of each as a verdict carries.
pub(crate) fn bounded_changes(changes: Vec<FieldChange>) -> Vec<FieldChange> {
    let short = |change: FieldChange| FieldChange { path: clip(&change.path), reason: clip(&change.reason), ..change };
    changes.into_iter().take(MOST).map(short).collect()
}

/// A name that fits into a header and a key.
pub(crate) fn name(text: &str) -> String {
    cut_at_chars(text, LONGEST_NAME)
}

/// Whether an id is longer than a key may be.
pub(crate) fn is_too_long(id: &str) -> bool {
    id.chars().count() > LONGEST_NAME
}

fn clip(text: &str) -> String {
    cut_at_json_bytes(text, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_carries_no_more_than_a_record_holds() {
        // As JSON they are 1, 2, 4 and 6 bytes long.
        for char in ['n', 'é', '😀', '\u{1}'] {
            let long = String::from(char).repeat(50_000);
            let mut findings = vec![warning("W", &long, &long); 3_000];
            findings.push(at(&long, error("E", &long, &long)));
            let bounded = bounded(findings);
            let change = FieldChange { path: long.clone(), reason: long, ..FieldChange::default() };
            let changes = bounded_changes(vec![change; 3_000]);
            let bytes = serde_json::to_string(&(&bounded, changes)).map_or(usize::MAX, |json| json.len());
            assert!((200_000..600_000).contains(&bytes), "{char:?}: {bytes}");
            assert_eq!((bounded.len(), bounded[0].code.as_str()), (101, "E"), "errors come first");
            assert_eq!(bounded[100].message, "2901 more findings are not shown");
        }
        assert_eq!(super::bounded(vec![error("E", "m", "r")]), [error("E", "m", "r")]);
    }

    #[test]
    fn a_name_is_told_by_its_characters() {
        assert_eq!(name(&"é".repeat(255)), "é".repeat(255));
        assert_eq!(name(&"é".repeat(256)), "é".repeat(255) + "…");
    }
}
