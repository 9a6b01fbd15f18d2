//! A Kafka broker for one test: the local bus, or the real Kafka that `MESH_TEST_KAFKA=host:port` names.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use mesh_bus::{Bus, BusConfig};
use mesh_localbus::{LocalBus, LocalBusConfig, RunningBus};
use tempfile::TempDir;

/// A broker. One that was started for the test stops, and its data goes, when this is dropped.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    local: Option<Local>,
}

#[derive(Debug)]
struct Local {
    /// `None` while it is stopped.
    running: Option<RunningBus>,
    address: SocketAddr,
    data: TempDir,
}

/// The broker that tests run on: `MESH_TEST_KAFKA=host:port` if set, else a local bus of its own.
pub async fn broker() -> anyhow::Result<Broker> {
    match std::env::var("MESH_TEST_KAFKA") {
        Ok(bootstrap) if !bootstrap.is_empty() => Ok(Broker { bootstrap, local: None }),
        _ => local_broker().await,
    }
}

/// A local bus of the test's own, for tests that stop and start it.
pub async fn local_broker() -> anyhow::Result<Broker> {
    let data = crate::folder()?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let running =
        LocalBus::start(LocalBusConfig::new(any_port, data.path())).await.context("the local bus does not start")?;
    let local = Local { address: running.addr(), running: Some(running), data };
    Ok(Broker { bootstrap: local.address.to_string(), local: Some(local) })
}

impl Broker {
    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn config(&self) -> BusConfig {
        BusConfig::new(&self.bootstrap)
    }

    pub async fn connect(&self) -> anyhow::Result<Bus> {
        Ok(Bus::connect(self.config()).await?)
    }

    /// Where a broker of the test's own keeps its data.
    pub fn data(&self) -> Option<&std::path::Path> {
        self.local.as_ref().map(|local| local.data.path())
    }

    /// Stops a broker of the test's own; its data stays.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(running) = self.own()?.running.take() {
            running.shutdown().await;
        }
        Ok(())
    }

    /// Starts it again, at the same address on the same data.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let local = self.own()?;
        let config = LocalBusConfig::new(local.address, local.data.path());
        local.running = Some(LocalBus::start(config).await.context("the local bus does not start again")?);
        Ok(())
    }

    fn own(&mut self) -> anyhow::Result<&mut Local> {
        self.local.as_mut().context("this broker is not the test's to stop: use `local_broker()`")
    }
}
