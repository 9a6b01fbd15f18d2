//! Service levels: what a product promises about time.

use std::time::Duration;

use serde_json::Value;

/// One `slaProperties` entry.
#[derive(Debug, Clone, PartialEq)]
pub struct SlaProperty {
    /// `latency`, `retention`, `frequency`, …
    pub property: String,
    /// As written.
    pub value: Value,
    /// As written.
    pub value_ext: Option<Value>,
    /// As written: `d`, `hours`, …
    pub unit: Option<String>,
    /// As written: `object.column`, comma-separated if several.
    pub element: Option<String>,
    /// `regulatory`, `analytics`, `operational`.
    pub driver: Option<String>,
    /// As written.
    pub description: Option<String>,
}

impl SlaProperty {
    /// Value and unit as a length of time (a month is 30 days, a year 365), if they are one.
    pub fn duration(&self) -> Option<Duration> {
        todo!()
    }
}
