//! Which files can hold a row of the answer.
//!
//! In: files and the reader's filters. Out: the files whose bounds (metrics, else partition values) do not rule every
//! row out. Never: a file left out on a bound that does not hold.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use iceberg::spec::TableMetadata;

use super::files::FileSet;
use super::statistics::{ColumnBounds, ScanColumn, bounds, columns_of};

/// Keeps the files of `files` that may hold a row for which all `filters` are true.
pub fn prune(
    state: &dyn Session,
    metadata: &TableMetadata,
    schema: &SchemaRef,
    files: &mut FileSet,
    filters: &[Expr],
) -> Result<()> {
    let Some(filter) = conjunction(filters.to_vec()) else { return Ok(()) };
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let physical = state.create_physical_expr(filter, &df_schema)?;
    let predicate = PruningPredicate::try_new(physical, Arc::clone(schema))?;
    if predicate.always_true() {
        return Ok(());
    }
    let keep = predicate.prune(&ManifestStatistics { metadata, schema, columns: columns_of(schema), files })?;
    files.retain(&keep);
    Ok(())
}

/// Manifest entries as containers that a predicate can be proven false for.
struct ManifestStatistics<'a> {
    metadata: &'a TableMetadata,
    schema: &'a SchemaRef,
    columns: Vec<ScanColumn>,
    files: &'a FileSet,
}

impl ManifestStatistics<'_> {
    fn column(&self, column: &Column) -> Option<&ScanColumn> {
        self.columns.get(self.schema.index_of(&column.name).ok()?)
    }

    fn bound(&self, column: &Column, pick: fn(ColumnBounds) -> Option<ScalarValue>) -> Option<ArrayRef> {
        let column = self.column(column)?;
        if column.data_type.is_nested() {
            return None;
        }
        let null = ScalarValue::try_new_null(&column.data_type).ok()?;
        let values = self
            .files
            .files()
            .iter()
            .map(|file| pick(bounds(self.metadata, file, column)).unwrap_or_else(|| null.clone()));
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for ManifestStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |bounds| bounds.lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |bounds| bounds.upper)
    }

    fn num_containers(&self) -> usize {
        self.files.files().len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let column = self.column(column)?;
        if column.data_type.is_nested() {
            return None;
        }
        let counts =
            self.files.files().iter().map(|f| f.data_file().null_value_counts().get(&column.field_id).copied());
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.files.files().iter().map(|f| Some(f.data_file().record_count()));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
