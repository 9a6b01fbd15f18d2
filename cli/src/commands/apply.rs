//! `mesh apply`: submits documents to the publisher, and waits for each verdict.
//!
//! In: files (contracts, data products, policies, principals), in the order given. Out: per document the verdict, with
//! findings and changes.

mod principals;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::args::{Apply, Output};
use crate::endpoints;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::{ADMIN, Home};
use crate::print;

/// The publisher answers within its `door.verdict_wait`, 30 s by default, or says that it does not.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The publisher's verdict on one document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    #[serde(default)]
    pub(crate) file: String,
    #[serde(default, rename = "dryRun")]
    pub(crate) dry_run: bool,
    /// accepted, changed, unchanged, refused, …
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) subject: String,
    #[serde(default)]
    pub(crate) product: String,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) revision: Option<i64>,
    #[serde(default)]
    pub(crate) findings: Vec<Finding>,
    #[serde(default)]
    pub(crate) changes: Vec<Change>,
}

/// The publisher's answer: a verdict on each document of a file.
#[derive(Debug, Deserialize)]
struct Answer {
    verdicts: Vec<Verdict>,
}

/// What is, or would be, different from before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Change {
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) breaking: bool,
    #[serde(default)]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) severity: String,
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) line: u32,
    #[serde(default)]
    pub(crate) column: u32,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) remedy: String,
}

impl Verdict {
    pub(crate) fn refused(&self) -> bool {
        self.state == "refused"
    }

    /// The verdict as lines for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let findings = self.findings.iter().map(|f| {
            let place = format!("{}:{}:{}", self.file, f.line.max(1), f.column.max(1));
            let warning = if f.severity == "warning" { "warning: " } else { "" };
            format!("{place}: {warning}{}: {}; {}", f.code, f.message, f.remedy)
        });
        let changes = self.changes.iter().map(Change::line);
        findings.chain(changes).chain([self.last_line()]).collect()
    }

    fn last_line(&self) -> String {
        let name = if self.product.is_empty() { &self.subject } else { &self.product };
        let state = if self.dry_run { format!("would be {}", self.state) } else { self.state.clone() };
        let what = [state.as_str(), name, &self.version].into_iter().filter(|word| !word.is_empty());
        let revision = self.revision.map_or(String::new(), |revision| format!(" (revision {revision})"));
        format!("{}: {}{revision}", self.file, what.collect::<Vec<_>>().join(" "))
    }
}

impl Change {
    fn line(&self) -> String {
        let breaking = if self.breaking { " (breaking)" } else { "" };
        match self.path.is_empty() || self.path == self.kind {
            true => format!("  {}: {}{breaking}", self.kind, self.reason),
            false => format!("  {} {}: {}{breaking}", self.path, self.kind, self.reason),
        }
    }
}

pub(crate) async fn run(home: &Home, principal: Option<&str>, apply: &Apply, output: Output) -> Result<Exit, CliError> {
    let (mut verdicts, mut failed) = (Vec::new(), Ok(()));
    for file in &apply.files {
        match submit(home, principal.unwrap_or(ADMIN), file, apply.dry_run).await {
            Ok(of_file) => {
                if output == Output::Table {
                    of_file.iter().flat_map(Verdict::lines).try_for_each(|line| print::line(&line))?;
                }
                verdicts.extend(of_file);
            }
            // The verdicts on the files before it stand, and are printed.
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
    }
    if output == Output::Json {
        print::json(&verdicts)?;
    }
    failed?;
    Ok(if verdicts.iter().any(Verdict::refused) { Exit::No } else { Exit::Done })
}

/// Submits one file and waits for the verdicts on its documents; a refusal for its content is a verdict, not an error.
pub(crate) async fn submit(home: &Home, principal: &str, path: &Path, dry_run: bool) -> Result<Vec<Verdict>, CliError> {
    let document =
        std::fs::read(path).map_err(|source| CliError::File { action: "read", path: path.to_owned(), source })?;
    let client = PublisherClient { home, principal, file: path.display().to_string() };
    match principals::read(path, &document) {
        Some(file) => principals::submit(&client, &file, dry_run).await,
        None => client.post(document, dry_run).await,
    }
}

/// Submissions of one file by one principal.
struct PublisherClient<'a> {
    home: &'a Home,
    principal: &'a str,
    file: String,
}

impl PublisherClient<'_> {
    async fn post(&self, document: Vec<u8>, dry_run: bool) -> Result<Vec<Verdict>, CliError> {
        let url = format!("{}/v1/submissions", self.home.endpoints()?.publisher.url);
        let request = endpoints::client()?
            .post(&url)
            .timeout(PATIENCE)
            .query(&[("file", self.file.as_str()), ("dry_run", if dry_run { "true" } else { "false" })])
            .bearer_auth(self.home.key(self.principal)?)
            .body(document);
        let response = endpoints::send("publisher", &url, request).await?;
        if !response.status().is_success() && response.status() != 422 {
            return Err(endpoints::refusal(response).await);
        }
        let body = response.bytes().await.map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
        let of_file = |verdict| Verdict { file: self.file.clone(), dry_run, ..verdict };
        Ok(answer.verdicts.into_iter().map(of_file).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn a_dry_run_says_what_would_change() {
        let mut verdict: Verdict = serde_json::from_value(json!({
            "state": "changed", "subject": "urn:a", "product": "sales.orders", "version": "1.1.0", "revision": null,
            "findings": [{"code": "MESH-CONTRACT-0001", "severity": "warning", "message": "m", "remedy": "r"}],
            "changes": [{"path": "gate", "kind": "added", "reason": "an optional column"},
                        {"path": "", "kind": "documentation", "reason": "words"},
                        {"path": "id", "kind": "removed", "breaking": true, "reason": "queries fail"}],
        }))
        .unwrap();
        (verdict.file, verdict.dry_run) = ("f.yaml".to_owned(), true);
        let wanted = [
            "f.yaml:1:1: warning: MESH-CONTRACT-0001: m; r",
            "  gate added: an optional column",
            "  documentation: words",
            "  id removed: queries fail (breaking)",
            "f.yaml: would be changed sales.orders 1.1.0",
        ];
        assert_eq!(verdict.lines(), wanted);
    }
}
