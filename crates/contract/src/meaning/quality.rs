//! Quality rules: columns that are there, units that count, ranges that hold something.

use serde_json::Value;

use super::{Notes, Scope, list, options, text};
use crate::model::rules::duplicate_columns;
use crate::standard::words;

/// The code of a rule that lacks what it is.
pub(crate) const EMPTY_RULE: &str = "MESH-CONTRACT-0005";
const REFERENCE: &str = "MESH-CONTRACT-0026";
const UNIT: &str = "MESH-CONTRACT-0027";
const RANGE: &str = "MESH-CONTRACT-0023";
const VALUE: &str = "MESH-CONTRACT-0028";

/// The rules of an object or of one of its properties.
pub(super) fn check(owner: &Value, pointer: &str, object: &Scope<'_>, notes: &mut Notes) {
    for (pointer, rule) in list(owner, "quality", pointer) {
        between(rule, &pointer, notes);
        empty(rule, &pointer, notes);
        if text(rule, "metric").is_some() {
            library(rule, &pointer, object, notes);
        }
    }
}

/// The standard's default is `type: library`, which demands a metric; its schema does not apply the default, so that a
/// rule without either would be valid and judge nothing.
fn empty(rule: &Value, pointer: &str, notes: &mut Notes) {
    let has = |name: &str| rule.get(name).is_some();
    if ["type", "metric", "rule"].into_iter().any(has) {
        return;
    }
    let message = "a quality rule has neither `type` nor `metric`";
    if text(rule, "description").is_some() {
        let message = format!("{message}: it is taken as text, which nothing is judged by");
        notes.warning(EMPTY_RULE, pointer, message, "add `type: text`, or the `metric` that is meant");
    } else {
        notes.error(
            EMPTY_RULE,
            pointer,
            format!("{message}: it judges nothing"),
            "write a `metric`, or remove the rule",
        );
    }
}

fn between(rule: &Value, pointer: &str, notes: &mut Notes) {
    for name in ["mustBeBetween", "mustNotBeBetween"] {
        let ends: Vec<f64> =
            rule.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64).collect();
        if let [low, high] = ends.as_slice()
            && low > high
        {
            let message = format!("`{name}` from {low} to {high}: nothing is between them");
            notes.error(RANGE, &format!("{pointer}/{name}"), message, format!("write [{high}, {low}]"));
        }
        if let ("mustBeBetween", [low, high]) = (name, ends.as_slice())
            && text(rule, "metric").is_some()
            && text(rule, "unit") != Some("percent")
            && low < high
            && low.floor() + 1.0 >= *high
        {
            let message = format!("no whole number is between {low} and {high}, which are not counted in");
            notes.warning(
                RANGE,
                &format!("{pointer}/{name}"),
                message,
                format!("write [{}, {}]", low - 1.0, high + 1.0),
            );
        }
    }
}

/// Rules that no table can pass or fail: quality's verdict on them is `error`.
fn without_meaning(rule: &Value, arguments: &Value, pointer: &str, notes: &mut Notes) {
    let lacks = |name: &str| arguments.get(name).is_none() && rule.get(name).is_none();
    // The rules of a schema object stand directly in it.
    let is_of_object = !pointer.contains("/properties/");
    let (problem, remedy) = match text(rule, "metric") {
        Some("invalidValues") if lacks("validValues") && lacks("pattern") => {
            ("`invalidValues` has neither `validValues` nor `pattern`", "add one of them to `arguments`")
        }
        Some("rowCount") if text(rule, "unit") == Some("percent") => {
            ("`rowCount` has no percent: it is all rows", "write `unit: rows`")
        }
        Some("duplicateValues") if is_of_object && lacks("properties") => {
            ("`duplicateValues` of a schema object names no columns", "add `arguments: {properties: […]}`")
        }
        _ => return,
    };
    notes.warning(VALUE, pointer, format!("{problem}: its verdict is always `error`"), remedy);
}

fn library(rule: &Value, pointer: &str, object: &Scope<'_>, notes: &mut Notes) {
    if let Some(unit) = text(rule, "unit").filter(|unit| !["rows", "percent"].contains(unit)) {
        let hint = words::did_you_mean(unit, ["rows", "percent"]);
        let message = format!("`{unit}` is no unit of a library metric");
        notes.error(UNIT, &format!("{pointer}/unit"), message, format!("{hint}write rows or percent"));
    }
    for name in ["mustBe", "mustNotBe"] {
        if let Some(value) = rule.get(name).filter(|value| !value.is_number()) {
            let message = format!("`{name}: {value}`: a library metric is a number");
            notes.error(VALUE, &format!("{pointer}/{name}"), message, "write a number");
        }
    }
    let arguments = rule.get("arguments").unwrap_or(&Value::Null);
    without_meaning(rule, arguments, pointer, notes);
    if let Some(pattern) = text(arguments, "pattern") {
        options::check_pattern(pattern, &format!("{pointer}/arguments/pattern"), notes);
    }
    for (i, column) in duplicate_columns(arguments).enumerate() {
        if !object.properties.is_empty() && !object.properties.contains(column) {
            let hint = words::did_you_mean(column, object.properties.iter().copied());
            notes.error(
                REFERENCE,
                &format!("{pointer}/arguments/properties/{i}"),
                format!("`{column}` is no property of `{}`", object.name),
                format!("{hint}name one of its `properties`"),
            );
        }
    }
}
