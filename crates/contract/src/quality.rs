//! Quality rules of a contract, typed.

use serde::Serialize;
use serde_json::Value;

use crate::custom::CustomProperties;

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CheckTarget {
    /// The whole object.
    Object,
    /// One column, by folded path (`a.b` for nested objects).
    Column(String),
}

/// In what a library metric is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Rows.
    Rows,
    /// Percent of rows.
    Percent,
}

/// The standard's library metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// Rows whose column is null.
    NullValues,
    /// Rows whose column is null or one of these.
    MissingValues {
        /// What counts as missing; a JSON null stands for null.
        missing: Vec<Value>,
    },
    /// Rows whose column is not valid.
    InvalidValues {
        /// The only valid values, if stated.
        valid: Option<Vec<Value>>,
        /// A pattern valid values match, if stated: in the `regex` crate's syntax, as [`crate::Rule::Pattern`] is.
        pattern: Option<String>,
    },
    /// Rows that repeat an earlier one in these columns.
    DuplicateValues {
        /// Folded column names; the target column alone if none are stated.
        columns: Vec<String>,
    },
    /// Rows.
    RowCount,
}

impl Metric {
    /// The standard's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NullValues => "nullValues",
            Self::MissingValues { .. } => "missingValues",
            Self::InvalidValues { .. } => "invalidValues",
            Self::DuplicateValues { .. } => "duplicateValues",
            Self::RowCount => "rowCount",
        }
    }
}

/// What the measured value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Operator {
    /// `mustBe`: a number for library metrics, any value for `sql`.
    MustBe(Value),
    /// `mustNotBe`.
    MustNotBe(Value),
    /// `mustBeGreaterThan`.
    GreaterThan(f64),
    /// `mustBeGreaterOrEqualTo`.
    GreaterOrEqual(f64),
    /// `mustBeLessThan`.
    LessThan(f64),
    /// `mustBeLessOrEqualTo`.
    LessOrEqual(f64),
    /// `mustBeBetween`: by the standard's text `mustBeGreaterThan` the first and `mustBeLessThan` the second.
    Between(f64, f64),
    /// `mustNotBeBetween`: where `mustBeBetween` does not hold.
    NotBetween(f64, f64),
}

impl Operator {
    /// Whether a measured number satisfies the operator.
    pub fn holds(&self, actual: f64) -> bool {
        match self {
            Self::MustBe(expected) => expected.as_f64() == Some(actual),
            Self::MustNotBe(expected) => expected.as_f64() != Some(actual),
            Self::GreaterThan(bound) => actual > *bound,
            Self::GreaterOrEqual(bound) => actual >= *bound,
            Self::LessThan(bound) => actual < *bound,
            Self::LessOrEqual(bound) => actual <= *bound,
            Self::Between(low, high) => *low < actual && actual < *high,
            Self::NotBetween(low, high) => actual <= *low || *high <= actual,
        }
    }
}

impl std::fmt::Display for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MustBe(v) => write!(f, "= {v}"),
            Self::MustNotBe(v) => write!(f, "!= {v}"),
            Self::GreaterThan(v) => write!(f, "> {v}"),
            Self::GreaterOrEqual(v) => write!(f, ">= {v}"),
            Self::LessThan(v) => write!(f, "< {v}"),
            Self::LessOrEqual(v) => write!(f, "<= {v}"),
            Self::Between(a, b) => write!(f, "between {a} and {b}"),
            Self::NotBetween(a, b) => write!(f, "not between {a} and {b}"),
        }
    }
}

/// How a rule is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// Documentation only: no verdict.
    Text,
    /// One of the five library metrics.
    Library {
        /// What is counted.
        metric: Metric,
        /// What the count must be.
        operator: Operator,
        /// Rows or percent.
        unit: Unit,
    },
    /// A query whose single value is judged.
    Sql {
        /// The query.
        query: String,
        /// What its value must be.
        operator: Operator,
    },
    /// Another engine's rule: its verdict here is `error`.
    Custom {
        /// The engine.
        engine: String,
        /// The engine's own definition.
        implementation: Value,
    },
}

/// One quality rule of an object or a column.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityRule {
    /// Stable within the contract: the rule's `id`, else its `name`, else target and kind; made unique by a number.
    pub id: String,
    /// As written.
    pub name: Option<String>,
    /// As written.
    pub description: Option<String>,
    /// What it looks at.
    pub target: CheckTarget,
    /// accuracy, completeness, …
    pub dimension: Option<String>,
    /// As written: `error`, `warning`, …
    pub severity: Option<String>,
    /// As written.
    pub business_impact: Option<String>,
    /// As written: e.g. a cron expression.
    pub schedule: Option<String>,
    /// How it is evaluated.
    pub kind: RuleKind,
    /// Extensions.
    pub custom_properties: CustomProperties,
}
