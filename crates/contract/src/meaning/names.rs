//! Names that should be one thing's alone: objects, properties, stable ids.

use std::collections::HashMap;

use serde_json::Value;

use super::{Notes, list, text};
use crate::names::{NameError, fold, fold_column};
use crate::yaml::join;

type Fold = fn(&str) -> Result<String, NameError>;

const NAME: &str = "MESH-CONTRACT-0021";
const ID: &str = "MESH-CONTRACT-0029";

pub(super) fn objects(document: &Value, notes: &mut Notes) {
    unique("schema object", &list(document, "schema", ""), fold, notes);
}

pub(super) fn properties(owner: &Value, pointer: &str, notes: &mut Notes) {
    unique("property", &list(owner, "properties", pointer), fold_column, notes);
}

/// A server's `server` is its identifier; a role, and what an extension says, are known by their names too.
pub(super) fn of_the_document(document: &Value, notes: &mut Notes) {
    unique_by("server", "server", &list(document, "servers", ""), exactly, notes);
    for (section, key) in [("roles", "role"), ("customProperties", "property")] {
        let mut found = Notes::default();
        unique_by(key, key, &list(document, section, ""), exactly, &mut found);
        notes.take_as_warnings(found);
    }
}

/// ODPS: name and version together are a port's key.
pub(super) fn ports(document: &Value, section: &str, notes: &mut Notes) {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for (i, (pointer, port)) in list(document, section, "").into_iter().enumerate() {
        let name = text(port, "name").unwrap_or_default();
        let version = text(port, "version").unwrap_or_default();
        if let Some(first) = seen.insert((name, version), i) {
            let message = format!("the port `{name}` {version} is entry {} already", first + 1);
            let remedy = "name and version are a port's key: change one of them, or keep one entry";
            notes.error(NAME, &format!("{pointer}/name"), message, remedy);
        }
    }
}

/// The standard: entries of an `enum` are unique, whatever else they say.
pub(super) fn enum_values(property: &Value, pointer: &str, notes: &mut Notes) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, (pointer, entry)) in list(property, "enum", pointer).into_iter().enumerate() {
        let Some(value) = entry.get("value") else {
            continue;
        };
        let at = format!("{pointer}/value");
        if let Some(first) = seen.insert(notes.written(value, &at), i) {
            let message = format!("the `enum` value {value} is that of entry {} already", first + 1);
            notes.error(NAME, &at, message, "keep one of the two");
        }
    }
}

fn exactly(name: &str) -> Result<String, NameError> {
    Ok(name.to_owned())
}

fn unique(what: &str, named: &[(String, &Value)], fold: Fold, notes: &mut Notes) {
    unique_by(what, "name", named, fold, notes);
}

fn unique_by(what: &str, key: &str, named: &[(String, &Value)], fold: Fold, notes: &mut Notes) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (pointer, entry) in named {
        let Some(name) = text(entry, key) else {
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
        notes.error(NAME, &format!("{pointer}/{key}"), message, "rename one of the two");
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
            // Values, arguments and other engines' rules are not the standard's, nor are their ids.
            const FOREIGN: [&str; 5] = ["value", "implementation", "inputContracts", "examples", "arguments"];
            let own = members.iter().filter(|(name, _)| !FOREIGN.contains(&name.as_str()));
            own.for_each(|(name, member)| stable_ids(member, &join(pointer, name), notes));
        }
        _ => {}
    }
}
