//! What a rule decides by: facts of the principal, and of the product that it wants to read.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The principal that a rule decides on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalFacts {
    pub name: String,
    pub roles: Vec<String>,
    /// Domains that this principal administers.
    pub admin_of: Vec<String>,
    pub attributes: BTreeMap<String, String>,
}

/// One top-level column of a product.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnFacts {
    /// As SQL and the policies' answers name it.
    pub name: String,
    /// ODCS logical type.
    pub logical_type: String,
    pub required: bool,
    /// As written: public, restricted, confidential, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    pub tags: Vec<String>,
    pub critical_data_element: bool,
    /// Custom properties by name, such as the `mask` that the contract asks for.
    pub custom: BTreeMap<String, Value>,
}

/// What a product's contract says that decides who may read it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductFacts {
    /// `domain.name`.
    pub name: String,
    pub domain: String,
    pub major: u32,
    /// ODCS status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Tags of the contract and of its object.
    pub tags: Vec<String>,
    /// The contract's custom properties by name.
    pub custom: BTreeMap<String, Value>,
    pub columns: Vec<ColumnFacts>,
}

impl ProductFacts {
    /// The facts of an ODCS document (as JSON) with one schema object. `fold` gives a property's name in SQL.
    pub fn of(domain: &str, name: &str, major: u32, contract: &Value, fold: impl Fn(&str) -> String) -> Self {
        let object = &contract["schema"][0];
        Self {
            name: format!("{domain}.{name}"),
            domain: domain.to_owned(),
            major,
            status: contract["status"].as_str().map(str::to_owned),
            tags: [texts(&contract["tags"]), texts(&object["tags"])].concat(),
            custom: custom(&contract["customProperties"]),
            columns: items(&object["properties"]).map(|property| ColumnFacts::of(property, &fold)).collect(),
        }
    }
}

impl ColumnFacts {
    fn of(property: &Value, fold: impl Fn(&str) -> String) -> Self {
        let text = |key: &str| property[key].as_str().map(str::to_owned);
        Self {
            name: fold(property["name"].as_str().unwrap_or_default()),
            logical_type: text("logicalType").unwrap_or_default(),
            required: property["required"].as_bool().unwrap_or(false),
            classification: text("classification"),
            tags: texts(&property["tags"]),
            critical_data_element: property["criticalDataElement"].as_bool().unwrap_or(false),
            custom: custom(&property["customProperties"]),
        }
    }
}

/// The elements of an array; none where there is no array.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    items(value).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// ODCS `customProperties` (`property`, `value`) as a map.
pub(crate) fn custom(value: &Value) -> BTreeMap<String, Value> {
    items(value).filter_map(|entry| Some((entry["property"].as_str()?.to_owned(), entry["value"].clone()))).collect()
}
