//! A scan of the year of flights, beside DataFusion's own Parquet listing of the same files, in one process.
//!
//! `cargo bench -p mesh-query --bench scan -- WAREHOUSE_FOLDER [namespace.table] [runs]`: the folder of a mesh
//! (`catalog.db`, `warehouse/`) that holds the table. Prints per query the medians in ms and their ratio.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use iceberg::TableIdent;
use mesh_lakehouse::scan::MeshTable;
use mesh_lakehouse::{Catalog, CatalogConfig};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const QUERIES: &[&str] = &[
    "SELECT count(*) FROM t",
    "SELECT carrier, avg(dep_delay) FROM t GROUP BY carrier",
    "SELECT sum(distance) FROM t WHERE month = 7 AND carrier = 'UA'",
    "SELECT * FROM t WHERE tailnum = 'N14228' ORDER BY time_hour LIMIT 10",
];

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(folder) = arguments.next() else {
        println!("no folder of a mesh given: nothing is measured");
        return Ok(());
    };
    let table = arguments.next().unwrap_or_else(|| "operations.flights_v1".to_owned());
    let runs: usize = arguments.next().map_or(Ok(9), |runs| runs.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(compare(&folder, &table, runs))
}

async fn compare(folder: &str, table: &str, runs: usize) -> Result<(), Failure> {
    let folder = std::path::absolute(folder)?;
    let catalog = Catalog::open(CatalogConfig::in_folder(&folder)).await?;
    let loaded = catalog.load(&TableIdent::from_strs(table.split('.'))?).await?;
    let ours = MeshTable::at_head(&loaded)?;
    let files: Vec<String> =
        ours.files().await?.files().iter().map(|file| file.data_file().file_path().to_owned()).collect();
    let theirs = SessionContext::new_with_config(SessionConfig::new());
    let listing = theirs.read_parquet(files, ParquetReadOptions::default()).await?;
    theirs.register_table("t", listing.into_view())?;
    let mine = SessionContext::new_with_config(SessionConfig::new());
    mine.register_table("t", Arc::new(ours))?;
    println!("{:>9} {:>9} {:>6}  query", "mesh ms", "list ms", "ratio");
    for sql in QUERIES {
        let (a, b) = (median(&mine, sql, runs).await?, median(&theirs, sql, runs).await?);
        let (a, b) = (a.as_secs_f64() * 1e3, b.as_secs_f64() * 1e3);
        println!("{a:>9.2} {b:>9.2} {:>6.2}  {sql}", a / b);
    }
    Ok(())
}

async fn median(context: &SessionContext, sql: &str, runs: usize) -> Result<Duration, DataFusionError> {
    // The first run fills caches.
    context.sql(sql).await?.collect().await?;
    let mut times = Vec::new();
    for _ in 0..runs.max(1) {
        let started = Instant::now();
        context.sql(sql).await?.collect().await?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}
