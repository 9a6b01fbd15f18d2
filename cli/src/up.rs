//! `mesh up`: the mesh on this machine, each service in a process of its own.
//!
//! In: a data folder, a Kafka or none. Out: the local bus (unless a Kafka is given), the four services, `mesh.toml`.
//! Must never happen: a service that outlives the mesh, or a stop out of order (readers first, the bus last).

pub mod child;
pub mod layout;

use std::ffi::OsString;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ServiceName, Up};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::{BusEndpoint, Door, Home, MeshFile};
use crate::print::note;
use child::{Child, Ready, Spec};
use layout::Layout;

/// A mesh whose every part is ready.
#[derive(Debug)]
pub struct Mesh {
    layout: Layout,
    /// In the order of their start; stopped in the reverse.
    children: Vec<Child>,
}

impl Mesh {
    /// Starts everything and waits until all of it is ready; tells `progress` of each part.
    pub async fn start(data: &Path, kafka: Option<&str>, progress: impl Fn(&str)) -> Result<Self, CliError> {
        let layout = Layout::prepare(data)?;
        let mut mesh = Self { layout, children: Vec::new() };
        let bootstrap = match kafka {
            Some(address) => address.to_owned(),
            None => mesh.start_bus().await?,
        };
        progress(&format!("bus at {bootstrap}"));
        mesh.start_services(&bootstrap, progress).await?;
        mesh.home().write_endpoints(&mesh.endpoints(bootstrap)?)?;
        Ok(mesh)
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

    async fn start_bus(&mut self) -> Result<String, CliError> {
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
        let child = Child::start(spec).await?;
        let bootstrap = child.ready().bootstrap.clone();
        self.children.push(child);
        bootstrap.ok_or_else(|| CliError::BadAnswer { problem: "the bus did not say where it listens".to_owned() })
    }

    /// The publisher first, since it makes what the others follow; the rest start side by side.
    async fn start_services(&mut self, bootstrap: &str, progress: impl Fn(&str)) -> Result<(), CliError> {
        for name in ServiceName::ALL {
            let child = Child::start(self.service(name, bootstrap)?).await?;
            progress(name.as_str());
            self.children.push(child);
        }
        Ok(())
    }

    fn service(&self, name: ServiceName, bootstrap: &str) -> Result<Spec, CliError> {
        let config = self.layout.configure(name, bootstrap)?.into_os_string();
        let args = os(["service", name.as_str(), "--child", "--config"]).into_iter().chain([config]).collect();
        Ok(Spec { name: name.as_str(), args, again: same_addresses, log: self.layout.log_of(name.as_str()) })
    }

    fn endpoints(&self, bootstrap: String) -> Result<MeshFile, CliError> {
        let ready = |name: &str| self.children.iter().find(|child| child.name() == name).map(Child::ready);
        let door = |name: &str| match ready(name).and_then(|ready| ready.http.clone()) {
            Some(address) => Ok(Door { url: format!("http://{address}") }),
            None => Err(CliError::BadAnswer { problem: format!("the {name} did not say where its door is") }),
        };
        let admin = self.children.iter().filter_map(|c| Some((c.name().to_owned(), c.ready().admin.clone()?)));
        Ok(MeshFile {
            bus: BusEndpoint { bootstrap },
            catalog: self.layout.catalog(),
            publisher: door("publisher")?,
            query: door("query")?,
            admin: admin.collect(),
        })
    }
}

fn same_addresses(ready: &Ready) -> Vec<OsString> {
    let admin = ready.admin.iter().map(|address| format!("admin.listen={address}"));
    let http = ready.http.iter().map(|address| format!("http.listen={address}"));
    admin.chain(http).flat_map(|set| ["--set".into(), set.into()]).collect()
}

fn os<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// `mesh up`: runs until it is asked to stop.
pub async fn run(home: &Home, up: &Up) -> Result<Exit, CliError> {
    let data = up.data.as_deref().unwrap_or(home.dir());
    let mesh = tokio::select! {
        mesh = Mesh::start(data, up.kafka.as_deref(), |part| note(&format!("started {part}"))) => mesh?,
        () = asked_to_stop() => return Ok(Exit::Done),
    };
    note(&format!("the mesh is up; try `mesh --mesh {} products`. Ctrl-C stops it.", data.display()));
    asked_to_stop().await;
    note("draining");
    mesh.stop().await;
    Ok(Exit::Done)
}

/// Resolves at Ctrl-C or SIGTERM.
pub async fn asked_to_stop() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        }
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}
