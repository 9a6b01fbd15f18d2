//! `mesh demo`: a month of New York's flights, from Kafka events to a governed, traced SQL answer.
//!
//! In: `examples/nyc`. Out: a mesh in a folder of its own, and each step of the way on the screen.
//! Must never happen: a step that is shown before it happened, or a result that is not what the data gives.

mod show;
mod subscriber;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::args::DemoArgs;
use crate::commands::produce;
use crate::error::CliError;
use crate::exit::Exit;
use crate::mesh_client::MeshClient;
use crate::print;
use crate::up::{self, Mesh, Stop, layout};
use subscriber::Subscriber;

/// One product of the example, and what its data is known to give.
struct Example {
    /// Who submits the contract: the domain's own admin.
    admin: &'static str,
    product: &'static str,
    contract: &'static str,
    data: &'static str,
    events: i64,
    dead_letters: i64,
}

/// January 2013: 11 flights arrive at `2400`, which is no time of day.
const EXAMPLES: &[Example] = &[
    Example {
        admin: "fleet-admin",
        product: "fleet.planes",
        contract: "contracts/planes.odcs.yaml",
        data: "data/planes.csv",
        events: 3322,
        dead_letters: 0,
    },
    Example {
        admin: "weather-admin",
        product: "weather.hourly",
        contract: "contracts/weather.odcs.yaml",
        data: "data/weather.csv",
        events: 2226,
        dead_letters: 0,
    },
    Example {
        admin: "ops-admin",
        product: "operations.flights",
        contract: "contracts/flights.odcs.yaml",
        data: "data/flights.csv",
        events: 27_004,
        dead_letters: 11,
    },
];

/// Lies in a folder that was empty when a demo began, so that the next demo may replace what it made there.
const MARKER: &str = "made-by-mesh-demo";

/// Where the demo speaks: lines go above the progress bar.
#[derive(Clone)]
struct Screen {
    bar: ProgressBar,
    stop: Stop,
}

impl Screen {
    fn new(stop: Stop) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_style(produce::style());
        Self { bar, stop }
    }

    /// Says a line; when the output is closed, the demo has no reader left, and drains.
    fn say(&self, text: &str) {
        if self.bar.suspend(|| writeln!(std::io::stdout().lock(), "{text}")).is_err() {
            self.stop.ask();
        }
    }

    fn step(&self, title: &str) {
        self.say(&format!("\n── {title}"));
    }
}

pub(crate) async fn run(demo: &DemoArgs) -> Result<Exit, CliError> {
    let stop = Stop::listen()?;
    let people = demo.example.join("principals.toml");
    std::fs::metadata(&people).map_err(|source| CliError::File { action: "read", path: people, source })?;
    // Before anything is replaced: an earlier demo's Kafka is of use with its folder only.
    if let Some(kafka) = demo.kafka.bus()? {
        up::without_a_mesh(&kafka, &demo.data).await?;
    }
    make_room(&demo.data)?;
    let screen = Screen::new(stop.clone());
    screen.step("A mesh on this machine: a bus, four services, an Iceberg catalog and a warehouse");
    let ready = |part: &str| screen.say(&format!("  {part} is ready"));
    let Some(mesh) = Mesh::start(&demo.data, &demo.kafka, &stop, ready).await? else {
        return Ok(Exit::Done);
    };
    let shown = stop.unless_requested(walk(&mesh, demo, &screen)).await;
    if demo.keep && matches!(shown, Some(Ok(()))) {
        screen.say("\nThe mesh keeps running; Ctrl-C drains and stops it.");
        stop.requested().await;
    }
    print::note("draining");
    mesh.stop().await;
    shown.unwrap_or(Ok(())).map(|()| Exit::Done)
}

async fn walk(mesh: &Mesh, demo: &DemoArgs, screen: &Screen) -> Result<(), CliError> {
    let home = mesh.home();
    let client = MeshClient::open(&home).await?;
    let telemetry = produce::trace_to(&client)?;
    let teller = screen.clone();
    let subscriber =
        Subscriber::follow(&client, mesh.layout().logs(), move |line| teller.say(&format!("  {line}"))).await?;
    show::admission(&home, &demo.example, screen, &mesh.layout().logs()).await?;
    show::publication(&home, &client, &demo.example, &subscriber, screen).await?;
    telemetry.flush().await;
    show::tables(&subscriber, screen, &mesh.layout().logs())?;
    show::verdicts(&client, &subscriber, screen).await?;
    let query_id = show::answers(&home, &demo.example, screen).await?;
    show::lineage(&client, &query_id, screen).await?;
    show::next_steps(demo, &query_id, screen);
    Ok(())
}

/// An empty folder for the demo. What an earlier demo made there is replaced; nothing that anybody else put there is.
fn make_room(data: &Path) -> Result<(), CliError> {
    let marker = data.join(MARKER);
    let failed = |action| move |source| CliError::File { action, path: data.to_owned(), source };
    std::fs::create_dir_all(data).map_err(failed("create"))?;
    if marker.exists() {
        // Held until the old mesh has ended: an earlier demo may still run there.
        let _unused = layout::lock(data)?;
        layout::clear(data)?;
    } else if std::fs::read_dir(data).map_err(failed("read"))?.next().is_some() {
        return Err(CliError::DataInUse { dir: data.to_owned() });
    }
    std::fs::write(&marker, "").map_err(failed("write to"))
}
