//! Names that should be one thing's alone: objects, properties, stable ids.

use std::collections::HashMap;

use serde_json::Value;

use super::super::yaml::join;
use super::{Notes, list, text};
use crate::names::{NameError, fold, fold_column};

const NAME: &str = "MESH-CONTRACT-0021";
const ID: &str = "MESH-CONTRACT-0029";

pub(super) fn objects(document: &Value, notes: &mut Notes) {
    unique("schema object", &list(document, "schema", ""), fold, notes);
}

pub(super) fn properties(owner: &Value, pointer: &str, notes: &mut Notes) {
    unique("property", &list(owner, "properties", pointer), fold_column, notes);
}

fn unique(what: &str, named: &[(String, &Value)], fold: fn(&str) -> Result<String, NameError>, notes: &mut Notes) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (pointer, entry) in named {
        let Some(name) = text(entry, "name") else {
            continue;
        };
        let folded = fold(name).unwrap_or_else(|_| name.to_owned());
        let Some(first) = seen.insert(folded.clone(), name) else {
            continue;
        };
        let message = if first == name {
            format!("the {what} `{name}` is there twice")
        } else {
            format!("the {what} names `{first}` and `{name}` are both `{folded}` in tables and SQL")
        };
        notes.error(NAME, &format!("{pointer}/name"), message, "rename one of the two");
    }
}

/// The standard: an `id` is unique within the array that holds it.
pub(super) fn stable_ids(value: &Value, pointer: &str, notes: &mut Notes) {
    match value {
        Value::Array(entries) => {
            let mut seen: HashMap<&str, usize> = HashMap::new();
            for (i, entry) in entries.iter().enumerate() {
                if let Some(id) = text(entry, "id")
                    && let Some(first) = seen.insert(id, i)
                {
                    let message = format!("the `id` `{id}` is that of entry {} already", first + 1);
                    notes.error(ID, &format!("{pointer}/{i}/id"), message, "give every entry of a list its own `id`");
                }
                stable_ids(entry, &format!("{pointer}/{i}"), notes);
            }
        }
        Value::Object(members) => {
            // Values of custom properties and other engines' rules are not the standard's, nor are their ids.
            let own = members
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "value" | "implementation" | "inputContracts"));
            own.for_each(|(name, member)| stable_ids(member, &join(pointer, name), notes));
        }
        _ => {}
    }
}
