//! `mesh watch`: change, contract and quality events as they come.
//!
//! Out: one line an event; with `--output json` the event's attributes and data as one JSON object a line.

use mesh_bus::Start;
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{ContractEvent, Incident, IncidentState, ProductChanged, Verdict};
use serde_json::{Value, json};

use super::quality::outcome;
use crate::args::{Output, Watch, WatchFrom};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::mesh_client::{Found, MeshClient};
use crate::print;
use crate::up::Stop;

pub(crate) const WATCHED: &[&str] =
    &[topics::CONTRACT_EVENTS, topics::PRODUCT_CHANGES, topics::QUALITY, topics::INCIDENTS];

pub(crate) async fn run(home: &Home, watch: &Watch, output: Output) -> Result<Exit, CliError> {
    let stop = Stop::listen()?;
    let client = MeshClient::open(home).await?;
    for product in &watch.products {
        match client.product(product).await {
            Ok(_) => {}
            Err(unknown @ CliError::UnknownProduct { .. }) => {
                print::note(&format!("{unknown}; waiting for its first event"));
            }
            Err(error) => return Err(error),
        }
    }
    let start = match watch.from {
        WatchFrom::Now => Start::End,
        WatchFrom::Start => Start::Beginning,
    };
    let mut events = client.follow(WATCHED, start).await?;
    let mut left = watch.count.unwrap_or(u64::MAX);
    while left > 0 {
        let found = tokio::select! {
            found = events.next() => found,
            () = stop.requested() => return Ok(Exit::Done),
        };
        let Some(found) = found.transpose()? else { break };
        if !concerns(&found, &watch.products) {
            continue;
        }
        match output {
            Output::Table => print::line(&line(&found))?,
            Output::Json => print::line(&as_json(&found).to_string())?,
        }
        left -= 1;
    }
    Ok(Exit::Done)
}

fn concerns(found: &Found, products: &[String]) -> bool {
    let data: Value = serde_json::from_slice(&found.event.data).unwrap_or_default();
    products.is_empty() || data["product"].as_str().is_some_and(|product| products.iter().any(|p| p == product))
}

fn as_json(found: &Found) -> Value {
    let event = &found.event;
    json!({
        "topic": found.topic,
        "partition": found.partition,
        "offset": found.offset,
        "id": event.id,
        "source": event.source,
        "type": event.event_type,
        "subject": event.subject,
        "time": event.time,
        "sequence": event.sequence,
        "partitionkey": event.partition_key,
        "traceparent": event.trace.map(|trace| trace.to_string()),
        "data": serde_json::from_slice::<Value>(&event.data).unwrap_or_default(),
    })
}

/// An event in a line, for people.
pub(crate) fn line(found: &Found) -> String {
    let event = &found.event;
    let time = event.time.format("%H:%M:%S");
    let what = match event.event_type.as_str() {
        types::PRODUCT_CHANGED => event.decode::<ProductChanged>().map(|changed| changed_line(&changed)),
        types::VERDICT => event.decode::<Verdict>().map(|verdict| verdict_line(&verdict)),
        name if name.starts_with("org.meshwork.incident.") => event.decode::<Incident>().map(|i| incident_line(&i)),
        name if name.starts_with("org.meshwork.contract.") => {
            event.decode::<ContractEvent>().map(|e| contract_line(&e))
        }
        other => Ok(format!("{other} {}", event.subject.clone().unwrap_or_default())),
    };
    match what {
        Ok(what) => format!("{time} {what}"),
        Err(error) => format!("{time} {} [{}]: {error}", event.event_type, error.code()),
    }
}

fn changed_line(changed: &ProductChanged) -> String {
    let dead = match changed.dead_letters {
        0 => String::new(),
        some => format!(", {some} to dead letters"),
    };
    format!(
        "product-changed {} snapshot {} (sequence {}): {} {:+} rows, {} in all{dead}",
        changed.product,
        changed.snapshot_id,
        changed.sequence_number,
        changed.operation,
        changed.added_rows - changed.removed_rows,
        changed.total_rows,
    )
}

fn verdict_line(verdict: &Verdict) -> String {
    let place = if verdict.column.is_empty() { String::new() } else { format!(" of {}", verdict.column) };
    format!(
        "verdict {}: {} {}{place}: expected {}, found {}",
        verdict.product,
        outcome(verdict),
        verdict.metric,
        verdict.expected,
        verdict.actual
    )
}

fn incident_line(incident: &Incident) -> String {
    let state = match incident.state() {
        IncidentState::Opened => "opened",
        IncidentState::Ongoing => "ongoing",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Resolved => "resolved",
        IncidentState::Unspecified => "?",
    };
    format!("incident {} {state}: {}", incident.product, incident.summary)
}

fn contract_line(event: &ContractEvent) -> String {
    let state = event.state().as_str_name().trim_start_matches("CONTRACT_STATE_").to_lowercase();
    let subject = if event.product.is_empty() { &event.subject } else { &event.product };
    let first = event.findings.first().map_or(String::new(), |finding| format!(": {}", finding.message));
    format!("contract {state} {subject} {} (revision {}) by {}{first}", event.version, event.revision, event.principal)
}
