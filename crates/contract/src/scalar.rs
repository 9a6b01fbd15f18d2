//! Literals of documents in a column's own type.
//! In: a JSON value and a type. Out: a [`Scalar`], rounded inwards for the ends of a range.
//! Never: a bound that lets a value pass which the document refuses.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde_json::Value;

use crate::constraints::Scalar;
use crate::types::Type;

/// How a literal that the type cannot hold exactly is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Not at all.
    Exact,
    /// Up, for a least value.
    Up,
    /// Down, for a greatest value.
    Down,
}

/// Reads a literal; `None` if the type has no such value.
pub(crate) fn scalar(value: &Value, ty: &Type, round: Round) -> Option<Scalar> {
    match (ty, value) {
        (Type::Boolean, Value::Bool(value)) => Some(Scalar::Boolean(*value)),
        (Type::Int | Type::Long, Value::Number(number)) => {
            i64::try_from(unscaled(&number.to_string(), 0, round)?).ok().map(Scalar::Long)
        }
        (Type::Float | Type::Double, Value::Number(number)) => number.as_f64().map(Scalar::Double),
        (Type::Decimal { scale, .. }, Value::Number(number)) => {
            unscaled(&number.to_string(), u32::from(*scale), round).map(Scalar::Decimal)
        }
        (Type::String | Type::Uuid, Value::String(text)) => Some(Scalar::Text(text.clone())),
        (Type::Date, Value::String(text)) => date(text).map(Scalar::Date),
        (Type::Time, Value::String(text)) => time(text).map(Scalar::Time),
        (Type::Timestamp | Type::TimestampTz, Value::String(text)) => timestamp(text).map(Scalar::Timestamp),
        _ => None,
    }
}

/// Reads a number as it was written, with every digit; `None` if the type has no such value.
pub(crate) fn number(text: &str, ty: &Type, round: Round) -> Option<Scalar> {
    match ty {
        Type::Int | Type::Long => i64::try_from(unscaled(text, 0, round)?).ok().map(Scalar::Long),
        Type::Float | Type::Double => text.parse().ok().map(Scalar::Double),
        Type::Decimal { scale, .. } => unscaled(text, u32::from(*scale), round).map(Scalar::Decimal),
        _ => None,
    }
}

/// A number's text (`-12.5`, `1e20`) as an integer at a scale; saturates beyond 38 digits.
fn unscaled(text: &str, scale: u32, round: Round) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let negative = mantissa.starts_with('-');
    let (whole, fraction) = mantissa
        .trim_start_matches(['-', '+'])
        .split_once('.')
        .unwrap_or((mantissa.trim_start_matches(['-', '+']), ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let shift = exponent - fraction.len() as i64 + i64::from(scale);
    if digits.len() as i64 + shift > 38 {
        return Some(if negative { i128::MIN } else { i128::MAX });
    }
    let (kept, cut) = if shift >= 0 {
        (format!("{digits}{}", "0".repeat(usize::try_from(shift).ok()?)), "")
    } else {
        let at = digits.len().saturating_sub(usize::try_from(-shift).ok()?);
        (digits[..at].to_owned(), &digits[at..])
    };
    let size: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let value = if negative { -size } else { size };
    if cut.bytes().all(|b| b == b'0') {
        return Some(value);
    }
    match round {
        Round::Exact => None,
        Round::Up => Some(if negative { value } else { value + 1 }),
        Round::Down => Some(if negative { value - 1 } else { value }),
    }
}

fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
    if text.len() > 10 && timestamp(text).is_none() {
        return None;
    }
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn time(text: &str) -> Option<i64> {
    let time = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok())?;
    Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000))
}

/// ISO 8601 with `T` or a space, an offset or none (UTC), or a date alone (its midnight).
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"] {
        if let Ok(at) = DateTime::parse_from_str(text, format) {
            return Some(at.timestamp_micros());
        }
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc().timestamp_micros());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: Value, ty: Type, round: Round, expected: Option<Scalar>) {
        assert_eq!(scalar(&value, &ty, round), expected, "{value} as {ty:?}");
    }

    #[test]
    fn literals() {
        let decimal = Type::Decimal { precision: 10, scale: 2 };
        check(json!(5), Type::Long, Round::Exact, Some(Scalar::Long(5)));
        check(json!(5.0), Type::Long, Round::Exact, Some(Scalar::Long(5)));
        check(json!(0.5), Type::Long, Round::Exact, None);
        check(json!(0.5), Type::Long, Round::Up, Some(Scalar::Long(1)));
        check(json!(-0.5), Type::Long, Round::Up, Some(Scalar::Long(0)));
        check(json!(-0.5), Type::Long, Round::Down, Some(Scalar::Long(-1)));
        check(json!(1e30), Type::Long, Round::Down, None);
        check(json!(12.5), decimal.clone(), Round::Exact, Some(Scalar::Decimal(1250)));
        check(json!(0.001), decimal.clone(), Round::Exact, None);
        check(json!(0.001), decimal, Round::Down, Some(Scalar::Decimal(0)));
        check(json!("x"), Type::Long, Round::Exact, None);
        check(json!("2020-01-02"), Type::Date, Round::Exact, Some(Scalar::Date(18263)));
        check(json!("2020-02-30"), Type::Date, Round::Exact, None);
        check(json!("23:59:59"), Type::Time, Round::Exact, Some(Scalar::Time(86_399_000_000)));
        let utc = Some(Scalar::Timestamp(1_577_836_800_000_000));
        for text in ["2020-01-01 00:00:00", "2020-01-01T00:00:00Z", "2020-01-01 10:00:00+10:00", "2020-01-01"] {
            check(json!(text), Type::TimestampTz, Round::Exact, utc.clone());
        }
    }
}
