//! Measures of values: length, pattern, number and repetition of items.
//!
//! In: an array and limits. Out: a mask, true where a value is outside of them; null values are within.

use std::collections::HashSet;

use arrow::row::{RowConverter, SortField};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{ArrowError, DataType};

/// True where the text (a uuid in its usual form) fails.
pub(super) fn texts(values: &ArrayRef, fails: impl Fn(&str) -> bool) -> Result<BooleanArray, ArrowError> {
    match values.data_type() {
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            let mask = BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && fails(values.value(at)));
            Ok(BooleanArray::new(mask, None))
        }
        DataType::FixedSizeBinary(16) => {
            let values = values.as_fixed_size_binary();
            let text = |at| uuid::Uuid::from_slice(values.value(at)).map(|uuid| uuid.to_string()).unwrap_or_default();
            let mask = BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && fails(&text(at)));
            Ok(BooleanArray::new(mask, None))
        }
        other => Err(ArrowError::ComputeError(format!("a constraint on text stands on a column of {other}"))),
    }
}

/// True where the length is out of range: characters of text, bytes of binary.
pub(super) fn lengths(values: &ArrayRef, least: usize, most: usize) -> Result<BooleanArray, ArrowError> {
    let out = |length: usize| length < least || length > most;
    match values.data_type() {
        // As many characters as bytes at most: what is short enough in bytes need not be counted.
        DataType::Utf8 => texts(values, |text| {
            let bytes = text.len();
            (bytes > most || least > 0) && out(if text.is_ascii() { bytes } else { text.chars().count() })
        }),
        DataType::Binary => {
            let values = values.as_binary::<i32>();
            let mask =
                BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && out(values.value(at).len()));
            Ok(BooleanArray::new(mask, None))
        }
        DataType::LargeBinary => {
            let values = values.as_binary::<i64>();
            let mask =
                BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && out(values.value(at).len()));
            Ok(BooleanArray::new(mask, None))
        }
        other => Err(ArrowError::ComputeError(format!("a constraint on length stands on a column of {other}"))),
    }
}

fn list_offsets(values: &ArrayRef) -> Result<&[i32], ArrowError> {
    match values.data_type() {
        DataType::List(_) => Ok(values.as_list::<i32>().value_offsets()),
        DataType::Map(..) => Ok(values.as_map().value_offsets()),
        other => Err(ArrowError::ComputeError(format!("a constraint on items stands on a column of {other}"))),
    }
}

pub(super) fn counted(values: &ArrayRef, least: usize, most: usize) -> Result<BooleanArray, ArrowError> {
    let offsets = list_offsets(values)?;
    let out = |at: usize| {
        let count = usize::try_from(offsets[at + 1] - offsets[at]).unwrap_or_default();
        values.is_valid(at) && (count < least || count > most)
    };
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(values.len(), out), None))
}

pub(super) fn repeated(values: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let list = values.as_list_opt::<i32>();
    let list =
        list.ok_or_else(|| ArrowError::ComputeError("uniqueItems stands on a column that is no array".into()))?;
    let converter = RowConverter::new(vec![SortField::new(list.value_type())])?;
    let rows = converter.convert_columns(&[list.values().clone()])?;
    let offsets = list.value_offsets();
    let twice = |at: usize| {
        let mut seen = HashSet::new();
        let bounds = |at: usize| usize::try_from(offsets[at]).unwrap_or_default();
        list.is_valid(at) && (bounds(at)..bounds(at + 1)).any(|item| !seen.insert(rows.row(item)))
    };
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(list.len(), twice), None))
}

pub(super) fn properties(values: &ArrayRef, least: usize, most: usize) -> Result<BooleanArray, ArrowError> {
    if let DataType::Map(..) = values.data_type() {
        return counted(values, least, most);
    }
    let object = values.as_struct_opt();
    let object =
        object.ok_or_else(|| ArrowError::ComputeError("minProperties stands on a column that is no object".into()))?;
    let out = |at: usize| {
        let count = object.columns().iter().filter(|column| column.is_valid(at)).count();
        object.is_valid(at) && (count < least || count > most)
    };
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(object.len(), out), None))
}
