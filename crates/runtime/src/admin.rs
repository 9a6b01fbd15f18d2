//! The admin port: liveness, readiness and metrics, on loopback unless told otherwise.
//!
//! In: HTTP GET. Out: `/health/live` 200 while the process runs, `/health/ready` 200 or 503 with every named check,
//! `/metrics` in OpenMetrics text. Nothing here shows event data.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{Health, Metrics, RuntimeError, Shutdown, metrics};

#[derive(Clone)]
struct Pages {
    health: Health,
    metrics: Metrics,
}

/// Binds an HTTP listener; `what` and `key` make the error say which door and which configuration key it is.
pub async fn bind(
    address: SocketAddr,
    what: &'static str,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), RuntimeError> {
    let failed = |source| RuntimeError::Listen { address, what, key, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Serves the admin pages in the background until the shutdown; returns the address that was bound.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<SocketAddr, RuntimeError> {
    let (listener, bound) = bind(address, "admin port", "admin.listen").await?;
    let app = router(health, metrics);
    tokio::spawn(async move {
        let stop = async move { shutdown.requested().await };
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "admin port closed");
        }
    });
    Ok(bound)
}

fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/health/live", get(|| async { Json(json!({ "status": "up" })) }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Pages { health, metrics })
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let checks = pages.health.checks();
    let (code, status) = match pages.health.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (code, Json(json!({ "status": status, "checks": checks })))
}

async fn scrape(State(pages): State<Pages>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], pages.metrics.render())
}
