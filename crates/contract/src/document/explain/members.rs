//! Properties that are missing, unknown, or not for this kind of object.

use serde_json::{Map, Value};

use super::{At, Known, MISSING, Problem, UNKNOWN};
use crate::document::words;
use crate::document::yaml::join;

pub(super) fn unknown(object: &Map<String, Value>, at: &At<'_>, known: &Known, out: &mut Vec<Problem>) {
    let strange: Vec<&String> = object.keys().filter(|name| !known.names.contains_key(*name)).collect();
    let (conditional, foreign): (Vec<&String>, Vec<&String>) =
        strange.into_iter().partition(|name| known.conditional.contains_key(*name));
    if let Some(first) = foreign.first() {
        // Several in one object are one mistake: the object is not what its author thinks it is.
        let near = words::nearest(first, known.names.keys().map(String::as_str).filter(|n| !object.contains_key(*n)));
        if let Some(near) = near {
            out.retain(|p| !(p.pointer == at.pointer && p.lacks.as_deref() == Some(near)));
        }
        let names: Vec<&String> = foreign.iter().chain(&conditional).copied().collect();
        let verb = if names.len() == 1 { "is not a property" } else { "are not properties" };
        out.push(
            Problem::new(
                UNKNOWN,
                &join(&at.pointer, first),
                format!("{} {verb} of {}", words::list(&names, "and"), at.noun),
                unknown_remedy(near, known),
            )
            .on_key(),
        );
        return;
    }
    for name in conditional {
        let conditions = &known.conditional[name];
        let wrong_already = conditions.iter().any(|(property, _)| {
            let pointer = join(&at.pointer, property);
            out.iter()
                .any(|p| p.pointer == pointer || (p.pointer == at.pointer && p.lacks.as_deref() == Some(property)))
        });
        if !wrong_already {
            out.push(not_for_this(name, conditions, object, at));
        }
    }
}

fn unknown_remedy(near: Option<&str>, known: &Known) -> String {
    let hint = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let names: Vec<&str> = known.names.keys().map(String::as_str).collect();
    let rest = if known.names.contains_key("customProperties") {
        "remove it, or say it under `customProperties`".to_owned()
    } else if names.len() <= 8 {
        format!("use {}", words::list(&names, "or"))
    } else {
        "remove it".to_owned()
    };
    format!("{hint}{rest}")
}

fn not_for_this(name: &str, conditions: &[(String, String)], object: &Map<String, Value>, at: &At<'_>) -> Problem {
    let mut choices: Vec<String> = conditions.iter().map(|(property, value)| format!("{property}: {value}")).collect();
    choices.dedup();
    choices.truncate(6);
    let given = conditions
        .iter()
        .find_map(|(property, _)| {
            object.get(property).map(|value| format!(" with `{property}: {}`", words::brief(value)))
        })
        .unwrap_or_default();
    Problem::new(
        UNKNOWN,
        &join(&at.pointer, name),
        format!("`{name}` is not a property of {}{given}", at.noun),
        format!("remove it, or write {}", words::list(&choices, "or")),
    )
    .on_key()
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
