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
use std::time::Instant;

use datafusion::execution::runtime_env::RuntimeEnv;
use mesh_policy::PrincipalFacts;
use tokio::sync::Semaphore;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::config::LimitsConfig;
use crate::error::QueryError;
use crate::telemetry::{self, Telemetry};
use crate::world::World;
use account::Account;
use audit::Ledger;
use encode::{Answer, Format};
use plan::Planned;

/// A query as it came in.
#[derive(Debug)]
pub struct Asked {
    /// Query id = audit id = OpenLineage runId.
    pub id: Uuid,
    pub key: Option<String>,
    pub sql: String,
    pub format: Format,
    pub started: Instant,
}

/// Everything that queries share.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) world: World,
    pub(crate) ledger: Ledger,
    pub(crate) telemetry: Telemetry,
    pub(crate) limits: LimitsConfig,
    pub(crate) key: Arc<[u8]>,
    /// Footers of data files are cached in here; each query gets a memory pool of its own.
    pub(crate) runtime: Arc<RuntimeEnv>,
    running: Arc<Semaphore>,
}

impl Pipeline {
    pub fn new(world: World, ledger: Ledger, telemetry: Telemetry, limits: LimitsConfig, key: Arc<[u8]>) -> Self {
        let running = Arc::new(Semaphore::new(limits.concurrent));
        Self { world, ledger, telemetry, limits, key, runtime: Arc::new(RuntimeEnv::default()), running }
    }

    /// Takes a query through all stages.
    pub async fn answer(self: &Arc<Self>, asked: Asked) -> Result<Answer, QueryError> {
        let reader = authenticate::reader(&self.world, asked.key.as_deref())?;
        let span = tracing::info_span!(
            "query",
            otel.kind = "server",
            mesh.query_id = %asked.id,
            mesh.principal = reader.name,
            mesh.statement = asked.sql,
            error = tracing::field::Empty,
        );
        let result = self.answer_reader(&asked, &reader, &span).instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("error", error.code());
            self.telemetry.ended(error.code(), 0, asked.started.elapsed());
        }
        result
    }

    async fn answer_reader(
        self: &Arc<Self>,
        asked: &Asked,
        reader: &PrincipalFacts,
        span: &Span,
    ) -> Result<Answer, QueryError> {
        let planned = match self.plan(asked, reader).await {
            Ok(planned) => planned,
            Err(refusal) => {
                self.ledger.denied(asked, reader, &refusal).await?;
                return Err(refusal);
            }
        };
        planned.tables.iter().for_each(|table| telemetry::link_commits(span, table));
        self.ledger.allowed(asked, reader, &planned).await?;
        let account = Account::open(self, asked, reader, &planned, span.clone());
        // Held until the answer's last byte. The semaphore is never closed.
        let permit = Arc::clone(&self.running).acquire_owned().await.ok();
        let rows = match execute::start(self, asked, planned, permit).await {
            Ok(rows) => rows,
            Err(error) => {
                account.failed(&error).await;
                return Err(error);
            }
        };
        encode::answer(asked.format, rows, account)
    }

    async fn plan(&self, asked: &Asked, reader: &PrincipalFacts) -> Result<Planned, QueryError> {
        let statement = parse::statement(&asked.sql)?;
        let authorised = authorise::tables(&self.world, reader, &statement)?;
        let planned = plan::plan(self, statement, authorised).await?;
        encode::check(asked.format, &planned)?;
        Ok(planned)
    }
}
