//! Values of a contract to compare a column with, exactly.
//!
//! In: a scalar of the contract in the column's type; arrays. Out: masks, true where the comparison holds.
//! Whole numbers, dates, times and moments are compared as 64-bit integers, decimals as integers at the column's scale,
//! floating-point numbers as IEEE 754 has it: no number is within a range, and -0.0 is 0.0.
//! Never: a decimal that goes through a double.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::compute::kernels::cmp;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Datum, Decimal128Array, Int64Array, PrimitiveArray, Scalar as One, StringArray,
};
use arrow_schema::{ArrowError, DataType};
use chrono::{DateTime, NaiveDate, TimeDelta};
use mesh_contract::{Scalar, Type};

/// A value to compare with.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Boolean(bool),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal(i128, u8, i8),
    Text(String),
}

type Kernel = fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>;

/// A comparison of values with an operand.
pub(super) struct Comparison {
    kernel: Kernel,
    /// Of floating-point numbers; of a range's ends it is the negation of what must hold, so that NaN breaks both.
    float: fn(f64, f64) -> bool,
}

// The negations are meant: a comparison with NaN is false, so NaN breaks both ends of a range.
pub(super) const EQUAL: Comparison = Comparison { kernel: cmp::eq, float: |value, other| value == other };
#[allow(clippy::neg_cmp_op_on_partial_ord)]
pub(super) const BELOW: Comparison = Comparison { kernel: cmp::lt, float: |value, least| !(value >= least) };
#[allow(clippy::neg_cmp_op_on_partial_ord)]
pub(super) const NOT_ABOVE: Comparison = Comparison { kernel: cmp::lt_eq, float: |value, least| !(value > least) };
#[allow(clippy::neg_cmp_op_on_partial_ord)]
pub(super) const ABOVE: Comparison = Comparison { kernel: cmp::gt, float: |value, most| !(value <= most) };
#[allow(clippy::neg_cmp_op_on_partial_ord)]
pub(super) const NOT_BELOW: Comparison = Comparison { kernel: cmp::gt_eq, float: |value, most| !(value < most) };

impl Operand {
    pub(super) fn new(scalar: &Scalar, ty: &Type) -> Option<Self> {
        Some(match (scalar, ty) {
            (Scalar::Boolean(v), Type::Boolean) => Self::Boolean(*v),
            (Scalar::Long(v), Type::Int | Type::Long) => Self::Long(*v),
            // What a record writes becomes the nearest 32-bit number, so the limit does as well.
            #[allow(clippy::cast_possible_truncation)]
            (Scalar::Double(v), Type::Float) => Self::Float(*v as f32),
            (Scalar::Double(v), Type::Double) => Self::Double(*v),
            (Scalar::Decimal(v), Type::Decimal { precision, scale }) => {
                Self::Decimal(*v, *precision, i8::try_from(*scale).ok()?)
            }
            (Scalar::Date(v), Type::Date) => Self::Long(i64::from(*v)),
            (Scalar::Time(v), Type::Time) | (Scalar::Timestamp(v), Type::Timestamp | Type::TimestampTz) => {
                Self::Long(*v)
            }
            (Scalar::Text(v), Type::String) => Self::Text(v.clone()),
            (Scalar::Text(v), Type::Uuid) => Self::Text(v.to_lowercase()),
            _ => return None,
        })
    }

    pub(super) fn compare(&self, values: &ArrayRef, by: &Comparison) -> Result<BooleanArray, ArrowError> {
        match self {
            Self::Boolean(v) => (by.kernel)(values, &One::new(BooleanArray::from(vec![*v]))),
            Self::Long(v) => (by.kernel)(values, &One::new(Int64Array::from(vec![*v]))),
            Self::Float(v) => Ok(float(values, |value| (by.float)(value, f64::from(*v)))),
            Self::Double(v) => Ok(float(values, |value| (by.float)(value, *v))),
            Self::Decimal(v, precision, scale) => {
                // Only types of the same precision are compared; the limit itself may have more digits.
                let one = Decimal128Array::from(vec![*v]).with_precision_and_scale(*precision, *scale)?;
                (by.kernel)(values, &One::new(one))
            }
            Self::Text(v) => (by.kernel)(values, &One::new(StringArray::from(vec![v.as_str()]))),
        }
    }

    /// True where a value is no multiple.
    pub(super) fn no_multiple(&self, values: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let unusable = || ArrowError::ComputeError("multipleOf needs a number other than 0".into());
        match self {
            Self::Long(of) if *of != 0 => {
                let values = comparable(values)?;
                Ok(BooleanArray::from_unary(values.as_primitive::<Int64Type>(), |v| v.wrapping_rem(*of) != 0))
            }
            Self::Decimal(of, ..) if *of != 0 => {
                Ok(BooleanArray::from_unary(values.as_primitive::<Decimal128Type>(), |v| v.wrapping_rem(*of) != 0))
            }
            Self::Float(of) => {
                let of = Shortest::read(&of.to_string()).filter(|of| of.digits != 0).ok_or_else(unusable)?;
                let values = values.as_primitive::<Float32Type>();
                Ok(BooleanArray::from_unary(values, |v| !is_multiple(&v.to_string(), of)))
            }
            Self::Double(of) => {
                let of = Shortest::read(&of.to_string()).filter(|of| of.digits != 0).ok_or_else(unusable)?;
                let values = values.as_primitive::<Float64Type>();
                Ok(BooleanArray::from_unary(values, |v| !is_multiple(&v.to_string(), of)))
            }
            _ => Err(unusable()),
        }
    }
}

fn float(values: &ArrayRef, holds: impl Fn(f64) -> bool) -> BooleanArray {
    match values.data_type() {
        DataType::Float32 => BooleanArray::from_unary(values.as_primitive::<Float32Type>(), |v| holds(f64::from(v))),
        _ => BooleanArray::from_unary(values.as_primitive::<Float64Type>(), holds),
    }
}

/// A floating-point number as the shortest decimal that reads as it: 0.3 is three tenths, as its writer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortest {
    /// At most 17 digits.
    digits: u128,
    exponent: i32,
}

impl Shortest {
    /// From the form that Rust displays, which has no exponent; `None` of what is no number.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('-');
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = [whole, fraction].concat();
        let kept = digits.trim_end_matches('0');
        let zeros = i32::try_from(digits.len() - kept.len()).ok()?;
        let exponent = zeros - i32::try_from(fraction.len()).ok()?;
        let kept = kept.trim_start_matches('0');
        match kept {
            "" => Some(Self { digits: 0, exponent: 0 }),
            kept => Some(Self { digits: kept.parse().ok()?, exponent }),
        }
    }
}

fn is_multiple(value: &str, of: Shortest) -> bool {
    let Some(value) = Shortest::read(value) else { return false };
    if value.digits == 0 {
        return true;
    }
    match u32::try_from(value.exponent - of.exponent) {
        Ok(shift) => (0..shift).fold(value.digits % of.digits, |rest, _| rest * 10 % of.digits) == 0,
        Err(_) => {
            let shift = (of.exponent - value.exponent).unsigned_abs();
            // More than the value's 17 digits cannot divide them.
            let unit = 10_u128.checked_pow(shift).and_then(|power| power.checked_mul(of.digits));
            unit.is_some_and(|unit| value.digits.is_multiple_of(unit))
        }
    }
}

/// Values in the form operands are compared in.
pub(super) fn comparable(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match values.data_type() {
        DataType::Int32 | DataType::Time64(_) | DataType::Timestamp(..) => cast(values, &DataType::Int64),
        DataType::Date32 => {
            let days: PrimitiveArray<Int64Type> = values.as_primitive::<Date32Type>().unary(i64::from);
            Ok(Arc::new(days))
        }
        _ => Ok(values.clone()),
    }
}

/// A contract's value as people write it.
pub(super) fn show(scalar: &Scalar, ty: &Type) -> String {
    let midnight = NaiveDate::default().and_time(chrono::NaiveTime::MIN);
    let moment = |micros: i64| midnight.checked_add_signed(TimeDelta::microseconds(micros));
    let shown = match (scalar, ty) {
        (Scalar::Date(days), _) => moment(i64::from(*days) * 86_400_000_000).map(|at| at.date().to_string()),
        (Scalar::Time(micros), _) => moment(*micros).map(|at| at.time().to_string()),
        (Scalar::Timestamp(micros), Type::TimestampTz) => {
            DateTime::from_timestamp_micros(*micros).map(|at| at.to_rfc3339())
        }
        (Scalar::Timestamp(micros), _) => moment(*micros).map(|at| at.format("%Y-%m-%dT%H:%M:%S%.f").to_string()),
        (Scalar::Decimal(unscaled), Type::Decimal { scale, .. }) => Some(decimal(*unscaled, (*scale).into())),
        _ => None,
    };
    shown.unwrap_or_else(|| match scalar {
        Scalar::Boolean(v) => v.to_string(),
        Scalar::Long(v) | Scalar::Time(v) | Scalar::Timestamp(v) => v.to_string(),
        Scalar::Double(v) => v.to_string(),
        Scalar::Decimal(v) => v.to_string(),
        Scalar::Text(v) => v.clone(),
        Scalar::Date(v) => v.to_string(),
    })
}

/// 10050 with two places is 100.50.
fn decimal(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, places) = digits.split_at(digits.len() - scale);
    if places.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{places}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_are_of_what_is_written() {
        let check = |value: f64, of: f64, expected: bool| {
            let of = Shortest::read(&of.to_string()).unwrap_or(Shortest { digits: 1, exponent: 0 });
            assert_eq!(is_multiple(&value.to_string(), of), expected, "{value} {of:?}");
        };
        check(0.3, 0.1, true);
        check(0.35, 0.1, false);
        check(10_000_000_000.05, 0.1, false);
        check(10_000_000_000.1, 0.1, true);
        check(1e300, 3e299, false);
        check(3e300, 3e-300, true);
        check(5e-324, 1.0, false);
        check(-0.0, 0.7, true);
        check(f64::NAN, 0.1, false);
        check(f64::INFINITY, 0.1, false);
        check(4.2, 2.1, true);
        check(100.0, 40.0, false);
    }

    #[test]
    fn decimals_are_shown_with_their_point() {
        assert_eq!(decimal(10_050, 2), "100.50");
        assert_eq!(decimal(-7, 2), "-0.07");
        assert_eq!(decimal(7, 0), "7");
    }
}
