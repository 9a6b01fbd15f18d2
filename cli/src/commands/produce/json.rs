//! One line of JSON as a row: every member once, and decimals with all their digits.
//!
//! In: a text, and the columns. Out: values by name. A decimal's number becomes a text, as a CSV file has it: on its way
//! through a double, 0.1000000000000000055 would lose digits that the column could hold or would have to refuse.

use std::fmt;

use mesh_contract::{Column, Type};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The members of an object, in their order; the same name may come twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// The members of a text that is an object; the same name twice is an error.
pub(crate) fn members(text: &str) -> Result<Vec<(String, &RawValue)>, String> {
    let Members(members) = serde_json::from_str(text).map_err(|error| no_object(&error))?;
    let mut names = std::collections::BTreeSet::new();
    match members.iter().find(|(name, _)| !names.insert(name.as_str())) {
        Some((name, _)) => Err(format!("`{name}` is named twice in one object")),
        None => Ok(members),
    }
}

/// A value as its column's type reads it. What does not have that type stays as it is: the encoder refuses it.
pub(crate) fn value(raw: &RawValue, column: &Column) -> Result<Value, String> {
    let text = raw.get();
    match (&column.ty, text.as_bytes().first()) {
        (Type::Decimal { .. }, Some(b'-' | b'0'..=b'9')) => Ok(Value::from(plain(text))),
        (Type::Struct(_), Some(b'{')) => {
            let field = |(name, raw): (String, &RawValue)| {
                let child = column.children.iter().find(|c| c.original == name || c.record_name() == name);
                let child = child.ok_or_else(|| format!("`{}` has no field `{name}`", column.original))?;
                Ok((child.record_name().to_owned(), value(raw, child)?))
            };
            named(members(text)?.into_iter().map(field))
        }
        (Type::List(_), Some(b'[')) => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            items.into_iter().map(|item| child(item, column, 0)).collect::<Result<_, _>>().map(Value::Array)
        }
        (Type::Map(..), Some(b'{')) => {
            let entries = members(text)?.into_iter();
            named(entries.map(|(key, item)| Ok((key, child(item, column, 1)?))))
        }
        _ => serde_json::from_str(text).map_err(|error| error.to_string()),
    }
}

/// Pairs as an object; two spellings of one column are the same name twice.
pub(crate) fn named(pairs: impl Iterator<Item = Result<(String, Value), String>>) -> Result<Value, String> {
    let mut object = Map::new();
    for pair in pairs {
        let (name, value) = pair?;
        if object.insert(name.clone(), value).is_some() {
            return Err(format!("column `{name}` is named twice"));
        }
    }
    Ok(Value::Object(object))
}

fn child(raw: &RawValue, column: &Column, at: usize) -> Result<Value, String> {
    match column.children.get(at) {
        Some(child) => value(raw, child),
        None => serde_json::from_str(raw.get()).map_err(|error| error.to_string()),
    }
}

/// Far more places than any decimal has: a longer exponent stays, and is refused.
const LONGEST: i64 = 100;

/// A JSON number without exponent, digit for digit.
fn plain(number: &str) -> String {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else { return number.to_owned() };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, places) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let moved = exponent.parse::<i64>().ok().filter(|by| by.abs() <= LONGEST);
    let Some(point) = moved.and_then(|by| i64::try_from(whole.len()).ok()?.checked_add(by)) else {
        return number.to_owned();
    };
    let digits = format!("{whole}{places}");
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    match usize::try_from(point) {
        Ok(point) if point > 0 && point < digits.len() => {
            let (before, behind) = digits.split_at(point);
            format!("{sign}{before}.{behind}")
        }
        Ok(point) if point > 0 => format!("{sign}{digits}{}", "0".repeat(point - digits.len())),
        _ => format!("{sign}0.{}{digits}", zeros(-point)),
    }
}

/// What is wrong with one line's JSON: by itself it is always at line 1.
fn no_object(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("no JSON object at column {}: {what}", error.column())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    #[test]
    fn an_exponent_moves_the_point() {
        for (number, wanted) in [
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("-12.34e1", "-123.4"),
            ("12e-2", "0.12"),
            ("0e0", "0"),
            ("1e-400", "1e-400"),
        ] {
            assert_eq!(plain(number), wanted);
        }
    }

    /// Digits with a point anywhere, written with any exponent, are those digits again.
    #[test]
    fn a_number_keeps_its_digits_whatever_its_exponent() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..2000 {
            let digits: String = (0..rng.random_range(1..=38)).map(|_| rng.random_range('0'..='9')).collect();
            let point = rng.random_range(1..=digits.len());
            let by = rng.random_range(-40..=40_i64);
            let (whole, places) = digits.split_at(point);
            let dot = if places.is_empty() { "" } else { "." };
            let text = plain(&format!("{whole}{dot}{places}e{by}"));
            let (w, p) = text.split_once('.').unwrap_or((&text, ""));
            let value = |whole: &str, places: &str, by: i64| {
                let all = format!("{whole}{places}");
                let digits = all.trim_start_matches('0').trim_end_matches('0').to_owned();
                let shift = by - i64::try_from(places.len()).unwrap();
                let trailing = i64::try_from(all.len() - all.trim_end_matches('0').len()).unwrap();
                if digits.is_empty() { (digits, 0) } else { (digits, shift + trailing) }
            };
            assert_eq!(value(w, p, 0), value(whole, places, by), "{whole}{dot}{places}e{by} is {text}");
        }
    }
}
