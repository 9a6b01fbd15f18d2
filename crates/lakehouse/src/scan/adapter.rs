//! Resolves a table's columns in a Parquet file by Iceberg field id, never by name or position.
//!
//! In: an expression over the table's schema. Out: the same over the file's: a renamed column is found by its id, an
//! added one is null, a promoted one (int → long, float → double, a wider decimal) is cast, a nested one is put
//! together from its parts, one that is wider than its contract is narrowed. A file without ids is read by the table's
//! name mapping.
//! Never: a column that only happens to have the name, a value that does not fit and is cut.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use iceberg::spec::NameMapping;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::error::ScanError;
use super::name_mapping;
use super::nested::FileColumnExpr;

/// A field's Iceberg id.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// What is the same for all files of a scan.
#[derive(Debug, Default)]
pub struct FieldIdAdapterFactory {
    mapping: Option<NameMapping>,
    /// Values of columns, by field id, in files that were written before the column was added.
    defaults: HashMap<i32, ScalarValue>,
    /// Floating-point columns that hold no NaN in any file of the scan.
    without_nan: HashSet<i32>,
}

impl FieldIdAdapterFactory {
    /// For files of a table; `mapping` gives names to those without ids.
    pub fn new(mapping: Option<NameMapping>, defaults: HashMap<i32, ScalarValue>, without_nan: HashSet<i32>) -> Self {
        Self { mapping, defaults, without_nan }
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let has_ids = file.fields().iter().any(|field| field_id(field).is_some());
        let fields = match &self.mapping {
            _ if has_ids || file.fields().is_empty() => file.fields().clone(),
            Some(mapping) => name_mapping::labelled(file.fields(), mapping),
            None => {
                let columns = file.fields().iter().map(|f| f.name().clone()).collect();
                return Err(ScanError::NoFieldIds { columns }.into());
            }
        };
        Ok(Arc::new(FieldIdAdapter {
            table,
            file: fields,
            defaults: self.defaults.clone(),
            without_nan: self.without_nan.clone(),
        }))
    }
}

#[derive(Debug)]
struct FieldIdAdapter {
    table: SchemaRef,
    /// The file's columns, with field ids.
    file: Fields,
    defaults: HashMap<i32, ScalarValue>,
    without_nan: HashSet<i32>,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform_down(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let new = self.column(column)?;
            // What stands for a column holds a column of the file: not to be looked at again.
            Ok(Transformed::new(new, true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
        })
        .data()
    }
}

impl FieldIdAdapter {
    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let Ok(wanted) = self.table.field_with_name(column.name()) else {
            return internal_err!("the scan's schema has no column {}", column.name());
        };
        match find(wanted, &self.file) {
            Some((index, found)) => self.present(wanted, index, found),
            None => self.missing(wanted),
        }
    }

    fn present(&self, wanted: &Field, index: usize, found: &FieldRef) -> Result<Arc<dyn PhysicalExpr>> {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(found.name(), index));
        // Parquet's bounds leave NaN out, and DataFusion prunes row groups by them: it must not see such a column.
        let may_be_nan =
            wanted.data_type().is_floating() && field_id(wanted).is_none_or(|id| !self.without_nan.contains(&id));
        if wanted.data_type() == found.data_type() && !may_be_nan {
            return Ok(column);
        }
        if wanted.data_type().is_nested() || may_be_nan || is_narrowing(found.data_type(), wanted.data_type()) {
            return Ok(Arc::new(FileColumnExpr::try_new(column, found, wanted)?));
        }
        check_promotion(wanted.name(), found.data_type(), wanted.data_type())?;
        Ok(Arc::new(CastExpr::new(column, wanted.data_type().clone(), None)))
    }

    fn missing(&self, wanted: &Field) -> Result<Arc<dyn PhysicalExpr>> {
        let default = field_id(wanted).and_then(|id| self.defaults.get(&id));
        if let Some(default) = default {
            return Ok(Arc::new(Literal::new(default.cast_to(wanted.data_type())?)));
        }
        if !wanted.is_nullable() {
            return Err(ScanError::RequiredMissing { column: wanted.name().clone() }.into());
        }
        Ok(Arc::new(Literal::new(ScalarValue::try_new_null(wanted.data_type())?)))
    }
}

/// The field of `fields` that has the id of `wanted`.
pub(super) fn find<'a>(wanted: &Field, fields: &'a [FieldRef]) -> Option<(usize, &'a FieldRef)> {
    let id = field_id(wanted)?;
    fields.iter().enumerate().find(|(_, field)| field_id(field) == Some(id))
}

/// Whether a file has a column in a wider type than it is read as: another engine widened it, and its contract did not.
pub(super) fn is_narrowing(found: &DataType, wanted: &DataType) -> bool {
    use DataType as D;
    match (found, wanted) {
        (D::Int64, D::Int32) | (D::Float64, D::Float32) => true,
        (D::Decimal128(p, s), D::Decimal128(narrower, same)) => narrower < p && same == s,
        _ => false,
    }
}

/// Whether a leaf of a file may become a leaf of the table: Iceberg's promotions, and other encodings of one type.
pub(super) fn check_promotion(column: &str, found: &DataType, wanted: &DataType) -> Result<(), ScanError> {
    use DataType as D;
    let allowed = found == wanted
        || is_narrowing(found, wanted)
        || match (found, wanted) {
            (D::Int32, D::Int64) | (D::Float32, D::Float64) => true,
            (D::Decimal128(p, s), D::Decimal128(wider, same)) => wider >= p && same == s,
            // Readers name UTC differently, and strings and bytes have several layouts.
            (D::Timestamp(a, za), D::Timestamp(b, zb)) => a == b && za.is_some() == zb.is_some(),
            (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::Utf8 | D::LargeUtf8 | D::Utf8View) => true,
            (D::Binary | D::LargeBinary | D::BinaryView, D::Binary | D::LargeBinary | D::BinaryView) => true,
            _ => false,
        };
    if allowed {
        return Ok(());
    }
    Err(ScanError::NoPromotion { column: column.to_owned(), found: found.to_string(), wanted: wanted.to_string() })
}
