//! Which of the reader's predicates may run within the barrier, on rows and values that the reader may not see.
//!
//! Only such as cannot fail and cannot tell anything but true or false about a bare, unmasked column: a comparison with
//! a literal of the column's own type, and a dynamic filter whose inputs are such columns.
//!
//! And only where the policy's own filters cannot fail either: a predicate that prunes files would decide whether they
//! do, so that who asks often enough finds the hidden row that breaks them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;

/// Whether no filter of a plan can fail on any row. Masks never do.
pub(super) fn cannot_fail(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let here = plan.downcast_ref::<FilterExec>().is_none_or(|filter| is_safe(filter.predicate()));
    here && plan.children().into_iter().all(cannot_fail)
}

/// Comparisons of columns and literals, and what joins them.
fn is_safe(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let known = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => binary.op().is_logic_operator() || compares(binary.op()),
        None => {
            expr.downcast_ref::<Column>().is_some()
                || expr.downcast_ref::<Literal>().is_some()
                || expr.downcast_ref::<NotExpr>().is_some()
                || expr.downcast_ref::<IsNullExpr>().is_some()
                || expr.downcast_ref::<IsNotNullExpr>().is_some()
                || expr.downcast_ref::<InListExpr>().is_some()
                || expr.downcast_ref::<LikeExpr>().is_some()
        }
    };
    known && expr.children().into_iter().all(is_safe)
}

/// Whether `predicate`, over the barrier's output `schema`, may be taken.
pub(super) fn acceptable(predicate: &Arc<dyn PhysicalExpr>, schema: &Schema, masked: &BTreeSet<String>) -> bool {
    if let Some(dynamic) = predicate.downcast_ref::<DynamicFilterPhysicalExpr>() {
        let inputs = dynamic.children();
        return !inputs.is_empty() && inputs.into_iter().all(|input| bare_column(input, schema, masked).is_some());
    }
    let Some(comparison) = predicate.downcast_ref::<BinaryExpr>() else { return false };
    compares(comparison.op())
        && (column_and_literal(comparison.left(), comparison.right(), schema, masked)
            || column_and_literal(comparison.right(), comparison.left(), schema, masked))
}

fn compares(operator: &Operator) -> bool {
    use Operator as O;
    matches!(operator, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq)
}

fn column_and_literal(
    column: &Arc<dyn PhysicalExpr>,
    literal: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
    masked: &BTreeSet<String>,
) -> bool {
    let Some(data_type) = bare_column(column, schema, masked) else { return false };
    literal.downcast_ref::<Literal>().is_some_and(|l| l.value().data_type() == *data_type)
}

/// The type of a bare, unmasked column that is not nested.
fn bare_column<'a>(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &'a Schema,
    masked: &BTreeSet<String>,
) -> Option<&'a DataType> {
    let column = expr.downcast_ref::<Column>()?;
    let field = schema.fields().get(column.index()).filter(|field| field.name() == column.name())?;
    (!masked.contains(field.name()) && !field.data_type().is_nested()).then(|| field.data_type())
}
