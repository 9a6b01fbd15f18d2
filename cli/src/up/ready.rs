//! Whether the services are ready, as they say themselves.
//!
//! In: admin addresses by service. Out: nothing, once all are ready; a note on each that is not after a while, with its
//! own reason: one table that is stopped must not keep the mesh from starting.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::endpoints;
use crate::print::note;

/// An endpoint that has not read the principals yet refuses every request: how long to wait for it.
const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_millis(50);

pub(super) async fn all(admin: &BTreeMap<String, String>) {
    let until = Instant::now() + PATIENCE;
    for (service, address) in admin {
        while let Err(reason) = ask(address).await {
            if Instant::now() >= until {
                note(&format!("{service} is not ready yet: {reason}"));
                break;
            }
            sleep(BETWEEN).await;
        }
    }
}

/// Why a service is not ready.
async fn ask(address: &str) -> Result<(), String> {
    let client = endpoints::client().map_err(|error| error.to_string())?;
    let answer = client.get(format!("http://{address}/health/ready")).timeout(Duration::from_secs(5)).send();
    let answer = answer.await.map_err(|error| error.to_string())?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(answer.text().await.unwrap_or_default())
}
