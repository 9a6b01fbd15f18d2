//! `mesh ingest rebase`: a new start for a product's table, requested from ingest.
//!
//! In: a product, where its partitions start. Out: per partition what was recorded, what the log holds, where reading
//! goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::{Beginning, Output, Rebase};
use crate::endpoints;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::{ADMIN, Home};
use crate::print::{self, Row};

const PATIENCE: Duration = Duration::from_secs(120);

/// What ingest answers.
#[derive(Debug, Serialize, Deserialize)]
struct Rebased {
    product: String,
    table: String,
    topic: String,
    topic_id: String,
    rebased: bool,
    snapshot_id: Option<i64>,
    audit_id: Option<String>,
    partitions: Vec<Start>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Start {
    partition: i32,
    recorded: Option<i64>,
    low: i64,
    high: i64,
    start: i64,
}

const HEADERS: [&str; 4] = ["partition", "recorded", "log holds", "goes on at"];

impl Row for Start {
    fn cells(&self) -> Vec<String> {
        let recorded = self.recorded.map_or("nothing".to_owned(), |offset| offset.to_string());
        vec![self.partition.to_string(), recorded, format!("[{}, {})", self.low, self.high), self.start.to_string()]
    }
}

pub(crate) async fn rebase(
    home: &Home,
    principal: Option<&str>,
    rebase: &Rebase,
    output: Output,
) -> Result<Exit, CliError> {
    let url = format!("{}/v1/rebase", home.endpoints()?.ingest.url);
    let from = match rebase.from {
        Beginning::Beginning => "beginning",
        Beginning::End => "end",
    };
    let at: BTreeMap<i32, i64> = rebase.at.iter().copied().collect();
    let Rebase { product, major, reason, dry_run, .. } = rebase;
    let body =
        json!({"product": product, "major": major, "from": from, "at": at, "reason": reason, "dry_run": dry_run});
    let request = endpoints::client()?
        .post(&url)
        .timeout(PATIENCE)
        .bearer_auth(home.key(principal.unwrap_or(ADMIN))?)
        .body(body.to_string());
    let response = endpoints::send("ingest", &url, request).await?;
    if !response.status().is_success() {
        return Err(endpoints::refusal(response).await);
    }
    let body = response.bytes().await.map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    let done: Rebased = serde_json::from_slice(&body).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    match output {
        Output::Json => print::json(&done)?,
        Output::Table => {
            print::line(&print::grid(HEADERS.map(str::to_owned), done.partitions.iter().map(Row::cells)))?;
        }
    }
    print::note(&summary(&done, *dry_run));
    Ok(Exit::Done)
}

fn summary(done: &Rebased, dry_run: bool) -> String {
    match (done.snapshot_id, dry_run) {
        (Some(snapshot), _) => format!("{} goes on so: snapshot {snapshot} records it", done.table),
        (None, true) => format!("{} would go on so; nothing was recorded", done.table),
        (None, false) => format!("{} reads on from there already; nothing was recorded", done.table),
    }
}
