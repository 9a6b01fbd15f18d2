//! A product as a restricted reader's table.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;

use super::exec::GovernedScanExec;
use super::restriction::Restriction;
use super::rows::Sealed;

/// The column that says where a row came from: it would undo a mask, and its gaps would count what was filtered.
const PROVENANCE: &str = "_mesh";

/// A table behind the barrier.
pub struct GovernedTable {
    name: Arc<str>,
    within: Arc<dyn TableProvider>,
    restriction: Restriction,
    schema: SchemaRef,
    rows: usize,
    /// Reading a value may fail, whatever the policy's filters do.
    can_fail: bool,
}

/// Plans are printed, and so is what they read.
impl std::fmt::Debug for GovernedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GovernedTable").field("name", &self.name).finish_non_exhaustive()
    }
}

impl GovernedTable {
    /// `within` as the restriction shows it; `rows` is its row count.
    pub fn new(name: &str, within: Arc<dyn TableProvider>, restriction: Restriction, rows: usize) -> Self {
        let schema = shown_schema(&within.schema(), |column| restriction.masks.contains_key(column));
        Self { name: name.into(), within, restriction, schema, rows, can_fail: false }
    }

    /// Whether reading a value of `within` may fail: then no predicate of the reader's decides which are read.
    pub fn failing_on_values(self, can_fail: bool) -> Self {
        Self { can_fail, ..self }
    }

    /// The plan within: all rows, the policy's filters, then the masks.
    pub(super) fn logical_plan(&self, columns: &Schema) -> Result<LogicalPlan> {
        let mut plan = LogicalPlanBuilder::scan("within", provider_as_source(Arc::clone(&self.within)), None)?;
        if let Some(filter) = conjunction(self.restriction.filters.clone()) {
            plan = plan.filter(filter)?;
        }
        let mut shown: Vec<Expr> = columns.fields().iter().map(|field| self.shown(field)).collect();
        if shown.is_empty() {
            // A plan needs a column; the rows are counted, it is left out.
            shown.push(lit(true));
        }
        plan.project(shown)?.build()
    }

    fn shown(&self, field: &Field) -> Expr {
        let column = ident(field.name());
        match self.restriction.masks.get(field.name()) {
            Some(mask) => mask.call(vec![column]).alias(field.name()),
            None => column,
        }
    }
}

/// The columns of a table that a restricted reader sees.
pub fn shown_schema(within: &Schema, masked: impl Fn(&str) -> bool) -> SchemaRef {
    let shown = |field: &Field| match masked(field.name()) {
        true => Field::new(field.name(), field.data_type().clone(), true),
        false => field.clone(),
    };
    let fields = within.fields().iter().filter(|field| field.name() != PROVENANCE);
    Arc::new(Schema::new(fields.map(|field| shown(field)).collect::<Vec<_>>()))
}

#[async_trait]
impl TableProvider for GovernedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        // The planner would look into it.
        None
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    /// A limit is never taken: rows that are filtered away would count against it.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return internal_err!("a governed scan needs a full session");
        };
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let within = self.plan_within(state, &schema).await.map_err(|cause| Sealed::seal(&self.name, &cause))?;
        let masked: BTreeSet<String> = self.restriction.masks.keys().cloned().collect();
        let scan = GovernedScanExec::new(Arc::clone(&self.name), schema, masked, self.rows, within);
        Ok(Arc::new(scan.failing_on_values(self.can_fail)))
    }
}

impl GovernedTable {
    /// Planned and optimised apart from the reader's plan, for one thread: visible rows come out in the order in which
    /// they were written. With several, their order would tell how the hidden ones are spread over files.
    async fn plan_within(&self, state: &SessionState, schema: &Schema) -> Result<Arc<dyn ExecutionPlan>> {
        let config = state.config().clone().with_target_partitions(1);
        let state = SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build();
        let plan = state.create_physical_plan(&self.logical_plan(schema)?).await?;
        Ok(match plan.properties().partitioning.partition_count() {
            // A table that never had a snapshot.
            0 => Arc::new(EmptyExec::new(plan.schema())),
            1 => plan,
            _ => Arc::new(CoalescePartitionsExec::new(plan)),
        })
    }
}
