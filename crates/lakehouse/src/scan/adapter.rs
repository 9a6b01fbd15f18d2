//! Resolves a table's columns in a Parquet file by Iceberg field id, never by name or position.
//!
//! In: an expression over the table's schema. Out: the same over the file's: a renamed column is found by its id, an
//! added one is null, a promoted one (int → long, float → double, a wider decimal) is cast, a nested one is put
//! together from its parts. Never: a column that only happens to have the name, a cast that can fail.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::error::ScanError;
use super::nested::NestedExpr;

/// A field's Iceberg id.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Makes a [`PhysicalExprAdapter`] for each file.
#[derive(Debug)]
pub struct FieldIdAdapterFactory;

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let no_ids = !file.fields().is_empty() && file.fields().iter().all(|f| field_id(f).is_none());
        if no_ids {
            let columns = file.fields().iter().map(|f| f.name().clone()).collect();
            return Err(ScanError::NoFieldIds { columns }.into());
        }
        Ok(Arc::new(FieldIdAdapter { table, file }))
    }
}

#[derive(Debug)]
struct FieldIdAdapter {
    table: SchemaRef,
    file: SchemaRef,
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
        match find(wanted, self.file.fields()) {
            Some((index, found)) => present(wanted, index, found),
            None => missing(wanted),
        }
    }
}

/// The field of `fields` that has the id of `wanted`.
pub(super) fn find<'a>(wanted: &Field, fields: &'a [FieldRef]) -> Option<(usize, &'a FieldRef)> {
    let id = field_id(wanted)?;
    fields.iter().enumerate().find(|(_, field)| field_id(field) == Some(id))
}

fn present(wanted: &Field, index: usize, found: &FieldRef) -> Result<Arc<dyn PhysicalExpr>> {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(found.name(), index));
    if wanted.data_type() == found.data_type() {
        return Ok(column);
    }
    if wanted.data_type().is_nested() {
        return Ok(Arc::new(NestedExpr::try_new(column, found, wanted)?));
    }
    check_promotion(wanted.name(), found.data_type(), wanted.data_type())?;
    Ok(Arc::new(CastExpr::new(column, wanted.data_type().clone(), None)))
}

fn missing(wanted: &Field) -> Result<Arc<dyn PhysicalExpr>> {
    if !wanted.is_nullable() {
        return Err(ScanError::RequiredMissing { column: wanted.name().clone() }.into());
    }
    Ok(Arc::new(Literal::new(ScalarValue::try_new_null(wanted.data_type())?)))
}

/// Whether a leaf of a file may become a leaf of the table: Iceberg's promotions, and other encodings of one type.
pub(super) fn check_promotion(column: &str, found: &DataType, wanted: &DataType) -> Result<(), ScanError> {
    use DataType as D;
    let allowed = found == wanted
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
