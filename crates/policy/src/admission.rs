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
    ///   "columns": [{"name", "path", "top", "logicalType", "classification", "tags", "custom", "definition": {…}}],
    ///   "quality": [{"path", "definition": {…}}], "sla": {"retention": [{"value": 90, "unit": "d", "path", …}]},
    ///   "tags": […], "custom": {…} }
    /// ```
    /// Columns are there with what is inside them, `top` being the path of the table's column around it. Promises are
    /// under the standard's names, whatever synonym or case was written.
    pub fn new(domain: &str, product: &str, contract: &Value, principal: &PrincipalFacts) -> Self {
        let mut columns = Vec::new();
        let mut quality = Vec::new();
        let mut tags = Vec::new();
        tags.extend(items(&contract["tags"]).cloned());
        for (at, object) in items(&contract["schema"]).enumerate() {
            let path = format!("/schema/{at}");
            tags.extend(items(&object["tags"]).cloned());
            collect_quality(object, &path, &mut quality);
            Elements { columns: &mut columns, quality: &mut quality }.properties(object, &path, "", None);
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

/// What is read of the contract's elements, one after the other.
struct Elements<'a> {
    columns: &'a mut Vec<Value>,
    quality: &'a mut Vec<Value>,
}

impl Elements<'_> {
    /// The properties of an object, and what is inside them: by dotted name.
    fn properties(&mut self, element: &Value, path: &str, prefix: &str, top: Option<&str>) {
        for (at, property) in items(&element["properties"]).enumerate() {
            let path = format!("{path}/properties/{at}");
            let name = format!("{prefix}{}", property["name"].as_str().unwrap_or_default());
            self.property(property, &path, &name, top.unwrap_or(&path));
        }
    }

    /// One property, its items, its keys and values: personal data may be in each.
    fn property(&mut self, property: &Value, path: &str, name: &str, top: &str) {
        self.columns.push(column(property, path, name, top));
        collect_quality(property, path, self.quality);
        self.properties(property, path, &format!("{name}."), Some(top));
        for (part, called) in [("items", "element"), ("map/key", "key"), ("map/value", "value")] {
            if let Some(inside) = property.pointer(&format!("/{part}")).filter(|inside| inside.is_object()) {
                self.property(inside, &format!("{path}/{part}"), &format!("{name}.{called}"), top);
            }
        }
    }
}

/// What the contract does not say is absent rather than null: undefined in Rego, not an error.
fn column(property: &Value, path: &str, name: &str, top: &str) -> Value {
    let mut column = json!({
        "name": name,
        "path": path,
        "top": top,
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

/// The standard's name of a promise: names are of any case, and two letters stand for some.
fn promise(property: &str) -> String {
    const NAMES: [(&str, &str); 12] = [
        ("av", "availability"),
        ("th", "throughput"),
        ("er", "errorRate"),
        ("ga", "generalAvailability"),
        ("es", "endOfSupport"),
        ("el", "endOfLife"),
        ("re", "retention"),
        ("fy", "frequency"),
        ("ly", "latency"),
        ("td", "timeToDetect"),
        ("tn", "timeToNotify"),
        ("tr", "timeToRepair"),
    ];
    let written = property.trim();
    let known = NAMES.iter().find(|(short, name)| [*short, *name].iter().any(|n| n.eq_ignore_ascii_case(written)));
    known.map_or(written, |(_, name)| name).to_owned()
}

/// `slaProperties` by property, each with its path.
fn service_levels(contract: &Value) -> Value {
    let mut levels = serde_json::Map::new();
    for (at, level) in items(&contract["slaProperties"]).enumerate() {
        let Some(property) = level["property"].as_str() else { continue };
        let mut level = level.clone();
        level["path"] = json!(format!("/slaProperties/{at}"));
        if let Some(of) = levels.entry(promise(property)).or_insert_with(|| json!([])).as_array_mut() {
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
                    {"name": "by", "logicalType": "map", "map": {
                        "key": {"logicalType": "string"},
                        "value": {"logicalType": "array", "items": {"properties": [{"name": "email"}]}},
                    }},
                ],
            }],
            "slaProperties": [
                {"property": "retention", "value": 30, "unit": "d"}, {"property": "RE", "value": 10, "unit": "y"},
            ],
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
                pair("calls.element", "/schema/0/properties/2/items"),
                pair("calls.element.number", "/schema/0/properties/2/items/properties/0"),
                pair("by", "/schema/0/properties/3"),
                pair("by.key", "/schema/0/properties/3/map/key"),
                pair("by.value", "/schema/0/properties/3/map/value"),
                pair("by.value.element", "/schema/0/properties/3/map/value/items"),
                pair("by.value.element.email", "/schema/0/properties/3/map/value/items/properties/0"),
            ]
        );
        let tops: Vec<&Value> = items(&input["columns"]).map(|column| &column["top"]).collect();
        assert_eq!(
            (tops[0], tops[2], tops[9]),
            (&json!("/schema/0/properties/0"), &json!("/schema/0/properties/1"), &json!("/schema/0/properties/3"))
        );
        assert_eq!(
            of("quality"),
            [pair("", "/schema/0/quality/0"), pair("", "/schema/0/properties/1/properties/0/quality/0")]
        );
        assert_eq!(input["tags"], json!(["raw", "hr"]));
        let promises: Vec<&Value> = items(&input["sla"]["retention"]).map(|promise| &promise["path"]).collect();
        assert_eq!(promises, ["/slaProperties/0", "/slaProperties/1"]);
    }
}
