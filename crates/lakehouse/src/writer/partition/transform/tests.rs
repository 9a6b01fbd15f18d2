//! The specification's own examples, and the ends of each type. `tests/outside/transforms.rs` asks pyiceberg.
#![allow(clippy::unwrap_used)]

use arrow_array::{
    BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};

use super::*;

fn ints(transform_of: Transform, values: ArrayRef) -> Vec<Option<i32>> {
    let found = transform(transform_of, &values).unwrap();
    let found = cast(&found, &DataType::Int32).unwrap();
    found.as_primitive::<Int32Type>().iter().collect()
}

/// Appendix B of the specification: 32-bit hash values.
#[test]
fn hashes_are_the_specifications() {
    let hash = |values: ArrayRef| ints(Transform::Bucket(i32::MAX.cast_unsigned()), values)[0];
    let positive = |hash: i32| Some((hash & i32::MAX) % i32::MAX);
    assert_eq!(hash(Arc::new(Int32Array::from(vec![34]))), positive(2_017_239_379));
    assert_eq!(hash(Arc::new(Int64Array::from(vec![34]))), positive(2_017_239_379));
    let decimal = Decimal128Array::from(vec![1420]).with_precision_and_scale(9, 2).unwrap();
    assert_eq!(hash(Arc::new(decimal)), positive(-500_754_589));
    assert_eq!(hash(Arc::new(Date32Array::from(vec![17_486]))), positive(-653_330_422));
    assert_eq!(hash(Arc::new(Time64MicrosecondArray::from(vec![81_068_000_000]))), positive(-662_762_989));
    let moment = TimestampMicrosecondArray::from(vec![1_510_871_468_000_000]);
    assert_eq!(hash(Arc::new(moment.clone())), positive(-2_047_944_441));
    assert_eq!(hash(Arc::new(moment.with_timezone("+00:00"))), positive(-2_047_944_441));
    assert_eq!(hash(Arc::new(StringArray::from(vec!["iceberg"]))), positive(1_210_000_089));
    let uuid = uuid::Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").unwrap();
    let uuid = FixedSizeBinaryArray::try_from_iter(std::iter::once(uuid.as_bytes().to_vec())).unwrap();
    assert_eq!(hash(Arc::new(uuid)), positive(1_488_055_340));
    assert_eq!(hash(Arc::new(BinaryArray::from(vec![&[0u8, 1, 2, 3][..]]))), positive(-188_683_207));
}

#[test]
fn moments_before_1970_belong_to_the_period_that_holds_them() {
    let moments = || -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(0), None])) };
    for (transform_of, before) in
        [(Transform::Year, -1), (Transform::Month, -1), (Transform::Day, -1), (Transform::Hour, -1)]
    {
        assert_eq!(ints(transform_of, moments()), [Some(before), Some(0), None], "{transform_of}");
    }
}

#[test]
fn truncation_is_towards_the_lesser() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), Some(-10), Some(19), None]));
    let found = transform(Transform::Truncate(10), &numbers).unwrap();
    assert_eq!(found.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(-10), Some(-10), Some(10), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\u{10348}bc"), Some(""), None]));
    let found = transform(Transform::Truncate(2), &texts).unwrap();
    assert_eq!(found.as_string::<i32>(), &StringArray::from(vec![Some("a\u{10348}"), Some(""), None]));
}

#[test]
fn a_value_without_a_floor_is_found_and_refused() {
    let check = |values: ArrayRef, width: u32, rows: &[usize]| {
        assert_eq!(beyond(Transform::Truncate(width), &values), rows);
        assert_eq!(transform(Transform::Truncate(width), &values).is_err(), !rows.is_empty());
    };
    check(Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(i64::MIN)])), 10, &[2]);
    check(Arc::new(Int64Array::from(vec![i64::MIN])), 2, &[]);
    check(Arc::new(Int32Array::from(vec![i32::MIN + 7, i32::MIN + 8])), 10, &[0]);
    let decimals = Decimal128Array::from(vec![-99_999, 99_999, -99_990]).with_precision_and_scale(5, 2).unwrap();
    check(Arc::new(decimals), 10, &[0]);
}

/// By chrono's calendar.
#[test]
fn months_are_the_calendars() {
    use chrono::{Datelike, NaiveDate};
    let first = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
    let last = NaiveDate::from_ymd_opt(9999, 12, 31).unwrap();
    let epoch = NaiveDate::default();
    let mut day = first;
    while day <= last {
        let number = i32::try_from((day - epoch).num_days()).unwrap();
        let expected = (day.year() - 1970) * 12 + i32::try_from(day.month0()).unwrap();
        assert_eq!(month_of(number.into()), expected, "{day}");
        day = day + chrono::Days::new(1);
    }
}
