//! `logicalTypeOptions`, `enum` and `examples`: ranges that hold something, patterns that compile, values of the type.

use std::sync::Arc;

use serde_json::Value;

use super::{Notes, list, text};
use crate::constraints::Scalar;
use crate::model::literal::literal;
use crate::pattern::{self, PatternError};
use crate::scalar::Round;
use crate::types::Type;
use crate::types::odcs::{Shape, type_of};

const RANGE: &str = "MESH-CONTRACT-0023";
const PATTERN: &str = "MESH-CONTRACT-0024";
const VALUE: &str = "MESH-CONTRACT-0028";
const REFERENCE: &str = "MESH-CONTRACT-0026";

pub(super) fn check(property: &Value, pointer: &str, notes: &mut Notes) {
    let ty = match type_of(property) {
        Ok(Shape::Plain(ty)) => Some(ty),
        _ => None,
    };
    if let Some(ty) = &ty {
        values(property, pointer, ty, notes);
    }
    let Some(options) = property.get("logicalTypeOptions") else {
        return;
    };
    let at = |name: &str| format!("{pointer}/logicalTypeOptions/{name}");
    for (low, high) in [("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")] {
        let count = |name: &str| options.get(name).and_then(Value::as_f64);
        if let (Some(least), Some(most)) = (count(low), count(high))
            && least > most
        {
            let message = format!("`{low}` {least} is greater than `{high}` {most}: nothing fits");
            notes.error(RANGE, &at(low), message, "swap or correct them");
        }
    }
    if let Some(ty) = &ty {
        range(options, ty, &at, notes);
    }
    if let Some(written) = text(options, "pattern") {
        check_pattern(written, &at("pattern"), notes);
    }
    demanded(property, options, &at, notes);
}

pub(super) fn check_pattern(written: &str, pointer: &str, notes: &mut Notes) {
    match pattern::translate(written) {
        Ok(_) => {}
        Err(PatternError::Broken(reason)) => notes.error(
            PATTERN,
            pointer,
            format!("`{written}` is no regular expression: {reason}"),
            "correct it; try it at https://regex101.com with the flavour ECMAScript",
        ),
        Err(PatternError::Unchecked(why)) => notes.warning(
            PATTERN,
            pointer,
            format!("`{written}` {why}: a mesh does not check records by it"),
            "rewrite it without that",
        ),
    }
}

fn range(options: &Value, ty: &Type, at: &dyn Fn(&str) -> String, notes: &mut Notes) {
    let mut ends: [Option<(Scalar, &str, bool)>; 2] = [None, None];
    // 3.0.x: a flag on the other bound.
    let flag = |name: &str| options.get(name).and_then(Value::as_bool) == Some(true);
    for (side, round, name, inclusive) in [
        (0, Round::Up, "minimum", !flag("exclusiveMinimum")),
        (0, Round::Up, "exclusiveMinimum", false),
        (1, Round::Down, "maximum", !flag("exclusiveMaximum")),
        (1, Round::Down, "exclusiveMaximum", false),
    ] {
        let Some(value) = options.get(name).filter(|value| !value.is_boolean()) else {
            continue;
        };
        let exact = notes.literal(value, &at(name), ty, Round::Exact);
        let inclusive = inclusive || exact.is_none();
        let Some(end) = exact.or_else(|| notes.literal(value, &at(name), ty, round)) else {
            unreadable(value, ty, name, options, at, notes);
            continue;
        };
        let tighter = match &ends[side] {
            None => true,
            Some((other, _, _)) if side == 0 => end > *other || (end == *other && !inclusive),
            Some((other, _, _)) => end < *other || (end == *other && !inclusive),
        };
        if tighter {
            ends[side] = Some((end, name, inclusive));
        }
    }
    let number = |name: &str| options.get(name).and_then(Value::as_f64);
    let beyond = ends.iter().any(Option::is_none).then(|| (number("minimum"), number("maximum")));
    if let Some((Some(least), Some(most))) = beyond
        && least > most
    {
        // Beyond what the type holds, and still no range.
        let shown = |name: &str| options.get(name).map(|value| notes.written(value, &at(name))).unwrap_or_default();
        let message =
            format!("`minimum` {} and `maximum` {}: nothing is between them", shown("minimum"), shown("maximum"));
        notes.error(RANGE, &at("minimum"), message, "swap or correct them");
    }
    if let [Some((least, low, low_in)), Some((most, high, high_in))] = &ends
        && is_empty(least, *low_in, most, *high_in)
    {
        let shown = |name: &str| options.get(name).map(|value| notes.written(value, &at(name))).unwrap_or_default();
        let message = format!("`{low}` {} and `{high}` {}: nothing is between them", shown(low), shown(high));
        notes.error(RANGE, &at(low), message, "swap or correct them");
    }
}

fn is_empty(least: &Scalar, low_in: bool, most: &Scalar, high_in: bool) -> bool {
    match (least, most) {
        // Whole numbers: an excluded end is the next one.
        (Scalar::Long(a), Scalar::Long(b)) => {
            i128::from(*a) + i128::from(!low_in) > i128::from(*b) - i128::from(!high_in)
        }
        (Scalar::Date(a), Scalar::Date(b)) => i64::from(*a) + i64::from(!low_in) > i64::from(*b) - i64::from(!high_in),
        _ => least > most || (least == most && !(low_in && high_in)),
    }
}

/// Dates in a format of their own are not read here; a mesh refuses them later if it must check them.
fn unreadable(value: &Value, ty: &Type, name: &str, options: &Value, at: &dyn Fn(&str) -> String, notes: &mut Notes) {
    let temporal = matches!(ty, Type::Date | Type::Time | Type::Timestamp | Type::TimestampTz);
    if temporal && text(options, "format").is_none() {
        let form = match ty {
            Type::Date => "2026-01-31",
            Type::Time => "23:59:59",
            _ => "2026-01-31T12:00:00Z",
        };
        notes.error(VALUE, &at(name), format!("{value} is no {ty}"), format!("write it like {form}"));
    }
}

fn values(property: &Value, pointer: &str, ty: &Type, notes: &mut Notes) {
    let places = Arc::clone(&notes.places);
    let fits = |value: &Value, at: &str| value.is_null() || literal(&places, value, at, ty, Round::Exact).is_some();
    let shown = text(property, "logicalType").unwrap_or(ty.word());
    let own_format = property.pointer("/logicalTypeOptions/format").is_some();
    let temporal = matches!(ty, Type::Date | Type::Time | Type::Timestamp | Type::TimestampTz);
    if (temporal && own_format) || *ty == Type::Binary {
        return;
    }
    for (pointer, entry) in list(property, "enum", pointer) {
        if let Some(value) = entry.get("value").filter(|value| !fits(value, &format!("{pointer}/value"))) {
            let message = format!("the `enum` value {value} is no {shown}");
            notes.error(VALUE, &format!("{pointer}/value"), message, value_remedy(value, ty));
        }
    }
    for (pointer, example) in list(property, "examples", pointer) {
        if !fits(example, &pointer) {
            let message = format!("the example {example} is no {shown}");
            notes.warning(VALUE, &pointer, message, value_remedy(example, ty));
        }
    }
}

fn value_remedy(value: &Value, ty: &Type) -> String {
    match (ty, value) {
        (Type::String | Type::Uuid, Value::Number(_) | Value::Bool(_)) => format!("put it in quotes: \"{value}\""),
        (Type::Int | Type::Long | Type::Float | Type::Double, Value::String(text)) if text.parse::<f64>().is_ok() => {
            format!("leave the quotes out: {text}")
        }
        _ => "write a value of the type, or correct the type".to_owned(),
    }
}

/// `required` of an object names its properties.
fn demanded(property: &Value, options: &Value, at: &dyn Fn(&str) -> String, notes: &mut Notes) {
    let names: Vec<&str> = list(property, "properties", "").iter().filter_map(|(_, p)| text(p, "name")).collect();
    if names.is_empty() {
        return;
    }
    for (pointer, name) in list(options, "required", &at("")) {
        let pointer = pointer.replace("//", "/");
        if let Some(name) = name.as_str().filter(|name| !names.contains(name)) {
            let hint = crate::standard::words::did_you_mean(name, names.iter().copied());
            notes.error(
                REFERENCE,
                &pointer,
                format!("`{name}` is no property of this object"),
                format!("{hint}name one of its `properties`"),
            );
        }
    }
}
