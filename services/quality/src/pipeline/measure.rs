//! Stage 2. In: a table and conditions. Out: how many rows meet each. Rows stream through Arrow kernels, one pass for
//! all conditions; look-ups of duplicates spill beyond the engine's memory.
//! Never: a count of some of the rows taken for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, AsArray as _};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider as _;
use datafusion::common::DFSchema;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt as _, col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};
use mesh_lakehouse::scan::MeshTable;

use super::condition;
use crate::error::Error;

/// Where rows are counted; cheap to clone, all clones share one budget of memory.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    runtime: Arc<RuntimeEnv>,
}

impl Engine {
    /// An engine that may hold this many bytes.
    pub(crate) fn new(memory_bytes: usize) -> Result<Self, Error> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
            .build_arc()
            .map_err(|source| Error::Engine { source: Box::new(source) })?;
        Ok(Self { runtime })
    }

    fn session(&self) -> SessionContext {
        // One partition: a judgement is background work and must not take every core from those who wait.
        SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), Arc::clone(&self.runtime))
    }

    /// Whether the condition can be evaluated on the table's rows.
    pub(crate) fn accepts(&self, table: &MeshTable, condition: &Expr) -> Result<(), String> {
        let schema = DFSchema::try_from(table.schema().as_ref().clone()).map_err(|error| error.to_string())?;
        self.session().create_physical_expr(condition.clone(), &schema).map(drop).map_err(|error| error.to_string())
    }

    /// How many rows meet each condition.
    pub(crate) async fn count(&self, table: MeshTable, conditions: &BTreeMap<String, Expr>) -> Result<BTreeMap<String, u64>, String> {
        if conditions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let plan = |frame: DataFrame| -> Result<DataFrame, DataFusionError> {
            let counts = conditions.values().enumerate().map(|(at, condition)| {
                Ok(count(lit(1i64)).filter(condition.clone()).build()?.alias(format!("c{at}")))
            });
            frame.aggregate(vec![], counts.collect::<Result<Vec<_>, DataFusionError>>()?)
        };
        let counts = self.one_row(table, plan).await.map_err(|error| explain(&error))?;
        Ok(conditions.keys().cloned().zip(counts).collect())
    }

    /// How many rows repeat an earlier one in these columns. As in SQL's UNIQUE, a row with a null in them repeats none.
    pub(crate) async fn duplicates(&self, table: MeshTable, columns: &[String]) -> Result<u64, String> {
        let schema = table.schema();
        let keys: Vec<Expr> = columns
            .iter()
            .map(|path| condition::resolve(path, &schema).map(|(value, _)| value))
            .collect::<Result<_, _>>()?;
        let plan = |frame: DataFrame| -> Result<DataFrame, DataFusionError> {
            let known = keys.iter().cloned().map(Expr::is_not_null).reduce(Expr::and).unwrap_or(lit(true));
            let groups = keys.iter().enumerate().map(|(at, key)| key.clone().alias(format!("k{at}"))).collect();
            frame
                .filter(known)?
                .aggregate(groups, vec![count(lit(1i64)).alias("n")])?
                .filter(col("n").gt(lit(1i64)))?
                .aggregate(vec![], vec![sum(col("n") - lit(1i64)).alias("repeated")])
        };
        let counts = self.one_row(table, plan).await.map_err(|error| explain(&error))?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// The one row of numbers that a plan over the table gives; null is none.
    async fn one_row(
        &self,
        table: MeshTable,
        plan: impl FnOnce(DataFrame) -> Result<DataFrame, DataFusionError>,
    ) -> Result<Vec<u64>, DataFusionError> {
        let frame = plan(self.session().read_table(Arc::new(table))?)?;
        let batches = frame.collect().await?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() == 1) else {
            return Err(DataFusionError::Internal("an aggregate without groups gave no row".to_owned()));
        };
        let number = |column: &datafusion::arrow::array::ArrayRef| -> Result<u64, DataFusionError> {
            let numbers = column.as_primitive_opt::<Int64Type>().ok_or_else(|| {
                DataFusionError::Internal(format!("a count is {}", column.data_type()))
            })?;
            let value = if numbers.len() == 1 && numbers.is_valid(0) { numbers.value(0) } else { 0 };
            u64::try_from(value).map_err(|_| DataFusionError::Internal(format!("a count is {value}")))
        };
        batch.columns().iter().map(number).collect()
    }
}

/// A failure without the rows' values: DataFusion's own messages quote them, and verdicts are for whoever may discover
/// the product (NO-LEAK). The whole of it goes to the log.
fn explain(error: &DataFusionError) -> String {
    tracing::warn!(%error, "rows cannot be counted");
    match error.find_root() {
        DataFusionError::External(cause) => match cause.downcast_ref::<mesh_lakehouse::scan::ScanError>() {
            Some(scan) => format!("[{}] {scan}", scan.code()),
            None => "the table's files cannot be read; quality's log says why".to_owned(),
        },
        DataFusionError::ResourcesExhausted(_) => {
            "the look-up needs more memory than `judge.memory_bytes` and room to spill; give quality more of either".to_owned()
        }
        _ => "the table's files cannot be read; quality's log says why".to_owned(),
    }
}
