//! Positions of primary key and partition key: each once, from 1; a gap is a warning, since they are still in order.

use std::collections::HashMap;

use serde_json::Value;

use super::{Notes, list, text};

const KEY: &str = "MESH-CONTRACT-0022";

pub(super) fn check(object: &Value, pointer: &str, notes: &mut Notes) {
    let properties = list(object, "properties", pointer);
    positions(&properties, "primaryKey", "primaryKeyPosition", notes);
    positions(&properties, "partitioned", "partitionKeyPosition", notes);
    for (pointer, property) in &properties {
        let flag = |name: &str| property.get(name).and_then(Value::as_bool) == Some(true);
        if flag("primaryKey") && !flag("required") {
            let message =
                format!("the primary key column `{}` is not required", text(property, "name").unwrap_or_default());
            notes.warning(KEY, &format!("{pointer}/primaryKey"), message, "add `required: true`: a key is never null");
        }
    }
}

fn positions(properties: &[(String, &Value)], flag: &str, position: &str, notes: &mut Notes) {
    let mut taken: HashMap<i64, &str> = HashMap::new();
    let mut unplaced = 0;
    let before = notes.errors;
    for (pointer, property) in properties {
        let name = text(property, "name").unwrap_or_default();
        let is_key = property.get(flag).and_then(Value::as_bool) == Some(true);
        let written = property.get(position).and_then(Value::as_f64).map(|n| n as i64).filter(|n| *n != -1);
        let at = format!("{pointer}/{position}");
        match (is_key, written) {
            (true, None) => unplaced += 1,
            (false, Some(n)) if n < 1 => {}
            (false, Some(n)) => {
                notes.error(
                    KEY,
                    &at,
                    format!("`{position}: {n}` without `{flag}: true`"),
                    format!("add `{flag}: true`, or remove `{position}`"),
                );
            }
            (true, Some(n)) if n < 1 => {
                notes.error(KEY, &at, format!("`{position}: {n}`: positions count from 1"), "write 1 or more");
            }
            (true, Some(n)) => {
                if let Some(first) = taken.insert(n, name) {
                    let message = format!("`{first}` and `{name}` have the same `{position}` {n}");
                    notes.error(KEY, &at, message, "number them 1, 2, 3, …");
                }
            }
            (false, None) => {}
        }
    }
    // What follows from a mistake is no finding of its own.
    if notes.errors == before {
        gaps(properties, &taken, unplaced, position, notes);
    }
}

fn gaps(
    properties: &[(String, &Value)],
    taken: &HashMap<i64, &str>,
    unplaced: usize,
    position: &str,
    notes: &mut Notes,
) {
    let last = taken.keys().copied().max().unwrap_or(0);
    let missing = (1..=last).find(|n| !taken.contains_key(n));
    let highest = properties.iter().find(|(_, p)| text(p, "name") == taken.get(&last).copied());
    if let (Some(missing), Some((pointer, _)), 0) = (missing, highest, unplaced) {
        let message = format!("`{position}` {last} is there, {missing} is not");
        notes.warning(KEY, &format!("{pointer}/{position}"), message, "number them 1, 2, 3, … without a gap");
    }
    if unplaced > 1 || (unplaced > 0 && !taken.is_empty()) {
        let pointer = properties.first().map(|(pointer, _)| pointer.as_str()).unwrap_or_default();
        let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
        let message = format!("some of several key columns have no `{position}`");
        notes.warning(KEY, parent, message, "number them 1, 2, 3, …; else their order in the document counts");
    }
}
