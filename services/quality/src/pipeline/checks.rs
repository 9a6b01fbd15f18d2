//! Stage 1. In: an active contract. Out: the checks it asks for, each with its stable id, and what cannot be run named
//! as such. Never: a rule that disappears (`text` is documentation and asks for nothing).

use std::time::Duration;

use chrono::{DateTime, Utc};
use iceberg::TableIdent;
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_contract::{CheckTarget, Metric, Operator, ProductContract, QualityRule, RuleKind, TableName, Unit};
use mesh_proto::v1::{ActiveContract, TableRef};
use serde_json::{Value, json};

use super::incident::derived_id;
use super::judge::bounded;

/// Everything that is judged of one table.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) product: String,
    pub(crate) major: u32,
    pub(crate) revision: i64,
    pub(crate) table: TableRef,
    pub(crate) admitted_at: DateTime<Utc>,
    /// A product of the mesh's own domain: judged on the clock only, else the mesh would never come to rest.
    pub(crate) is_platform: bool,
    /// The contract's columns, which are found in the table by field id; none if the contract cannot be read.
    pub(crate) columns: Option<IcebergSchema>,
    pub(crate) checks: Vec<Check>,
}

/// One check of a contract.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    /// `<product>/v<major>/<rule>`: stable over revisions.
    pub(crate) id: String,
    pub(crate) metric: String,
    pub(crate) column: String,
    pub(crate) expected: String,
    pub(crate) dimension: String,
    pub(crate) severity: String,
    pub(crate) kind: CheckKind,
}

/// What a check needs to be judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CheckKind {
    /// How many rows the table has: manifests tell.
    RowCount { operator: Operator },
    /// How many rows meet a condition: each row is looked at once.
    Rows { rule: RowRule, operator: Operator, unit: Unit },
    /// How many rows repeat an earlier one in these columns: the whole table is looked at.
    Duplicates { columns: Vec<String>, operator: Operator, unit: Unit, interval: Option<Duration> },
    /// How old the last commit is.
    Latency(Duration),
    /// It cannot be run, and why.
    Impossible(String),
}

/// Which rows count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowRule {
    /// The column is null.
    Null,
    /// The column is null or one of these.
    Missing(Vec<Value>),
    /// The column is not null, and none of these or not of this form.
    Invalid { valid: Option<Vec<Value>>, pattern: Option<String> },
}

impl Subject {
    /// What an active contract asks for. A document that cannot be read is one check that cannot be run.
    pub(crate) fn of(active: &ActiveContract) -> Self {
        let head = format!("{}/v{}", active.product, active.major);
        let parsed = ProductContract::parse(&active.contract_id, &active.document);
        let columns = parsed.as_ref().ok().map(|contract| contract.iceberg_schema(None));
        let checks = match parsed {
            Ok(contract) => checks(&head, &contract),
            Err(error) => vec![unreadable(&head, &format!("[{}] {error}", error.code()))],
        };
        let checks = checks.into_iter().map(Check::bounded).collect();
        Self {
            product: active.product.clone(),
            major: active.major,
            revision: active.revision,
            table: active.table.clone().unwrap_or_default(),
            admitted_at: active
                .admitted_at
                .as_ref()
                .and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
                .unwrap_or(DateTime::UNIX_EPOCH),
            is_platform: active.product.starts_with("platform."),
            columns,
            checks,
        }
    }

    /// What the ids of its checks begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/v{}/", self.product, self.major)
    }

    /// Whether the contract itself could not be read.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.checks.iter().any(|check| check.metric == "contract")
    }

    /// The table in the catalog.
    pub(crate) fn ident(&self) -> TableIdent {
        mesh_lakehouse::schema::ident(&TableName::new(&self.table.namespace, &self.table.name))
    }

    /// The promised freshness, with the check that holds it.
    pub(crate) fn latency(&self) -> Option<(&Check, Duration)> {
        self.checks.iter().find_map(|check| match check.kind {
            CheckKind::Latency(latency) => Some((check, latency)),
            _ => None,
        })
    }
}

impl Check {
    /// With no more text than its verdicts carry. An id that is cut stays one of its own.
    fn bounded(self) -> Self {
        let id = match bounded(self.id.clone()) {
            id if id == self.id => id,
            id => format!("{id}{}", derived_id(&[&self.id])),
        };
        let kind = match self.kind {
            CheckKind::Impossible(why) => CheckKind::Impossible(bounded(why)),
            other => other,
        };
        Self {
            id,
            metric: bounded(self.metric),
            expected: bounded(self.expected),
            dimension: bounded(self.dimension),
            severity: bounded(self.severity),
            column: self.column,
            kind,
        }
    }
}

fn unreadable(head: &str, why: &str) -> Check {
    Check {
        id: format!("{head}/contract"),
        metric: "contract".to_owned(),
        column: String::new(),
        expected: "a contract that can be read".to_owned(),
        dimension: String::new(),
        severity: "error".to_owned(),
        kind: CheckKind::Impossible(why.to_owned()),
    }
}

fn checks(head: &str, contract: &ProductContract) -> Vec<Check> {
    let mut checks: Vec<Check> = contract.quality().iter().filter_map(|rule| of_rule(head, rule)).collect();
    checks.extend(keys(head, contract));
    checks.extend(latency(head, contract));
    checks
}

/// `primaryKey` and `unique` are promises too: no two rows alike.
fn keys(head: &str, contract: &ProductContract) -> Vec<Check> {
    let unique = |name: &str, columns: Vec<String>| {
        let operator = Operator::MustBe(json!(0));
        Check {
            id: format!("{head}/{name}"),
            metric: "duplicateValues".to_owned(),
            column: if columns.len() == 1 { columns[0].clone() } else { String::new() },
            expected: expectation(&operator, Unit::Rows),
            dimension: "uniqueness".to_owned(),
            severity: "error".to_owned(),
            kind: CheckKind::Duplicates { columns, operator, unit: Unit::Rows, interval: None },
        }
    };
    let mut checks = Vec::new();
    let key: Vec<String> = contract.record_key_columns().iter().map(|column| column.name.clone()).collect();
    // A key of an upserted table is unique by construction of its current rows, so there the check says whether it is.
    if !key.is_empty() {
        checks.push(unique("primaryKey", key));
    }
    for column in contract.columns().iter().filter(|column| column.unique) {
        checks.push(unique(&format!("unique.{}", column.name), vec![column.name.clone()]));
    }
    checks
}

fn latency(head: &str, contract: &ProductContract) -> Option<Check> {
    let sla = contract.contract().sla.iter().find(|sla| sla.is("latency"))?;
    let (expected, kind) = match sla.duration() {
        Some(latency) => {
            (format!("a commit within {}", humantime::format_duration(latency)), CheckKind::Latency(latency))
        }
        None => {
            let why =
                format!("`latency` is {} {}, which is no length of time", sla.value, sla.unit.as_deref().unwrap_or(""));
            ("a commit in time".to_owned(), CheckKind::Impossible(why.trim_end().to_owned()))
        }
    };
    Some(Check {
        id: format!("{head}/sla.latency"),
        metric: "latency".to_owned(),
        column: String::new(),
        expected,
        dimension: "timeliness".to_owned(),
        severity: "error".to_owned(),
        kind,
    })
}

fn of_rule(head: &str, rule: &QualityRule) -> Option<Check> {
    let column = match &rule.target {
        CheckTarget::Object => String::new(),
        CheckTarget::Column(path) => path.clone(),
    };
    let (metric, expected, kind) = match &rule.kind {
        RuleKind::Text => return None,
        RuleKind::Library { metric, operator, unit } => {
            let kind = library(metric, operator, *unit, &column, rule);
            (metric.name().to_owned(), expectation(operator, *unit), kind)
        }
        RuleKind::Sql { operator, .. } => {
            let why = "`sql` checks are not run; say it with a library metric, or as `text` if it is for people";
            ("sql".to_owned(), operator_text(operator), CheckKind::Impossible(why.to_owned()))
        }
        RuleKind::Custom { engine, .. } => {
            let why = match engine.as_str() {
                "library" => {
                    "the rule names none of the standard's five library metrics; name one as `metric`".to_owned()
                }
                _ => format!(
                    "quality has no engine `{engine}`; say it with a library metric, or as `text` if it is for people"
                ),
            };
            (engine.clone(), format!("what `{engine}` says"), CheckKind::Impossible(why))
        }
    };
    Some(Check {
        id: format!("{head}/{}", rule.id),
        metric,
        column,
        expected,
        dimension: rule.dimension.clone().unwrap_or_default(),
        severity: rule.severity.clone().unwrap_or_default(),
        kind,
    })
}

fn library(metric: &Metric, operator: &Operator, unit: Unit, column: &str, rule: &QualityRule) -> CheckKind {
    let operator = operator.clone();
    if let Some(why) = no_number(&operator) {
        return CheckKind::Impossible(why);
    }
    let rows = |rule: RowRule| match column {
        "" => CheckKind::Impossible(format!("`{}` is about a column, and this rule is the object's", metric.name())),
        _ => CheckKind::Rows { rule, operator: operator.clone(), unit },
    };
    match metric {
        Metric::NullValues => rows(RowRule::Null),
        Metric::MissingValues { missing } => rows(RowRule::Missing(missing.clone())),
        Metric::InvalidValues { valid: None, pattern: None } => CheckKind::Impossible(
            "`invalidValues` has neither `validValues` nor `pattern`, so nothing says what is valid".to_owned(),
        ),
        Metric::InvalidValues { valid, pattern } => {
            rows(RowRule::Invalid { valid: valid.clone(), pattern: pattern.clone() })
        }
        Metric::RowCount if unit == Unit::Percent => {
            CheckKind::Impossible("`rowCount` in percent: percent of what? Use `unit: rows`".to_owned())
        }
        Metric::RowCount => CheckKind::RowCount { operator },
        Metric::DuplicateValues { columns } => {
            let columns = match (columns.is_empty(), column) {
                (false, _) => columns.clone(),
                (true, "") => {
                    let why = "`duplicateValues` of an object needs `arguments: {properties: […]}`";
                    return CheckKind::Impossible(why.to_owned());
                }
                (true, column) => vec![column.to_owned()],
            };
            let interval = rule.custom_properties.text("interval").map(mesh_contract::duration::parse);
            match interval.transpose() {
                Ok(interval) => CheckKind::Duplicates { columns, operator, unit, interval },
                Err(error) => CheckKind::Impossible(format!("customProperty `interval`: {error}")),
            }
        }
    }
}

/// Library metrics are numbers: `mustBe: "none"` could never hold, and would not say so.
fn no_number(operator: &Operator) -> Option<String> {
    match operator {
        Operator::MustBe(value) | Operator::MustNotBe(value) if value.as_f64().is_none() => {
            Some(format!("`{}` compares with {value}, which is no number", operator_text(operator)))
        }
        _ => None,
    }
}

fn expectation(operator: &Operator, unit: Unit) -> String {
    let unit = match unit {
        Unit::Rows => "rows",
        Unit::Percent => "percent",
    };
    format!("{} {unit}", operator_text(operator))
}

/// The operator in the standard's words.
fn operator_text(operator: &Operator) -> String {
    match operator {
        Operator::MustBe(value) => format!("mustBe {value}"),
        Operator::MustNotBe(value) => format!("mustNotBe {value}"),
        Operator::GreaterThan(bound) => format!("mustBeGreaterThan {bound}"),
        Operator::GreaterOrEqual(bound) => format!("mustBeGreaterOrEqualTo {bound}"),
        Operator::LessThan(bound) => format!("mustBeLessThan {bound}"),
        Operator::LessOrEqual(bound) => format!("mustBeLessOrEqualTo {bound}"),
        Operator::Between(low, high) => format!("mustBeBetween {low} and {high}"),
        Operator::NotBetween(low, high) => format!("mustNotBeBetween {low} and {high}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn example(product: &str, file: &str) -> Subject {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nyc/contracts");
        let document = std::fs::read_to_string(root.join(file)).unwrap();
        Subject::of(&ActiveContract { product: product.into(), major: 1, document, ..ActiveContract::default() })
    }

    #[test]
    fn every_check_of_the_example_can_be_run_and_every_metric_is_in_it() {
        let mut metrics = BTreeSet::new();
        for (product, file) in [
            ("operations.flights", "flights.odcs.yaml"),
            ("weather.hourly", "weather.odcs.yaml"),
            ("fleet.planes", "planes.odcs.yaml"),
        ] {
            for check in example(product, file).checks {
                assert!(!matches!(check.kind, CheckKind::Impossible(_)), "{check:?}");
                metrics.insert(check.metric);
            }
        }
        let library = ["duplicateValues", "invalidValues", "missingValues", "nullValues", "rowCount"];
        assert!(library.iter().chain(&["latency"]).all(|metric| metrics.contains(*metric)), "{metrics:?}");
    }

    #[test]
    fn an_id_is_of_the_product_its_major_version_and_the_rule() {
        let ids: Vec<String> =
            example("fleet.planes", "planes.odcs.yaml").checks.into_iter().map(|check| check.id).collect();
        let expected =
            ["a-fleet-not-a-sample", "one-row-a-plane", "age-known", "primaryKey", "unique.tailnum", "sla.latency"];
        assert_eq!(ids, expected.map(|rule| format!("fleet.planes/v1/{rule}")));
    }

    #[test]
    fn a_contract_that_cannot_be_read_is_a_check_that_cannot_be_run() {
        let active =
            ActiveContract { product: "t.t".into(), major: 2, document: "kind: [".into(), ..ActiveContract::default() };
        let subject = Subject::of(&active);
        assert!(subject.is_unreadable());
        assert_eq!(subject.checks[0].id, "t.t/v2/contract");
        assert!(matches!(&subject.checks[0].kind, CheckKind::Impossible(why) if why.contains("MESH-CONTRACT-")));
    }

    #[test]
    fn a_promise_without_a_unit_is_no_length_of_time() {
        let document = "{apiVersion: v3.1.0, kind: DataContract, id: t, version: 1.0.0, status: active, domain: t, \
                        servers: [{server: s, type: kafka, host: 'h:1', format: json}], \
                        slaProperties: [{property: latency, value: soon}], \
                        schema: [{name: t, properties: [{name: a, logicalType: string}]}]}";
        let active =
            ActiveContract { product: "t.t".into(), major: 1, document: document.into(), ..ActiveContract::default() };
        let check = Subject::of(&active).checks.remove(0);
        assert!(check.id.ends_with("sla.latency") || check.metric == "contract", "{check:?}");
        assert!(matches!(check.kind, CheckKind::Impossible(_)));
    }

    /// The checks of a contract with this on its object, or beside it.
    fn checks_of(beside: &str, on_object: &str) -> Vec<Check> {
        let document = format!(
            "{{apiVersion: v3.1.0, kind: DataContract, id: t, version: 1.0.0, status: active, domain: t, {beside} \
             servers: [{{server: s, type: kafka, host: 'h:1', format: json}}], \
             schema: [{{name: t, {on_object} properties: [{{name: a, logicalType: string}}]}}]}}"
        );
        Subject::of(&ActiveContract { product: "t.t".into(), major: 1, document, ..ActiveContract::default() }).checks
    }

    #[test]
    fn freshness_is_promised_by_any_of_its_names() {
        for name in ["latency", "Latency", "ly"] {
            let checks = checks_of(&format!("slaProperties: [{{property: {name}, value: 4, unit: h}}],"), "");
            let expected = CheckKind::Latency(Duration::from_secs(4 * 3600));
            assert_eq!(checks.into_iter().map(|check| check.kind).collect::<Vec<_>>(), [expected], "{name}");
        }
    }

    #[test]
    fn a_check_says_no_more_than_a_record_holds() {
        let long = "\\x01".repeat(20_000);
        let rule = |id: &str| {
            format!(
                "{{id: \"{}{id}\", type: custom, engine: \"{long}\", severity: \"{long}\", implementation: x}}, \
                 {{id: \"{id}\", type: sql, query: q, mustBe: \"{long}\"}}",
                "x".repeat(100_000)
            )
        };
        let checks = checks_of("", &format!("quality: [{}, {}],", rule("a"), rule("b")));
        let ids: BTreeSet<&String> = checks.iter().map(|check| &check.id).collect();
        assert_eq!(ids.len(), 4, "each has an id of its own: {:?}", checks[0].kind);
        for check in checks {
            let why = if let CheckKind::Impossible(why) = &check.kind { why } else { &String::new() };
            assert!(!why.is_empty(), "{}", check.metric);
            let texts = [&check.id, &check.metric, &check.expected, &check.severity, why];
            let bytes: usize = texts.iter().map(|text| serde_json::to_string(text).unwrap().len()).sum();
            assert!(bytes < 40_000, "{bytes}");
        }
    }
}
