//! `mesh produce`: rows of a file as events by the product's contract, with progress.
//!
//! In: a CSV or JSON lines file, the product's active contract. Out: keyed records on its topic, a span per batch whose
//! context travels in each record's `traceparent` header.
//! Must never happen: an event reported as sent that the broker did not acknowledge.

mod csv_text;
mod encode;
mod json;
mod rows;

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use mesh_bus::{Pending, Producer, ProducerOptions, Record, SpanExporter};
use mesh_contract::ProductContract;
use mesh_runtime::Metrics;
use mesh_runtime::config::LogConfig;
use mesh_runtime::telemetry::{self, AnyExporter, Telemetry};
use tracing::{Instrument as _, info_span};

use crate::args::Produce;
use crate::error::{CliError, below};
use crate::exit::Exit;
use crate::home::{ADMIN, Home};
use crate::mesh_client::MeshClient;
use crate::print;
use encode::Encoder;
use rows::RowAt;

/// Records that share one span.
const BATCH: usize = 1000;

pub(crate) async fn run(home: &Home, principal: Option<&str>, produce: &Produce) -> Result<Exit, CliError> {
    let client = MeshClient::open(home).await?;
    let telemetry = trace_to(&client)?;
    let key = home.key(principal.unwrap_or(ADMIN))?;
    let progress = ProgressBar::no_length().with_style(style());
    let sent = send_file(&client, &key, &produce.product, &produce.file, produce.null.as_deref(), &progress).await;
    progress.finish_and_clear();
    telemetry.flush().await;
    let sent = sent?;
    print::note(&format!("{sent} events published to {}", produce.product));
    Ok(Exit::Done)
}

/// Spans of this process go to `mesh.spans`, and to the collector that the `OTEL_*` variables name.
pub(crate) fn trace_to(client: &MeshClient) -> Result<Telemetry, CliError> {
    let exporter = SpanExporter::new(client.bus().config(), "cli").map_err(below)?;
    let log = LogConfig { filter: print::LOG.to_owned(), ..LogConfig::default() };
    telemetry::init("cli", &log, Some(AnyExporter::new(exporter)), &Metrics::new()).map_err(below)
}

pub(crate) fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {pos} events {per_sec} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Publishes all rows of a file and returns how many there were.
pub(crate) async fn send_file(
    client: &MeshClient,
    key: &str,
    product: &str,
    path: &Path,
    null: Option<&str>,
    progress: &ProgressBar,
) -> Result<u64, CliError> {
    let contract = client.product(product).await?.contract;
    let encoder = Encoder::new(&contract, &client.endpoints().publisher.url, key)?;
    let producer = client.bus().producer(ProducerOptions::default()).map_err(below)?;
    let columns = &contract.object().columns;
    let mut rows = rows::open(path, columns, null)?;
    let (mut sent, mut batch) = (0, Vec::with_capacity(BATCH));
    loop {
        let read = rows.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>();
        batch.extend(read.map_err(|error| error.after(sent))?);
        if batch.is_empty() {
            return Ok(sent);
        }
        let span = info_span!(
            "produce",
            otel.kind = "producer",
            mesh.product = product,
            mesh.topic = contract.topic(),
            mesh.records = batch.len(),
        );
        let done = send_batch(&producer, &contract, &encoder, &batch, path).instrument(span);
        done.await.map_err(|error| error.after(sent))?;
        sent += batch.len() as u64;
        progress.set_position(sent);
        batch.clear();
    }
}

/// Sends one batch and waits until all of it is acknowledged; with a bad row in it, none of it is sent.
async fn send_batch(
    producer: &Producer,
    contract: &ProductContract,
    encoder: &Encoder,
    batch: &[RowAt],
    path: &Path,
) -> Result<(), CliError> {
    let trace = telemetry::current().map(|context| context.to_string());
    let headers: Vec<(&str, &[u8])> = trace.iter().map(|text| ("traceparent", text.as_bytes())).collect();
    let mut encoded = Vec::with_capacity(batch.len());
    for RowAt { line, fields } in batch {
        let columns = &contract.object().columns;
        encode::missing(columns, fields).map_err(|problem| rows::bad(path, *line, &problem))?;
        let value = encoder.value(columns, fields).await?;
        let value = value.map_err(|problem| rows::bad(path, *line, &problem))?;
        encoded.push((encode::key(contract, fields), value));
    }
    let mut acknowledgements: Vec<Pending> = Vec::with_capacity(batch.len());
    for (key, value) in &encoded {
        let record = Record {
            topic: contract.topic(),
            key: key.as_deref(),
            payload: Some(value),
            headers: &headers,
            ..Record::default()
        };
        acknowledgements.push(producer.queue(&record).await.map_err(below)?);
    }
    for acknowledgement in acknowledgements {
        acknowledgement.await.map_err(below)?;
    }
    Ok(())
}
