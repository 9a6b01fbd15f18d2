//! Literals of documents in a column's own type.
//! In: a JSON value and a type. Out: a [`Scalar`], rounded inwards for the ends of a range.
//! Never: a bound that lets a value pass which the document refuses.

use serde_json::Value;

use crate::constraints::Scalar;
use crate::types::number::Digits;
use crate::types::{Type, calendar};

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
            unscaled(&number.to_string(), *scale, round).map(Scalar::Decimal)
        }
        (Type::String | Type::Uuid, Value::String(text)) => Some(Scalar::Text(text.clone())),
        (Type::Date, Value::String(text)) => date(text).map(Scalar::Date),
        (Type::Time, Value::String(text)) => calendar::written_time(text).ok().map(Scalar::Time),
        (Type::Timestamp | Type::TimestampTz, Value::String(text)) => timestamp(text).map(Scalar::Timestamp),
        _ => None,
    }
}

/// Reads a number as it was written, with every digit; `None` if the type has no such value.
pub(crate) fn number(text: &str, ty: &Type, round: Round) -> Option<Scalar> {
    match ty {
        Type::Int | Type::Long => i64::try_from(unscaled(text, 0, round)?).ok().map(Scalar::Long),
        Type::Float | Type::Double => text.parse().ok().map(Scalar::Double),
        Type::Decimal { scale, .. } => unscaled(text, *scale, round).map(Scalar::Decimal),
        _ => None,
    }
}

/// A number's text (`-12.5`, `1e20`) as an integer at a scale; saturates beyond 38 digits.
fn unscaled(text: &str, scale: u8, round: Round) -> Option<i128> {
    let digits = Digits::read(text)?;
    let Some((value, cut)) = digits.at_scale(scale) else {
        return Some(if digits.negative { i128::MIN } else { i128::MAX });
    };
    match (cut, round, digits.negative) {
        (false, ..) | (true, Round::Up, true) | (true, Round::Down, false) => Some(value),
        (true, Round::Up, false) => Some(value + 1),
        (true, Round::Down, true) => Some(value - 1),
        (true, Round::Exact, _) => None,
    }
}

/// A date; a moment's date too, if the moment is one.
fn date(text: &str) -> Option<i32> {
    if text.len() > 10 {
        calendar::written_moment(text).ok()?;
    }
    calendar::date(text.get(..10)?).ok()
}

/// ISO 8601 with `T` or a space, an offset or none (UTC), or a date alone (its midnight).
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    calendar::written_moment(text).ok()
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
