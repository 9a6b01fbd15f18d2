//! The command line: every command, flag and argument of `mesh`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A data mesh that runs: contracts, events, tables, quality, governed SQL and lineage.
///
/// Exit codes: 0 done, 1 the answer is no, 2 usage, 3 the mesh is at fault.
#[derive(Debug, Parser)]
#[command(name = "mesh", version, arg_required_else_help = true)]
pub struct Cli {
    /// The mesh's data folder (with its mesh.toml) [default: MESH_HOME, then ./.mesh]
    #[arg(long, global = true, value_name = "DIR", env = "MESH_HOME", hide_env = true)]
    pub mesh: Option<PathBuf>,
    /// Whose key to use, out of credentials.toml (or the key itself in MESH_KEY)
    #[arg(long = "as", global = true, value_name = "NAME")]
    pub principal: Option<String>,
    /// How data is printed
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    #[command(subcommand)]
    pub command: Command,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a mesh, load January 2013 of New York's flights, and follow them to a governed answer
    Demo(DemoArgs),
    /// Start the mesh on this machine, on the local bus or on a real Kafka
    Up(Up),
    /// Run the local bus alone
    Bus(BusArgs),
    /// Check documents against standard, types and policy, offline
    Validate(Validate),
    /// Submit documents, and wait for the verdict
    Apply(Apply),
    /// What products there are
    Products,
    /// A product's contract, owner, ports, schema, SLA, last snapshots and readers
    Show(ProductArgs),
    /// Publish the rows of a CSV or JSON lines file as events by the product's contract
    Produce(Produce),
    /// Change, contract and quality events as they come
    Watch(Watch),
    /// Each check of a product with its last verdict, expected and actual
    Quality(ProductArgs),
    /// An answer under the rights of the reader that --as names
    Sql(Sql),
    /// What a product or an answer was made from, upstream and downstream
    Lineage(LineageArgs),
    /// Policies: test them
    #[command(subcommand)]
    Policy(PolicyArgs),
    /// Tables that stopped: give them a new start
    #[command(subcommand)]
    Ingest(IngestArgs),
    /// Run one service in this process
    #[command(hide = true)]
    Service(ServiceArgs),
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the mesh keeps everything; must not hold a mesh yet
    #[arg(long, value_name = "DIR", default_value = ".mesh-demo")]
    pub data: PathBuf,
    #[command(flatten)]
    pub kafka: Kafka,
    /// Leave the mesh running at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// The example's folder, with contracts, policies and data
    #[arg(long, value_name = "DIR", default_value = "examples/nyc")]
    pub example: PathBuf,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Where the mesh keeps everything [default: --mesh, then MESH_HOME, then ./.mesh]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub kafka: Kafka,
}

/// The broker of a mesh; without one it has a local bus.
#[derive(Debug, Args)]
pub struct Kafka {
    /// A real Kafka instead of the local bus
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// librdkafka properties for it (TLS, SASL), a line `key=value` each
    #[arg(long, value_name = "FILE", requires = "kafka")]
    pub kafka_properties: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BusArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092", overrides_with = "listen")]
    pub listen: SocketAddr,
    /// Where the log is kept
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Listen beyond loopback: the local bus has no authentication
    #[arg(long)]
    pub allow_remote: bool,
    /// Stop when the parent process has ended
    #[arg(long, hide = true)]
    pub child: bool,
}

#[derive(Debug, Args)]
pub struct Validate {
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A folder of Rego policies to judge admission by
    #[arg(long, value_name = "DIR")]
    pub policies: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ProductArgs {
    /// `domain.name`
    #[arg(value_name = "PRODUCT")]
    pub product: String,
}

#[derive(Debug, Args)]
pub struct Produce {
    /// `domain.name`
    #[arg(value_name = "PRODUCT")]
    pub product: String,
    /// A .csv, .jsonl or .ndjson file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What stands for null in a CSV file; an empty field always does
    #[arg(long, value_name = "TEXT")]
    pub null: Option<String>,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Only these products
    #[arg(value_name = "PRODUCT")]
    pub products: Vec<String>,
    /// Where to start
    #[arg(long, value_enum, default_value_t = WatchFrom::Now)]
    pub from: WatchFrom,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchFrom {
    Now,
    Start,
}

#[derive(Debug, Args)]
pub struct Sql {
    /// One SELECT; `domain.table` names a product
    #[arg(value_name = "QUERY", allow_hyphen_values = true)]
    pub query: String,
}

#[derive(Debug, Args)]
pub struct LineageArgs {
    /// `domain.name`, or the id that `mesh sql` printed
    #[arg(value_name = "PRODUCT|QUERY-ID")]
    pub subject: String,
    /// By columns: output, source, direct or indirect, masked or not, topic field
    #[arg(long)]
    pub columns: bool,
}

#[derive(Debug, Subcommand)]
pub enum PolicyArgs {
    /// Run the `test_` rules of a folder's `*_test.rego` files
    Test {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum IngestArgs {
    /// Record where a product's table goes on reading, after its topic was recreated, moved or cut
    Rebase(Rebase),
}

#[derive(Debug, Args)]
pub struct Rebase {
    /// `domain.name`
    #[arg(value_name = "PRODUCT")]
    pub product: String,
    /// Of this major version [default: the newest active one]
    #[arg(long, value_name = "N")]
    pub major: Option<u32>,
    /// Where partitions start that --at does not name: at what the log still has and was not read, or after all of it
    #[arg(long, value_enum, default_value_t = Beginning::Beginning)]
    pub from: Beginning,
    /// Where one partition starts
    #[arg(long, value_name = "PARTITION=OFFSET", value_parser = place)]
    pub at: Vec<(i32, i64)>,
    /// For the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Say what would be recorded, and record nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Where a log is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Beginning {
    Beginning,
    End,
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let parsed = text.split_once('=').and_then(|(partition, at)| Some((partition.parse().ok()?, at.parse().ok()?)));
    parsed.ok_or_else(|| "write PARTITION=OFFSET, such as 0=123".to_owned())
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct ServiceArgs {
    pub name: ServiceName,
    /// The service's own flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub flags: Vec<String>,
}

/// A service that this binary holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum ServiceName {
    Publisher,
    Ingest,
    Quality,
    Query,
}

impl ServiceName {
    pub const ALL: [Self; 4] = [Self::Publisher, Self::Ingest, Self::Quality, Self::Query];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Ingest => "ingest",
            Self::Quality => "quality",
            Self::Query => "query",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!(place("3=120"), Ok((3, 120)));
        for text in ["", "3", "3=", "=1", "a=1", "3=1=2"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
