//! In: a query's end, whichever way. Out: usage per product, the end of its OpenLineage run, metrics. Never: a query
//! whose end is not recorded: a reader that goes away is an end, too.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use mesh_policy::PrincipalFacts;
use mesh_proto::v1::Usage;
use mesh_runtime::tasks::detach_on;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::plan::Planned;
use super::{QueryPipeline, QueryRequest};
use crate::error::QueryError;
use crate::lineage::event::Run;

/// The account of one running query. Dropped without an end, the reader went away.
#[derive(Debug)]
pub struct Account {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    pipeline: Arc<QueryPipeline>,
    id: Uuid,
    principal: String,
    products: Vec<String>,
    run: Run,
    started: Instant,
    rows: u64,
    bytes: u64,
    span: Span,
}

impl Account {
    pub fn open(
        pipeline: &Arc<QueryPipeline>,
        request: &QueryRequest,
        reader: &PrincipalFacts,
        planned: &Planned,
        span: Span,
    ) -> Self {
        let mut products: Vec<String> = planned.tables.iter().map(|table| table.product.clone()).collect();
        products.sort();
        products.dedup();
        Self {
            open: Some(Open {
                pipeline: Arc::clone(pipeline),
                id: request.id,
                principal: reader.name.clone(),
                products,
                run: Run::new(pipeline.ledger.namespace(), request, planned),
                started: request.started,
                rows: 0,
                bytes: 0,
                span,
            }),
        }
    }

    /// Rows and bytes that leave.
    pub fn count(&mut self, rows: usize, bytes: usize) {
        if let Some(open) = &mut self.open {
            open.rows += rows as u64;
            open.bytes += bytes as u64;
        }
    }

    /// The whole answer was written.
    pub async fn done(mut self) {
        if let Some(open) = self.open.take() {
            open.close(None).await;
        }
    }

    /// The query failed.
    pub async fn failed(mut self, error: &QueryError) {
        if let Some(open) = self.open.take() {
            if error.is_ours() {
                let chain = mesh_runtime::report::chain(error);
                tracing::error!(query_id = %open.id, code = error.code(), error = chain, "query failed");
            }
            open.close(Some((error.code().to_owned(), error.to_string()))).await;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (Some(open), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) else { return };
        let reason = ("cancelled".to_owned(), "the reader went away".to_owned());
        drop(detach_on(&runtime, "query account", open.close(Some(reason))));
    }
}

impl Open {
    async fn close(self, failure: Option<(String, String)>) {
        let span = self.span.clone();
        self.write(failure).instrument(span).await;
    }

    async fn write(self, failure: Option<(String, String)>) {
        let took = self.started.elapsed();
        let outcome = failure.as_ref().map_or("done", |(code, _)| code);
        self.pipeline.telemetry.ended(outcome, self.rows, took);
        mesh_runtime::fault::point("query.account.before_usage");
        let (moment, event) = match &failure {
            None => ("complete", self.run.complete()),
            Some((code, message)) => ("fail", self.run.fail(code, message)),
        };
        let id = self.id.to_string();
        let key = self.products.first().unwrap_or(&id);
        let mut result = self.pipeline.ledger.lineage(self.id, key, moment, &event).await;
        for product in &self.products {
            let usage = Usage {
                query_id: id.clone(),
                product: product.clone(),
                principal: self.principal.clone(),
                rows: i64::try_from(self.rows).unwrap_or(i64::MAX),
                bytes: i64::try_from(self.bytes).unwrap_or(i64::MAX),
                duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
                at: Some(mesh_proto::timestamp(Utc::now())),
            };
            result = result.and(self.pipeline.ledger.usage(&usage).await);
        }
        if let Err(error) = result {
            // The answer is out and audited; only what it cost is lost.
            tracing::error!(query_id = id, error = %mesh_runtime::report::chain(&error), "usage not recorded");
        }
    }
}
