//! References to properties: relationships and SLA elements.
//! A name of an object that this document does not have may be another contract's: a warning. A property that an object
//! of this document does not have is an error.

use std::collections::HashSet;

use serde_json::Value;

use super::super::words;
use super::{Notes, list, text};

const REFERENCE: &str = "MESH-CONTRACT-0026";

pub(super) fn check(document: &Value, notes: &mut Notes) {
    for (pointer, object) in list(document, "schema", "") {
        relationships(document, object, &pointer, notes);
    }
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
fn relationships(document: &Value, owner: &Value, pointer: &str, notes: &mut Notes) {
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
                end(document, reference, &pointer, notes);
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
        relationships(document, property, &pointer, notes);
    }
}

fn end(document: &Value, reference: &str, pointer: &str, notes: &mut Notes) {
    if reference.contains('#') {
        return;
    }
    if reference.contains('/') {
        return by_id(document, reference, pointer, notes);
    }
    let mut steps = reference.split('.');
    let object_name = steps.next().unwrap_or_default();
    match object(document, object_name) {
        Some(object) => property_path(object, object_name, steps, pointer, notes),
        None => notes.warning(
            REFERENCE,
            pointer,
            format!("`{object_name}` is no schema object of this document"),
            format!("{}name one, or refer to another contract's file", hint(object_name, document, "schema")),
        ),
    }
}

/// `schema/<id>/properties/<id>`: ids, not names.
fn by_id(document: &Value, reference: &str, pointer: &str, notes: &mut Notes) {
    let steps: Vec<&str> = reference.trim_start_matches('/').split('/').collect();
    let mut here = document;
    for pair in steps.chunks(2) {
        let [section, id] = pair else {
            return;
        };
        match list(here, section, "").into_iter().find(|(_, entry)| text(entry, "id") == Some(id)) {
            Some((_, entry)) => here = entry,
            None => {
                let message = format!("nothing in `{section}` has the `id` `{id}`");
                return notes.error(REFERENCE, pointer, message, "give the entry this `id`, or correct the reference");
            }
        }
    }
}

fn property_path<'a>(
    mut owner: &Value,
    mut owner_name: &'a str,
    steps: impl Iterator<Item = &'a str>,
    pointer: &str,
    notes: &mut Notes,
) {
    for step in steps {
        let inside = owner.get("items").unwrap_or(owner);
        let properties = list(inside, "properties", "");
        if properties.is_empty() {
            return;
        }
        let by_name =
            properties.iter().find(|(_, p)| text(p, "name") == Some(step) || text(p, "physicalName") == Some(step));
        match by_name.or_else(|| properties.iter().find(|(_, p)| meant_by_id(p, step))) {
            Some((_, property)) if by_name.is_none() => {
                let name = text(property, "name").unwrap_or_default();
                let message = format!("`{step}` is no property of `{owner_name}`, but much like the `id` of `{name}`");
                notes.warning(REFERENCE, pointer, message, format!("write `{name}`"));
                owner = property;
            }
            Some((_, property)) => owner = property,
            None => {
                let message = format!("`{step}` is no property of `{owner_name}`");
                let remedy = format!("{}name one of its `properties`", hint(step, inside, "properties"));
                return notes.error(REFERENCE, pointer, message, remedy);
            }
        }
        owner_name = step;
    }
}

/// The standard's own example `relationships` refers to `addresses.address_street`: a property of the name `street`
/// whose id is `address_street_prop`.
fn meant_by_id(property: &Value, step: &str) -> bool {
    text(property, "id").is_some_and(|id| id == step || id.strip_suffix("_prop") == Some(step))
}

fn object<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    let objects = list(document, "schema", "");
    objects
        .into_iter()
        .map(|(_, object)| object)
        .find(|object| text(object, "name") == Some(name) || text(object, "physicalName") == Some(name))
}

fn hint(written: &str, owner: &Value, section: &str) -> String {
    let entries = list(owner, section, "");
    words::did_you_mean(written, entries.iter().filter_map(|(_, entry)| text(entry, "name")))
}

/// An SLA's element: `object`, `object.property` or, of a document with one object, `property`; several by comma.
pub(super) fn element(document: &Value, elements: &str, pointer: &str, notes: &mut Notes) {
    let objects = list(document, "schema", "");
    if objects.is_empty() {
        return;
    }
    for element in elements.split(',').map(str::trim) {
        let (first, rest) = element.split_once('.').map_or((element, None), |(first, rest)| (first, Some(rest)));
        match (object(document, first), rest, objects.as_slice()) {
            (Some(object), Some(rest), _) => property_path(object, first, rest.split('.'), pointer, notes),
            (Some(_), None, _) => {}
            (None, None, [(_, only)]) => {
                let name = text(only, "name").unwrap_or_default();
                property_path(only, name, std::iter::once(first), pointer, notes);
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
