//! Properties that are missing, unknown, or not for this kind of object.

use serde_json::{Map, Value};

use super::{At, CHOICE, Known, MISSING, OPERATOR, Problem, UNKNOWN};
use crate::standard::words;
use crate::yaml::join;

pub(super) fn unknown(object: &Map<String, Value>, at: &At<'_>, known: &Known, out: &mut Vec<Problem>) {
    // A `map` is there for the sake of a type that is refused already.
    let of_type = join(&at.pointer, "logicalType");
    let follows = |name: &str| name == "map" && out.iter().any(|p| p.code == CHOICE && p.pointer == of_type);
    let strange = object.keys().filter(|name| !known.names.contains_key(*name) && !follows(name));
    let strange: Vec<&String> = strange.collect();
    let (conditional, foreign): (Vec<&String>, Vec<&String>) =
        strange.into_iter().partition(|name| known.conditional.contains_key(*name));
    if let Some(first) = foreign.first() {
        // Several in one object are one mistake: the object is not what its author thinks it is.
        let free = |name: &&str| known.names.contains_key(*name) && !object.contains_key(*name);
        let near = words::nearest(first, known.names.keys().map(String::as_str).filter(|n| free(n)));
        let near = near.or_else(|| words::elsewhere(first).iter().copied().find(free));
        if let Some(near) = near {
            let operator = near.starts_with("mustBe") || near.starts_with("mustNotBe");
            let follows = |p: &Problem| p.lacks.as_deref() == Some(near) || (operator && p.code == OPERATOR);
            out.retain(|p| !(p.pointer == at.pointer && follows(p)));
        }
        let names: Vec<&String> = foreign.iter().chain(&conditional).copied().collect();
        let verb = if names.len() == 1 { "is not a property" } else { "are not properties" };
        let message = format!("{} {verb} of {}", words::list(&names, "and"), at.noun);
        let older = known.names.contains_key("physicalType") && !known.names.contains_key("synonyms");
        let newer = older && words::NEW_IN_3_2.contains(&first.as_str());
        let remedy = if newer {
            format!("write `apiVersion: v3.2.0`, which has `{first}`, or remove it")
        } else {
            unknown_remedy(near, known, names.len() > 1)
        };
        let problem = Problem::new(UNKNOWN, &join(&at.pointer, first), message, remedy).on_key();
        out.push(Problem { meant: near.map(str::to_owned), ..problem });
        return;
    }
    // What decides is wrong already: what depends on it follows from that.
    let undecided = |name: &&String| {
        known.conditional[*name].iter().any(|(property, _)| {
            let pointer = join(&at.pointer, property);
            out.iter()
                .any(|p| p.pointer == pointer || (p.pointer == at.pointer && p.lacks.as_deref() == Some(property)))
        })
    };
    let strange: Vec<&String> = conditional.into_iter().filter(|name| !undecided(name)).collect();
    if let Some(first) = strange.first() {
        let shared = known.conditional[*first].iter();
        let shared = shared.filter(|pair| strange.iter().all(|name| known.conditional[*name].contains(pair)));
        let shared: Vec<(String, String)> = shared.cloned().collect();
        if shared.is_empty() {
            out.extend(strange.iter().map(|name| not_for_this(&[*name], &known.conditional[*name], known, object, at)));
        } else {
            // One word would allow them all: one mistake.
            out.push(not_for_this(&strange, &shared, known, object, at));
        }
    }
}

fn unknown_remedy(near: Option<&str>, known: &Known, several: bool) -> String {
    let it = if several { "them" } else { "it" };
    let hint = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let names: Vec<&str> = known.names.keys().map(String::as_str).collect();
    let rest = if known.names.contains_key("customProperties") {
        format!("remove {it}, or say {it} under `customProperties`")
    } else if names.len() <= 8 {
        format!("use {}", words::list(&names, "or"))
    } else {
        format!("remove {it}")
    };
    format!("{hint}{rest}")
}

fn not_for_this(
    names: &[&String],
    conditions: &[(String, String)],
    known: &Known,
    object: &Map<String, Value>,
    at: &At<'_>,
) -> Problem {
    let mut choices: Vec<String> = conditions.iter().map(|(property, value)| format!("{property}: {value}")).collect();
    choices.dedup();
    let (verb, it) = if names.len() == 1 { ("is not a property", "it") } else { ("are not properties", "them") };
    // Where many kinds have it, the kind is hardly what is wrong.
    let remedy = match choices.as_slice() {
        [] | [_, _, _, ..] if known.names.contains_key("customProperties") => {
            format!("remove {it}, or say {it} under `customProperties`")
        }
        few => format!("remove {it}, or write {}", words::list(few, "or")),
    };
    let given = conditions.iter().find_map(|(property, _)| {
        object.get(property).map(|value| format!(" with `{property}: {}`", words::brief(value)))
    });
    let first = names.first().map(|name| name.as_str()).unwrap_or_default();
    let message = format!("{} {verb} of {}{}", words::list(names, "and"), at.noun, given.unwrap_or_default());
    Problem::new(UNKNOWN, &join(&at.pointer, first), message, remedy).on_key()
}

pub(super) fn lacking(name: &str, at: &At<'_>, known: &Known) -> Problem {
    let about =
        known.names.get(name).filter(|text| !text.is_empty()).map(|text| format!(": {text}")).unwrap_or_default();
    Problem {
        lacks: Some(name.to_owned()),
        ..Problem::new(MISSING, &at.pointer, format!("{} lacks `{name}`", at.noun), format!("add `{name}`{about}"))
    }
}

pub(super) fn forbidden(name: &str, at: &At<'_>) -> Problem {
    Problem::new(
        UNKNOWN,
        &join(&at.pointer, name),
        format!("`{name}` is not allowed in {}", at.noun),
        "remove it: here it is the property that this stands under".to_owned(),
    )
    .on_key()
}
