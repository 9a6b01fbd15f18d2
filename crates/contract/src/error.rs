//! Errors of this crate that can reach a person.

use crate::finding::{Finding, Severity};

/// Why a document is no contract that a mesh can run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ContractError {
    /// The document breaks the standard or contradicts itself; [`Finding`]s say where.
    #[error("{}", summary(findings))]
    Invalid {
        /// At least one of them is an error.
        findings: Vec<Finding>,
    },
    /// A text that should hold exactly one contract holds none or several.
    #[error("expected one ODCS document, found {found}")]
    NotOneContract {
        /// How many there were.
        found: usize,
    },
    /// The document is valid, and no mesh can run it as a product; [`Finding`]s say where, and what to write.
    #[error("contract {id} cannot be run: {}", reasons(findings))]
    NotRunnable {
        /// The contract.
        id: String,
        /// All of them are errors.
        findings: Vec<Finding>,
    },
}

fn reasons(findings: &[Finding]) -> String {
    let reason = |finding: &Finding| format!("{}: {}", finding.message, finding.remedy);
    findings.iter().map(reason).collect::<Vec<_>>().join("; ")
}

fn summary(findings: &[Finding]) -> String {
    match findings {
        [one] => one.to_string(),
        many => format!(
            "{} findings, the first: {}",
            many.len(),
            first_error(many).map(ToString::to_string).unwrap_or_default()
        ),
    }
}

fn first_error(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| finding.severity == Severity::Error)
}

impl ContractError {
    /// The error's page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { findings } => first_error(findings).map_or("MESH-CONTRACT-0001", |finding| finding.code),
            Self::NotOneContract { .. } => "MESH-CONTRACT-0039",
            Self::NotRunnable { findings, .. } => {
                first_error(findings).map_or("MESH-CONTRACT-0042", |finding| finding.code)
            }
        }
    }
}
