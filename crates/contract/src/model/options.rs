//! `enum` and `logicalTypeOptions` as constraints in the column's own type.

use serde_json::Value;

use super::literal::literal;
use crate::constraints::{Bound, Constraints, Scalar, StringFormat};
use crate::pattern::{self, PatternError};
use crate::scalar::Round;
use crate::types::Type;
use crate::yaml::Places;

/// `logicalTypeOptions`, and where they are.
struct Options<'a> {
    of: &'a Value,
    pointer: &'a str,
    places: &'a Places,
}

impl Options<'_> {
    fn literal(&self, name: &str, value: &Value, ty: &Type, round: Round) -> Option<Scalar> {
        literal(self.places, value, &format!("{}/{name}", self.pointer), ty, round)
    }
}

/// The constraints of a property of a type; or why one cannot be checked on records.
pub(crate) fn constraints(property: &Value, pointer: &str, ty: &Type, places: &Places) -> Result<Constraints, String> {
    let null = Value::Null;
    let options = Options {
        of: property.get("logicalTypeOptions").unwrap_or(&null),
        pointer: &format!("{pointer}/logicalTypeOptions"),
        places,
    };
    let count = |name: &str| options.of.get(name).and_then(Value::as_f64).map(|n| n as u64);
    let text = |name: &str| options.of.get(name).and_then(Value::as_str);
    let integer_format =
        if property.get("logicalType").and_then(Value::as_str) == Some("integer") { text("format") } else { None };
    let (least, greatest) = format_range(integer_format, ty);
    zone_is_utc(options.of)?;
    Ok(Constraints {
        enumeration: enumeration(property, pointer, ty, places)?,
        minimum: tightest(bounds(&options, ["minimum", "exclusiveMinimum"], ty, Round::Up)?, least, true),
        maximum: tightest(bounds(&options, ["maximum", "exclusiveMaximum"], ty, Round::Down)?, greatest, false),
        multiple_of: multiple_of(&options, ty)?,
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: text("pattern").map(checked_pattern).transpose()?,
        format: if matches!(ty, Type::String) { text("format").and_then(string_format) } else { None },
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: options.of.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
    })
}

fn enumeration(property: &Value, pointer: &str, ty: &Type, places: &Places) -> Result<Option<Vec<Scalar>>, String> {
    let Some(entries) = property.get("enum").and_then(Value::as_array) else {
        return Ok(None);
    };
    let mut values = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let Some(value) = entry.get("value").filter(|value| !value.is_null()) else {
            continue;
        };
        let read = literal(places, value, &format!("{pointer}/enum/{i}/value"), ty, Round::Exact);
        values.push(read.ok_or_else(|| format!("`enum` value {value} is no {ty}: write one that is"))?);
    }
    Ok(Some(values))
}

fn bounds(options: &Options<'_>, names: [&str; 2], ty: &Type, round: Round) -> Result<Vec<Bound>, String> {
    let mut bounds = Vec::new();
    // 3.0.x: a flag on the other bound.
    let excluded = options.of.get(names[1]).and_then(Value::as_bool);
    for (name, inclusive) in names.into_iter().zip([excluded != Some(true), false]) {
        let Some(value) = options.of.get(name).filter(|value| !value.is_boolean()) else {
            continue;
        };
        if beyond(value, ty, round) {
            continue;
        }
        let exact = options.literal(name, value, ty, Round::Exact);
        // A bound between two values of the type is met by the next value inside it.
        let inclusive = inclusive || exact.is_none();
        let read = exact.or_else(|| options.literal(name, value, ty, round));
        let value = read.ok_or_else(|| format!("`{name}: {value}` is no {ty}: write one that is"))?;
        bounds.push(Bound { value, inclusive });
    }
    Ok(bounds)
}

/// A bound that no value of the type reaches holds for all of them.
fn beyond(value: &Value, ty: &Type, round: Round) -> bool {
    let integer = matches!(ty, Type::Int | Type::Long);
    match (integer, value.as_f64(), round) {
        (true, Some(n), Round::Down) => n >= i64::MAX as f64,
        (true, Some(n), _) => n <= i64::MIN as f64,
        _ => false,
    }
}

/// The widths that integer formats allow within their column's type.
fn format_range(format: Option<&str>, ty: &Type) -> (Option<Scalar>, Option<Scalar>) {
    let long = |low: i64, high: i64| (Some(Scalar::Long(low)), Some(Scalar::Long(high)));
    match (format, ty) {
        (Some("i8"), _) => long(-128, 127),
        (Some("i16"), _) => long(-32_768, 32_767),
        (Some("u8"), _) => long(0, 255),
        (Some("u16"), _) => long(0, 65_535),
        (Some("u32"), _) => long(0, 4_294_967_295),
        (Some("u64"), _) => (Some(Scalar::Decimal(0)), Some(Scalar::Decimal(i128::from(u64::MAX)))),
        (Some("u128"), _) => (Some(Scalar::Decimal(0)), None),
        _ => (None, None),
    }
}

fn tightest(mut bounds: Vec<Bound>, of_format: Option<Scalar>, least: bool) -> Option<Bound> {
    bounds.extend(of_format.map(|value| Bound { value, inclusive: true }));
    bounds.into_iter().reduce(|a, b| {
        let b_is_tighter = match a.value.partial_cmp(&b.value) {
            Some(std::cmp::Ordering::Less) => least,
            Some(std::cmp::Ordering::Greater) => !least,
            _ => !b.inclusive,
        };
        if b_is_tighter { b } else { a }
    })
}

fn multiple_of(options: &Options<'_>, ty: &Type) -> Result<Option<Scalar>, String> {
    let Some(value) = options.of.get("multipleOf") else {
        return Ok(None);
    };
    let read = options.literal("multipleOf", value, ty, Round::Exact);
    read.map(Some).ok_or_else(|| format!("`multipleOf: {value}` is no {ty}: write one that is"))
}

fn checked_pattern(text: &str) -> Result<String, String> {
    pattern::translate(text).map_err(|error| match error {
        PatternError::Broken(reason) => format!("`pattern: {text}` is no regular expression ({reason})"),
        PatternError::Unchecked(why) => {
            format!("`pattern: {text}` {why}, so that records are not checked by it: rewrite it")
        }
    })
}

fn string_format(format: &str) -> Option<StringFormat> {
    Some(match format {
        "uuid" => StringFormat::Uuid,
        "email" => StringFormat::Email,
        "uri" => StringFormat::Uri,
        "hostname" => StringFormat::Hostname,
        "ipv4" => StringFormat::Ipv4,
        "ipv6" => StringFormat::Ipv6,
        _ => return None,
    })
}

/// Times without an offset are UTC here: another default zone would be silently wrong.
fn zone_is_utc(options: &Value) -> Result<(), String> {
    match options.get("defaultTimezone").and_then(Value::as_str) {
        None | Some("UTC" | "Etc/UTC" | "Z" | "GMT" | "Etc/GMT" | "Universal" | "Zulu" | "+00:00") => Ok(()),
        Some(zone) => Err(format!("`defaultTimezone: {zone}`: only UTC is read; send times with their offset")),
    }
}
