//! One value against the keywords that speak of it alone: type, choices, pattern, limits, counts.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{At, CHOICE, Problem, RULE, TYPE};
use crate::standard::words;

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    }
}

pub(super) fn wrong_type(schema: &Map<String, Value>, instance: &Value, at: &At<'_>) -> Option<Problem> {
    let expected = schema.get("type").and_then(Value::as_str)?;
    if has_type(expected, instance) {
        return None;
    }
    let text = words::brief(instance);
    let remedy = match (expected, instance) {
        ("string", Value::Number(_) | Value::Bool(_)) => words::quote(&text),
        ("integer" | "number", Value::String(s)) if s.parse::<f64>().is_ok() => format!("leave the quotes out: {s}"),
        ("boolean", Value::String(s)) if ["true", "false"].contains(&s.as_str()) => {
            format!("leave the quotes out: {s}")
        }
        (_, Value::Null) => format!("write {}, or remove the line", words::a_type(expected)),
        ("array", _) => "write a list, one entry per line, each starting with `- `".to_owned(),
        ("object", _) if at.pointer.rsplit('/').nth(1) == Some("enum") => format!("write `value: {text}`"),
        ("object", _) => "write an object: `name: value` lines, indented".to_owned(),
        _ => format!("write {}", words::a_type(expected)),
    };
    let subject = words::name_of(&at.pointer);
    let quote = expected == "string" && (instance.is_number() || instance.is_boolean());
    let message = format!("{subject} is {}, not {}", words::type_of(instance), words::a_type(expected));
    Some(Problem { quote, ..Problem::new(TYPE, &at.pointer, message, remedy) })
}

pub(super) fn wrong_scalar(schema: &Map<String, Value>, instance: &Value, at: &At<'_>) -> Option<Problem> {
    let name = words::name_of(&at.pointer);
    let value = words::brief(instance);
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(instance)
    {
        let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        return Some(Problem::new(
            CHOICE,
            &at.pointer,
            format!("`{value}` is not a value of {name}"),
            if value == "map" && at.pointer.ends_with("/logicalType") {
                "write `apiVersion: v3.2.0`, which has it, or another type".to_owned()
            } else {
                format!("{}write {}", words::did_you_mean(&value, choices.iter().copied()), words::list(&choices, "or"))
            },
        ));
    }
    if schema.get("const").is_some_and(|expected| expected != instance) {
        return Some(Problem::new(CHOICE, &at.pointer, format!("{name} is `{value}`"), "see the standard".to_owned()));
    }
    if let (Some(pattern), Some(text)) = (schema.get("pattern").and_then(Value::as_str), instance.as_str())
        && !fancy_regex::Regex::new(pattern).is_ok_and(|r| r.is_match(text).unwrap_or(false))
    {
        let about = schema.get("description").and_then(Value::as_str).unwrap_or(pattern);
        return Some(Problem::new(
            RULE,
            &at.pointer,
            format!("`{value}` is not allowed as {name}"),
            format!("{about} (pattern {pattern})"),
        ));
    }
    wrong_number(schema, instance, at)
}

fn wrong_number(schema: &Map<String, Value>, instance: &Value, at: &At<'_>) -> Option<Problem> {
    let number = instance.as_f64()?;
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let remedy = match (limit("minimum"), limit("exclusiveMinimum")) {
        (Some(least), _) if number < least => format!("write {least} or more"),
        (_, Some(below)) if number <= below => format!("write more than {below}"),
        _ => return None,
    };
    Some(Problem::new(RULE, &at.pointer, format!("{} is {number}", words::name_of(&at.pointer)), remedy))
}

pub(super) fn wrong_count(schema: &Map<String, Value>, items: &[Value], at: &At<'_>) -> Option<Problem> {
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let count = items.len() as u64;
    let name = words::name_of(&at.pointer);
    let (message, remedy) = match (limit("minItems"), limit("maxItems")) {
        (Some(least), _) if count < least && count == 0 => {
            (format!("{name} is empty"), format!("list at least {least}, or remove it"))
        }
        (Some(least), _) if count < least => (format!("{name} has {count} entries"), format!("list at least {least}")),
        (_, Some(most)) if count > most => (format!("{name} has {count} entries"), format!("list at most {most}")),
        _ if schema.get("uniqueItems") == Some(&Value::Bool(true)) => {
            let mut seen = HashSet::new();
            let (i, item) = items.iter().enumerate().find(|(_, item)| !seen.insert(item.to_string()))?;
            let message = format!("{name} has `{}` twice", words::brief(item));
            let problem = Problem::new(RULE, &format!("{}/{i}", at.pointer), message, "keep one".to_owned());
            return Some(Problem { repeats: true, ..problem });
        }
        _ => return None,
    };
    Some(Problem::new(RULE, &at.pointer, message, remedy))
}
