//! The admin port: liveness, readiness and metrics, on loopback unless configured otherwise.
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

use crate::http::HttpListener;
use crate::tasks::TaskHandle;
use crate::{Context, Health, Metrics, Restart, RuntimeError, metrics, part};

#[derive(Clone)]
struct Pages {
    health: Health,
    metrics: Metrics,
}

/// Binds the admin port and serves it for as long as the task lives; returns the address that was bound. Whatever ends
/// the task, another one binds the same address.
pub async fn start(address: SocketAddr, context: &Context) -> Result<(TaskHandle, SocketAddr), RuntimeError> {
    let first = bind(address).await?;
    let bound = first.address();
    let app = router(context.health.clone(), context.metrics.clone());
    let mut first = Some(first);
    let task = context.tasks.start(part::ADMIN, Restart::default(), move |shutdown| {
        let listener = first.take();
        let app = app.clone();
        async move {
            let listener = match listener {
                Some(listener) => listener,
                None => bind(bound).await?,
            };
            listener.serve(app, shutdown).await
        }
    });
    Ok((task, bound))
}

async fn bind(address: SocketAddr) -> Result<HttpListener, RuntimeError> {
    HttpListener::bind(address, "admin port", "admin.listen").await
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
