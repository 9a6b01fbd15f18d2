//! Text that stands for a moment, a uuid or bytes.
//!
//! In: strings. Out: values by the contract's one calendar. Moments are RFC 3339; a column with a zone wants one in the
//! text, a column without takes none: guessing a zone would move the moment. Bytes are base64, as in proto3's JSON.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, PrimitiveBuilder};
use arrow_array::types::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef, ArrowPrimitiveType, StringArray};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_contract::types::calendar::{self, CalendarError};
use mesh_contract::types::number::NumberError;

use crate::pipeline::refusal::{Reason, Refusal};
use crate::pipeline::resolve::{Bad, Stop, mismatch};

/// Why a text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It has another form.
    Form,
    /// It is finer than the column.
    Cut,
    /// It is beyond the column's range.
    Beyond,
}

type Parsed<T> = Result<T, Unread>;

pub(crate) const DATE: &str = "a date such as 2013-01-31";
pub(crate) const TIME: &str = "a time such as 17:30:00 or 17:30:00.123456";
pub(crate) const MOMENT: &str = "a moment with its offset, such as 2013-01-31T17:30:00Z";
pub(crate) const LOCAL: &str = "a local date and time without offset, such as 2013-01-31T17:30:00";
pub(crate) const UUID: &str = "a UUID";
pub(crate) const BASE64: &str = "base64";

impl Unread {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Form => Reason::Type,
            Self::Cut => Reason::Cut,
            Self::Beyond => Reason::Overflow,
        }
    }

    pub(crate) fn message(self, expected: &str, found: &str) -> String {
        match self {
            Self::Form => format!("expected {expected}, found {found:?}"),
            Self::Cut => format!("expected {expected}; {found:?} is finer than the column"),
            Self::Beyond => format!("expected {expected}; {found:?} is beyond the column's range"),
        }
    }
}

impl From<CalendarError> for Unread {
    fn from(error: CalendarError) -> Self {
        match error {
            CalendarError::Form => Self::Form,
            CalendarError::TooFine => Self::Cut,
            CalendarError::Beyond => Self::Beyond,
        }
    }
}

impl From<NumberError> for Unread {
    fn from(error: NumberError) -> Self {
        match error {
            NumberError::Form => Self::Form,
            NumberError::Cut => Self::Cut,
            NumberError::Overflow => Self::Beyond,
        }
    }
}

/// Text of Avro as the values it stands for.
pub(crate) fn convert(from: &StringArray, to: &DataType, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
    let at = |expected| Expected { expected, place };
    let array: ArrayRef = match to {
        DataType::Date32 => primitive::<Date32Type>(from, to, &at(DATE), bad, date),
        DataType::Time64(TimeUnit::Microsecond) => primitive::<Time64MicrosecondType>(from, to, &at(TIME), bad, time),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            primitive::<TimestampMicrosecondType>(from, to, &at(MOMENT), bad, moment)
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            primitive::<TimestampMicrosecondType>(from, to, &at(LOCAL), bad, local)
        }
        DataType::FixedSizeBinary(16) => uuids(from, &at(UUID), bad)?,
        wanted => return Err(mismatch(from.data_type(), wanted, place)),
    };
    Ok(array)
}

/// What a column's texts are, and where it is.
struct Expected<'a> {
    expected: &'a str,
    place: &'a str,
}

/// Parses each text; one that cannot be parsed is null and bad.
fn each<T>(
    from: &StringArray,
    at: &Expected<'_>,
    bad: &mut Bad,
    parse: impl Fn(&str) -> Parsed<T>,
    mut append: impl FnMut(Option<T>),
) {
    for (row, text) in from.iter().enumerate() {
        match text.map(&parse) {
            None => append(None),
            Some(Ok(value)) => append(Some(value)),
            Some(Err(unread)) => {
                append(None);
                let message = unread.message(at.expected, text.unwrap_or_default());
                bad.push((row, Refusal::at(unread.reason(), at.place, message)));
            }
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(
    from: &StringArray,
    to: &DataType,
    at: &Expected<'_>,
    bad: &mut Bad,
    parse: impl Fn(&str) -> Parsed<T::Native>,
) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(from.len()).with_data_type(to.clone());
    each(from, at, bad, parse, |value| builder.append_option(value));
    Arc::new(builder.finish())
}

fn uuids(from: &StringArray, at: &Expected<'_>, bad: &mut Bad) -> Result<ArrayRef, ArrowError> {
    let mut values: Vec<Option<[u8; 16]>> = Vec::with_capacity(from.len());
    each(from, at, bad, uuid, |value| values.push(value));
    let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
    for value in values {
        match value {
            Some(bytes) => builder.append_value(bytes)?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

pub(crate) fn uuid(text: &str) -> Parsed<[u8; 16]> {
    uuid::Uuid::try_parse(text).map(uuid::Uuid::into_bytes).map_err(|_| Unread::Form)
}

pub(crate) fn base64(text: &str) -> Parsed<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| Unread::Form)
}

pub(crate) fn date(text: &str) -> Parsed<i32> {
    Ok(calendar::date(text)?)
}

pub(crate) fn time(text: &str) -> Parsed<i64> {
    Ok(calendar::time(text)?)
}

pub(crate) fn moment(text: &str) -> Parsed<i64> {
    Ok(calendar::instant(text)?)
}

pub(crate) fn local(text: &str) -> Parsed<i64> {
    Ok(calendar::local(text)?)
}
