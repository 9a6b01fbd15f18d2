//! A scan of the year of flights, beside DataFusion's own Parquet listing of the same files, in one process.
//!
//! `cargo bench -p mesh-query --bench scan`. In: the flights of a year as CSV, `MESH_BENCH_FLIGHTS`; without it the
//! example's January, twelve times. They become the example's table, a commit a month, in a catalog and a folder of
//! their own. Out: two Markdown tables, medians of `MESH_BENCH_RUNS` (15) in ms. One is the mesh's table beside the listing;
//! the other is the table behind the barrier, with a row filter and a mask, beside a plain SQL view that does the same.
//! The mesh's time includes what the service does for every query: the table's head is looked up in the catalog.
//! Both must give the same rows.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::cast;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext, col, lit};
use mesh_contract::ProductContract;
use mesh_lakehouse::scan::MeshTable;
use mesh_lakehouse::schema::{MESH_COLUMN, ident, table_schema};
use mesh_lakehouse::writer::arrow_schema;
use mesh_lakehouse::{Catalog, CatalogConfig, Change, Table, TableSpec, TableWriter, WriterOptions};
use mesh_policy::{MaskAction, RowFilter};
use mesh_query::barrier::{GovernedTable, MaskKeys, Restriction};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PREFACE: &str = "\
## Query: a scan of the year

`services/query/benches/scan.rs`: the flights of a year in the example's table, a commit a month, beside DataFusion's own
listing of the same Parquet files, in one process, warm, in turn. Medians. The mesh's time includes what the service does
for every query before it plans: the table's head is looked up in the catalog. HTTP, policies and the audit record are not
in it. Both give the same rows, or the benchmark fails.";

const OPEN: &[&str] = &[
    "SELECT count(*) FROM flights",
    "SELECT carrier, avg(dep_delay) FROM flights GROUP BY carrier",
    "SELECT origin, month, count(*), sum(distance) FROM flights GROUP BY origin, month",
    "SELECT sum(distance) FROM flights WHERE month = 7 AND carrier = 'UA'",
    "SELECT flight, dep_delay FROM flights WHERE month = 3 AND day = 14 AND carrier = 'B6' AND flight = 1",
    "SELECT time_hour, origin, dest FROM flights WHERE tailnum = 'N14228' ORDER BY time_hour LIMIT 10",
    "SELECT count(distinct tailnum), count(distinct dest) FROM flights",
];

/// What the example's partner may see: the flights of one carrier, tail numbers hashed.
const ROWS: &str = "carrier = 'UA'";
const MASKED: &str = "tailnum";
const GOVERNED: &[&str] = &[
    "SELECT count(*) FROM flights",
    "SELECT origin, avg(dep_delay) FROM flights GROUP BY origin",
    "SELECT sum(distance) FROM flights WHERE month = 7",
    "SELECT count(distinct tailnum) FROM flights",
];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // `cargo bench` says so; under `cargo test` nothing is measured.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let runs = std::env::var("MESH_BENCH_RUNS").map_or(Ok(15), |text| text.parse::<usize>())?.max(1);
    println!("{PREFACE}");
    let folder = tempfile::tempdir()?;
    let bench = Bench::new(folder.path(), runs).await?;
    bench.beside_the_listing().await?;
    bench.beside_a_view().await
}

struct Bench {
    catalog: Catalog,
    table: Table,
    runs: usize,
    mesh: SessionContext,
    listing: SessionContext,
}

impl Bench {
    async fn new(folder: &Path, runs: usize) -> Result<Self, Failure> {
        let catalog = Catalog::open(CatalogConfig::in_folder(folder)).await?;
        let table = flights(&catalog).await?;
        let listing = SessionContext::new_with_config(SessionConfig::new());
        let files = format!("{}/data/", table.metadata().location());
        listing.register_parquet("flights", files, ParquetReadOptions::default()).await?;
        let mesh = SessionContext::new_with_config(SessionConfig::new());
        let bench = Self { catalog, table, runs, mesh, listing };
        let head = MeshTable::at_head(&bench.table)?;
        let files = head.files().await?;
        let (rows, count, mib) = (files.rows(), files.files().len(), files.bytes() >> 20);
        println!("\n{rows} flights in {count} files, {mib} MiB; {} threads\n", std::thread::available_parallelism()?);
        Ok(bench)
    }

    async fn beside_the_listing(&self) -> Result<(), Failure> {
        println!("| query | mesh, ms | listing, ms | ratio |\n|---|---:|---:|---:|");
        for sql in OPEN {
            self.compare(sql, "flights", None).await?;
        }
        Ok(())
    }

    async fn beside_a_view(&self) -> Result<(), Failure> {
        let columns = self.listing.table("flights").await?;
        let shown: Vec<String> = columns.schema().fields().iter().map(|field| shown(field.name())).collect();
        let view = format!("CREATE VIEW seen AS SELECT {} FROM flights WHERE {ROWS}", shown.join(", "));
        self.listing.sql(&view).await?.collect().await?;
        println!("\n| query, with a row filter and a mask | barrier, ms | view, ms | ratio |\n|---|---:|---:|---:|");
        for sql in GOVERNED {
            self.compare(sql, "seen", Some(MaskKeys::new(Arc::from([7u8; 32].as_slice()), [7; 16]))).await?;
        }
        Ok(())
    }

    /// Both in turn, so that what else the machine does falls on both.
    async fn compare(&self, sql: &str, theirs: &str, keys: Option<MaskKeys>) -> Result<(), Failure> {
        let on_listing = sql.replace("flights", theirs);
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        // The first run fills caches.
        for run in 0..=self.runs {
            let (mine, a) = timed(self.governed(sql, keys.as_ref())).await?;
            let (listed, b) = timed(answer(&self.listing, &on_listing)).await?;
            if run == 0 {
                same(sql, &mine, &listed)?;
            } else {
                ours.push(a);
                others.push(b);
            }
        }
        let (a, b) = (median(ours), median(others));
        println!("| `{sql}` | {a:.1} | {b:.1} | {:.2} |", a / b);
        Ok(())
    }

    /// The table at its head, looked up as the service does for every query.
    async fn governed(&self, sql: &str, keys: Option<&MaskKeys>) -> Result<Vec<RecordBatch>, Failure> {
        let head = MeshTable::at_head(&self.catalog.load(self.table.ident()).await?)?;
        let provider: Arc<dyn TableProvider> = match keys {
            None => Arc::new(head),
            Some(keys) => {
                let filter = RowFilter { expression: ROWS.to_owned(), package: "bench".to_owned() };
                let masks = BTreeMap::from([(MASKED.to_owned(), MaskAction::Sha256Global)]);
                let (state, schema) = (self.mesh.state(), head.schema());
                let restriction = Restriction::bind(&state, "flights", &schema, &[filter], &masks, keys)?;
                let rows = usize::try_from(head.row_count().await?)?;
                Arc::new(GovernedTable::new("flights", Arc::new(head), restriction, rows))
            }
        };
        self.mesh.deregister_table("flights")?;
        self.mesh.register_table("flights", provider)?;
        answer(&self.mesh, sql).await
    }
}

fn shown(column: &str) -> String {
    if column == MASKED { format!("encode(sha256({column}), 'hex') AS {column}") } else { column.to_owned() }
}

async fn answer(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, Failure> {
    Ok(context.sql(sql).await?.collect().await?)
}

async fn timed<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<(T, f64), Failure> {
    let start = Instant::now();
    let done = work.await?;
    Ok((done, start.elapsed().as_secs_f64() * 1e3))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A fast answer that is another answer is none.
fn same(sql: &str, ours: &[RecordBatch], theirs: &[RecordBatch]) -> Result<(), Failure> {
    let lines = |batches: &[RecordBatch]| -> Result<Vec<String>, Failure> {
        let text = datafusion::arrow::util::pretty::pretty_format_batches(batches)?.to_string();
        let mut lines: Vec<String> = text.lines().filter(|line| line.starts_with("| ")).map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    let rows = |lines: Vec<String>| -> Vec<String> {
        // Headers name the table, and widths follow the headers.
        let cells = |line: String| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
        lines.into_iter().map(cells).filter(|line| !line.contains("flights.") && !line.contains("seen.")).collect()
    };
    let (ours, theirs) = (rows(lines(ours)?), rows(lines(theirs)?));
    if ours == theirs { Ok(()) } else { Err(format!("{sql}: {ours:?} is not {theirs:?}").into()) }
}

/// The example's table with a year of flights, a commit a month.
async fn flights(catalog: &Catalog) -> Result<Table, Failure> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nyc");
    let text = std::fs::read_to_string(example.join("contracts/flights.odcs.yaml"))?;
    let contract = ProductContract::parse("flights.odcs.yaml", &text)?;
    let name = ident(&contract.table());
    catalog.create_namespace(name.namespace()).await?;
    let schema = table_schema(&contract.iceberg_schema(None))?;
    let spec = TableSpec { ident: name, schema, partition_spec: None, properties: BTreeMap::new() };
    let mut table = catalog.create_table(spec).await?;
    let schema = arrow_schema(table.schema())?;
    let (whole, year) = match std::env::var_os("MESH_BENCH_FLIGHTS") {
        Some(path) => (true, PathBuf::from(path)),
        None => (false, example.join("data/flights.csv")),
    };
    let columns = || schema.fields().iter().filter(|field| field.name() != MESH_COLUMN);
    // One thread keeps the rows in their order. `NA` is null, so all is text at first.
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let text = Schema::new(columns().map(|field| Field::new(field.name(), DataType::Utf8, true)).collect::<Vec<_>>());
    let csv = context.read_csv(year.to_string_lossy().into_owned(), CsvReadOptions::new().schema(&text)).await?;
    let typed =
        |field: &Arc<Field>| cast(nullif(col(field.name()), lit("NA")), field.data_type().clone()).alias(field.name());
    let csv = csv.select(columns().map(typed).collect::<Vec<_>>())?;
    for month in 1..=12i64 {
        let rows = match whole {
            true => csv.clone().filter(col("month").eq(lit(month)))?,
            false => csv.clone().with_column("month", lit(month))?,
        };
        table = append(catalog, &table, rows.collect().await?).await?;
    }
    Ok(table)
}

/// One commit. Nothing says where these rows came from: `_mesh` is null.
async fn append(catalog: &Catalog, table: &Table, batches: Vec<RecordBatch>) -> Result<Table, Failure> {
    let commit = uuid::Uuid::now_v7();
    let mut writer = TableWriter::new(table, commit, WriterOptions::default())?;
    let origin = writer.schema().field_with_name(MESH_COLUMN)?.clone();
    for batch in batches {
        let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut columns = batch.columns().to_vec();
        columns.push(new_null_array(origin.data_type(), batch.num_rows()));
        fields.push(origin.clone());
        writer.write(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?).await?;
    }
    let files = writer.close().await?.files;
    Ok(catalog.apply(table, &Change::append(table, files).with_commit_id(commit)).await.into_result()?.table)
}
