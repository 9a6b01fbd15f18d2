//! One column of plain values from the writer's type to the contract's.
//!
//! In: an array. Out: an array of the wanted type, null where a value could not be taken, and why.
//! Lossy conversions are made, undone and compared: what does not come back was cut.

use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast, cast_with_options, is_null};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, new_null_array};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use chrono::{DateTime, NaiveDate, Utc};

use crate::pipeline::refusal::{Reason, Refusal};
use crate::pipeline::resolve::{Bad, Origin, Stop, mismatch, text};

/// Microseconds.
const DAY: i64 = 86_400_000_000;
const SAFE: CastOptions<'_> = CastOptions { safe: true, format_options: FormatOptions::new() };

pub(crate) fn convert(
    from: &ArrayRef,
    to: &DataType,
    origin: Origin,
    place: &str,
    bad: &mut Bad,
) -> Result<ArrayRef, Stop> {
    use DataType as T;
    let array = match (from.data_type(), to) {
        (T::Null, _) => new_null_array(to, from.len()),
        (T::Decimal128(..), T::Decimal128(..)) | (T::Decimal256(..), T::Decimal128(..)) => {
            decimals_fit(from, place, bad);
            round_trip(from, to, place, bad)?
        }
        (same, _) if same == to => from.clone(),
        (T::Int32, T::Int64 | T::Float64)
        | (T::Float32, T::Float64)
        | (T::FixedSizeBinary(_), T::Binary | T::LargeBinary)
        | (T::Binary, T::LargeBinary)
        | (T::Dictionary(..), T::Utf8)
        | (T::Time32(_), T::Time64(_)) => cast(from, to)?,
        (T::Int32 | T::Int64, T::Int32 | T::Float32 | T::Float64 | T::Decimal128(..))
        | (T::Decimal128(..), T::Int32 | T::Int64)
        | (T::Time64(_), T::Time64(_)) => round_trip(from, to, place, bad)?,
        (T::Timestamp(_, None), T::Timestamp(TimeUnit::Microsecond, None))
        | (T::Timestamp(_, Some(_)), T::Timestamp(TimeUnit::Microsecond, Some(_))) => round_trip(from, to, place, bad)?,
        (T::Utf8, T::Date32 | T::Time64(_) | T::Timestamp(..) | T::FixedSizeBinary(16)) => {
            text::convert(from.as_string(), to, place, bad)?
        }
        (T::Utf8, T::Binary | T::LargeBinary) if origin == Origin::Json => {
            text::convert(from.as_string(), to, place, bad)?
        }
        (found, wanted) => return Err(mismatch(found, wanted, place)),
    };
    match origin {
        Origin::Json => finite(&array, place, bad),
        Origin::Avro => on_the_calendar(&array, place, bad),
    }
    Ok(array)
}

/// Casts there and back; a value that is null after the first overflowed, one that is another after the second was cut.
fn round_trip(from: &ArrayRef, to: &DataType, place: &str, bad: &mut Bad) -> Result<ArrayRef, ArrowError> {
    let there = cast_with_options(from, to, &SAFE)?;
    if from.data_type() == to {
        return Ok(there);
    }
    let back = cast_with_options(&there, from.data_type(), &SAFE)?;
    let changed = neq(&back, from)?;
    // A comparison with null is null: what the cast could not take, or could not take back.
    let lost = is_null(&back)?;
    let suspicious = |at: usize| from.is_valid(at) && (lost.value(at) || changed.value(at));
    if changed.true_count() == 0 && lost.true_count() == from.null_count() {
        return Ok(there);
    }
    for at in (0..from.len()).filter(|at| suspicious(*at)) {
        let reason = if there.is_null(at) { Reason::Overflow } else { Reason::Cut };
        bad.push((at, Refusal::at(reason, place, format!("{} does not fit {to}", show(from, at)))));
    }
    Ok(there)
}

/// Avro's decimals are bytes: nothing before this holds them to their precision.
fn decimals_fit(from: &ArrayRef, place: &str, bad: &mut Bad) {
    match from.data_type() {
        DataType::Decimal128(precision, _) => within::<Decimal128Type>(from.as_primitive(), *precision, place, bad),
        DataType::Decimal256(precision, _) => within::<Decimal256Type>(from.as_primitive(), *precision, place, bad),
        _ => {}
    }
}

fn within<T: DecimalType>(from: &PrimitiveArray<T>, precision: u8, place: &str, bad: &mut Bad) {
    if from.validate_decimal_precision(precision).is_ok() {
        return;
    }
    for at in (0..from.len()).filter(|at| from.is_valid(*at)) {
        if !T::is_valid_decimal_precision(from.value(at), precision) {
            let message = format!("the value has more than {precision} digits");
            bad.push((at, Refusal::at(Reason::Overflow, place, message)));
        }
    }
}

/// Avro's moments are bare numbers: one that no clock or calendar shows would break whoever reads the table.
fn on_the_calendar(array: &ArrayRef, place: &str, bad: &mut Bad) {
    let mut refuse = |at: usize| {
        bad.push((at, Refusal::at(Reason::Overflow, place, "no calendar or clock has that moment")));
    };
    let epoch = NaiveDate::default();
    let days = (NaiveDate::MIN - epoch).num_days()..=(NaiveDate::MAX - epoch).num_days();
    let moments = DateTime::<Utc>::MIN_UTC.timestamp_micros()..=DateTime::<Utc>::MAX_UTC.timestamp_micros();
    match array.data_type() {
        DataType::Date32 => odd::<Date32Type>(array, |v| !days.contains(&i64::from(v))).for_each(&mut refuse),
        DataType::Time64(TimeUnit::Microsecond) => {
            odd::<Time64MicrosecondType>(array, |v| !(0..DAY).contains(&v)).for_each(&mut refuse);
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            odd::<TimestampMicrosecondType>(array, |v| !moments.contains(&v)).for_each(&mut refuse);
        }
        _ => {}
    }
}

/// JSON has no infinities: one that comes out of a number is an overflow.
fn finite(array: &ArrayRef, place: &str, bad: &mut Bad) {
    let mut refuse = |at: usize| {
        bad.push((at, Refusal::at(Reason::Overflow, place, "the number is not finite in this column's type")));
    };
    match array.data_type() {
        DataType::Float64 => odd::<Float64Type>(array, |v| !v.is_finite()).for_each(&mut refuse),
        DataType::Float32 => odd::<Float32Type>(array, |v| !v.is_finite()).for_each(&mut refuse),
        _ => {}
    }
}

/// The indices of values that are odd.
fn odd<T: ArrowPrimitiveType>(array: &ArrayRef, is_odd: impl Fn(T::Native) -> bool) -> impl Iterator<Item = usize> {
    let values = array.as_primitive::<T>();
    let mask = BooleanArray::from_unary(values, is_odd);
    let rows: Vec<usize> = match mask.true_count() {
        0 => Vec::new(),
        _ => (0..mask.len()).filter(|at| mask.is_valid(*at) && mask.value(*at)).collect(),
    };
    rows.into_iter()
}

fn show(array: &ArrayRef, at: usize) -> String {
    ArrayFormatter::try_new(array, &FormatOptions::new())
        .map_or_else(|_| "the value".to_owned(), |formatter| formatter.value(at).to_string())
}
