//! Why a document breaks the standard's schema: one problem per mistake.
//! In: a JSON schema (the keywords that ODCS and ODPS use) and a document that it refuses.
//! Out: the mistakes. A validator reports what follows from a mistake too: with `oneOf` every branch not taken, with
//! `unevaluatedProperties` every property of a branch that failed. Here a branch that fails still counts as evaluated.
//! Never: the verdict itself, which is the `jsonschema` crate's.

mod members;
mod values;

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use self::members::{forbidden, lacking, unknown};
use self::values::{wrong_count, wrong_scalar, wrong_type};
use super::words;
use crate::yaml::join;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    /// JSON pointer of what is wrong; of the object if something lacks.
    pub(crate) pointer: String,
    /// The key is wrong, not the value.
    pub(crate) on_key: bool,
    pub(crate) message: String,
    pub(crate) remedy: String,
    /// The remedy is to put the value in quotes.
    pub(crate) quote: bool,
    /// An entry of a list equals another.
    pub(crate) repeats: bool,
    lacks: Option<String>,
    /// The property that a misspelt one was probably meant to be.
    meant: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, pointer: &str, message: String, remedy: String) -> Self {
        Self {
            code,
            pointer: pointer.to_owned(),
            on_key: false,
            message,
            remedy,
            quote: false,
            repeats: false,
            lacks: None,
            meant: None,
        }
    }
    /// What is missing because it was null as written: found at that place.
    pub(crate) fn where_null(self, written: &Value) -> Self {
        let Some(name) = &self.lacks else { return self };
        let pointer = join(&self.pointer, name);
        if !written.pointer(&pointer).is_some_and(Value::is_null) {
            return self;
        }
        let remedy = self.remedy.strip_prefix(&format!("add `{name}`")).unwrap_or_default();
        let message = format!("`{name}` is empty: {}", self.message);
        let remedy = format!("write a value{remedy}");
        Self { pointer, message, remedy, ..self }
    }
    fn on_key(self) -> Self {
        Self { on_key: true, ..self }
    }
}

const MISSING: &str = "MESH-CONTRACT-0005";
const UNKNOWN: &str = "MESH-CONTRACT-0006";
const TYPE: &str = "MESH-CONTRACT-0007";
const CHOICE: &str = "MESH-CONTRACT-0008";
const RULE: &str = "MESH-CONTRACT-0009";
const OPERATOR: &str = "MESH-CONTRACT-0010";

/// Where explaining stops: fewer are listed, and each costs time.
const MAX_PROBLEMS: usize = 1_000;

/// The properties that an object may have here.
#[derive(Debug, Default, Clone)]
struct Known {
    /// By name, with the schema's description.
    names: BTreeMap<String, String>,
    /// Properties of branches not taken: name → what would allow it, as (property, value).
    conditional: BTreeMap<String, Vec<(String, String)>>,
}

impl Known {
    fn absorb(&mut self, other: Known) {
        self.names.extend(other.names);
        for (name, conditions) in other.conditional {
            self.conditional.entry(name).or_default().extend(conditions);
        }
    }
}

/// Where we are, and what people call it.
#[derive(Clone)]
struct At<'s> {
    pointer: String,
    noun: &'s str,
}

pub(crate) struct Explainer<'s> {
    root: &'s Value,
}

impl<'s> Explainer<'s> {
    pub(crate) fn new(root: &'s Value) -> Self {
        Self { root }
    }

    pub(crate) fn explain(&self, document: &Value) -> Vec<Problem> {
        let mut out = Vec::new();
        let at = At { pointer: String::new(), noun: "the document" };
        self.check(self.root, document, &at, &mut out);
        options_without_type(document, &mut out);
        let mut seen = HashSet::new();
        out.retain(|p| seen.insert((p.pointer.clone(), p.code, p.lacks.clone())));
        out
    }

    fn holds(&self, schema: &'s Value, instance: &Value) -> bool {
        let mut out = Vec::new();
        self.check(schema, instance, &At { pointer: String::new(), noun: "" }, &mut out);
        out.is_empty()
    }

    fn check(&self, schema: &'s Value, instance: &Value, at: &At<'s>, out: &mut Vec<Problem>) -> Known {
        let mut known = Known::default();
        let Some(schema) = schema.as_object().filter(|_| out.len() < MAX_PROBLEMS) else {
            return known;
        };
        if let Some(problem) = wrong_type(schema, instance, at) {
            out.push(problem);
            return known;
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            known.absorb(self.reference(reference, instance, at, out));
        }
        if let Some(problem) = wrong_scalar(schema, instance, at) {
            out.push(problem);
        }
        if let Some(items) = instance.as_array() {
            self.list(schema, items, at, out);
        }
        if let Some(object) = instance.as_object() {
            self.members(schema, object, at, &mut known, out);
        }
        self.combined(schema, instance, at, &mut known, out);
        if let Some(object) = instance.as_object() {
            self.object(schema, object, at, &known, out);
        }
        known
    }

    fn reference(&self, reference: &'s str, instance: &Value, at: &At<'s>, out: &mut Vec<Problem>) -> Known {
        let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else {
            return Known::default();
        };
        let definition = reference.rsplit('/').next().unwrap_or_default();
        let noun = words::noun(definition).unwrap_or(at.noun);
        // Whichever of item or property says it first, the base knows no better.
        let noun = if definition == "SchemaBaseProperty" { at.noun } else { noun };
        self.check(target, instance, &At { pointer: at.pointer.clone(), noun }, out)
    }

    fn list(&self, schema: &'s Map<String, Value>, items: &[Value], at: &At<'s>, out: &mut Vec<Problem>) {
        if let Some(problem) = wrong_count(schema, items, at) {
            out.push(problem);
        }
        if let Some(item_schema) = schema.get("items") {
            for (i, item) in items.iter().enumerate() {
                let at = At { pointer: format!("{}/{i}", at.pointer), noun: at.noun };
                self.check(item_schema, item, &at, out);
            }
        }
    }

    fn members(
        &self,
        schema: &'s Map<String, Value>,
        object: &Map<String, Value>,
        at: &At<'s>,
        known: &mut Known,
        out: &mut Vec<Problem>,
    ) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        for (name, property) in properties {
            known.names.insert(name.clone(), describe(property));
            if let Some(value) = object.get(name) {
                let noun = match name.as_str() {
                    "description" | "logicalTypeOptions" => name,
                    "map" => "`map`",
                    _ => at.noun,
                };
                self.check(property, value, &At { pointer: join(&at.pointer, name), noun }, out);
            }
        }
    }

    fn combined(
        &self,
        schema: &'s Map<String, Value>,
        instance: &Value,
        at: &At<'s>,
        known: &mut Known,
        out: &mut Vec<Problem>,
    ) {
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            known.absorb(self.check(part, instance, at, out));
        }
        if let (Some(condition), Some(then)) = (schema.get("if"), schema.get("then")) {
            if self.holds(condition, instance) {
                known.absorb(self.check(then, instance, at, out));
            } else if !self.almost(condition, then, instance, at, known, out) {
                let conditions = conditions(condition);
                for name in self.names(then) {
                    known.conditional.entry(name).or_default().extend(conditions.iter().cloned());
                }
            }
        }
        for (keyword, exactly_one) in [("oneOf", true), ("anyOf", false)] {
            if let Some(branches) = schema.get(keyword).and_then(Value::as_array) {
                known.absorb(self.alternatives(branches, exactly_one, instance, at, out));
            }
        }
        if let (Some(not), Some(object)) = (schema.get("not"), instance.as_object()) {
            for name in required(not).filter(|name| object.contains_key(*name)) {
                known.names.insert(name.to_owned(), String::new());
                out.push(forbidden(name, at));
            }
        }
    }

    /// Whether one way to meet an `if` is there and only of another type: then that is the mistake.
    fn almost(
        &self,
        condition: &'s Value,
        then: &'s Value,
        instance: &Value,
        at: &At<'s>,
        known: &mut Known,
        out: &mut Vec<Problem>,
    ) -> bool {
        for way in condition.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
            let mut problems = Vec::new();
            self.check(way, instance, at, &mut problems);
            if problems.iter().all(|p| p.code == TYPE && p.pointer != at.pointer) && required(way).next().is_some() {
                out.extend(problems);
                known.names.extend(self.names(then).into_iter().map(|name| (name, String::new())));
                return true;
            }
        }
        false
    }

    /// `required` and what is left over, once everything allowed is known.
    fn object(
        &self,
        schema: &'s Map<String, Value>,
        object: &Map<String, Value>,
        at: &At<'s>,
        known: &Known,
        out: &mut Vec<Problem>,
    ) {
        if out.len() >= MAX_PROBLEMS {
            return;
        }
        for name in schema.get("required").into_iter().flat_map(strings).filter(|name| !object.contains_key(*name)) {
            out.push(lacking(name, at, known));
        }
        let closed = |keyword: &str| schema.get(keyword) == Some(&Value::Bool(false));
        if closed("unevaluatedProperties") || closed("additionalProperties") {
            unknown(object, at, known, out);
        }
    }

    fn names(&self, schema: &'s Value) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        if let Some(target) = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|r| r.strip_prefix('#'))
            .and_then(|p| self.root.pointer(p))
        {
            names.extend(self.names(target));
        }
        names.extend(schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|p| p.keys().cloned()));
        for keyword in ["allOf", "oneOf", "anyOf"] {
            for part in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
                names.extend(self.names(part));
            }
        }
        names
    }

    fn alternatives(
        &self,
        branches: &'s [Value],
        exactly_one: bool,
        instance: &Value,
        at: &At<'s>,
        out: &mut Vec<Problem>,
    ) -> Known {
        if let (true, Some(object)) =
            (exactly_one && branches.iter().all(|b| required(b).count() == 1), instance.as_object())
        {
            return self.operators(branches, object, instance, at, out);
        }
        let mut tried: Vec<(Vec<Problem>, Known)> = Vec::new();
        for branch in branches {
            let mut problems = Vec::new();
            let known = self.check(branch, instance, at, &mut problems);
            tried.push((problems, known));
        }
        let fitting = tried.iter().filter(|(problems, _)| problems.is_empty()).count();
        if fitting > 0 {
            let other_mistake = out.iter().any(|p| p.pointer.starts_with(&at.pointer));
            if exactly_one && fitting > 1 && !other_mistake {
                out.push(ambiguous(at));
            }
            let mut known = Known::default();
            tried.into_iter().filter(|(problems, _)| problems.is_empty()).for_each(|(_, k)| known.absorb(k));
            return known;
        }
        best(tried, instance, at, out)
    }

    /// A `oneOf` whose branches each demand one property: of these properties, exactly one.
    fn operators(
        &self,
        branches: &'s [Value],
        object: &Map<String, Value>,
        instance: &Value,
        at: &At<'s>,
        out: &mut Vec<Problem>,
    ) -> Known {
        let names: Vec<&str> = branches.iter().flat_map(required).collect();
        let present: Vec<&str> = names.iter().copied().filter(|name| object.contains_key(*name)).collect();
        let mut known = Known::default();
        for branch in branches {
            let taken = required(branch).all(|name| present.contains(&name));
            let mut scratch = Vec::new();
            known.absorb(self.check(branch, instance, at, if taken { &mut *out } else { &mut scratch }));
        }
        match present.as_slice() {
            [_] => {}
            [] => out.push(Problem::new(
                OPERATOR,
                &at.pointer,
                format!("{} has no operator: nothing says what its result must be", at.noun),
                format!("add one of {}", words::list(&names, "or")),
            )),
            [_, second, ..] => out.push(
                Problem::new(
                    OPERATOR,
                    &join(&at.pointer, second),
                    format!("{} has several operators: {}", at.noun, words::list(&present, "and")),
                    "keep one, and write a second rule for the other".to_owned(),
                )
                .on_key(),
            ),
        }
        known
    }
}

/// None of the alternatives fits: the mistakes of the one that was probably meant.
fn best(tried: Vec<(Vec<Problem>, Known)>, instance: &Value, at: &At<'_>, out: &mut Vec<Problem>) -> Known {
    let of_other_type = |problems: &[Problem]| problems.iter().any(|p| p.code == TYPE && p.pointer == at.pointer);
    if tried.iter().all(|(problems, _)| of_other_type(problems)) {
        out.push(Problem::new(
            TYPE,
            &at.pointer,
            format!("{} is {}, which is not allowed here", words::name_of(&at.pointer), words::type_of(instance)),
            tried
                .iter()
                .filter_map(|(problems, _)| problems.first())
                .map(|p| p.remedy.clone())
                .collect::<Vec<_>>()
                .join(", or "),
        ));
        return Known::default();
    }
    let mut fitting: Vec<_> = tried.into_iter().filter(|(problems, _)| !of_other_type(problems)).collect();
    fitting.sort_by_key(|(problems, _)| problems.len());
    match fitting.into_iter().next() {
        Some((problems, known)) => {
            out.extend(problems);
            known
        }
        None => Known::default(),
    }
}

fn ambiguous(at: &At<'_>) -> Problem {
    Problem::new(
        RULE,
        &at.pointer,
        format!("{} fits several of the standard's alternatives", words::name_of(&at.pointer)),
        "say more, so that only one fits".to_owned(),
    )
}

fn describe(property: &Value) -> String {
    let text = property.get("description").and_then(Value::as_str).unwrap_or_default();
    let first = text.split(". ").next().unwrap_or_default().trim_end_matches('.');
    first.chars().take(160).collect()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").into_iter().flat_map(strings)
}

/// The (property, value) pairs of which one makes an `if` hold.
fn conditions(condition: &Value) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, property) in condition.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = property.get("const") {
            pairs.push((name.clone(), words::brief(value)));
        }
    }
    for part in condition.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        pairs.extend(conditions(part));
    }
    pairs
}

/// Without a `logicalType` the schema checks `logicalTypeOptions` against those of every type; the mistake is the lack,
/// or, where it is misspelt, that alone.
fn options_without_type(document: &Value, out: &mut Vec<Problem>) {
    let misspelt: HashSet<String> = out
        .iter()
        .filter(|p| p.code == UNKNOWN && p.meant.as_deref() == Some("logicalType"))
        .filter_map(|p| Some(p.pointer.rsplit_once('/')?.0.to_owned()))
        .collect();
    out.retain(|p| p.pointer.split_once("/logicalTypeOptions").is_none_or(|(parent, _)| !misspelt.contains(parent)));
    for problem in out.iter_mut() {
        let Some((parent, _)) = problem.pointer.split_once("/logicalTypeOptions") else {
            continue;
        };
        if document.pointer(parent).is_some_and(|property| property.get("logicalType").is_none()) {
            *problem = Problem::new(
                MISSING,
                &format!("{parent}/logicalTypeOptions"),
                "`logicalTypeOptions` without a `logicalType`: nothing says what they mean".to_owned(),
                "add `logicalType`".to_owned(),
            )
            .on_key();
        }
    }
}
