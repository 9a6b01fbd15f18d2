//! What a record costs on its way through ingest, on one core: decode, check, enrich, write, commit.
//!
//! `cargo bench -p mesh-ingest --bench stages`. In: `MESH_BENCH_ROWS` generated records (500,000) as Avro and as JSON, in
//! chunks as large as the service's. Out: a Markdown table for each; a stage's line is the service's own code up to and
//! including that stage. Beside it a bare Parquet write of the same batches, in the same run. Every line is the median
//! of `MESH_BENCH_RUNS` (3) by CPU seconds of the whole process, from Linux's `/proc`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use mesh_ingest::pipeline::commit::{CommitRanges, commit};
use mesh_ingest::pipeline::dead_letters::StoredDeadLetters;
use mesh_ingest::pipeline::decode::avro::{self, SchemaId, Schemas};
use mesh_ingest::pipeline::decode::{DecodedRows, Value, json};
use mesh_ingest::pipeline::plan::RecordFormat;
use mesh_ingest::pipeline::refusal::Refusals;
use mesh_ingest::pipeline::resolve::resolve;
use mesh_ingest::pipeline::source_batch::SourceBatch;
use mesh_ingest::pipeline::transform::{Transformed, transform};
use mesh_ingest::pipeline::write::PendingRows;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

mod lake;
mod records;

use lake::Lake;
use records::{Encoding, SCHEMA, SCHEMA_ID, records};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PREFACE: &str = "\
## Ingest: what a record costs, on one core

`services/ingest/benches/stages`: generated records of 16 fields (2 ids, a moment, 3 doubles, 2 small integers, a flag,
7 texts from low to high cardinality), each with a key and a `traceparent` header; a contract with 36 checks. Every
line is the service's own code up to and including that stage: chunks of 8,192 records, a commit every 65,536. Nothing
is fetched from Kafka. CPU seconds are the whole process's. Beside it `ArrowWriter` alone, with zstd-1 and otherwise its
defaults, on the very batches that the table's writer is given, files synced as the table's are.";

/// Chunks of a commit: with 8192 records each, the service's `commit_rows`.
const CHUNKS_PER_COMMIT: usize = 8;
/// Ticks of `/proc/self/stat` in a second: fixed for user space.
const TICKS: f64 = 100.0;

fn main() -> Result<(), Failure> {
    // `cargo bench` says so; under `cargo test` nothing is measured.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let (rows, runs) = (setting("MESH_BENCH_ROWS", 500_000)?, setting("MESH_BENCH_RUNS", 3)?);
    println!("{PREFACE}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for encoding in [Encoding::Avro, Encoding::Json] {
        runtime.block_on(Bench::new(rows, runs, encoding)?.run())?;
    }
    Ok(())
}

fn setting(name: &str, default: usize) -> Result<usize, Failure> {
    Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?.max(1))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Decode,
    Check,
    Enrich,
    Write,
    Commit,
}

struct Bench {
    encoding: Encoding,
    chunks: Vec<SourceBatch>,
    schemas: Schemas,
    rows: usize,
    bytes: usize,
    runs: usize,
}

/// What a pass cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

impl Bench {
    fn new(rows: usize, runs: usize, encoding: Encoding) -> Result<Self, Failure> {
        let (chunks, bytes) = records(rows, encoding)?;
        let schemas = Schemas::from([(SchemaId(SCHEMA_ID), Arc::from(SCHEMA))]);
        Ok(Self { encoding, chunks, schemas, rows, bytes, runs })
    }

    async fn run(&self) -> Result<(), Failure> {
        let name = self.encoding.name().to_uppercase();
        println!("\n{} {name} records of {} bytes\n", self.rows, self.bytes / self.rows);
        println!("| {name} | rows per CPU second | MiB per CPU second | CPU s | wall s |\n|---|---:|---:|---:|---:|");
        let stages = [
            (Stage::Decode, "decode"),
            (Stage::Check, "… and check against the contract"),
            (Stage::Enrich, "… and add `_mesh`"),
            (Stage::Write, "… and write the table's files"),
            (Stage::Commit, "… and commit: **ingest without Kafka**"),
        ];
        for (stage, label) in stages {
            let mut costs = Vec::new();
            for _ in 0..self.runs {
                costs.push(self.pass(stage).await?);
            }
            self.line(label, costs);
        }
        let (mut each, mut one) = (Vec::new(), Vec::new());
        let batches = self.batches().await?;
        for _ in 0..self.runs {
            each.push(bare(&batches, CHUNKS_PER_COMMIT)?);
            one.push(bare(&batches, usize::MAX)?);
        }
        self.line("bare Parquet write of the same batches, as many files", each);
        self.line("bare Parquet write of the same batches, one file", one);
        Ok(())
    }

    fn line(&self, label: &str, mut costs: Vec<Cost>) {
        costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
        let Cost { cpu, wall } = costs[costs.len() / 2];
        let (rows, mib) = (self.rows as f64 / cpu, self.bytes as f64 / f64::from(1 << 20) / cpu);
        println!("| {label} | {rows:.0} | {mib:.0} | {cpu:.2} | {wall:.2} |");
    }

    /// The chunks' way up to a stage, on a table of its own.
    async fn pass(&self, stage: Stage) -> Result<Cost, Failure> {
        let mut lake = Lake::new(self.encoding).await?;
        let start = Clock::start()?;
        let mut taken = 0;
        for group in self.chunks.chunks(CHUNKS_PER_COMMIT) {
            taken += match stage {
                Stage::Decode | Stage::Check => group.iter().map(|chunk| self.decoded(chunk, stage, &lake)).sum(),
                Stage::Enrich => {
                    let done = group.iter().map(|chunk| transform(chunk, &lake.plan, &self.schemas));
                    done.map(|done| done.map(|done| rows_of(&done))).sum::<Result<usize, _>>()
                }
                .map_err(Failure::from),
                Stage::Write | Stage::Commit => self.written(group, stage, &mut lake).await,
            }?;
        }
        let cost = start.stop()?;
        // A record that is refused is not measured on its whole way.
        if taken != self.rows { Err(format!("{taken} rows came of {} records", self.rows).into()) } else { Ok(cost) }
    }

    fn decoded(&self, chunk: &SourceBatch, stage: Stage, lake: &Lake) -> Result<usize, Failure> {
        let mut refusals = Refusals::default();
        let values: Vec<Value<'_>> = chunk.records().filter_map(|(at, record)| Some((at, record.value()?))).collect();
        let decoded: Vec<DecodedRows> = match &lake.plan.format {
            RecordFormat::Json(wire) => json::decode(&values, wire, &mut refusals),
            RecordFormat::Avro => {
                let decoded = avro::decode(&values, &self.schemas, &mut refusals);
                decoded.into_iter().flat_map(|(_, rows)| rows).collect()
            }
        };
        let mut taken = 0;
        for rows in decoded {
            let rows = match stage {
                Stage::Decode => Some(rows),
                _ => match resolve(rows, &lake.plan.target, &mut refusals)? {
                    Some(rows) => lake.plan.checks.check(rows, &mut refusals)?,
                    None => None,
                },
            };
            taken += rows.map_or(0, |rows| rows.records.len());
        }
        Ok(taken)
    }

    async fn written(&self, group: &[SourceBatch], stage: Stage, lake: &mut Lake) -> Result<usize, Failure> {
        let mut pending_rows = PendingRows::new(&lake.base.table)?;
        for chunk in group {
            let done = transform(chunk, &lake.plan, &self.schemas)?;
            pending_rows.take(chunk, done, &lake.plan, &lake.dead_letters).await?;
        }
        let (summary, files) = pending_rows.close().await?;
        if stage == Stage::Commit {
            let ranges = lake.positions.ranges(&summary.next)?;
            let (stored, started_at) = (&StoredDeadLetters::default(), BTreeMap::new());
            let carried = CommitRanges { ranges, stored, started_at };
            lake.base =
                commit(&lake.catalog, &lake.base, &lake.dead_letters, &lake.plan, &summary, files, carried).await?;
            lake.positions.committed(&summary.next);
        }
        Ok(usize::try_from(summary.rows)?)
    }

    /// What the table's writer is given.
    async fn batches(&self) -> Result<Vec<RecordBatch>, Failure> {
        let lake = Lake::new(self.encoding).await?;
        let mut batches = Vec::new();
        for chunk in &self.chunks {
            batches.extend(transform(chunk, &lake.plan, &self.schemas)?.batches);
        }
        Ok(batches)
    }
}

fn rows_of(done: &Transformed) -> usize {
    done.batches.iter().map(RecordBatch::num_rows).sum()
}

/// What these batches cost without a mesh: Parquet with zstd-1, `per_file` batches in a file.
fn bare(batches: &[RecordBatch], per_file: usize) -> Result<Cost, Failure> {
    let folder = tempfile::tempdir()?;
    let start = Clock::start()?;
    for (at, group) in batches.chunks(per_file).enumerate() {
        write_file(&folder.path().join(format!("{at}.parquet")), group)?;
    }
    start.stop()
}

fn write_file(path: &Path, batches: &[RecordBatch]) -> Result<(), Failure> {
    let Some(first) = batches.first() else { return Ok(()) };
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, first.schema(), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    // The table's writer syncs as well.
    Ok(writer.inner().sync_all()?)
}

struct Clock {
    cpu: f64,
    wall: Instant,
}

impl Clock {
    fn start() -> Result<Self, Failure> {
        Ok(Self { cpu: cpu()?, wall: Instant::now() })
    }

    fn stop(self) -> Result<Cost, Failure> {
        Ok(Cost { cpu: cpu()? - self.cpu, wall: self.wall.elapsed().as_secs_f64() })
    }
}

/// CPU seconds of this process so far, the kernel's work for it included.
fn cpu() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The fields after the program's name, which may hold anything but its last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS)
}
