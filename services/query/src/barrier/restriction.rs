//! A reading's filters and masks, bound to a table's columns.
//!
//! In: what the policy answered, as text. Out: expressions over the table. Never: a filter that cannot be parsed or is
//! no condition, a mask that does not fit, taken for "no restriction" (NEVER-SILENT).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};
use mesh_policy::{MaskAction, RowFilter};

use super::mask::{Mask, MaskKeys};

/// What keeps a policy's answer from being applied. The reader gets its code only: the text names the policy.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// The expression is no SQL over the table's columns.
    #[error("the row filter {expression:?} of package `{package}` cannot be parsed over {table}'s columns")]
    FilterSyntax {
        package: String,
        expression: String,
        table: String,
        #[source]
        source: Box<DataFusionError>,
    },
    /// The expression's value is no boolean, or it needs more than one row.
    #[error(
        "the row filter {expression:?} of package `{package}` is {found}, where a condition on one row of {table} is needed"
    )]
    NoCondition { package: String, expression: String, table: String, found: String },
    /// The column has another type than the action can mask, or is not there.
    #[error("the mask `{action}` does not fit column `{column}` of {table}, which is {found}")]
    UnfitMask { table: String, column: String, action: &'static str, found: String },
}

/// Filters and masks over one table.
#[derive(Clone, Debug)]
pub struct Restriction {
    pub(super) filters: Vec<Expr>,
    pub(super) masks: BTreeMap<String, Arc<ScalarUDF>>,
}

impl Restriction {
    /// Binds a policy's answer to a table. `schema` is the unmasked one: row filters see original values.
    pub fn bind(
        state: &SessionState,
        table: &str,
        schema: &Schema,
        filters: &[RowFilter],
        masks: &BTreeMap<String, MaskAction>,
        keys: &MaskKeys,
    ) -> Result<Self, BarrierError> {
        let filters = filters.iter().map(|filter| condition(state, table, schema, filter));
        let masks = masks.iter().map(|(column, action)| {
            let mask = fitting_mask(table, schema, column, *action, keys)?;
            Ok((column.clone(), mask))
        });
        Ok(Self { filters: filters.collect::<Result<_, _>>()?, masks: masks.collect::<Result<_, _>>()? })
    }

    /// The names of the masked columns.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        self.masks.keys().map(String::as_str)
    }

    /// Whether rows are filtered.
    pub fn filters_rows(&self) -> bool {
        !self.filters.is_empty()
    }
}

fn condition(state: &SessionState, table: &str, schema: &Schema, filter: &RowFilter) -> Result<Expr, BarrierError> {
    let syntax = |source: DataFusionError| BarrierError::FilterSyntax {
        package: filter.package.clone(),
        expression: filter.expression.clone(),
        table: table.to_owned(),
        source: Box::new(source),
    };
    let no_condition = |found: String| BarrierError::NoCondition {
        package: filter.package.clone(),
        expression: filter.expression.clone(),
        table: table.to_owned(),
        found,
    };
    let df_schema = DFSchema::try_from(schema.clone()).map_err(syntax)?;
    let expr = state.create_logical_expr(&filter.expression, &df_schema).map_err(syntax)?;
    let many_rows = |e: &Expr| {
        Ok(matches!(
            e,
            Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::Unnest(_)
        ))
    };
    if expr.exists(many_rows).map_err(syntax)? {
        return Err(no_condition("about several rows".to_owned()));
    }
    match expr.get_type(&df_schema).map_err(syntax)? {
        DataType::Boolean => Ok(expr),
        other => Err(no_condition(other.to_string())),
    }
}

fn fitting_mask(
    table: &str,
    schema: &Schema,
    column: &str,
    action: MaskAction,
    keys: &MaskKeys,
) -> Result<Arc<ScalarUDF>, BarrierError> {
    let found = schema.field_with_name(column).map(|field| field.data_type().clone());
    match found {
        Ok(found) if Mask::fits(action, &found) => {
            Ok(Arc::new(ScalarUDF::new_from_impl(Mask::new(action, keys.clone()))))
        }
        found => Err(BarrierError::UnfitMask {
            table: table.to_owned(),
            column: column.to_owned(),
            action: action.name(),
            found: found.map_or_else(|_| "not there".to_owned(), |found| found.to_string()),
        }),
    }
}
