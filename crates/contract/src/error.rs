//! Errors of this crate that can reach a person.

use crate::finding::{Finding, Severity};
use crate::names::NameError;

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
    /// A contract of a product has exactly one schema object.
    #[error(
        "contract {id} has {found} schema objects: a product has exactly one; split it into one contract per object"
    )]
    NotOneObject {
        /// The contract.
        id: String,
        /// How many there were.
        found: usize,
    },
    /// A field that a mesh needs and the standard leaves open.
    #[error("contract {id} has no `{field}`: {remedy}")]
    Missing {
        /// The contract.
        id: String,
        /// The field.
        field: &'static str,
        /// What to write.
        remedy: &'static str,
    },
    /// A domain, product, object or column name that cannot be folded.
    #[error("contract {id}: {what} cannot be used as a name")]
    Name {
        /// The contract.
        id: String,
        /// Which name.
        what: &'static str,
        /// Why.
        #[source]
        source: NameError,
    },
    /// A column whose type neither `logicalType` nor `physicalType` tells.
    #[error("contract {id}, column {column}: {reason}")]
    Type {
        /// The contract.
        id: String,
        /// The column, by path.
        column: String,
        /// What is missing or contradicts.
        reason: String,
    },
    /// A partition, key, format or other setting that the mesh does not know.
    #[error("contract {id}: {reason}")]
    Setting {
        /// The contract.
        id: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
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
            Self::NotOneObject { .. } => "MESH-CONTRACT-0040",
            Self::Name { source, .. } => source.code(),
            Self::Missing { .. } => "MESH-CONTRACT-0042",
            Self::Type { .. } => "MESH-CONTRACT-0043",
            Self::Setting { .. } => "MESH-CONTRACT-0044",
        }
    }
}
