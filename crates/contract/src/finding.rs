//! What is wrong with a document, where, and what to write instead.

use std::fmt;

use serde::Serialize;

use crate::error::ContractError;
use crate::model::{Contract, Document};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document stands, but somebody should look.
    Warning,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its page in `docs/errors/`.
    pub code: &'static str,
    /// Refused, or only noted.
    pub severity: Severity,
    /// The file it was found in, as given.
    pub file: String,
    /// Which document of the file, from 0.
    pub document: usize,
    /// JSON pointer into the document; empty for its root.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{}:{}:{}: {severity}[{}]: {}: {}",
            self.file, self.line, self.column, self.code, self.message, self.remedy
        )
    }
}

/// All documents of a file that could be typed, and all that is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// In the file's order; a document with an error is not here.
    pub documents: Vec<Document>,
    /// In the file's order.
    pub findings: Vec<Finding>,
}

impl Parsed {
    /// No finding is an error.
    pub fn is_valid(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
    /// The ODCS documents.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.documents.iter().filter_map(|document| match document {
            Document::Contract(contract) => Some(contract.as_ref()),
            Document::DataProduct(_) => None,
        })
    }
    /// The documents, or every error found.
    pub fn into_result(self) -> Result<Vec<Document>, ContractError> {
        if self.is_valid() { Ok(self.documents) } else { Err(ContractError::Invalid { findings: self.findings }) }
    }
}

/// Reads one file of one or more ODCS and ODPS documents. `file` only names the place in findings.
pub fn parse(file: &str, text: &str) -> Parsed {
    crate::document::read::read(file, text)
}

/// As [`parse`], of a file's bytes; bytes that are not UTF-8 are a finding.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Parsed {
    crate::document::read::read_bytes(file, bytes)
}
