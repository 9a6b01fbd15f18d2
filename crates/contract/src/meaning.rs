//! What a JSON schema cannot say: documents that are well-formed and contradict themselves.
//! In: a document that the standard's schema accepts. Out: contradictions (errors) and what may be a mistake (warnings).
//! Never: an error for what may be right in another tool: that is a warning.

mod keys;
mod names;
mod options;
mod physical;
mod quality;
mod references;
mod sla;
mod versions;

pub(crate) use self::quality::EMPTY_RULE;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::constraints::Scalar;
use crate::finding::Severity;
use crate::model::literal;
use crate::scalar::Round;
use crate::standard::{Kind, Problem};
use crate::types::Type;
use crate::yaml::{Places, join};

/// A problem, and how bad it is.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) problem: Problem,
    pub(crate) severity: Severity,
}

/// Collects what is found.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    places: Arc<Places>,
    found: Vec<Noted>,
    errors: usize,
}

/// Where looking into properties stops: fewer are listed.
const MAX_ERRORS: usize = 1_000;

impl Notes {
    /// A literal with every digit that was written.
    fn literal(&self, value: &Value, pointer: &str, ty: &Type, round: Round) -> Option<Scalar> {
        literal::literal(&self.places, value, pointer, ty, round)
    }
    fn error(&mut self, code: &'static str, pointer: &str, message: String, remedy: impl Into<String>) {
        let problem = Problem::new(code, pointer, message, remedy.into());
        self.found.push(Noted { problem, severity: Severity::Error });
        self.errors += 1;
    }
    /// A value as JSON text with every digit that was written.
    fn written(&self, value: &Value, pointer: &str) -> String {
        literal::text(&self.places, value, pointer)
    }
    /// Takes over what was found, as warnings only.
    fn take_as_warnings(&mut self, found: Notes) {
        self.found.extend(found.found.into_iter().map(|noted| Noted { severity: Severity::Warning, ..noted }));
    }
    fn warning(&mut self, code: &'static str, pointer: &str, message: String, remedy: impl Into<String>) {
        let problem = Problem::new(code, pointer, message, remedy.into());
        self.found.push(Noted { problem, severity: Severity::Warning });
    }
}

/// Everything about one document.
pub(crate) fn check(kind: Kind, document: &Value, places: &Arc<Places>) -> Vec<Noted> {
    let mut notes = Notes { places: Arc::clone(places), ..Notes::default() };
    versions::check(kind, document, &mut notes);
    names::stable_ids(document, "", &mut notes);
    match kind {
        Kind::Odcs => contract(document, &mut notes),
        Kind::Odps => data_product(document, &mut notes),
    }
    notes.found
}

fn data_product(document: &Value, notes: &mut Notes) {
    names::ports(document, "inputPorts", notes);
    names::ports(document, "outputPorts", notes);
    names::ports(document, "managementPorts", notes);
    references::input_contracts(document, notes);
}

fn contract(document: &Value, notes: &mut Notes) {
    names::objects(document, notes);
    names::of_the_document(document, notes);
    references::check(document, notes);
    sla::check(document, notes);
    for (pointer, object) in list(document, "schema", "") {
        keys::check(object, &pointer, notes);
        let scope = Scope::new(document, object);
        quality::check(object, &pointer, &scope, notes);
        properties(object, &pointer, &scope, notes);
    }
}

/// The schema object that rules and properties belong to.
struct Scope<'a> {
    name: &'a str,
    /// 3.0.x has neither timestamps nor times of day: there they are strings.
    before_3_1: bool,
    properties: HashSet<&'a str>,
}

impl<'a> Scope<'a> {
    fn new(document: &Value, object: &'a Value) -> Self {
        let properties = object.get("properties").and_then(Value::as_array).into_iter().flatten();
        let properties = properties.filter_map(|property| text(property, "name")).collect();
        let before_3_1 = text(document, "apiVersion").is_some_and(|version| version.starts_with("v3.0."));
        Self { name: text(object, "name").unwrap_or_default(), before_3_1, properties }
    }
}

/// Every property of an owner, nested ones too.
fn properties(owner: &Value, pointer: &str, object: &Scope<'_>, notes: &mut Notes) {
    names::properties(owner, pointer, notes);
    for (pointer, property) in list(owner, "properties", pointer) {
        if notes.errors >= MAX_ERRORS {
            return;
        }
        property_and_inside(property, &pointer, object, notes);
    }
}

fn property_and_inside(property: &Value, pointer: &str, object: &Scope<'_>, notes: &mut Notes) {
    physical::check(property, pointer, object, notes);
    names::enum_values(property, pointer, notes);
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

/// As [`text`], unless it names a variable: `${VERSION}` is whatever the tool that fills it in makes of it.
fn written<'a>(owner: &'a Value, name: &str) -> Option<&'a str> {
    text(owner, name).filter(|text| !text.contains("${"))
}
