//! How findings speak: nouns for the standard's objects, near misses, lists of choices.

use serde_json::Value;

/// What people call an object of the standard's `$defs`.
pub(crate) fn noun(definition: &str) -> Option<&'static str> {
    Some(match definition {
        "Server" => "a server",
        "SchemaObject" => "a schema object",
        "SchemaProperty" | "SchemaBaseProperty" => "a schema property",
        "SchemaItemProperty" => "an item, key or value type",
        "DataQuality" => "a quality rule",
        "AuthoritativeDefinitions" | "AuthoritativeDefinition" => "an authoritative definition",
        "SupportItem" | "Support" => "a support channel",
        "Pricing" => "`price`",
        "Team" => "`team`",
        "TeamMember" => "a team member",
        "Role" => "a role",
        "ServiceLevelAgreementProperty" => "an SLA property",
        "CustomProperty" => "a custom property",
        "EnumValue" => "an `enum` entry",
        "Synonym" => "a synonym",
        "Context" => "`context`",
        "RelationshipSchemaLevel" => "a schema-level relationship",
        "RelationshipPropertyLevel" => "a property-level relationship",
        "Description" => "`description`",
        "InputPort" => "an input port",
        "OutputPort" => "an output port",
        "ManagementPort" => "a management port",
        "SBOM" => "an `sbom` entry",
        "InputContract" => "an input contract",
        _ => return None,
    })
}

/// Longest word, and most choices, that are compared letter by letter.
const MAX_COMPARED: usize = 64;
const MAX_CHOICES: usize = 500;

/// The choice that was probably meant.
pub(crate) fn nearest<'a>(written: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > MAX_COMPARED {
        return None;
    }
    let plain = |s: &str| s.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let written = plain(written);
    choices
        .into_iter()
        .filter(|choice| choice.len() <= MAX_COMPARED)
        .take(MAX_CHOICES)
        .map(|choice| (strsim::damerau_levenshtein(&written, &plain(choice)), choice))
        .filter(|(distance, choice)| *distance <= (choice.len().min(written.len()) / 3).max(1))
        .min()
        .map(|(_, choice)| choice)
}

/// What ODCS calls what other standards, and its own older versions, call so.
pub(crate) fn elsewhere(written: &str) -> &'static [&'static str] {
    match written.to_lowercase().as_str() {
        "isnullable" | "nullable" | "notnull" | "mandatory" | "isrequired" => &["required"],
        "isunique" => &["unique"],
        "isprimarykey" | "primary" | "pk" => &["primaryKey"],
        "columns" | "fields" | "attributes" => &["properties"],
        "models" | "tables" | "dataset" | "datasets" => &["schema"],
        "type" | "datatype" | "column_type" => &["logicalType", "physicalType"],
        "rule" => &["metric"],
        "allowedvalues" | "values" => &["enum"],
        "owner" | "stakeholders" | "owners" => &["team"],
        "servicelevels" | "sla" | "slas" => &["slaProperties"],
        "title" | "column" | "field" | "table" => &["name", "element"],
        "comment" | "comments" | "doc" | "notes" => &["description"],
        "user" | "email" => &["username"],
        "ports" => &["outputPorts"],
        "bootstrapservers" => &["host"],
        _ => &[],
    }
}

/// What properties of schema elements came with 3.2.0.
pub(crate) const NEW_IN_3_2: [&str; 5] = ["enum", "map", "semanticType", "synonyms", "context"];

/// "did you mean `x`? " or nothing.
pub(crate) fn did_you_mean<'a>(written: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, choices).map(|choice| format!("did you mean `{choice}`? ")).unwrap_or_default()
}

/// How to make text of what YAML reads as something else.
pub(crate) fn quote(text: &str) -> String {
    format!("put it in quotes: \"{text}\"")
}

/// Most names that a message lists; `type` of a server has 33.
const MAX_LISTED: usize = 40;

/// `a`, `b` and `c`.
pub(crate) fn list<S: AsRef<str>>(items: &[S], word: &str) -> String {
    let mut quoted: Vec<String> = items.iter().take(MAX_LISTED).map(|item| format!("`{}`", item.as_ref())).collect();
    if items.len() > MAX_LISTED {
        quoted.push(format!("{} more", items.len() - MAX_LISTED));
    }
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((one, [])) => one.clone(),
        Some((last, rest)) => format!("{} {word} {last}", rest.join(", ")),
    }
}

/// "a string", "a number", …
pub(crate) fn a_type(name: &str) -> &'static str {
    match name {
        "string" => "a string",
        "number" => "a number",
        "integer" => "an integer",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        _ => "null",
    }
}

/// What a value is, in the words of [`a_type`].
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value, short enough for a message.
pub(crate) fn brief(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    shorten(&text, 60)
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() > most {
        text.chars().take(most - 3).chain("...".chars()).collect()
    } else {
        text.to_owned()
    }
}

/// A message of another's making, kept to one readable line.
pub(crate) fn brief_text(text: &str) -> String {
    shorten(&text.replace('\n', " "), 200)
}

/// The last step of a JSON pointer, as people say it.
pub(crate) fn name_of(pointer: &str) -> String {
    let mut steps = pointer.rsplit('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
    match (steps.next(), steps.next()) {
        (Some(last), Some(before)) if last.parse::<usize>().is_ok() && !before.is_empty() => {
            format!("entry {} of `{before}`", last.parse::<usize>().unwrap_or(0) + 1)
        }
        (Some(last), _) if !last.is_empty() => format!("`{last}`"),
        _ => "the document".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        assert_eq!(nearest("logicaltype", ["logicalType", "physicalType"]), Some("logicalType"));
        assert_eq!(nearest("logical_type", ["logicalType", "physicalType"]), Some("logicalType"));
        assert_eq!(nearest("dimenson", ["dimension", "description"]), Some("dimension"));
        assert_eq!(nearest("element", ["id", "name", "rule"]), None);
    }

    #[test]
    fn names_of_places() {
        assert_eq!(name_of("/schema/0/name"), "`name`");
        assert_eq!(name_of("/tags/2"), "entry 3 of `tags`");
        assert_eq!(name_of(""), "the document");
    }
}
