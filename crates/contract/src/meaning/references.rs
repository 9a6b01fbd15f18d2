//! References to properties: relationships and SLA elements.
//! A name of an object that this document does not have may be another contract's: a warning. A property that an object
//! of this document does not have is an error.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{MAX_ERRORS, Notes, list, text};
use crate::standard::words;

const REFERENCE: &str = "MESH-CONTRACT-0026";

pub(super) fn check(document: &Value, notes: &mut Notes) {
    let mut known = Known::new(document);
    for (pointer, object) in list(document, "schema", "") {
        relationships(&mut known, object, &pointer, notes);
    }
}

/// Entries of lists by their names, each list read once: references may be as many as they are.
pub(super) struct Known<'a> {
    document: &'a Value,
    /// By the owner's address: its entries by `name` and `physicalName`.
    by_name: HashMap<*const Value, HashMap<&'a str, &'a Value>>,
    /// By the owner's address: its entries by `id`.
    by_id: HashMap<*const Value, HashMap<&'a str, &'a Value>>,
}

impl<'a> Known<'a> {
    pub(super) fn new(document: &'a Value) -> Self {
        Self { document, by_name: HashMap::new(), by_id: HashMap::new() }
    }
    /// The entry of a name; a name goes before a physical one.
    fn named(&mut self, owner: &'a Value, section: &str, name: &str) -> Option<&'a Value> {
        let names = self.by_name.entry(owner).or_insert_with(|| {
            let mut names = HashMap::new();
            for key in ["name", "physicalName"] {
                for entry in entries(owner, section) {
                    text(entry, key).map(|name| names.entry(name).or_insert(entry));
                }
            }
            names
        });
        names.get(name).copied()
    }
    fn of_id(&mut self, owner: &'a Value, section: &str, id: &str) -> Option<&'a Value> {
        let of_owner = || entries(owner, section).filter_map(|entry| Some((text(entry, "id")?, entry))).collect();
        self.by_id.entry(owner).or_insert_with(of_owner).get(id).copied()
    }
}

fn entries<'a>(owner: &'a Value, section: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    owner.get(section).and_then(Value::as_array).into_iter().flatten()
}

/// ODPS: what an output port is made from should come in by an input port.
pub(super) fn input_contracts(document: &Value, notes: &mut Notes) {
    let inputs = list(document, "inputPorts", "");
    let known: HashSet<&str> = inputs.iter().filter_map(|(_, port)| text(port, "contractId")).collect();
    for (pointer, port) in list(document, "outputPorts", "") {
        for (pointer, input) in list(port, "inputContracts", &pointer) {
            if let Some(id) = text(input, "id").filter(|id| !known.contains(id)) {
                let message = format!("no input port has the contract `{id}`");
                let hint = words::did_you_mean(id, known.iter().copied());
                notes.warning(REFERENCE, &format!("{pointer}/id"), message, format!("{hint}add an input port for it"));
            }
        }
    }
}

/// An object's own relationships, then those of its properties.
fn relationships<'a>(known: &mut Known<'a>, owner: &'a Value, pointer: &str, notes: &mut Notes) {
    if notes.errors >= MAX_ERRORS {
        return;
    }
    for (pointer, relationship) in list(owner, "relationships", pointer) {
        let mut counts = Vec::new();
        for side in ["from", "to"] {
            let ends = match relationship.get(side) {
                Some(Value::String(one)) => vec![(format!("{pointer}/{side}"), one.as_str())],
                Some(Value::Array(many)) => many
                    .iter()
                    .enumerate()
                    .filter_map(|(i, one)| Some((format!("{pointer}/{side}/{i}"), one.as_str()?)))
                    .collect(),
                _ => continue,
            };
            counts.push(ends.len());
            for (pointer, reference) in ends {
                end(known, reference, &pointer, notes);
            }
        }
        if let [from, to] = counts.as_slice()
            && from != to
        {
            let message = format!("`from` has {from} columns, `to` has {to}");
            notes.error(REFERENCE, &pointer, message, "name as many columns on both sides");
        }
    }
    for (pointer, property) in list(owner, "properties", pointer) {
        relationships(known, property, &pointer, notes);
    }
}

fn end<'a>(known: &mut Known<'a>, reference: &'a str, pointer: &str, notes: &mut Notes) {
    if reference.contains('#') {
        return;
    }
    if reference.contains('/') {
        return by_id(known, reference, pointer, notes);
    }
    let document = known.document;
    let mut steps = reference.split('.');
    let object_name = steps.next().unwrap_or_default();
    match known.named(document, "schema", object_name) {
        Some(object) => property_path(known, object, object_name, steps, pointer, notes),
        None => notes.warning(
            REFERENCE,
            pointer,
            format!("`{object_name}` is no schema object of this document"),
            format!("{}name one, or refer to another contract's file", hint(object_name, document, "schema")),
        ),
    }
}

/// `schema/<id>/properties/<id>`: ids, not names.
fn by_id(known: &mut Known<'_>, reference: &str, pointer: &str, notes: &mut Notes) {
    let steps: Vec<&str> = reference.trim_start_matches('/').split('/').collect();
    let mut here = known.document;
    for pair in steps.chunks(2) {
        let [section, id] = pair else {
            return;
        };
        match known.of_id(here, section, id) {
            Some(entry) => here = entry,
            None => {
                let message = format!("nothing in `{section}` has the `id` `{id}`");
                return notes.error(REFERENCE, pointer, message, "give the entry this `id`, or correct the reference");
            }
        }
    }
}

fn property_path<'a>(
    known: &mut Known<'a>,
    mut owner: &'a Value,
    mut owner_name: &'a str,
    steps: impl Iterator<Item = &'a str>,
    pointer: &str,
    notes: &mut Notes,
) {
    for step in steps {
        let inside = owner.get("items").unwrap_or(owner);
        if entries(inside, "properties").next().is_none() {
            return;
        }
        if let Some(property) = known.named(inside, "properties", step) {
            owner = property;
        } else if let Some(property) = meant_by_id(known, inside, step) {
            let name = text(property, "name").unwrap_or_default();
            let message = format!("`{step}` is no property of `{owner_name}`, but much like the `id` of `{name}`");
            notes.warning(REFERENCE, pointer, message, format!("write `{name}`"));
            owner = property;
        } else {
            let message = format!("`{step}` is no property of `{owner_name}`");
            let remedy = format!("{}name one of its `properties`", hint(step, inside, "properties"));
            return notes.error(REFERENCE, pointer, message, remedy);
        }
        owner_name = text(owner, "name").unwrap_or_default();
    }
}

/// The standard's own example `relationships` refers to `addresses.address_street`: a property of the name `street`
/// whose id is `address_street_prop`.
fn meant_by_id<'a>(known: &mut Known<'a>, owner: &'a Value, step: &str) -> Option<&'a Value> {
    known.of_id(owner, "properties", step).or_else(|| known.of_id(owner, "properties", &format!("{step}_prop")))
}

fn hint(written: &str, owner: &Value, section: &str) -> String {
    words::did_you_mean(written, entries(owner, section).filter_map(|entry| text(entry, "name")))
}

/// An SLA's element: `object`, `object.property` or, of a document with one object, `property`; several by comma.
pub(super) fn element<'a>(known: &mut Known<'a>, elements: &'a str, pointer: &str, notes: &mut Notes) {
    let document = known.document;
    let mut objects = entries(document, "schema");
    let (Some(first_object), only) = (objects.next(), objects.next().is_none()) else {
        return;
    };
    for element in elements.split(',').map(str::trim) {
        let (first, rest) = element.split_once('.').map_or((element, None), |(first, rest)| (first, Some(rest)));
        match (known.named(document, "schema", first), rest) {
            (Some(object), Some(rest)) => property_path(known, object, first, rest.split('.'), pointer, notes),
            (Some(_), None) => {}
            (None, None) if only => {
                let name = text(first_object, "name").unwrap_or_default();
                property_path(known, first_object, name, std::iter::once(first), pointer, notes);
            }
            (None, ..) => notes.warning(
                REFERENCE,
                pointer,
                format!("`{first}` is no schema object of this document"),
                format!("{}write object.property", hint(first, document, "schema")),
            ),
        }
    }
}
