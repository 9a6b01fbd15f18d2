//! Quality rules of a schema object and its properties, typed.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::common::{custom_properties, entries, text};
use crate::names::fold_column;
use crate::pattern::translate;
use crate::quality::{CheckTarget, Metric, Operator, QualityRule, RuleKind, Unit};

/// The object's rules first, then the columns' in their order, nested ones too.
pub(crate) fn of_object(object: &Value) -> Vec<QualityRule> {
    let mut rules: Vec<QualityRule> = entries(object, "quality").map(|q| rule(q, CheckTarget::Object)).collect();
    of_properties(object, "", &mut rules);
    make_unique(&mut rules);
    rules
}

fn of_properties(owner: &Value, prefix: &str, rules: &mut Vec<QualityRule>) {
    for property in entries(owner, "properties") {
        let name = text(property, "name").unwrap_or_default();
        of_property(property, &format!("{prefix}{}", fold_column(&name).unwrap_or(name)), rules);
    }
}

/// A property's own rules, then those inside it.
fn of_property(property: &Value, path: &str, rules: &mut Vec<QualityRule>) {
    rules.extend(entries(property, "quality").map(|q| rule(q, CheckTarget::Column(path.to_owned()))));
    of_properties(property, &format!("{path}."), rules);
    for (pointer, name) in [("/items", "element"), ("/map/key", "key"), ("/map/value", "value")] {
        if let Some(part) = property.pointer(pointer) {
            of_property(part, &format!("{path}.{name}"), rules);
        }
    }
}

fn rule(rule: &Value, target: CheckTarget) -> QualityRule {
    let kind = kind(rule);
    let name = text(rule, "name");
    let id = text(rule, "id").or_else(|| name.clone()).unwrap_or_else(|| default_id(&kind, &target));
    QualityRule {
        id,
        name,
        description: text(rule, "description"),
        target,
        dimension: text(rule, "dimension"),
        severity: text(rule, "severity"),
        business_impact: text(rule, "businessImpact"),
        schedule: text(rule, "schedule"),
        kind,
        custom_properties: custom_properties(rule),
    }
}

fn default_id(kind: &RuleKind, target: &CheckTarget) -> String {
    let kind = match kind {
        RuleKind::Text => "text",
        RuleKind::Library { metric, .. } => metric.name(),
        RuleKind::Sql { .. } => "sql",
        RuleKind::Custom { .. } => "custom",
    };
    match target {
        CheckTarget::Object => kind.to_owned(),
        CheckTarget::Column(column) => format!("{column}.{kind}"),
    }
}

/// The second of a name gets the number 2, and so on.
fn make_unique(rules: &mut [QualityRule]) {
    let mut taken: HashSet<String> = HashSet::new();
    let mut next: HashMap<String, usize> = HashMap::new();
    for rule in rules {
        let base = rule.id.clone();
        while !taken.insert(rule.id.clone()) {
            let number = next.entry(base.clone()).or_insert(2);
            rule.id = format!("{base}-{number}");
            *number += 1;
        }
    }
}

/// A rule without `type` is a library rule if it has a metric (3.0.x: a rule's name), else text.
fn kind(rule: &Value) -> RuleKind {
    let operator = operator(rule);
    if let (None, Some(name)) = (rule.get("metric"), text(rule, "rule")) {
        // 3.0.x left the library's rules open: those that became metrics are known, no other can be run.
        return match (metric(rule), operator) {
            (None, None) if name == "validValues" && rule.get("validValues").is_some_and(Value::is_array) => {
                let valid = rule.get("validValues").and_then(Value::as_array).cloned();
                let metric = Metric::InvalidValues { valid, pattern: None };
                RuleKind::Library { metric, operator: Operator::MustBe(Value::from(0)), unit: Unit::Rows }
            }
            (Some(metric), Some(operator)) => RuleKind::Library { metric, operator, unit: unit(rule) },
            _ => RuleKind::Custom { engine: "library".to_owned(), implementation: Value::String(name) },
        };
    }
    match (rule.get("type").and_then(Value::as_str), operator) {
        (Some("sql"), Some(operator)) => RuleKind::Sql { query: text(rule, "query").unwrap_or_default(), operator },
        (Some("custom"), _) => RuleKind::Custom {
            engine: text(rule, "engine").unwrap_or_default(),
            implementation: rule.get("implementation").cloned().unwrap_or(Value::Null),
        },
        (_, Some(operator)) => match metric(rule) {
            Some(metric) => RuleKind::Library { metric, operator, unit: unit(rule) },
            None => RuleKind::Text,
        },
        (_, None) => RuleKind::Text,
    }
}

fn unit(rule: &Value) -> Unit {
    match rule.get("unit").and_then(Value::as_str) {
        Some("percent") => Unit::Percent,
        _ => Unit::Rows,
    }
}

fn metric(rule: &Value) -> Option<Metric> {
    let arguments = rule.get("arguments").unwrap_or(&Value::Null);
    let list = |name: &str| arguments.get(name).and_then(Value::as_array).cloned();
    let name = rule.get("metric").or_else(|| rule.get("rule")).and_then(Value::as_str)?;
    Some(match name {
        "nullValues" => Metric::NullValues,
        "missingValues" => Metric::MissingValues { missing: list("missingValues").unwrap_or_default() },
        "invalidValues" => {
            // One that cannot be translated stays as it is: its evaluation is an error.
            let pattern = text(arguments, "pattern").map(|written| translate(&written).unwrap_or(written));
            Metric::InvalidValues { valid: list("validValues"), pattern }
        }
        "duplicateValues" => Metric::DuplicateValues {
            columns: duplicate_columns(arguments)
                .map(|name| fold_column(name).unwrap_or_else(|_| name.to_owned()))
                .collect(),
        },
        "rowCount" => Metric::RowCount,
        _ => return None,
    })
}

/// The names of the columns a `duplicateValues` rule counts over.
pub(crate) fn duplicate_columns(arguments: &Value) -> impl Iterator<Item = &str> {
    entries(arguments, "properties").filter_map(Value::as_str)
}

fn operator(rule: &Value) -> Option<Operator> {
    let number = |name: &str| rule.get(name).and_then(Value::as_f64);
    let pair = |name: &str| {
        let pair = rule.get(name)?.as_array()?;
        Some((pair.first()?.as_f64()?, pair.get(1)?.as_f64()?))
    };
    None.or_else(|| rule.get("mustBe").cloned().map(Operator::MustBe))
        .or_else(|| rule.get("mustNotBe").cloned().map(Operator::MustNotBe))
        .or_else(|| number("mustBeGreaterThan").map(Operator::GreaterThan))
        .or_else(|| number("mustBeGreaterOrEqualTo").map(Operator::GreaterOrEqual))
        .or_else(|| number("mustBeLessThan").map(Operator::LessThan))
        .or_else(|| number("mustBeLessOrEqualTo").map(Operator::LessOrEqual))
        .or_else(|| pair("mustBeBetween").map(|(low, high)| Operator::Between(low, high)))
        .or_else(|| pair("mustNotBeBetween").map(|(low, high)| Operator::NotBetween(low, high)))
}
