//! The HTTP listener: `POST /v1/sql`, `GET /v1/products`.
//!
//! In: a bearer key, SQL as text or `{"sql": …}`, `Accept`. Out: the answer, or `{"code", "message"}` with a status;
//! `Mesh-Query-Id` either way. Never: an error without a code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use mesh_runtime::body::{self, BodyBounds};
use mesh_runtime::http::HttpListener;
use mesh_runtime::{Credentials, Shutdown, report};
use serde::Deserialize;
use uuid::Uuid;

use crate::error::QueryError;
use crate::pipeline::authorise::readable;
use crate::pipeline::encode::AnswerFormat;
use crate::pipeline::parse::bounds;
use crate::pipeline::{QueryPipeline, QueryRequest, authenticate};

/// Query id = audit id = OpenLineage runId.
pub const QUERY_ID: HeaderName = HeaderName::from_static("mesh-query-id");

/// How long a request may take to come in whole.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// What handlers share.
#[derive(Debug, Clone)]
struct Shared {
    pipeline: Arc<QueryPipeline>,
    shutdown: Shutdown,
}

/// A listener that takes connections.
#[derive(Debug)]
pub struct QueryListener {
    listener: HttpListener,
    pipeline: Arc<QueryPipeline>,
}

impl QueryListener {
    pub async fn bind(address: SocketAddr, pipeline: Arc<QueryPipeline>) -> Result<Self, QueryError> {
        let refused = |source| QueryError::Listen { address, source };
        let listener = HttpListener::bind(address, "SQL listener", "http.listen").await.map_err(refused)?;
        Ok(Self { listener, pipeline })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Answers until the shutdown; queries that run then are answered to their end.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), QueryError> {
        let address = self.address();
        let app = Router::new()
            .route("/v1/sql", post(sql))
            .route("/v1/products", get(products))
            .fallback(no_endpoint)
            .method_not_allowed_fallback(no_endpoint)
            .with_state(Shared { pipeline: self.pipeline, shutdown: shutdown.clone() });
        let served = self.listener.serve(app, shutdown).await;
        served.map_err(|source| QueryError::Listen { address, source })
    }
}

async fn no_endpoint(method: Method, uri: Uri) -> Response {
    refusal(&QueryError::NoEndpoint { method: method.to_string(), path: uri.path().to_owned() })
}

async fn body(request: Request, shared: &Shared) -> Result<Bytes, QueryError> {
    // As JSON a text may be longer than it is.
    let bytes = shared.pipeline.limits.statement_bytes.saturating_mul(6).saturating_add(64);
    let read = body::read(request, BodyBounds { bytes, wait: BODY_WAIT }, &shared.shutdown).await;
    read.map_err(|unread| QueryError::Body { why: report::chain(&unread) })
}

async fn sql(State(shared): State<Shared>, headers: HeaderMap, request: Request) -> Response {
    let id = Uuid::now_v7();
    let pipeline = &shared.pipeline;
    let answered = async {
        let body = body(request, &shared).await?;
        let sql = statement(&headers, &body)?;
        bounds::recorded(&sql, pipeline.limits.statement_bytes)?;
        let query = QueryRequest {
            id,
            credentials: Credentials::of(&headers),
            sql,
            format: AnswerFormat::of_accept(text(&headers, &ACCEPT))?,
            started: Instant::now(),
        };
        pipeline.answer(Arc::new(query)).await
    };
    let mut response = match answered.await {
        Ok(answer) => ([(CONTENT_TYPE, answer.format.content_type())], answer.body).into_response(),
        Err(error) => refusal(&error),
    };
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(QUERY_ID, id);
    }
    response
}

/// What the reader may read, by its names in SQL.
async fn products(State(Shared { pipeline, .. }): State<Shared>, headers: HeaderMap) -> Response {
    let listed = || -> Result<Vec<serde_json::Value>, QueryError> {
        let reader = authenticate::reader(&pipeline.catalog_view, Credentials::of(&headers).as_ref())?;
        let (rules, _) = pipeline.catalog_view.rules()?;
        let tables = readable(&rules, &reader, &pipeline.catalog_view.products()?);
        let one = |table: crate::pipeline::authorise::Authorised| {
            serde_json::json!({
                "table": table.reference,
                "product": table.entry.product,
                "major": table.entry.major,
                "version": table.entry.version,
                "revision": table.entry.revision,
                "restricted": table.reading.is_restricted(),
            })
        };
        Ok(tables.into_iter().map(one).collect())
    };
    match listed() {
        Ok(products) => Json(serde_json::json!({ "products": products })).into_response(),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &QueryError) -> Response {
    if error.is_ours() {
        tracing::error!(code = error.code(), error = %mesh_runtime::report::chain(error), "query refused");
    }
    let body = serde_json::json!({ "code": error.code(), "message": error.to_string() });
    (error.status(), Json(body)).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    sql: String,
}

fn statement(headers: &HeaderMap, body: &Bytes) -> Result<String, QueryError> {
    let bad = |why: String| QueryError::Body { why };
    let body = std::str::from_utf8(body).map_err(|_| bad("it is not UTF-8".to_owned()))?;
    let is_json = text(headers, &CONTENT_TYPE).is_some_and(|of| of.starts_with("application/json"));
    if is_json || body.trim_start().starts_with('{') {
        let body: Body = serde_json::from_str(body).map_err(|error| bad(error.to_string()))?;
        return Ok(body.sql);
    }
    Ok(body.to_owned())
}
