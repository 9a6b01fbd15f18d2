//! The mesh as its control topics tell it: what this command line reads without asking a service.

use mesh_bus::{Bus, BusConfig};
use mesh_contract::ProductContract;
use mesh_proto::topics;
use mesh_proto::v1::ActiveContract;

use crate::error::{CliError, below};
use crate::home::Home;

/// An active contract, and its document typed.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) record: ActiveContract,
    pub(crate) contract: ProductContract,
}

/// Connects to the mesh's Kafka.
pub(crate) async fn connect(home: &Home) -> Result<Bus, CliError> {
    Bus::connect(BusConfig::new(home.endpoints()?.bus.bootstrap)).await.map_err(below)
}
