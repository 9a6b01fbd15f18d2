//! `mesh apply`: submits documents to the publisher, and waits for each verdict.
//!
//! In: files (contracts, data products, policies, principals), in the order given. Out: per file the verdict with its
//! findings. A principal without a key hash gets a random key, which stays in `credentials.toml`; only its hash is sent.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use crate::args::{Apply, Output};
use crate::doors;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::{ADMIN, Home, key_sha256};
use crate::print;

/// The publisher's verdict on one submission.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    #[serde(default)]
    pub(crate) file: String,
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
    pub(crate) changes: Vec<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) code: String,
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
            format!("{}:{}:{}: {}: {}; {}", self.file, f.line.max(1), f.column.max(1), f.code, f.message, f.remedy)
        });
        let name = if self.product.is_empty() { &self.subject } else { &self.product };
        let verdict = match self.revision {
            Some(revision) => format!("{}: {} {name} {} (revision {revision})", self.file, self.state, self.version),
            None => format!("{}: {} {name} {}", self.file, self.state, self.version),
        };
        findings.chain([verdict]).collect()
    }
}

pub(crate) async fn run(home: &Home, principal: Option<&str>, apply: &Apply, output: Output) -> Result<Exit, CliError> {
    let mut verdicts = Vec::new();
    for file in &apply.files {
        let verdict = submit(home, principal.unwrap_or(ADMIN), file, apply.dry_run).await?;
        if output == Output::Table {
            verdict.lines().iter().try_for_each(|line| print::line(line))?;
        }
        verdicts.push(verdict);
    }
    if output == Output::Json {
        print::json(&verdicts)?;
    }
    Ok(if verdicts.iter().any(Verdict::refused) { Exit::No } else { Exit::Done })
}

/// Submits one file and waits for its verdict; a refusal for its content is a verdict, not an error.
pub(crate) async fn submit(home: &Home, principal: &str, path: &Path, dry_run: bool) -> Result<Verdict, CliError> {
    let file = path.display().to_string();
    let mut document =
        std::fs::read(path).map_err(|source| CliError::File { action: "read", path: path.to_owned(), source })?;
    if path.extension().is_some_and(|extension| extension == "toml") {
        document = with_keys(home, document, dry_run)?;
    }
    let url = format!("{}/v1/submissions", home.endpoints()?.publisher.url);
    let request = doors::client()?
        .post(&url)
        .query(&[("file", file.as_str()), ("dry_run", if dry_run { "true" } else { "false" })])
        .bearer_auth(home.key(principal)?)
        .body(document);
    let response = doors::send("publisher", &url, request).await?;
    if !response.status().is_success() && response.status() != 422 {
        return Err(doors::refusal(response).await);
    }
    let body = response.bytes().await.map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    let mut verdict: Verdict =
        serde_json::from_slice(&body).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    verdict.file = file;
    Ok(verdict)
}

/// Fills in the hash of a key for each principal that has none, making the key where none is kept here yet.
fn with_keys(home: &Home, document: Vec<u8>, dry_run: bool) -> Result<Vec<u8>, CliError> {
    let Some(mut table) = std::str::from_utf8(&document).ok().and_then(|text| text.parse::<Table>().ok()) else {
        // Not a TOML document: the publisher says what is wrong with it, and where.
        return Ok(document);
    };
    let principals = table.get_mut("principal").and_then(toml::Value::as_array_mut);
    for principal in principals.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        let name = principal.get("name").and_then(toml::Value::as_str).map(str::to_owned);
        let (Some(name), false) = (name, principal.contains_key("key_sha256")) else { continue };
        let key = match (home.has_key(&name)?, dry_run) {
            (true, _) => home.key_kept(&name)?,
            (false, true) => String::new(),
            (false, false) => home.make_key(&name)?,
        };
        principal.insert("key_sha256".to_owned(), key_sha256(&key).into());
    }
    Ok(table.to_string().into_bytes())
}
