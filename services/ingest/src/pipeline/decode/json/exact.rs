//! Numbers that arrow-json would wrap around on, or cut, without a word.
//!
//! In: a message's text. Out: a refusal, if a number in it, or a text where a number belongs, is not the one that would be
//! stored. Few messages have numbers of so many digits that this must be looked into; the others are only walked over.
//! Must never happen: a number in the table that nobody wrote.

use arrow_schema::{DataType, Fields};
use serde_json::Value;

use crate::pipeline::refusal::{Reason, Refusal};

/// Longer numbers are refused: arrow-json's decimals wrap around on a few hundred digits.
const LONGEST_NUMBER: usize = 100;
/// More digits in an exponent are refused, for the same reason.
const LONGEST_EXPONENT: usize = 4;
/// Places that a whole number has on the wire; what lies behind them is cut unseen.
const PLACES: usize = super::GUARD as usize;

/// Refuses what would not be stored as it was written.
pub(super) fn check(text: &str, fields: &Fields) -> Result<(), Refusal> {
    if !is_odd(text)? {
        return Ok(());
    }
    let value = serde_json::from_str(text);
    let value = value.map_err(|error| Refusal::whole(Reason::Undecodable, error.to_string()))?;
    within(&value, fields, "")
}

/// A number as far as it was read.
#[derive(Debug, Default)]
struct Number {
    digits: usize,
    places: usize,
    after_point: bool,
    exponent: Option<Exponent>,
}

#[derive(Debug, Default)]
struct Exponent {
    negative: bool,
    digits: usize,
    value: usize,
}

impl Number {
    /// False if the byte belongs to no number.
    fn take(&mut self, byte: u8) -> bool {
        match (byte, &mut self.exponent) {
            (b'0'..=b'9', Some(exponent)) => {
                exponent.digits += 1;
                exponent.value = (exponent.value * 10 + usize::from(byte - b'0')).min(99_999);
            }
            (b'0'..=b'9', None) => {
                self.digits += 1;
                self.places += usize::from(self.after_point);
            }
            (b'-', Some(exponent)) => exponent.negative = true,
            (b'.', None) => self.after_point = true,
            (b'+' | b'-', _) => {}
            (b'e' | b'E', None) if self.digits > 0 => self.exponent = Some(Exponent::default()),
            _ => return false,
        }
        true
    }

    fn is_long(&self) -> bool {
        let exponent = self.exponent.as_ref().map_or(0, |exponent| exponent.digits);
        self.digits + exponent > LONGEST_NUMBER || exponent > LONGEST_EXPONENT
    }

    fn is_fine(&self) -> bool {
        let shift = self.exponent.as_ref().filter(|e| e.negative).map_or(0, |exponent| exponent.value);
        self.places + shift > PLACES
    }
}

/// Whether a number is so fine, or a text may be so long or so fine a number, that the columns must be asked. A number
/// that is too long for any column is refused here.
fn is_odd(text: &str) -> Result<bool, Refusal> {
    let (mut odd, mut number) = (false, Number::default());
    let mut bytes = text.as_bytes().iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if number.take(*byte) {
            if number.is_long() {
                return Err(long(""));
            }
            continue;
        }
        if number.digits > 0 {
            odd |= number.is_fine();
            number = Number::default();
        }
        if *byte == b'"' {
            let (skip, number) = text_at(&text.as_bytes()[at + 1..]);
            odd |= number;
            let _closing = skip.checked_sub(1).and_then(|last| bytes.nth(last));
        }
    }
    Ok(odd || number.is_fine())
}

/// The length of a text up to its closing quote, and whether it may be a number that is odd.
fn text_at(bytes: &[u8]) -> (usize, bool) {
    let (mut number, mut plain, mut hidden, mut escaped) = (Number::default(), true, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'"' => return (at + 1, hidden || plain && (number.is_long() || number.is_fine())),
            b'\\' => {
                // Digits may be written as `\u0031`.
                hidden |= plain && bytes[at..].starts_with(b"\\u00");
                (escaped, plain) = (true, false);
            }
            _ => plain = plain && number.take(*byte),
        }
    }
    (bytes.len(), false)
}

fn long(place: &str) -> Refusal {
    let message = format!(
        "a number has more than {LONGEST_NUMBER} digits, or more than {LONGEST_EXPONENT} in its exponent; write it as text"
    );
    Refusal::at(Reason::Overflow, place, message)
}

fn within(value: &Value, fields: &Fields, place: &str) -> Result<(), Refusal> {
    let Value::Object(object) = value else { return Ok(()) };
    for field in fields {
        let Some(value) = object.get(field.name()) else { continue };
        let place = if place.is_empty() { field.name().clone() } else { format!("{place}.{}", field.name()) };
        is_kept(value, field.data_type(), &place)?;
    }
    Ok(())
}

fn is_kept(value: &Value, ty: &DataType, place: &str) -> Result<(), Refusal> {
    match (ty, value) {
        (DataType::Struct(fields), value) => within(value, fields, place),
        (DataType::List(element), Value::Array(items)) => {
            items.iter().try_for_each(|item| is_kept(item, element.data_type(), place))
        }
        (DataType::Map(entries, _), Value::Object(object)) => match entries.data_type() {
            DataType::Struct(pair) => pair
                .last()
                .map_or(Ok(()), |field| object.values().try_for_each(|value| is_kept(value, field.data_type(), place))),
            _ => Ok(()),
        },
        (DataType::Decimal128(..) | DataType::Decimal256(..), Value::String(text)) => {
            let mut number = Number::default();
            for byte in text.bytes() {
                number.take(byte);
            }
            if number.is_long() { Err(long(place)) } else { uncut(text.parse().ok(), ty, place) }
        }
        (DataType::Decimal128(..) | DataType::Decimal256(..), Value::Number(number)) => {
            uncut(number.as_f64(), ty, place)
        }
        _ => Ok(()),
    }
}

/// A whole number is whole, and what a decimal loses behind its last place is nothing.
fn uncut(number: Option<f64>, ty: &DataType, place: &str) -> Result<(), Refusal> {
    let Some(number) = number else { return Ok(()) };
    let cut = match ty {
        DataType::Decimal128(..) => number.fract() != 0.0,
        _ => number != 0.0 && number.abs() < 1e-38,
    };
    if cut { Err(Refusal::at(Reason::Cut, place, format!("{number:e} does not fit the column"))) } else { Ok(()) }
}
