//! `mesh lineage`: what a product or an answer was made from, upstream and downstream.
//!
//! In: `mesh.spans` and `mesh.lineage`. Out: the graph from producers over ingest's commits to queries, or the same
//! by columns.

mod columns;
mod graph;

use std::time::Duration;

use mesh_contract::Product;
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::SpanRecord;
use serde_json::Value;

use crate::args::{Lineage, Output};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::print;
use crate::world::World;
use graph::{Graph, Kind, Node, Spans};

/// Commits of a product that its graph starts from.
const NEWEST: usize = 32;
/// How long an answer's span may take to arrive.
const SPAN_WAITS: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(2), Duration::from_secs(5)];
/// Producers' batches shown for one commit.
const SHOWN: usize = 3;

pub(crate) async fn run(home: &Home, lineage: &Lineage, output: Output) -> Result<Exit, CliError> {
    let world = World::open(home).await?;
    if lineage.columns {
        return columns::run(&world, &lineage.subject, output).await;
    }
    let graph = find(&world, &lineage.subject).await?;
    match output {
        Output::Json => print::json(&graph)?,
        Output::Table => print::line(&picture(&graph))?,
    }
    Ok(if graph.nodes.is_empty() { Exit::No } else { Exit::Done })
}

/// The graph of one answer as people see it.
pub(crate) async fn picture_of_query(world: &World, query_id: &str) -> Result<String, CliError> {
    let mut waits = SPAN_WAITS.into_iter();
    loop {
        // A span arrives when its batch is exported, which is a moment after the answer.
        match (spans(world).await?.of_query(query_id), waits.next()) {
            (Some(graph), _) => return Ok(picture(&graph)),
            (None, Some(wait)) => tokio::time::sleep(wait).await,
            (None, None) => return Err(CliError::UnknownQuery { id: query_id.to_owned() }),
        }
    }
}

/// The columns of one answer as people see them.
pub(crate) async fn columns_of_query(world: &World, query_id: &str) -> Result<String, CliError> {
    columns::table_of_query(world, query_id).await
}

async fn find(world: &World, subject: &str) -> Result<Graph, CliError> {
    let spans = spans(world).await?;
    match subject.parse::<Product>() {
        Ok(product) => {
            world.product(&product.to_string()).await?;
            Ok(spans.of_product(&product.to_string(), NEWEST))
        }
        Err(_) => spans.of_query(subject).ok_or_else(|| CliError::UnknownQuery { id: subject.to_owned() }),
    }
}

async fn spans(world: &World) -> Result<Spans, CliError> {
    let mut spans = Spans::default();
    world
        .read_all(&[topics::SPANS], |found| {
            if let Ok(span) = found.event.decode_as::<SpanRecord>(types::SPAN) {
                spans.take(span);
            }
        })
        .await?;
    Ok(spans)
}

/// Run events of queries, in the order they were written.
async fn run_events(world: &World) -> Result<Vec<Value>, CliError> {
    let mut events = Vec::new();
    world
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
