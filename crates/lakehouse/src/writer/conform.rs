//! A batch in the table's own Arrow schema: columns by name, field metadata and names of nested fields the table's.
//! Only what changes no value is converted; anything else is an error.

use std::sync::Arc;

use arrow::compute::cast;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeListArray, ListArray, MapArray, RecordBatch, StructArray};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef, TimeUnit};
use iceberg::TableIdent;

use crate::error::{LakehouseError, Result};

/// The batch with the table's schema.
pub(super) fn conform(table: &TableIdent, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let conformed = || {
        let columns = schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| missing(field))?;
            array(column, field)
        });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        if let Some(stranger) = batch.schema_ref().fields().iter().find(|f| schema.field_with_name(f.name()).is_err()) {
            return Err(ArrowError::SchemaError(format!("the table has no column `{}`", stranger.name())));
        }
        RecordBatch::try_new(schema.clone(), columns)
    };
    conformed().map_err(|e: ArrowError| LakehouseError::Rows { table: table.clone(), source: Box::new(e) })
}

fn array(from: &ArrayRef, to: &Field) -> Result<ArrayRef, ArrowError> {
    if from.data_type() == to.data_type() {
        return Ok(from.clone());
    }
    match (from.data_type(), to.data_type()) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let old = from.as_struct();
            let columns = fields.iter().map(|f| array(old.column_by_name(f.name()).ok_or_else(|| missing(f))?, f));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, old.nulls().cloned(), old.len())?))
        }
        (DataType::List(_), DataType::List(element)) => {
            let (_, offsets, values, nulls) = from.as_list::<i32>().clone().into_parts();
            Ok(Arc::new(ListArray::try_new(element.clone(), offsets, array(&values, element)?, nulls)?))
        }
        (DataType::LargeList(_), DataType::LargeList(element)) => {
            let (_, offsets, values, nulls) = from.as_list::<i64>().clone().into_parts();
            Ok(Arc::new(LargeListArray::try_new(element.clone(), offsets, array(&values, element)?, nulls)?))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let (_, offsets, old, nulls, _) = from.as_map().clone().into_parts();
            let DataType::Struct(fields) = entries.data_type() else { return Err(differs(from, to)) };
            let columns = old.columns().iter().zip(fields).map(|(column, field)| array(column, field));
            let new =
                StructArray::try_new(fields.clone(), columns.collect::<Result<Vec<_>, _>>()?, old.nulls().cloned())?;
            Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, new, nulls, *sorted)?))
        }
        (old, new) if same_values(old, new) => cast(from, new),
        _ => Err(differs(from, to)),
    }
}

/// Types whose cast changes no value.
fn same_values(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Timestamp, Utf8, Utf8View};
    match (from, to) {
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView)
        | (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        // Both are instants; the zone is only how they are shown.
        (Timestamp(TimeUnit::Microsecond, Some(_)), Timestamp(TimeUnit::Microsecond, Some(_))) => true,
        (DataType::Dictionary(_, value), to) => value.as_ref() == to || same_values(value, to),
        _ => false,
    }
}

fn missing(field: &Field) -> ArrowError {
    ArrowError::SchemaError(format!("the column `{}` is missing", field.name()))
}

fn differs(from: &ArrayRef, to: &Field) -> ArrowError {
    ArrowError::SchemaError(format!(
        "the column `{}` is {} where the table has {}",
        to.name(),
        from.data_type(),
        to.data_type()
    ))
}
