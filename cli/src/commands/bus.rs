//! `mesh bus`: the local bus alone, until a stop is requested.

use mesh_localbus::{LocalBus, LocalBusConfig};

use crate::args::BusArgs;
use crate::error::{CliError, below};
use crate::exit::Exit;
use crate::print;
use crate::up::Stop;

pub(crate) async fn run(bus: &BusArgs) -> Result<Exit, CliError> {
    if bus.child {
        mesh_runtime::service::end_with_parent().map_err(below)?;
    }
    let stop = Stop::listen()?;
    let mut config = LocalBusConfig::new(bus.listen, &bus.data);
    config.allow_remote = bus.allow_remote;
    let running = LocalBus::start(config).await.map_err(below)?;
    print::line(&serde_json::json!({ "ready": "bus", "bootstrap": running.bootstrap() }).to_string())?;
    let failed = tokio::select! {
        () = stop.requested() => false,
        () = running.stopped() => true,
    };
    running.shutdown().await;
    Ok(if failed { Exit::Fault } else { Exit::Done })
}
