//! What a query passes, in order:
//!
//! 1. [`authenticate`] a key becomes a principal;
//! 2. [`parse`] a text becomes one reading statement and the tables that it names;
//! 3. [`authorise`] names become products with what the reader may see of each, or the query ends;
//! 4. [`plan`] tables at pinned snapshots, behind barriers where needed, become a logical plan with its lineage;
//! 5. [`audit`] the bus acknowledges who asks what — or the query is refused;
//! 6. [`execute`] rows, under a deadline and a memory bound, until the reader goes away;
//! 7. [`encode`] rows become JSON, CSV or an Arrow stream;
//! 8. [`account`] what it cost and how it ended.

pub mod account;
pub mod audit;
pub mod authenticate;
pub mod authorise;
pub mod encode;
pub mod execute;
pub mod parse;
pub mod plan;

use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use mesh_policy::PrincipalFacts;
use mesh_proto::record::RECORD_BYTES;
use mesh_runtime::Credentials;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::catalog_view::CatalogView;
use crate::config::LimitsConfig;
use crate::engine::{Engine, Limit};
use crate::error::QueryError;
use crate::lineage::event::Run;
use crate::telemetry::{self, QueryMetrics};
use account::Account;
use audit::Ledger;
use encode::{Answer, AnswerFormat};
use plan::Planned;

/// A query as it came in.
#[derive(Debug)]
pub struct QueryRequest {
    /// Query id = audit id = OpenLineage runId.
    pub id: Uuid,
    pub credentials: Option<Credentials>,
    pub sql: String,
    pub format: AnswerFormat,
    pub started: std::time::Instant,
}

/// Everything that queries share.
#[derive(Debug)]
pub struct QueryPipeline {
    pub(crate) catalog_view: CatalogView,
    pub(crate) ledger: Ledger,
    pub(crate) telemetry: QueryMetrics,
    pub(crate) limits: LimitsConfig,
    pub(crate) key: Arc<[u8]>,
    pub(crate) engine: Engine,
    /// Footers of data files are cached in here; each query gets a memory pool of its own.
    pub(crate) runtime: Arc<RuntimeEnv>,
    running: Arc<Semaphore>,
}

impl QueryPipeline {
    pub fn new(
        catalog_view: CatalogView,
        ledger: Ledger,
        telemetry: QueryMetrics,
        limits: LimitsConfig,
        key: Arc<[u8]>,
    ) -> Result<Self, QueryError> {
        let running = Arc::new(Semaphore::new(limits.concurrent));
        let engine = Engine::start()?;
        let runtime = Arc::new(RuntimeEnv::default());
        Ok(Self { catalog_view, ledger, telemetry, limits, key, engine, runtime, running })
    }

    /// Takes a query through all stages.
    pub async fn answer(self: &Arc<Self>, request: Arc<QueryRequest>) -> Result<Answer, QueryError> {
        let reader = authenticate::reader(&self.catalog_view, request.credentials.as_ref())?;
        let span = tracing::info_span!(
            "query",
            otel.kind = "server",
            mesh.query_id = %request.id,
            mesh.principal = reader.name,
            mesh.statement = request.sql,
            error = tracing::field::Empty,
        );
        let result = self.answer_reader(&request, &reader, &span).instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("error", error.code());
            self.telemetry.ended(error.code(), 0, request.started.elapsed());
        }
        result
    }

    async fn answer_reader(
        self: &Arc<Self>,
        request: &Arc<QueryRequest>,
        reader: &PrincipalFacts,
        span: &Span,
    ) -> Result<Answer, QueryError> {
        let limit =
            Limit { at: Instant::from_std(request.started) + self.limits.deadline, allowed: self.limits.deadline };
        let planned = match self.planned(request, reader, limit).await {
            Ok(planned) => planned,
            Err(refusal) => {
                self.ledger.denied(request, reader, &refusal).await?;
                return Err(refusal);
            }
        };
        let Placed { planned, place } = planned;
        planned.tables.iter().for_each(|table| telemetry::link_commits(span, table));
        self.ledger.allowed(request, reader, &planned).await?;
        let account = Account::open(self, request, reader, &planned, span.clone());
        let rows = match execute::start(self, planned, limit, place).await {
            Ok(rows) => rows,
            Err(error) => {
                account.failed(&error).await;
                return Err(error);
            }
        };
        encode::answer(request.format, rows, account).await
    }

    /// The plan, once there is a place for one more query.
    async fn planned(
        self: &Arc<Self>,
        request: &Arc<QueryRequest>,
        reader: &PrincipalFacts,
        limit: Limit,
    ) -> Result<Placed, QueryError> {
        let pipeline = Arc::clone(self);
        let request = Arc::clone(request);
        let reader = reader.clone();
        let work = async move {
            // The semaphore is never closed.
            let place = Arc::clone(&pipeline.running).acquire_owned().await.map_err(|_| QueryError::Crashed)?;
            let statement = parse::statement(&request.sql)?;
            let authorised = authorise::tables(&pipeline.catalog_view, &reader, &statement)?;
            let planned = plan::plan(&pipeline, statement, authorised).await?;
            encode::check(request.format, &planned)?;
            let bytes = Run::new(pipeline.ledger.namespace(), &request, &planned).start().to_string().len();
            parse::bounds::bound("bytes of lineage", bytes, RECORD_BYTES)?;
            Ok(Placed { planned, place })
        };
        self.engine.run(limit, work).await
    }
}

/// A plan and its query's place among those that run, held until its last row.
struct Placed {
    planned: Planned,
    place: OwnedSemaphorePermit,
}
