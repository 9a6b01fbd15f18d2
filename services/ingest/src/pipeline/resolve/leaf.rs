//! One column of plain values from the writer's type to the contract's.
//!
//! In: an array. Out: an array of the wanted type, null where a value could not be taken, and why.
//! Lossy conversions are made, undone and compared: what does not come back was cut.

use arrow::compute::kernels::cmp::neq;
use arrow::compute::{CastOptions, cast, cast_with_options, is_null};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DecimalType, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, new_null_array};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use mesh_contract::types::calendar;

use crate::pipeline::refusal::{Reason, Refusal};
use crate::pipeline::resolve::{Bad, Stop, mismatch, text};

const SAFE: CastOptions<'_> = CastOptions { safe: true, format_options: FormatOptions::new() };

pub(crate) fn convert(from: &ArrayRef, to: &DataType, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
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
        (found, wanted) => return Err(mismatch(found, wanted, place)),
    };
    on_the_calendar(&array, place, bad);
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

/// Avro's moments are bare numbers: one that no clock or calendar shows would break every engine that reads the table.
fn on_the_calendar(array: &ArrayRef, place: &str, bad: &mut Bad) {
    let mut refuse = |at: usize| {
        let message = "no clock has that time, or it lies outside of the years 1 to 9999";
        bad.push((at, Refusal::at(Reason::Overflow, place, message)));
    };
    match array.data_type() {
        DataType::Date32 => odd::<Date32Type>(array, |v| !calendar::is_date(v)).for_each(&mut refuse),
        DataType::Time64(TimeUnit::Microsecond) => {
            odd::<Time64MicrosecondType>(array, |v| !calendar::is_time(v)).for_each(&mut refuse);
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            odd::<TimestampMicrosecondType>(array, |v| !calendar::is_moment(v)).for_each(&mut refuse);
        }
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
