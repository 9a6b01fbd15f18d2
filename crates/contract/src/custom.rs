//! `customProperties`: what a document says beside its standard.

use serde_json::{Map, Value};

/// `customProperties`, by name; a name's last value wins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CustomProperties(pub Map<String, Value>);

impl CustomProperties {
    /// A property's value.
    pub fn get(&self, property: &str) -> Option<&Value> {
        self.0.get(property)
    }
    /// A property's value as text.
    pub fn text(&self, property: &str) -> Option<&str> {
        self.get(property).and_then(Value::as_str)
    }
    /// Whether a property is `true` (as a boolean or as text).
    pub fn flag(&self, property: &str) -> bool {
        self.get(property).is_some_and(|v| v.as_bool() == Some(true) || v.as_str() == Some("true"))
    }
}
