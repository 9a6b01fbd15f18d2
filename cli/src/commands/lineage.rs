//! `mesh lineage`: what a product or an answer was made from, upstream and downstream.
//!
//! In: `mesh.spans` and `mesh.lineage`. Out: the graph from producers over ingest's commits to queries, or the same
//! by columns.

mod columns;
mod graph;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mesh_contract::Product;
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::SpanRecord;
use serde_json::Value;

use crate::args::{LineageArgs, Output};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::mesh_client::MeshClient;
use crate::print;
use graph::{Graph, Kind, Node, Spans};

/// Commits of a product that its graph starts from.
const NEWEST: usize = 32;
/// How long the records of a young query may take to arrive: they leave their service in batches.
const WAITS: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(2), Duration::from_secs(5)];
/// Whose records are there by now, or never will be.
const GROWN: TimeDelta = TimeDelta::seconds(30);
/// Producers' batches shown for one commit.
const SHOWN: usize = 3;

pub(crate) async fn run(home: &Home, lineage: &LineageArgs, output: Output) -> Result<Exit, CliError> {
    let client = MeshClient::open(home).await?;
    if lineage.columns {
        return columns::run(&client, &lineage.subject, output).await;
    }
    let graph = find(&client, &lineage.subject).await?;
    match output {
        Output::Json => print::json(&graph)?,
        Output::Table => print::line(&picture(&graph))?,
    }
    if graph.nodes.is_empty() {
        print::note(&format!("no commit of {} is on mesh.spans, which keeps 7 days", lineage.subject));
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

/// The graph of one answer as people see it.
pub(crate) async fn picture_of_query(client: &MeshClient, query_id: &str) -> Result<String, CliError> {
    Ok(picture(&graph_of_query(client, query_id).await?))
}

async fn graph_of_query(client: &MeshClient, query_id: &str) -> Result<Graph, CliError> {
    once_there(query_id, async || Ok(spans(client).await?.of_query(query_id))).await
}

/// What is known of a query; of a young one, as soon as it is.
async fn once_there<T>(query_id: &str, ask: impl AsyncFn() -> Result<Option<T>, CliError>) -> Result<T, CliError> {
    let is_young = issued_at(query_id).is_some_and(|at| Utc::now() - at < GROWN);
    let mut waits = WAITS.into_iter().filter(|_| is_young);
    loop {
        match (ask().await?, waits.next()) {
            (Some(known), _) => return Ok(known),
            (None, Some(wait)) => tokio::time::sleep(wait).await,
            (None, None) => return Err(CliError::UnknownQuery { id: query_id.to_owned() }),
        }
    }
}

/// When a query was received: its id is a UUIDv7, which begins with that.
fn issued_at(query_id: &str) -> Option<DateTime<Utc>> {
    let digits: String = query_id.chars().filter(|c| *c != '-').collect();
    let is_v7 = digits.len() == 32 && digits.get(12..13) == Some("7");
    let millis = i64::from_str_radix(digits.get(..12).filter(|_| is_v7)?, 16).ok()?;
    DateTime::from_timestamp_millis(millis)
}

/// The columns of one answer as people see them.
pub(crate) async fn columns_of_query(client: &MeshClient, query_id: &str) -> Result<String, CliError> {
    columns::table_of_query(client, query_id).await
}

async fn find(client: &MeshClient, subject: &str) -> Result<Graph, CliError> {
    match subject.parse::<Product>() {
        Ok(product) => {
            client.product(&product.to_string()).await?;
            Ok(spans(client).await?.of_product(&product.to_string(), NEWEST))
        }
        Err(_) => graph_of_query(client, subject).await,
    }
}

async fn spans(client: &MeshClient) -> Result<Spans, CliError> {
    let mut spans = Spans::default();
    client
        .read_all(&[topics::SPANS], |found| {
            if let Ok(span) = found.event.decode_as::<SpanRecord>(types::SPAN) {
                spans.take(span);
            }
        })
        .await?;
    Ok(spans)
}

/// Run events of queries, in the order they were written.
async fn run_events(client: &MeshClient) -> Result<Vec<Value>, CliError> {
    let mut events = Vec::new();
    client
        .read_all(&[topics::LINEAGE], |found| events.extend(serde_json::from_slice::<Value>(&found.event.data)))
        .await?;
    Ok(events)
}

/// A tree: queries, the commits they read by table, the batches those came from.
fn picture(graph: &Graph) -> String {
    let queries: Vec<_> = graph.of_kind(Kind::Query).collect();
    let mut lines = Vec::new();
    for query in &queries {
        lines.push(format!("query {} by {}", query.attribute("mesh.query_id"), query.attribute("mesh.principal")));
        lines.extend(commits_under(graph, &graph.sources(query).collect::<Vec<_>>()));
    }
    let unread: Vec<_> = graph.of_kind(Kind::Commit).filter(|commit| graph.uses(commit).next().is_none()).collect();
    if !unread.is_empty() {
        lines.push("read by no query yet".to_owned());
        lines.extend(commits_under(graph, &unread));
    }
    lines.join("\n")
}

fn commits_under(graph: &Graph, commits: &[&Node]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tables: Vec<_> = commits.iter().map(|commit| commit.attribute("mesh.table")).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        lines.push(format!("└─ {}", if table.is_empty() { "spans that were not kept" } else { table }));
        for commit in commits.iter().filter(|commit| commit.attribute("mesh.table") == table) {
            lines.push(format!("   └─ {}", label(commit)));
            lines.extend(batches_under(graph, commit).into_iter().map(|line| format!("      └─ {line}")));
        }
    }
    lines
}

fn batches_under(graph: &Graph, commit: &Node) -> Vec<String> {
    let batches: Vec<_> = graph.sources(commit).collect();
    let mut lines: Vec<_> = batches.iter().take(SHOWN).map(|batch| label(batch)).collect();
    let dropped: usize = commit.attribute("mesh.links_dropped").parse().unwrap_or(0);
    let more = batches.len().saturating_sub(SHOWN) + dropped;
    if more > 0 {
        lines.push(format!("{more} more"));
    }
    lines
}

fn label(node: &Node) -> String {
    match node.kind {
        Kind::Commit => format!(
            "snapshot {}: {} rows, {} dead letters",
            node.attribute("mesh.snapshot_id"),
            node.attribute("mesh.rows"),
            node.attribute("mesh.dead_letters"),
        ),
        Kind::Produce => {
            format!("batch of {} events to {}", node.attribute("mesh.records"), node.attribute("mesh.topic"))
        }
        Kind::Query => format!("query {}", node.attribute("mesh.query_id")),
        Kind::Unknown => format!("span {} (not on mesh.spans)", node.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_id_holds_the_time_of_its_query() {
        let at = issued_at("01a1fddc-311f-752f-8cec-8b64b9babf13").map(|at| at.to_rfc3339());
        assert_eq!(at.as_deref(), Some("2026-11-21T11:27:08.575+00:00"));
        for other in ["", "no-id", "1481531d-ccc9-46d9-a56f-5b67459c0537", "01a1fddc-311f-752f-8cec"] {
            assert_eq!(issued_at(other), None, "{other}");
        }
    }
}
