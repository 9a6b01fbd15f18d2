//! `mesh show`: a product's contract, owner, ports, schema, SLA promised and kept, last snapshots and readers.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_contract::{ProductContract, SlaProperty};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{AuditRecord, Decision, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::quality::{last_verdicts, outcome};
use crate::args::Output;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::mesh_client::{Admitted, MeshClient};
use crate::print;

/// Snapshots that are shown.
const SNAPSHOTS: usize = 5;

#[derive(Debug, Serialize)]
struct Shown {
    product: String,
    contract: String,
    version: String,
    revision: i64,
    status: String,
    owner: Option<String>,
    purpose: Option<String>,
    ports: Ports,
    columns: Vec<Column>,
    sla: Vec<Promise>,
    snapshots: Vec<Snapshot>,
    readers: Vec<Reader>,
}

#[derive(Debug, Serialize)]
struct Ports {
    topic: String,
    format: String,
    table: String,
    dead_letters: String,
    sql: String,
}

#[derive(Debug, Serialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    required: bool,
    classification: Option<String>,
    description: Option<String>,
}

/// A promise of the contract, and the last verdict on it: none where the mesh does not judge it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Promise {
    property: String,
    promised: String,
    kept: Option<String>,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    id: i64,
    sequence: i64,
    operation: String,
    committed_at: String,
    added_rows: String,
    total_rows: String,
}

#[derive(Debug, Serialize)]
struct Reader {
    principal: String,
    queries: u64,
    last: String,
}

pub(crate) async fn run(home: &Home, product: &str, output: Output) -> Result<Exit, CliError> {
    let client = MeshClient::open(home).await?;
    let admitted = client.product(product).await?;
    let shown = gather(&client, &admitted).await?;
    match output {
        Output::Json => print::json(&shown)?,
        Output::Table => print::line(&text(&shown))?,
    }
    Ok(Exit::Done)
}

async fn gather(client: &MeshClient, admitted: &Admitted) -> Result<Shown, CliError> {
    let Admitted { record, contract } = admitted;
    let verdicts = last_verdicts(client).await?;
    Ok(Shown {
        product: contract.product().to_string(),
        contract: contract.id().to_string(),
        version: record.version.clone(),
        revision: record.revision,
        status: record.status.clone(),
        owner: contract.owner().map(str::to_owned),
        purpose: contract.contract().description.purpose.clone(),
        ports: ports(contract),
        columns: contract.columns().iter().map(column).collect(),
        sla: promises(contract, &verdicts),
        snapshots: snapshots(client, admitted).await?,
        readers: readers(client, &contract.product().to_string()).await?,
    })
}

fn ports(contract: &ProductContract) -> Ports {
    let table = contract.table();
    Ports {
        topic: contract.topic().to_owned(),
        format: format!("{:?}", contract.value_format()).to_lowercase(),
        sql: format!("{}.{}", table.namespace, contract.object_name()),
        table: table.to_string(),
        dead_letters: contract.dead_letter_table().to_string(),
    }
}

fn column(column: &mesh_contract::Column) -> Column {
    Column {
        name: column.name.clone(),
        ty: column.ty.to_string(),
        required: column.required,
        classification: column.classification.clone(),
        description: column.description.clone(),
    }
}

fn promises(contract: &ProductContract, verdicts: &[Verdict]) -> Vec<Promise> {
    let promise = |sla: &SlaProperty| {
        let of_this = |v: &&Verdict| v.product == contract.product().to_string() && sla.is(&v.metric);
        let kept = verdicts.iter().find(of_this).map(|v| format!("{} ({})", outcome(v), v.actual));
        Promise { property: sla.property.clone(), promised: promised(sla), kept }
    };
    contract.contract().sla.iter().map(promise).collect()
}

fn promised(sla: &SlaProperty) -> String {
    if let Some(duration) = sla.duration() {
        return human(duration);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let to = sla.value_ext.as_ref().map(|value| format!("to {}", text(value)));
    let words = [Some(text(&sla.value)), to, sla.unit.clone()];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn human(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds => format!("{seconds} s"),
    }
}

async fn snapshots(client: &MeshClient, admitted: &Admitted) -> Result<Vec<Snapshot>, CliError> {
    let Some(table) = &admitted.record.table else { return Ok(Vec::new()) };
    let table = client.table(table).await?;
    let shown = table.ancestors().take(SNAPSHOTS).map(|snapshot| {
        let summary = snapshot.summary();
        let of = |key: &str| summary.additional_properties.get(key).cloned().unwrap_or_default();
        let at = chrono::DateTime::from_timestamp_millis(snapshot.timestamp_ms()).unwrap_or_default();
        Snapshot {
            id: snapshot.snapshot_id(),
            sequence: snapshot.sequence_number(),
            operation: summary.operation.as_str().to_owned(),
            committed_at: at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            added_rows: of("added-records"),
            total_rows: of("total-records"),
        }
    });
    Ok(shown.collect())
}

/// Who read the product, by its audit.
async fn readers(client: &MeshClient, product: &str) -> Result<Vec<Reader>, CliError> {
    let mut readers: BTreeMap<String, Reader> = BTreeMap::new();
    client
        .read_all(&[topics::AUDIT], |found| {
            let Ok(record) = found.event.decode_as::<AuditRecord>(types::AUDIT) else { return };
            let read = record.accesses.iter().any(|access| access.product == product);
            if read && record.decision() == Decision::Allowed {
                let principal = record.principal.clone();
                let reader =
                    readers.entry(principal.clone()).or_insert(Reader { principal, queries: 0, last: String::new() });
                reader.queries += 1;
                reader.last = found.event.time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            }
        })
        .await?;
    Ok(readers.into_values().collect())
}

fn text(shown: &Shown) -> String {
    let Shown { product, contract, version, revision, status, ports, .. } = shown;
    let head = [
        format!("{product} {version} ({status}), contract {contract}, revision {revision}"),
        format!("  {}", shown.purpose.clone().unwrap_or_default()),
        format!("  owner        {}", shown.owner.clone().unwrap_or_default()),
        format!("  topic        {} ({})", ports.topic, ports.format),
        format!("  table        {}", ports.table),
        format!("  dead letters {}", ports.dead_letters),
        format!("  SQL          {}", ports.sql),
    ];
    let columns = section(
        &["column", "type", "required", "classification", "description"],
        shown.columns.iter().map(|c| {
            let required = if c.required { "yes" } else { "" };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![c.name.clone(), c.ty.clone(), required.to_owned(), text(&c.classification), text(&c.description)]
        }),
    );
    let sla = section(
        &["promise", "promised", "kept"],
        shown.sla.iter().map(|p| {
            let kept = p.kept.clone().unwrap_or_else(|| "not judged".to_owned());
            vec![p.property.clone(), p.promised.clone(), kept]
        }),
    );
    let snapshots = section(
        &["snapshot", "sequence", "operation", "committed", "added rows", "total rows"],
        shown.snapshots.iter().map(|s| {
            let numbers = [s.id.to_string(), s.sequence.to_string()];
            let texts = [&s.operation, &s.committed_at, &s.added_rows, &s.total_rows];
            numbers.into_iter().chain(texts.into_iter().cloned()).collect()
        }),
    );
    let readers = section(
        &["reader", "queries", "last"],
        shown.readers.iter().map(|r| vec![r.principal.clone(), r.queries.to_string(), r.last.clone()]),
    );
    [head.join("\n"), columns, sla, snapshots, readers].join("\n")
}

fn section(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    print::grid(headers.iter().map(|h| (*h).to_owned()), rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mesh_proto::v1::Outcome;
    use pretty_assertions::assert_eq;

    #[test]
    fn every_promise_is_shown_and_what_is_not_judged_has_no_verdict() {
        let text = "{apiVersion: v3.1.0, kind: DataContract, id: u, version: 1.0.0, status: active, domain: d, \
                    schema: [{name: o, properties: [{name: x, logicalType: string}]}], \
                    slaProperties: [{property: ly, value: 90, unit: min}, {property: retention, value: 3, unit: d}, \
                    {property: timeOfAvailability, value: '09:00', valueExt: '17:00'}, \
                    {property: availability, value: 99.9, unit: percent}]}";
        let contract = ProductContract::parse("test", text).unwrap();
        let verdict = |product: &str, actual: &str| Verdict {
            product: product.to_owned(),
            metric: "latency".to_owned(),
            actual: actual.to_owned(),
            outcome: Outcome::Pass.into(),
            ..Verdict::default()
        };
        let promise = |property: &str, promised: &str, kept: Option<&str>| Promise {
            property: property.to_owned(),
            promised: promised.to_owned(),
            kept: kept.map(str::to_owned),
        };
        let wanted = [
            promise("ly", "5400 s", Some("pass (2 s)")),
            promise("retention", "3 d", None),
            promise("timeOfAvailability", "09:00 to 17:00", None),
            promise("availability", "99.9 percent", None),
        ];
        assert_eq!(promises(&contract, &[verdict("e.o", "9 s"), verdict("d.o", "2 s")]), wanted);
    }
}
