//! What a JSON schema cannot say: documents that are well-formed and contradict themselves.
//! In: a document that the standard's schema accepts. Out: contradictions (errors) and doubts (warnings).
//! Never: an error for what may be right in another tool; such doubts are warnings.

mod keys;
mod names;
mod options;
mod physical;
mod quality;
mod references;
mod sla;
mod versions;

use serde_json::Value;

use super::explain::Problem;
use super::standard::Kind;
use super::yaml::join;
use crate::finding::Severity;

/// A problem, and how bad it is.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) problem: Problem,
    pub(crate) severity: Severity,
}

/// Collects what is found.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Noted>);

impl Notes {
    fn error(&mut self, code: &'static str, pointer: &str, message: String, remedy: impl Into<String>) {
        let problem = Problem::new(code, pointer, message, remedy.into());
        self.0.push(Noted { problem, severity: Severity::Error });
    }
    fn warning(&mut self, code: &'static str, pointer: &str, message: String, remedy: impl Into<String>) {
        let problem = Problem::new(code, pointer, message, remedy.into());
        self.0.push(Noted { problem, severity: Severity::Warning });
    }
}

/// Everything about one document.
pub(crate) fn check(kind: Kind, document: &Value) -> Vec<Noted> {
    let mut notes = Notes::default();
    versions::check(kind, document, &mut notes);
    names::stable_ids(document, "", &mut notes);
    if kind == Kind::Odcs {
        contract(document, &mut notes);
    }
    notes.0
}

fn contract(document: &Value, notes: &mut Notes) {
    names::objects(document, notes);
    references::check(document, notes);
    sla::check(document, notes);
    for (pointer, object) in list(document, "schema", "") {
        keys::check(object, &pointer, notes);
        quality::check(object, &pointer, object, notes);
        properties(object, &pointer, object, notes);
    }
}

/// Every property of an owner, nested ones too.
fn properties(owner: &Value, pointer: &str, object: &Value, notes: &mut Notes) {
    names::properties(owner, pointer, notes);
    for (pointer, property) in list(owner, "properties", pointer) {
        property_and_inside(property, &pointer, object, notes);
    }
}

fn property_and_inside(property: &Value, pointer: &str, object: &Value, notes: &mut Notes) {
    physical::check(property, pointer, notes);
    options::check(property, pointer, notes);
    quality::check(property, pointer, object, notes);
    properties(property, pointer, object, notes);
    if let Some(items) = property.get("items") {
        property_and_inside(items, &join(pointer, "items"), object, notes);
    }
    for side in ["key", "value"] {
        if let Some(part) = property.get("map").and_then(|map| map.get(side)) {
            property_and_inside(part, &format!("{pointer}/map/{side}"), object, notes);
        }
    }
}

/// A member's entries with their pointers.
fn list<'a>(owner: &'a Value, name: &str, pointer: &str) -> Vec<(String, &'a Value)> {
    let entries = owner.get(name).and_then(Value::as_array).into_iter().flatten();
    entries.enumerate().map(|(i, entry)| (format!("{pointer}/{name}/{i}"), entry)).collect()
}

fn text<'a>(owner: &'a Value, name: &str) -> Option<&'a str> {
    owner.get(name).and_then(Value::as_str)
}
