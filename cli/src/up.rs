//! `mesh up`: the mesh on this machine, each service in a process of its own.
//!
//! In: a data folder, a Kafka or none. Out: the local bus (unless a Kafka is given), the four services, `mesh.toml`.
//! Must never happen: a service that outlives the mesh, or a stop out of order (readers first, the bus last).

pub mod child;
pub mod layout;
mod properties;
mod ready;

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use mesh_bus::{Bus, BusConfig};
use mesh_proto::topics;
use mesh_runtime::tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{Kafka, ServiceName, Up};
use crate::error::{CliError, below};
use crate::exit::Exit;
use crate::home::{Endpoint, Home, MeshFile};
use crate::print::note;
use child::{Child, Ready, Spec};
use layout::Layout;

/// A mesh whose every part is ready.
#[derive(Debug)]
pub struct Mesh {
    layout: Layout,
    /// In the order of their start; stopped in the reverse.
    children: Vec<Child>,
    /// Held while the mesh runs: a folder has one mesh.
    _lock: File,
}

impl Mesh {
    /// Starts everything and waits until all of it is ready; reports each part to `progress`. None if a stop was requested
    /// meanwhile. Whatever was started is drained in either case, and where a part fails.
    pub async fn start(
        data: &Path,
        kafka: &Kafka,
        stop: &Stop,
        progress: impl Fn(&str),
    ) -> Result<Option<Self>, CliError> {
        let given = kafka.bus()?;
        let layout = Layout::prepare(data)?;
        let lock = layout.lock()?;
        layout.make_keys()?;
        // Of the last run: nothing answers there any more.
        layout.home().remove_endpoints()?;
        let mut mesh = Self { layout, children: Vec::new(), _lock: lock };
        match mesh.start_all(given, stop, &progress).await {
            Ok(true) => Ok(Some(mesh)),
            Ok(false) => {
                mesh.stop().await;
                Ok(None)
            }
            Err(error) => {
                mesh.stop().await;
                Err(error)
            }
        }
    }

    /// False if a stop was requested meanwhile.
    async fn start_all(
        &mut self,
        given: Option<BusConfig>,
        stop: &Stop,
        progress: &impl Fn(&str),
    ) -> Result<bool, CliError> {
        let bus = match given {
            Some(kafka) => match stop.unless_requested(self.take(&kafka)).await {
                Some(taken) => taken.map(|()| Some(kafka))?,
                None => None,
            },
            None => self.start_bus(stop).await?.map(BusConfig::new),
        };
        let Some(bus) = bus else { return Ok(false) };
        progress(&format!("bus at {}", bus.bootstrap));
        if !self.start_services(&bus, stop, progress).await? {
            return Ok(false);
        }
        let endpoints = self.endpoints(bus)?;
        if stop.unless_requested(ready::all(&endpoints.admin)).await.is_none() {
            return Ok(false);
        }
        self.home().write_endpoints(&endpoints)?;
        Ok(true)
    }

    pub fn home(&self) -> Home {
        self.layout.home()
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Stops the readers first and the bus last, so that what is under way still finds what it needs.
    pub async fn stop(mut self) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
    }

    /// Whether the Kafka can be this mesh's.
    async fn take(&self, kafka: &BusConfig) -> Result<(), CliError> {
        match self.layout.has_catalog() {
            true => Bus::connect(kafka.clone()).await.map(|_| ()).map_err(below),
            false => without_a_mesh(kafka, self.layout.root()).await,
        }
    }

    /// The address it listens on; none if a stop was requested meanwhile.
    async fn start_bus(&mut self, stop: &Stop) -> Result<Option<String>, CliError> {
        let data = self.layout.bus().into_os_string();
        let spec = Spec {
            name: "bus",
            args: os(["bus", "--child", "--data"])
                .into_iter()
                .chain([data])
                .chain(os(["--listen", "127.0.0.1:0"]))
                .collect(),
            again: |ready| os(["--listen"]).into_iter().chain(ready.bootstrap.clone().map(Into::into)).collect(),
            log: self.layout.log_of("bus"),
        };
        let Some(child) = Child::start(spec, &stop.0).await? else { return Ok(None) };
        let bootstrap = child.ready().bootstrap.clone();
        self.children.push(child);
        let silent = || CliError::BadAnswer { problem: "the bus did not say where it listens".to_owned() };
        bootstrap.ok_or_else(silent).map(Some)
    }

    /// The publisher first, since it makes what the others follow; the rest start side by side. False if a stop was requested.
    async fn start_services(
        &mut self,
        bus: &BusConfig,
        stop: &Stop,
        progress: &impl Fn(&str),
    ) -> Result<bool, CliError> {
        let start = async |spec: Result<Spec, CliError>| {
            let child = Child::start(spec?, &stop.0).await?;
            child.iter().for_each(|child| progress(child.name()));
            Ok::<_, CliError>(child)
        };
        let spec = |mesh: &Self, name| mesh.service(name, bus);
        let Some(publisher) = start(spec(self, ServiceName::Publisher)).await? else { return Ok(false) };
        self.children.push(publisher);
        let [ingest, quality, query] =
            [ServiceName::Ingest, ServiceName::Quality, ServiceName::Query].map(|name| spec(self, name));
        let started = tokio::join!(start(ingest), start(quality), start(query));
        // Those that did start are kept even where another did not, so that they are stopped in order.
        let (mut all, mut failed) = (true, None);
        for started in [started.0, started.1, started.2] {
            match started {
                Ok(Some(child)) => self.children.push(child),
                Ok(None) => all = false,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(all), Err)
    }

    fn service(&self, name: ServiceName, bus: &BusConfig) -> Result<Spec, CliError> {
        let config = self.layout.configure(name, bus)?.into_os_string();
        let args = os(["service", name.as_str(), "--child", "--config"]).into_iter().chain([config]).collect();
        Ok(Spec { name: name.as_str(), args, again: same_addresses, log: self.layout.log_of(name.as_str()) })
    }

    fn endpoints(&self, bus: BusConfig) -> Result<MeshFile, CliError> {
        let ready = |name: &str| self.children.iter().find(|child| child.name() == name).map(Child::ready);
        let endpoint = |name: &str| match ready(name).and_then(|ready| ready.http.clone()) {
            Some(address) => Ok(Endpoint { url: format!("http://{address}") }),
            None => {
                Err(CliError::BadAnswer { problem: format!("the {name} did not report the address of its endpoint") })
            }
        };
        let admin = self.children.iter().filter_map(|c| Some((c.name().to_owned(), c.ready().admin.clone()?)));
        Ok(MeshFile {
            bus,
            catalog: self.layout.catalog(),
            publisher: endpoint("publisher")?,
            ingest: endpoint("ingest")?,
            query: endpoint("query")?,
            admin: admin.collect(),
        })
    }
}

/// A Kafka that holds a mesh belongs to the folder with that mesh's catalog: to a publisher with another, each of its tables
/// would seem dropped.
pub(crate) async fn without_a_mesh(kafka: &BusConfig, dir: &Path) -> Result<(), CliError> {
    let bus = Bus::connect(kafka.clone()).await.map_err(below)?;
    // The start of a mesh writes its admin there, before anything else.
    for topic in bus.describe_topics(&[topics::PRINCIPALS]).await.map_err(below)? {
        if bus.watermarks(&topic.name, 0).await.map_err(below)?.1 > 0 {
            return Err(CliError::KafkaInUse { address: kafka.bootstrap.clone(), dir: dir.to_owned() });
        }
    }
    Ok(())
}

fn same_addresses(ready: &Ready) -> Vec<OsString> {
    let admin = ready.admin.iter().map(|address| format!("admin.listen={address}"));
    let http = ready.http.iter().map(|address| format!("http.listen={address}"));
    admin.chain(http).flat_map(|set| ["--set".into(), set.into()]).collect()
}

fn os<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// `mesh up`: runs until a stop is requested.
pub async fn run(home: &Home, up: &Up) -> Result<Exit, CliError> {
    let stop = Stop::listen()?;
    let data = up.data.as_deref().unwrap_or(home.dir());
    let started = Mesh::start(data, &up.kafka, &stop, |part| note(&format!("started {part}"))).await?;
    if let Some(mesh) = started {
        note(&format!("the mesh is up; try `mesh --mesh {} products`. Ctrl-C stops it.", data.display()));
        stop.requested().await;
        note("draining");
        mesh.stop().await;
    }
    Ok(Exit::Done)
}

/// Ctrl-C or SIGTERM, heard from [`listen`](Self::listen) on: one that comes between two waits is not lost, and a second
/// one ends the process at once, whatever it waits for (its children hear of its end).
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    pub fn listen() -> Result<Self, CliError> {
        let failed = |source| CliError::File { action: "listen for signals in", path: "this process".into(), source };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let requested = CancellationToken::new();
        let stop = Self(requested.clone());
        tasks::detach("signals", async move {
            let mut heard = async || tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () };
            heard().await;
            requested.cancel();
            heard().await;
            note("second request to stop: not waiting for the drain; what still runs is ended");
            std::process::exit(i32::from(Exit::Fault.code()));
        });
        Ok(stop)
    }

    /// Resolves once a stop was requested.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// The work's result; none if a stop was requested first.
    pub async fn unless_requested<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(work).await
    }

    /// Asks this process to stop, as a signal would.
    pub fn ask(&self) {
        self.0.cancel();
    }
}
