//! Text that stands for a moment, a uuid or bytes.
//!
//! In: strings. Out: values. Moments are RFC 3339; a column with a zone wants one in the text, a column without takes
//! none: guessing a zone would move the moment. Bytes are base64, as in proto3's JSON.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder, LargeBinaryBuilder, PrimitiveBuilder};
use arrow_array::types::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, StringArray};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _};

use crate::pipeline::refusal::{Reason, Refusal};
use crate::pipeline::resolve::{Bad, Stop, mismatch};

type Parsed<T> = Result<T, (Reason, &'static str)>;

const NO_DATE: (Reason, &str) = (Reason::Type, "expected a date such as 2013-01-31");
const NO_TIME: (Reason, &str) = (Reason::Type, "expected a time such as 17:30:00 or 17:30:00.123456");
const NO_MOMENT: (Reason, &str) = (Reason::Type, "expected a moment with its offset, such as 2013-01-31T17:30:00Z");
const NO_LOCAL: (Reason, &str) =
    (Reason::Type, "expected a local date and time without offset, such as 2013-01-31T17:30:00");
const NO_UUID: (Reason, &str) = (Reason::Type, "expected a UUID");
const NO_BASE64: (Reason, &str) = (Reason::Type, "expected base64");
const TOO_FINE: (Reason, &str) = (Reason::Cut, "microseconds are the finest there is here");

pub(crate) fn convert(from: &StringArray, to: &DataType, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
    let array: ArrayRef = match to {
        DataType::Date32 => primitive::<Date32Type>(from, to, place, bad, date),
        DataType::Time64(TimeUnit::Microsecond) => primitive::<Time64MicrosecondType>(from, to, place, bad, time),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            primitive::<TimestampMicrosecondType>(from, to, place, bad, moment)
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            primitive::<TimestampMicrosecondType>(from, to, place, bad, local)
        }
        DataType::FixedSizeBinary(16) => uuids(from, place, bad)?,
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            each(from, place, bad, base64, |value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        DataType::LargeBinary => {
            let mut builder = LargeBinaryBuilder::new();
            each(from, place, bad, base64, |value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        wanted => return Err(mismatch(from.data_type(), wanted, place)),
    };
    Ok(array)
}

/// Parses each text; one that cannot be parsed is null and bad.
fn each<T>(
    from: &StringArray,
    place: &str,
    bad: &mut Bad,
    parse: impl Fn(&str) -> Parsed<T>,
    mut append: impl FnMut(Option<T>),
) {
    for (at, text) in from.iter().enumerate() {
        match text.map(&parse) {
            None => append(None),
            Some(Ok(value)) => append(Some(value)),
            Some(Err((reason, expected))) => {
                append(None);
                bad.push((at, Refusal::at(reason, place, format!("{expected}, found {:?}", text.unwrap_or_default()))));
            }
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    from: &StringArray,
    to: &DataType,
    place: &str,
    bad: &mut Bad,
    parse: impl Fn(&str) -> Parsed<T::Native>,
) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(from.len()).with_data_type(to.clone());
    each(from, place, bad, parse, |value| builder.append_option(value));
    Arc::new(builder.finish())
}

fn uuids(from: &StringArray, place: &str, bad: &mut Bad) -> Result<ArrayRef, ArrowError> {
    let mut values: Vec<Option<[u8; 16]>> = Vec::with_capacity(from.len());
    let parse = |text: &str| uuid::Uuid::try_parse(text).map(uuid::Uuid::into_bytes).map_err(|_| NO_UUID);
    each(from, place, bad, parse, |value| values.push(value));
    let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
    for value in values {
        match value {
            Some(bytes) => builder.append_value(bytes)?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn base64(text: &str) -> Parsed<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| NO_BASE64)
}

fn date(text: &str) -> Parsed<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| NO_DATE)?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).map_err(|_| NO_DATE)
}

fn time(text: &str) -> Parsed<i64> {
    fine_enough(text)?;
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").map_err(|_| NO_TIME)?;
    Ok(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1000))
}

fn moment(text: &str) -> Parsed<i64> {
    fine_enough(text)?;
    DateTime::parse_from_rfc3339(text).map(|moment| moment.timestamp_micros()).map_err(|_| NO_MOMENT)
}

fn local(text: &str) -> Parsed<i64> {
    fine_enough(text)?;
    let parsed = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    let parsed = parsed.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"));
    parsed.map(|moment| moment.and_utc().timestamp_micros()).map_err(|_| NO_LOCAL)
}

/// Digits after the sixth place must be zeros.
fn fine_enough(text: &str) -> Parsed<()> {
    let Some((_, fraction)) = text.split_once('.') else { return Ok(()) };
    let finer = fraction.bytes().take_while(u8::is_ascii_digit).skip(6).any(|digit| digit != b'0');
    if finer { Err(TOO_FINE) } else { Ok(()) }
}
