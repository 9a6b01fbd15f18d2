//! A column of a file as the table's: structs, lists and maps put together part by part, by field id.
//!
//! Only leaves of another type are cast; all else shares the file's buffers. The planner cannot look into it, so that
//! nothing is pruned by bounds that do not hold for the table's values.
//! Never: a value that does not fit its contract's type and is cut.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, LargeListArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::adapter::{check_promotion, find, is_narrowing};
use super::error::ScanError;

/// Rebuilds a column in the table's type.
#[derive(Debug, Clone)]
pub(super) struct FileColumnExpr {
    input: Arc<dyn PhysicalExpr>,
    /// The file's field, with field ids: arrays of a file that is read by a name mapping have none.
    found: FieldRef,
    wanted: FieldRef,
}

impl FileColumnExpr {
    /// Fails if some part cannot become what the table wants.
    pub(super) fn try_new(input: Arc<dyn PhysicalExpr>, found: &FieldRef, wanted: &Field) -> Result<Self> {
        check(found, wanted)?;
        Ok(Self { input, found: Arc::clone(found), wanted: Arc::new(wanted.clone()) })
    }
}

impl fmt::Display for FileColumnExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by_field_id({})", self.input)
    }
}

impl PartialEq for FileColumnExpr {
    fn eq(&self, other: &Self) -> bool {
        self.input.eq(&other.input) && self.found == other.found && self.wanted == other.wanted
    }
}

impl Eq for FileColumnExpr {}

impl Hash for FileColumnExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.found.hash(state);
        self.wanted.hash(state);
    }
}

impl PhysicalExpr for FileColumnExpr {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(self.wanted.data_type().clone())
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(self.wanted.is_nullable())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.input.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(rebuild(&array, &self.found, &self.wanted)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.into_iter().next() {
            Some(input) => Ok(Arc::new(Self { input, ..self.as_ref().clone() })),
            None => internal_err!("a file's column without its input"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether `found` can be rebuilt as `wanted`, before any row is read.
fn check(found: &Field, wanted: &Field) -> Result<(), ScanError> {
    use DataType as D;
    match (found.data_type(), wanted.data_type()) {
        (D::Struct(found), D::Struct(wanted)) => wanted.iter().try_for_each(|part| match find(part, found) {
            Some((_, found)) => check(found, part),
            None if part.is_nullable() => Ok(()),
            None => Err(ScanError::RequiredMissing { column: part.name().clone() }),
        }),
        (D::List(found) | D::LargeList(found), D::List(wanted) | D::LargeList(wanted)) => check(found, wanted),
        (D::Map(found, _), D::Map(wanted, _)) => match (found.data_type(), wanted.data_type()) {
            (D::Struct(found), D::Struct(wanted)) if found.len() == 2 && wanted.len() == 2 => {
                found.iter().zip(wanted.iter()).try_for_each(|(found, wanted)| check(found, wanted))
            }
            _ => mismatch(found, wanted),
        },
        (found_type, wanted_type) if found_type.is_nested() || wanted_type.is_nested() => mismatch(found, wanted),
        (found, wanted_type) => check_promotion(wanted.name(), found, wanted_type),
    }
}

fn mismatch(found: &Field, wanted: &Field) -> Result<(), ScanError> {
    Err(ScanError::NoPromotion {
        column: wanted.name().clone(),
        found: found.data_type().to_string(),
        wanted: wanted.data_type().to_string(),
    })
}

fn rebuild(array: &ArrayRef, found: &Field, wanted: &Field) -> Result<ArrayRef> {
    if array.data_type() == wanted.data_type() {
        return Ok(Arc::clone(array));
    }
    match (found.data_type(), wanted.data_type()) {
        (DataType::Struct(found), DataType::Struct(parts)) => {
            Ok(Arc::new(rebuild_struct(array.as_struct(), found, parts)?))
        }
        (DataType::List(found), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = rebuild(list.values(), found, item)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (DataType::LargeList(found), DataType::LargeList(item)) => {
            let list = array.as_list::<i64>();
            let values = rebuild(list.values(), found, item)?;
            Ok(Arc::new(LargeListArray::try_new(
                Arc::clone(item),
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?))
        }
        (DataType::Map(found, _), DataType::Map(entries, sorted)) => {
            rebuild_map(array.as_map(), found, entries, *sorted)
        }
        (found_type, wanted_type) if is_narrowing(found_type, wanted_type) => narrowed(array, wanted),
        _ => Ok(cast(array, wanted.data_type())?),
    }
}

/// A column that is wider than its contract, in the contract's type; an error if a value does not fit. The error names
/// no value: the reader may not be the one who may see it.
fn narrowed(array: &ArrayRef, wanted: &Field) -> Result<ArrayRef> {
    let too_wide = || ScanError::TooWide {
        column: wanted.name().clone(),
        found: array.data_type().to_string(),
        wanted: wanted.data_type().to_string(),
    };
    let narrow = cast_with_options(array, wanted.data_type(), &CastOptions { safe: true, ..CastOptions::default() })?;
    let fits = narrow.null_count() == array.null_count();
    // Doubles become floats by rounding: only those that come back are the same.
    let back = cast(&narrow, array.data_type())?;
    if fits && back.to_data() == array.to_data() { Ok(narrow) } else { Err(too_wide().into()) }
}

fn rebuild_struct(array: &StructArray, found: &Fields, wanted: &Fields) -> Result<StructArray> {
    let part = |part: &FieldRef| match find(part, found) {
        Some((index, found)) => rebuild(array.column(index), found, part),
        None => Ok(new_null_array(part.data_type(), array.len())),
    };
    let columns = wanted.iter().map(part).collect::<Result<Vec<_>>>()?;
    Ok(StructArray::try_new_with_length(wanted.clone(), columns, array.nulls().cloned(), array.len())?)
}

/// Keys and values keep their places: a map has no others.
fn rebuild_map(map: &MapArray, found: &Field, entries: &FieldRef, sorted: bool) -> Result<ArrayRef> {
    let (DataType::Struct(found), DataType::Struct(parts)) = (found.data_type(), entries.data_type()) else {
        return internal_err!("a map without entries");
    };
    let ([found_key, found_value], [key, value]) = (found.as_ref(), parts.as_ref()) else {
        return internal_err!("a map's entries are not a pair");
    };
    let columns = vec![rebuild(map.keys(), found_key, key)?, rebuild(map.values(), found_value, value)?];
    let rebuilt = StructArray::try_new_with_length(parts.clone(), columns, None, map.entries().len())?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), map.offsets().clone(), rebuilt, map.nulls().cloned(), sorted)?))
}
