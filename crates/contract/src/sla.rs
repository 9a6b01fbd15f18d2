//! Service levels: what a product promises about time.

use std::time::Duration;

use serde_json::Value;

use crate::duration;

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
    /// Whether this is the promise of a name: upper and lower case are one, and the standard's synonyms too.
    pub fn is(&self, property: &str) -> bool {
        canonical(&self.property) == property
    }
    /// Value and unit as a length of time (a month is 30 days, a year 365), if they are one.
    pub fn duration(&self) -> Option<Duration> {
        let value = self.value.as_f64().or_else(|| self.value.as_str()?.trim().parse().ok())?;
        duration::of(value, self.unit.as_deref()?)
    }
}

/// A promise's name in lower case, a synonym of the standard as what it stands for.
pub(crate) fn canonical(property: &str) -> String {
    let property = property.trim().to_lowercase();
    let full = match property.as_str() {
        "av" => "availability",
        "th" => "throughput",
        "er" => "errorrate",
        "ga" => "generalavailability",
        "es" => "endofsupport",
        "el" => "endoflife",
        "re" => "retention",
        "fy" => "frequency",
        "ly" => "latency",
        "td" => "timetodetect",
        "tn" => "timetonotify",
        "tr" => "timetorepair",
        other => other,
    };
    full.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: Value, unit: Option<&str>, expected: Option<u64>) {
        let sla = SlaProperty {
            property: "latency".to_owned(),
            value,
            value_ext: None,
            unit: unit.map(str::to_owned),
            element: None,
            driver: None,
            description: None,
        };
        assert_eq!(sla.duration(), expected.map(Duration::from_secs));
    }

    #[test]
    fn durations() {
        check(json!(4), Some("d"), Some(4 * 86_400));
        check(json!("1.5"), Some("hours"), Some(5_400));
        check(json!(3), Some("y"), Some(3 * 365 * 86_400));
        check(json!(4), None, None);
        check(json!(-4), Some("d"), None);
        check(json!(4), Some("furlongs"), None);
        check(json!("2022-05-12"), Some("d"), None);
    }
}
