//! The publisher's HTTP listener: submissions from people and CI, and the registry for Kafka clients.
//!
//! In: requests. Out: answers, all of them JSON.
//! Never: a submission whose submitter is not known, or a key in a log line.

mod answer;
mod authn;
mod body;
mod registry;
mod submissions;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use mesh_runtime::Shutdown;
use mesh_runtime::http::HttpListener;

use crate::config;
use crate::error::PublisherError;
use crate::log::Log;
use crate::memory::Memory;
use crate::pipeline::provision::Provisioner;
use crate::progress::Progress;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) memory: Memory,
    /// For dry runs: what is there.
    pub(crate) provisioner: Provisioner,
    pub(crate) progress: Progress,
    pub(crate) bounds: Arc<config::ListenerConfig>,
    pub(crate) shutdown: Shutdown,
}

/// The bound listener.
#[derive(Debug)]
pub struct PublisherListener {
    listener: HttpListener,
    provisioner: Provisioner,
    progress: Progress,
    bounds: Arc<config::ListenerConfig>,
}

impl PublisherListener {
    /// Binds it; no request is served yet.
    pub async fn bind(
        config: &config::PublisherConfig,
        provisioner: Provisioner,
        progress: Progress,
    ) -> Result<Self, PublisherError> {
        let listener = HttpListener::bind(config.http.listen, "HTTP listener", "http.listen").await?;
        Ok(Self { listener, provisioner, progress, bounds: Arc::new(config.door.clone()) })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until the shutdown. Answers under way are finished, but not at the cost of the parts that drain after the listener:
    /// half of the time is theirs.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), PublisherError> {
        let Self { listener, provisioner, progress, bounds } = self;
        let (log, memory) = (provisioner.log.clone(), provisioner.memory.clone());
        let app = router(Shared { log, memory, provisioner, progress, bounds, shutdown: shutdown.clone() });
        tokio::select! {
            served = listener.serve(app, shutdown.clone()) => served.map_err(|source| PublisherError::Door { source }),
            () = overdue(&shutdown) => {
                tracing::warn!("listener closed on open requests");
                Ok(())
            }
        }
    }
}

async fn overdue(shutdown: &Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(shutdown.deadline() / 2).await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/submissions", post(submissions::submit))
        .route("/subjects", get(registry::subjects))
        .route("/subjects/{subject}", post(registry::look_up))
        .route("/subjects/{subject}/versions", get(registry::versions).post(registry::register))
        .route("/subjects/{subject}/versions/{version}", get(registry::version))
        .route("/subjects/{subject}/versions/{version}/schema", get(registry::version_text))
        .route("/schemas/ids/{id}", get(registry::by_id))
        .route("/schemas/ids/{id}/versions", get(registry::uses))
        .route("/schemas/types", get(registry::types))
        .route("/config", get(registry::config))
        .route("/config/{subject}", get(registry::config))
        .route("/mode", get(registry::mode))
        .fallback(registry::not_found)
        .method_not_allowed_fallback(registry::not_allowed)
        .with_state(shared)
}
