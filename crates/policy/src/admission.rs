//! In: a contract and who submits it. Out: every reason to refuse it. Never: a pass for want of an answer.

use serde_json::{Value, json};

use crate::facts::{PrincipalFacts, custom, items};

/// One reason to refuse a contract, for its author to act on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Denial {
    /// JSON pointer into the contract.
    pub path: String,
    /// The policy's name for the rule.
    pub rule: String,
    pub message: String,
    /// What to write instead.
    pub remedy: String,
    /// The package that says so.
    pub package: String,
}

impl Denial {
    /// The code that every denial carries: its page says how a policy's refusal is read.
    pub const CODE: &'static str = "MESH-POLICY-0011";
}

/// What admission rules see: the contract, and views of it that spare them the walking.
#[derive(Debug, Clone)]
pub struct AdmissionInput {
    pub(crate) domain: String,
    pub(crate) input: Value,
}

impl AdmissionInput {
    /// `contract` is the ODCS document as JSON, as written; `domain` and `product` are folded.
    ///
    /// ```json
    /// { "contract": {…}, "domain": "operations", "product": "operations.flights",
    ///   "principal": {"name", "roles", "adminOf", "attributes"},
    ///   "columns": [{"name", "path", "logicalType", "classification", "tags", "custom", "definition": {…}}],
    ///   "quality": [{"path", "definition": {…}}], "sla": {"retention": [{"value": 90, "unit": "d", "path", …}]},
    ///   "tags": […], "custom": {…} }
    /// ```
    pub fn new(domain: &str, product: &str, contract: &Value, principal: &PrincipalFacts) -> Self {
        let (mut columns, mut quality, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        tags.extend(items(&contract["tags"]).cloned());
        for (at, object) in items(&contract["schema"]).enumerate() {
            let path = format!("/schema/{at}");
            tags.extend(items(&object["tags"]).cloned());
            collect_quality(object, &path, &mut quality);
            collect_columns(object, &path, "", &mut columns, &mut quality);
        }
        let input = json!({
            "contract": contract,
            "domain": domain,
            "product": product,
            "principal": principal,
            "columns": columns,
            "quality": quality,
            "sla": service_levels(contract),
            "tags": tags,
            "custom": custom(&contract["customProperties"]),
        });
        Self { domain: domain.to_owned(), input }
    }
}

fn collect_quality(element: &Value, path: &str, quality: &mut Vec<Value>) {
    for (at, rule) in items(&element["quality"]).enumerate() {
        quality.push(json!({"path": format!("{path}/quality/{at}"), "definition": rule}));
    }
}

/// The properties of an object, and theirs: nested ones by dotted name.
fn collect_columns(element: &Value, path: &str, prefix: &str, columns: &mut Vec<Value>, quality: &mut Vec<Value>) {
    for (at, property) in items(&element["properties"]).enumerate() {
        let path = format!("{path}/properties/{at}");
        let name = format!("{prefix}{}", property["name"].as_str().unwrap_or_default());
        columns.push(column(property, &path, &name));
        collect_quality(property, &path, quality);
        let inner = format!("{name}.");
        collect_columns(property, &path, &inner, columns, quality);
        if property["items"].is_object() {
            collect_columns(&property["items"], &format!("{path}/items"), &inner, columns, quality);
        }
    }
}

/// What the contract does not say is absent rather than null: undefined in Rego, not an error.
fn column(property: &Value, path: &str, name: &str) -> Value {
    let mut column = json!({
        "name": name,
        "path": path,
        "tags": items(&property["tags"]).collect::<Vec<_>>(),
        "custom": custom(&property["customProperties"]),
        "definition": property,
    });
    for key in ["logicalType", "classification"] {
        if let Some(text) = property[key].as_str() {
            column[key] = json!(text);
        }
    }
    column
}

/// `slaProperties` by property, each with its path.
fn service_levels(contract: &Value) -> Value {
    let mut levels = serde_json::Map::new();
    for (at, level) in items(&contract["slaProperties"]).enumerate() {
        let Some(property) = level["property"].as_str() else { continue };
        let mut level = level.clone();
        level["path"] = json!(format!("/slaProperties/{at}"));
        if let Some(of) = levels.entry(property.to_owned()).or_insert_with(|| json!([])).as_array_mut() {
            of.push(level);
        }
    }
    Value::Object(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_columns_and_their_checks_are_found_with_their_places() {
        let contract = json!({
            "tags": ["raw"],
            "schema": [{
                "name": "people", "tags": ["hr"],
                "quality": [{"metric": "rowCount"}],
                "properties": [
                    {"name": "id"},
                    {"name": "home", "logicalType": "object", "properties": [
                        {"name": "street", "classification": "personal", "quality": [{"metric": "nullValues"}]},
                    ]},
                    {"name": "calls", "logicalType": "array", "items": {"properties": [{"name": "number"}]}},
                ],
            }],
            "slaProperties": [{"property": "retention", "value": 30, "unit": "d"}],
        });
        let input = AdmissionInput::new("hr", "hr.people", &contract, &PrincipalFacts::default()).input;
        let of = |key: &str| -> Vec<(String, String)> {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            items(&input[key]).map(|entry| (text(&entry["name"]), text(&entry["path"]))).collect()
        };
        let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        assert_eq!(
            of("columns"),
            [
                pair("id", "/schema/0/properties/0"),
                pair("home", "/schema/0/properties/1"),
                pair("home.street", "/schema/0/properties/1/properties/0"),
                pair("calls", "/schema/0/properties/2"),
                pair("calls.number", "/schema/0/properties/2/items/properties/0"),
            ]
        );
        assert_eq!(
            of("quality"),
            [pair("", "/schema/0/quality/0"), pair("", "/schema/0/properties/1/properties/0/quality/0")]
        );
        assert_eq!(input["tags"], json!(["raw", "hr"]));
        assert_eq!(input["sla"]["retention"][0]["path"], "/slaProperties/0");
    }
}
