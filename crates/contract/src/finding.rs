//! What is wrong with a document, where, and what to write instead.

use std::fmt;

use serde::Serialize;

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
