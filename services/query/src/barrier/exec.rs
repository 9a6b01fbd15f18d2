//! `GovernedScanExec`: the leaf that a restricted reader's plan has for a product.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, reset_plan_states};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

use futures::{StreamExt as _, TryStreamExt as _};

use super::accept::{acceptable, cannot_fail};
use super::rows::{Rows, Sealed};

/// A product behind the barrier. What it shows of itself depends on nothing that the reader may not see.
#[derive(Clone)]
pub struct GovernedScanExec {
    table: Arc<str>,
    masked: Arc<BTreeSet<String>>,
    rounded_rows: usize,
    properties: Arc<PlanProperties>,
    /// Policy filters, masks, and the reader's predicates that were taken.
    within: Arc<dyn ExecutionPlan>,
    /// Whether predicates may be taken at all.
    takes: bool,
}

impl GovernedScanExec {
    /// A leaf around `within`, which has one partition and whose first columns are those of `schema`. `rows` is the table's row count at its
    /// snapshot, which every reader that may discover the product may know.
    pub(super) fn new(
        table: Arc<str>,
        schema: SchemaRef,
        masked: BTreeSet<String>,
        rows: usize,
        within: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let rounded_rows = power_of_ten(rows);
        let takes = cannot_fail(&within);
        Self { table, masked: Arc::new(masked), rounded_rows, properties: Arc::new(properties), within, takes }
    }

    /// Takes no predicate if reading a value may fail.
    pub(super) fn failing_on_values(self, can_fail: bool) -> Self {
        Self { takes: self.takes && !can_fail, ..self }
    }

    /// The plan within, for tests of what it takes.
    #[cfg(test)]
    pub(super) fn within(&self) -> Arc<dyn ExecutionPlan> {
        Arc::clone(&self.within)
    }

    /// The same with the reader's predicates within, so that files and row groups are pruned by them.
    fn taking(
        &self,
        phase: FilterPushdownPhase,
        taken: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<Self> {
        let filtered: Arc<dyn ExecutionPlan> =
            Arc::new(FilterExec::try_new(conjunction(taken), Arc::clone(&self.within))?);
        let rule = match phase {
            FilterPushdownPhase::Pre => FilterPushdown::new(),
            FilterPushdownPhase::Post => FilterPushdown::new_post_optimization(),
        };
        Ok(Self { within: rule.optimize(filtered, config)?, ..self.clone() })
    }
}

/// The rows of a plan whose policy can fail on some of them, after all of them have been tried: how far a reader reads
/// must not decide whether it fails.
fn proven(
    within: Arc<dyn ExecutionPlan>,
    partition: usize,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let schema = within.schema();
    let mut tried = within.execute(partition, Arc::clone(&context))?;
    let rows = async move {
        while let Some(batch) = tried.next().await {
            batch?;
        }
        reset_plan_states(within)?.execute(partition, context)
    };
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(rows).try_flatten())))
}

/// The nearest power of ten, so that planners can order joins and no reader can count. Nothing stays nothing.
fn power_of_ten(rows: usize) -> usize {
    match rows {
        0 => 0,
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        _ => 10usize.saturating_pow((rows as f64).log10().round() as u32),
    }
}

impl fmt::Debug for GovernedScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernedScanExec").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DisplayAs for GovernedScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "GovernedScanExec: table={}, columns=[{}]", self.table, columns.join(", "))
    }
}

impl ExecutionPlan for GovernedScanExec {
    fn name(&self) -> &'static str {
        "GovernedScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a governed scan has no children") }
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { within: reset_plan_states(Arc::clone(&self.within))?, ..self.as_ref().clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let seal = |cause: DataFusionError| Sealed::seal(&self.table, &cause);
        let batch_rows = context.session_config().batch_size();
        let within = match self.takes {
            true => self.within.execute(partition, context),
            false => proven(Arc::clone(&self.within), partition, context),
        };
        let within = within.map_err(seal)?;
        Ok(Box::pin(Rows::new(Arc::clone(&self.table), self.schema(), within, batch_rows)))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut known = Statistics::new_unknown(&self.schema());
        if partition.is_none() {
            known.num_rows = Precision::Inexact(self.rounded_rows);
        }
        Ok(Arc::new(known))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        Ok(FilterDescription::all_unsupported(&parent_filters, &self.children()))
    }

    /// Takes what may be taken, and says that it took nothing: the reader's filter runs again outside, where it would
    /// have run if it had not been taken. What was taken shows nowhere.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        results: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = results.parent_filters.into_iter().map(|result| result.filter);
        let (all, taken): (Vec<PushedDown>, Vec<_>) = filters
            .map(|filter| {
                let takes = self.takes && acceptable(&filter, &self.schema(), &self.masked);
                (PushedDown::No, takes.then_some(filter))
            })
            .unzip();
        let taken: Vec<_> = taken.into_iter().flatten().collect();
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(all);
        if taken.is_empty() {
            return Ok(propagation);
        }
        Ok(propagation.with_updated_node(Arc::new(self.taking(phase, taken, config)?) as _))
    }
}

#[cfg(test)]
mod tests {
    use super::power_of_ten;

    #[test]
    fn a_row_count_is_a_power_of_ten() {
        for (rows, expected) in [(0, 0), (1, 1), (3, 1), (4, 10), (26_993, 10_000), (40_000, 100_000)] {
            assert_eq!(power_of_ten(rows), expected, "{rows}");
        }
    }
}
