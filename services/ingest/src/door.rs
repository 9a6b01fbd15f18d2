//! Ingest's HTTP door: `POST /v1/rebase`, for who administers the product's domain or the platform.
//!
//! In: a Bearer key and a request in JSON. Out: what was done, or a code, in JSON.
//! Must never happen: a new start for a principal that is not known, or while `mesh.principals` cannot be read whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use mesh_bus::View;
use mesh_lakehouse::LakehouseError;
use mesh_policy::authority;
use mesh_proto::v1::{ActiveContract, Principal};
use mesh_runtime::body::{self, BodyBounds};
use mesh_runtime::http::HttpListener;
use mesh_runtime::{Credentials, Shutdown, report, tasks};
use tokio::sync::watch;

use crate::error::IngestError;
use crate::rebase::{RebaseRequest, Rebased, Rebaser};

const BODY: BodyBounds = BodyBounds { bytes: 64 << 10, wait: Duration::from_secs(10) };

/// What the handler needs.
#[derive(Debug, Clone)]
pub struct Shared {
    pub rebaser: Rebaser,
    pub contracts: View<ActiveContract>,
    pub principals: View<Principal>,
    /// Tells this process's tables that one has a new start.
    pub rebased: watch::Sender<u64>,
}

/// The bound door.
#[derive(Debug)]
pub struct IngestListener {
    listener: HttpListener,
    shared: Shared,
}

impl IngestListener {
    /// Binds it; no request is served yet.
    pub async fn bind(address: SocketAddr, shared: Shared) -> Result<Self, IngestError> {
        let listener = HttpListener::bind(address, "HTTP listener", "http.listen").await?;
        Ok(Self { listener, shared })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until the shutdown; answers under way are finished.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), IngestError> {
        let app = Router::new().route("/v1/rebase", post(rebase)).with_state((self.shared, shutdown.clone()));
        Ok(self.listener.serve(app, shutdown).await?)
    }
}

async fn rebase(
    State((shared, shutdown)): State<(Shared, Shutdown)>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    // A task of its own: who hangs up leaves nothing half done.
    let work = tasks::detach("rebase", async move { shared.take(&headers, request, &shutdown).await });
    match work.await.unwrap_or_else(|panicked| Err(panicked.into())) {
        Ok(done) => Json(done).into_response(),
        Err(error) => {
            let body = serde_json::json!({ "code": error.code(), "message": report::chain(&error) });
            (status(&error), Json(body)).into_response()
        }
    }
}

impl Shared {
    async fn take(&self, headers: &HeaderMap, request: Request, shutdown: &Shutdown) -> Result<Rebased, IngestError> {
        // Also an error when a principal's record cannot be read: an outdated key must not open.
        self.principals.loaded().await?;
        let credentials = Credentials::of(headers).ok_or(IngestError::UnknownKey)?;
        let known = self.principals.snapshot().into_values().find(|principal| credentials.are_of(principal));
        let principal = known.ok_or(IngestError::UnknownKey)?;
        let wanted = rebase_request(request, shutdown).await?;
        let domain = wanted.product.split('.').next().unwrap_or_default();
        if !authority::administers(&principal.roles, &principal.admin_of, domain) {
            let (principal_name, product) = (principal.name.clone(), wanted.product.clone());
            let error = IngestError::Forbidden { principal: principal_name, product, domain: domain.to_owned() };
            let statement = format!("ingest rebase {}", wanted.product);
            self.rebaser.audit(&wanted.product, &principal, &statement, Err(error.code())).await?;
            return Err(error);
        }
        let active = self.contract(&wanted)?;
        let done = self.rebaser.rebase(&active, &wanted, &principal).await?;
        if done.rebased {
            self.rebased.send_modify(|times| *times += 1);
        }
        Ok(done)
    }

    fn contract(&self, request: &RebaseRequest) -> Result<Arc<ActiveContract>, IngestError> {
        let all = self.contracts.snapshot().into_values();
        let wanted = all.filter(|contract| contract.product == request.product && contract.topic.is_some());
        let wanted = wanted.filter(|contract| request.major.is_none_or(|major| contract.major == major));
        wanted.max_by_key(|contract| contract.major).ok_or_else(|| {
            let major = request.major.map_or_else(String::new, |major| format!(" v{major}"));
            IngestError::NoSuchProduct { product: format!("{}{major}", request.product) }
        })
    }
}

async fn rebase_request(request: Request, shutdown: &Shutdown) -> Result<RebaseRequest, IngestError> {
    let unread = |unread| IngestError::Request { why: report::chain(&unread) };
    let body = body::read(request, BODY, shutdown).await.map_err(unread)?;
    serde_json::from_slice(&body).map_err(|error| IngestError::Request { why: error.to_string() })
}

fn status(error: &IngestError) -> StatusCode {
    match error {
        IngestError::UnknownKey => StatusCode::UNAUTHORIZED,
        IngestError::Forbidden { .. } => StatusCode::FORBIDDEN,
        IngestError::NoSuchProduct { .. } => StatusCode::NOT_FOUND,
        IngestError::Request { .. } => StatusCode::BAD_REQUEST,
        IngestError::Start { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        IngestError::Lakehouse(LakehouseError::Fenced { .. } | LakehouseError::Conflict { .. }) => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
