//! Puts what can make long values behind what counts them, everywhere in a plan.
//!
//! In: a plan, the query's memory pool. Out: the same plan, with names as they were. Never: a constant that is made
//! for each row without being counted, a list for each row that grows with the rows before it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, ScalarUDF};

use super::counted::{Concatenation, Counted};
use super::sizes::Size;

/// A constant may be there once for each row of a batch.
const BATCH_ROWS: usize = 8192;
/// Constants of a statement that are not counted.
const FREE: usize = 16 << 10;
/// Centroids of an approximate percentile; DataFusion's default is 100.
const CENTROIDS: i64 = 10_000;

/// The places of one query's functions in its memory pool.
#[derive(Debug)]
pub struct Constants {
    /// Of constants: held until the query ends.
    kept: MemoryReservation,
}

impl Constants {
    pub(super) fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        Self { kept: MemoryConsumer::new("functions").register(pool) }
    }

    /// A place for what a function makes.
    pub(super) fn place(&self, bytes: u64) -> Result<MemoryReservation> {
        let place = self.kept.new_empty();
        place.try_grow(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        Ok(place)
    }

    /// Keeps room for a constant, once for each row.
    pub(super) fn keep(&self, bytes: usize) -> Result<()> {
        self.kept.try_grow(bytes.saturating_mul(BATCH_ROWS))
    }
}

/// The plan with its functions counted; the constants must live as long as it runs.
pub fn guard(plan: LogicalPlan, pool: &Arc<dyn MemoryPool>) -> Result<(LogicalPlan, Arc<Constants>)> {
    let constants = Arc::new(Constants::new(pool));
    let literals = literals(&plan)?;
    constants.keep(literals.saturating_sub(FREE))?;
    let guarded = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| counted(expr, &constants))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok((guarded.data, constants))
}

fn counted(expr: Expr, constants: &Arc<Constants>) -> Result<Transformed<Expr>> {
    let call = |inner: Arc<ScalarUDF>, size, args| {
        let counted = Counted::new(inner, size, Arc::clone(constants));
        Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(counted.into()), args)))
    };
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => match Size::of(func.name()) {
            Some(size) => Ok(call(func, size, args)),
            None => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            Ok(call(Arc::new(Concatenation::new().into()), Size::Sum, vec![*left, *right]))
        }
        Expr::WindowFunction(window) => windowed(*window),
        Expr::AggregateFunction(aggregate) => aggregated(aggregate),
        other => Ok(Transformed::no(other)),
    }
}

/// A list for each row, of all rows around it, is as large as the square of the rows.
fn windowed(window: WindowFunction) -> Result<Transformed<Expr>> {
    match window.fun.name() {
        name @ ("array_agg" | "string_agg") => {
            plan_err!("{name} makes a list for each row when it is used with OVER; group by the rows' key, then join")
        }
        _ => Ok(Transformed::no(Expr::WindowFunction(Box::new(window)))),
    }
}

/// The sketch of a percentile is as large as its last argument says.
fn aggregated(aggregate: AggregateFunction) -> Result<Transformed<Expr>> {
    let arguments = match aggregate.func.name() {
        "approx_percentile_cont" => 2,
        "approx_percentile_cont_with_weight" => 3,
        _ => usize::MAX,
    };
    let number = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.cast_to(&arrow_schema::DataType::Int64).ok(),
        _ => None,
    };
    match aggregate.params.args.get(arguments).map(number) {
        None => Ok(Transformed::no(Expr::AggregateFunction(aggregate))),
        Some(Some(ScalarValue::Int64(Some(1..=CENTROIDS)))) => Ok(Transformed::no(Expr::AggregateFunction(aggregate))),
        Some(_) => plan_err!("{} takes from 1 to {CENTROIDS} centroids, as a number", aggregate.func.name()),
    }
}

/// Bytes of the constants that may be made for each row: all but the members of `IN (…)` and the rows of `VALUES`.
fn literals(plan: &LogicalPlan) -> Result<usize> {
    let mut bytes = 0usize;
    plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Values(_)) {
            return Ok(TreeNodeRecursion::Continue);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| match expr {
                Expr::InList(_) => Ok(TreeNodeRecursion::Jump),
                Expr::Literal(value, _) => {
                    bytes = bytes.saturating_add(length(value));
                    Ok(TreeNodeRecursion::Continue)
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(bytes)
}

/// Numbers are no matter.
fn length(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            text.len()
        }
        ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) => bytes.len(),
        _ => 0,
    }
}
