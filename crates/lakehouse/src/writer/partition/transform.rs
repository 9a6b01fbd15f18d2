//! Iceberg's partition transforms over Arrow arrays: the one definition for writing and for pruning.
//!
//! In: a transform and a column. Out: the partition value of each row; null for null.
//! Never: a value rounded towards zero (iceberg-rust 0.10.1 does so in `day` of a moment before 1970 that has a fraction
//! of a second), a panic (its `truncate` subtracts beyond the type's least value), or a value that wraps around.

use std::sync::Arc;

use arrow::compute::cast;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, GenericBinaryArray, GenericStringArray, Int32Array,
    OffsetSizeTrait, PrimitiveArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use iceberg::spec::Transform;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// The partition value of each row.
///
/// An error where the transform does not take the type, or where a value has no partition: the least value that
/// `truncate` would give lies below what the type holds. [`beyond`] finds such rows.
pub fn transform(transform: Transform, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match transform {
        Transform::Identity => Ok(values.clone()),
        Transform::Void => Ok(new_null_array(values.data_type(), values.len())),
        Transform::Year => {
            months(values).map(|months| Arc::new(months.unary::<_, Int32Type>(|m| m.div_euclid(12))) as _)
        }
        Transform::Month => months(values).map(|months| Arc::new(months) as _),
        Transform::Day => days(values).map(|days| Arc::new(days.reinterpret_cast::<Date32Type>()) as _),
        Transform::Hour => hours(values).map(|hours| Arc::new(hours) as _),
        Transform::Bucket(buckets) => bucket(values, buckets),
        Transform::Truncate(width) => truncate(values, width),
        Transform::Unknown => Err(refused("unknown", values)),
    }
}

/// The rows whose value has no partition value of its column's type.
pub(super) fn beyond(transform: Transform, values: &ArrayRef) -> Vec<usize> {
    let Transform::Truncate(width) = transform else { return Vec::new() };
    match values.data_type() {
        DataType::Int32 => rows_without(values.as_primitive::<Int32Type>(), |v| floor_i32(v, width)),
        DataType::Int64 => rows_without(values.as_primitive::<Int64Type>(), |v| floor_i64(v, width)),
        DataType::Decimal128(precision, _) => {
            rows_without(values.as_primitive::<Decimal128Type>(), |v| floor_decimal(v, width, *precision))
        }
        _ => Vec::new(),
    }
}

fn rows_without<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    floor: impl Fn(T::Native) -> Option<T::Native>,
) -> Vec<usize> {
    (0..values.len()).filter(|at| values.is_valid(*at) && floor(values.value(*at)).is_none()).collect()
}

/// Days since 1970-01-01.
fn days(values: &ArrayRef) -> Result<Int32Array, ArrowError> {
    match values.data_type() {
        DataType::Date32 => Ok(values.as_primitive::<Date32Type>().reinterpret_cast()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => whole(values.as_primitive(), DAY),
        _ => Err(refused("day", values)),
    }
}

/// Hours since the epoch.
fn hours(values: &ArrayRef) -> Result<Int32Array, ArrowError> {
    match values.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => whole(values.as_primitive(), HOUR),
        _ => Err(refused("hour", values)),
    }
}

fn whole(moments: &PrimitiveArray<TimestampMicrosecondType>, unit: i64) -> Result<Int32Array, ArrowError> {
    moments.try_unary(|micros| {
        i32::try_from(micros.div_euclid(unit))
            .map_err(|_| ArrowError::ComputeError(format!("the moment {micros} is beyond what a partition holds")))
    })
}

/// Months since 1970-01.
fn months(values: &ArrayRef) -> Result<Int32Array, ArrowError> {
    Ok(days(values)?.unary(|day| month_of(i64::from(day))))
}

/// The month of a day in the proleptic Gregorian calendar. Eras of 400 years begin on 1 March, so that a leap day is the
/// last of its year.
fn month_of(day: i64) -> i32 {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // 0 is March.
    let month = (5 * of_year + 2) / 153;
    let months = (era * 400 + year) * 12 + month + 2 - 1970 * 12;
    i32::try_from(months).unwrap_or_default()
}

fn bucket(values: &ArrayRef, buckets: u32) -> Result<ArrayRef, ArrowError> {
    let buckets = i32::try_from(buckets).ok().filter(|buckets| *buckets > 0);
    let buckets = buckets.ok_or_else(|| ArrowError::ComputeError("a bucket transform needs 1 to 2147483647".into()))?;
    let of = move |hash: u32| (hash & 0x7fff_ffff).cast_signed() % buckets;
    let hashed: Int32Array = match values.data_type() {
        DataType::Int32 => values.as_primitive::<Int32Type>().unary(|v| of(hash_long(v.into()))),
        DataType::Date32 => values.as_primitive::<Date32Type>().unary(|v| of(hash_long(v.into()))),
        DataType::Int64 => values.as_primitive::<Int64Type>().unary(|v| of(hash_long(v))),
        DataType::Time64(TimeUnit::Microsecond) => {
            values.as_primitive::<Time64MicrosecondType>().unary(|v| of(hash_long(v)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            values.as_primitive::<TimestampMicrosecondType>().unary(|v| of(hash_long(v)))
        }
        DataType::Decimal128(..) => {
            values.as_primitive::<Decimal128Type>().unary(|v| of(murmur3(significant(&v.to_be_bytes()))))
        }
        DataType::FixedSizeBinary(_) => {
            values.as_fixed_size_binary().iter().map(|v| v.map(|bytes| of(murmur3(bytes)))).collect()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::LargeBinary | DataType::BinaryView => {
            let bytes = cast(values, &DataType::Binary)?;
            bytes_hashed(bytes.as_binary(), of)
        }
        DataType::Binary => bytes_hashed(values.as_binary(), of),
        _ => return Err(refused("bucket", values)),
    };
    Ok(Arc::new(hashed))
}

fn bytes_hashed(values: &BinaryArray, of: impl Fn(u32) -> i32) -> Int32Array {
    values.iter().map(|value| value.map(|bytes| of(murmur3(bytes)))).collect()
}

/// All integers, dates and moments hash as 64 bits, so that a promotion moves no row.
fn hash_long(value: i64) -> u32 {
    murmur3(&value.to_le_bytes())
}

/// A two's complement number in as few bytes as hold it.
fn significant(bytes: &[u8; 16]) -> &[u8] {
    let fill = if bytes[0] >= 0x80 { 0xff } else { 0 };
    let mut rest: &[u8] = bytes;
    while let [first, next, ..] = rest
        && *first == fill
        && (next ^ fill) < 0x80
    {
        rest = &rest[1..];
    }
    rest
}

/// The 32-bit x86 variant with seed 0, as the Iceberg specification has it.
fn murmur3(bytes: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mix = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let hash = blocks.iter().fold(0u32, |hash, block| {
        (hash ^ mix(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let last = tail.iter().rev().fold(0u32, |last, byte| last << 8 | u32::from(*byte));
    let mut hash = hash ^ mix(last) ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn truncate(values: &ArrayRef, width: u32) -> Result<ArrayRef, ArrowError> {
    let length = usize::try_from(width).unwrap_or(usize::MAX);
    Ok(match values.data_type() {
        DataType::Int32 => {
            let floored = values
                .as_primitive::<Int32Type>()
                .try_unary::<_, Int32Type, _>(|v| floor_i32(v, width).ok_or_else(|| no_floor(&v, width)));
            Arc::new(floored?)
        }
        DataType::Int64 => {
            let floored = values
                .as_primitive::<Int64Type>()
                .try_unary::<_, Int64Type, _>(|v| floor_i64(v, width).ok_or_else(|| no_floor(&v, width)));
            Arc::new(floored?)
        }
        DataType::Decimal128(precision, scale) => {
            let floored = values.as_primitive::<Decimal128Type>().try_unary::<_, Decimal128Type, _>(|v| {
                floor_decimal(v, width, *precision).ok_or_else(|| no_floor(&v, width))
            });
            Arc::new(floored?.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => Arc::new(heads_of_text(values.as_string::<i32>(), length)),
        DataType::LargeUtf8 => Arc::new(heads_of_text(values.as_string::<i64>(), length)),
        DataType::Binary => Arc::new(heads_of_bytes(values.as_binary::<i32>(), length)),
        DataType::LargeBinary => Arc::new(heads_of_bytes(values.as_binary::<i64>(), length)),
        DataType::Utf8View => truncate(&cast(values, &DataType::Utf8)?, width)?,
        DataType::BinaryView => truncate(&cast(values, &DataType::Binary)?, width)?,
        _ => return Err(refused("truncate", values)),
    })
}

/// The greatest multiple of the width that is not above the value, if the type holds it.
fn floor_i32(value: i32, width: u32) -> Option<i32> {
    floor_i64(value.into(), width).and_then(|floor| i32::try_from(floor).ok())
}

fn floor_i64(value: i64, width: u32) -> Option<i64> {
    value.checked_sub(value.checked_rem_euclid(width.into())?)
}

fn floor_decimal(value: i128, width: u32, precision: u8) -> Option<i128> {
    let floor = value.checked_sub(value.checked_rem_euclid(width.into())?)?;
    let limit = 10_i128.checked_pow(precision.into())?;
    (floor > -limit).then_some(floor)
}

/// So many code points from the start of each text.
fn heads_of_text<O: OffsetSizeTrait>(values: &GenericStringArray<O>, length: usize) -> GenericStringArray<O> {
    let head = |text: &'_ str| text.char_indices().nth(length).map_or(text.len(), |(end, _)| end);
    values.iter().map(|value| value.map(|text| &text[..head(text)])).collect()
}

fn heads_of_bytes<O: OffsetSizeTrait>(values: &GenericBinaryArray<O>, length: usize) -> GenericBinaryArray<O> {
    values.iter().map(|value| value.map(|bytes| &bytes[..bytes.len().min(length)])).collect()
}

fn no_floor(value: &dyn std::fmt::Display, width: u32) -> ArrowError {
    ArrowError::ComputeError(format!("truncate[{width}] of {value} is below what the column's type holds"))
}

fn refused(transform: &str, values: &ArrayRef) -> ArrowError {
    ArrowError::SchemaError(format!("the partition transform {transform} does not take {}", values.data_type()))
}

#[cfg(test)]
mod tests;
