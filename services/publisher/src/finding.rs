//! Findings as verdict events carry them, from whatever found them.

use mesh_contract::ContractError;
use mesh_policy::{Denial, PolicyError};
use mesh_proto::v1::{Finding, Severity};

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
        ContractError::Invalid { findings } => findings.iter().map(of_contract).collect(),
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

/// An error with its causes, for a message.
pub(crate) fn of_error(problem: &crate::error::Error) -> String {
    mesh_runtime::report::chain(problem)
}
