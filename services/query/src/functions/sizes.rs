//! How many bytes a function will make of its arguments, before it makes them.
//!
//! In: a function's name and arguments. Out: an upper bound, in bytes or (for what is slow rather than large) in
//! steps. Never: less than what will be made.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::{bit_length, length};
use arrow::datatypes::Int64Type;
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

/// Characters that a letter of a time format may become.
const FORMATTED: u64 = 32;

/// How a result is larger than its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Size {
    /// All arguments, one after the other.
    Sum,
    /// All arguments, the first between each two of the others.
    Joined,
    /// The first argument, as often as the second says.
    Times,
    /// As many characters as the second argument says.
    Width,
    /// The third argument for each place of the second in the first.
    Replaced,
    /// The third argument for each character of the first.
    Substituted,
    /// Each letter of the second argument, spelled out.
    Formatted,
    /// The elements of the first argument, the second between each two.
    Listed,
    /// The last argument for each element of the first.
    Elements,
    /// Not large but slow: each character or element of the first argument beside each of the second.
    Steps,
}

impl Size {
    /// Of the functions that can make more than they are given.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "concat" | "overlay" | "make_array" | "array_append" | "array_prepend" | "array_concat" | "array_union"
            | "arrays_zip" | "map" | "string_to_array" | "translate" => Self::Sum,
            "concat_ws" => Self::Joined,
            "repeat" => Self::Times,
            "lpad" | "rpad" => Self::Width,
            "replace" => Self::Replaced,
            "regexp_replace" => Self::Substituted,
            "to_char" => Self::Formatted,
            "array_to_string" => Self::Listed,
            "array_replace" | "array_replace_n" | "array_replace_all" => Self::Elements,
            "levenshtein" | "array_has_all" | "array_has_any" => Self::Steps,
            _ => return None,
        })
    }

    /// Bytes (or steps) of the result for `rows` rows.
    pub(super) fn bound(self, args: &[ColumnarValue], rows: usize) -> Result<u64> {
        let all = || args.iter().try_fold(0u64, |sum, arg| Ok::<_, _>(sum.saturating_add(bytes(arg, rows)?)));
        let [first, second, rest @ ..] = args else { return all() };
        let third = rest.first();
        match self {
            Self::Sum => all(),
            Self::Joined => Ok(all()?.saturating_add(bytes(first, rows)?.saturating_mul(args.len() as u64))),
            Self::Times => each(first, second, rows, u64::saturating_mul),
            // A character has up to four bytes.
            Self::Width => each(second, second, rows, |width, _| width.saturating_mul(4)),
            Self::Replaced => replaced(first, second, third, rows),
            Self::Substituted => {
                let longest = third.map(longest).transpose()?.unwrap_or_default();
                let places = bytes(first, rows)?.saturating_add(rows as u64);
                Ok(places.saturating_mul(longest.saturating_add(1)))
            }
            Self::Formatted => Ok(bytes(second, rows)?.saturating_mul(FORMATTED)),
            Self::Listed => {
                let between = longest(second)?.saturating_mul(elements(first, rows)?);
                Ok(bytes(first, rows)?.saturating_mul(4).saturating_add(between))
            }
            Self::Elements => {
                let by = args.last().map(longest).transpose()?.unwrap_or_default();
                Ok(bytes(first, rows)?.saturating_add(by.saturating_mul(elements(first, rows)?)))
            }
            Self::Steps => each(first, second, rows, u64::saturating_mul),
        }
    }
}

/// Lengths and counts are not negative; a negative count counts nothing.
fn amount(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// The sum over all rows of what `of` makes of two arguments.
fn each(a: &ColumnarValue, b: &ColumnarValue, rows: usize, of: impl Fn(u64, u64) -> u64) -> Result<u64> {
    let a = measures(a)?;
    let b = measures(b)?;
    let at = |values: &Int64Array, row: usize| {
        let row = if values.len() == 1 { 0 } else { row };
        (row < values.len() && values.is_valid(row)).then(|| amount(values.value(row)))
    };
    let sum = |sum: u64, row| match at(&a, row).zip(at(&b, row)) {
        Some((a, b)) => sum.saturating_add(of(a, b)),
        None => sum,
    };
    // Two constants make one value; it is as often there as there are rows.
    if a.len() == 1 && b.len() == 1 {
        return Ok(sum(0, 0).saturating_mul(rows as u64));
    }
    Ok((0..rows).fold(0, sum))
}

/// The lengths of texts and lists, the values of numbers. A constant has one.
fn measures(value: &ColumnarValue) -> Result<Int64Array> {
    let array = array(value)?;
    let measured = match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let bits = cast(&bit_length(&array)?, &DataType::Int64)?;
            return Ok(bits.as_primitive::<Int64Type>().unary(|bits| bits / 8));
        }
        of if of.is_nested() || matches!(of, DataType::Binary | DataType::LargeBinary) => length(&array)?,
        _ => array,
    };
    Ok(cast(&measured, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn array(value: &ColumnarValue) -> Result<ArrayRef> {
    match value {
        ColumnarValue::Array(array) => Ok(ArrayRef::clone(array)),
        ColumnarValue::Scalar(scalar) => scalar.to_array(),
    }
}

/// The bytes that an argument has in all rows.
pub(super) fn bytes(value: &ColumnarValue, rows: usize) -> Result<u64> {
    let array = array(value)?;
    let bytes = array_bytes(&array)?;
    Ok(match value {
        ColumnarValue::Array(_) => bytes,
        ColumnarValue::Scalar(_) => bytes.saturating_mul(rows as u64),
    })
}

/// Texts as long as they are: those of a view may share their bytes.
pub(super) fn array_bytes(array: &ArrayRef) -> Result<u64> {
    if matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let lengths = measures(&ColumnarValue::Array(ArrayRef::clone(array)))?;
        return Ok(lengths.iter().flatten().fold(0, |sum, length| sum.saturating_add(amount(length))));
    }
    Ok(array.to_data().get_slice_memory_size()? as u64)
}

/// The longest value of an argument.
fn longest(value: &ColumnarValue) -> Result<u64> {
    let array = array(value)?;
    Ok(match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            measures(value)?.iter().flatten().max().map_or(0, amount)
        }
        _ => array_bytes(&array)?,
    })
}

/// The elements of all lists of an argument.
fn elements(value: &ColumnarValue, rows: usize) -> Result<u64> {
    let sum = measures(value)?.iter().flatten().fold(0u64, |sum, n| sum.saturating_add(amount(n)));
    Ok(if matches!(value, ColumnarValue::Scalar(_)) { sum.saturating_mul(rows as u64) } else { sum })
}

/// Counts the places, since a bound without counting is far off for long texts.
fn replaced(text: &ColumnarValue, from: &ColumnarValue, to: Option<&ColumnarValue>, rows: usize) -> Result<u64> {
    let texts = |value: &ColumnarValue| -> Result<StringArray> {
        Ok(cast(&array(value)?, &DataType::Utf8)?.as_string::<i32>().clone())
    };
    let by = to.map(longest).transpose()?.unwrap_or_default();
    let (texts, from) = (texts(text)?, texts(from)?);
    let constant = texts.len() == 1 && from.len() == 1;
    let at = |values: &StringArray, row: usize| if values.len() == 1 { 0 } else { row }.min(values.len().max(1) - 1);
    let mut sum = 0u64;
    for row in 0..if constant { 1 } else { rows } {
        let t = at(&texts, row);
        let f = at(&from, row);
        if texts.len() <= t || from.len() <= f || texts.is_null(t) || from.is_null(f) {
            continue;
        }
        let text = texts.value(t);
        let from = from.value(f);
        let places = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
        sum = sum.saturating_add(text.len() as u64).saturating_add((places as u64).saturating_mul(by));
    }
    Ok(if constant { sum.saturating_mul(rows as u64) } else { sum })
}
