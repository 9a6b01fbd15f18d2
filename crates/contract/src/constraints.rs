//! Hard constraints: what makes a record a dead letter.
//! In: `required`, `enum` and `logicalTypeOptions` of a column. Out: rules with operands already in the column's type,
//! so that ingest compiles them to Arrow kernels without looking at the document again.

use std::fmt;

/// A value in a column's own type.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Scalar {
    /// Of a boolean column.
    Boolean(bool),
    /// Of an int or long column.
    Long(i64),
    /// Of a float or double column.
    Double(f64),
    /// Of a decimal column, unscaled at the column's scale.
    Decimal(i128),
    /// Of a string or uuid column.
    Text(String),
    /// Of a date column: days since 1970-01-01.
    Date(i32),
    /// Of a time column: microseconds since midnight.
    Time(i64),
    /// Of a timestamp column: microseconds since the epoch (UTC, or local when the column has no zone).
    Timestamp(i64),
}

/// One end of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The end.
    pub value: Scalar,
    /// Whether the end itself is allowed.
    pub inclusive: bool,
}

/// Formats of strings that are checked; others are documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringFormat {
    /// RFC 4122 text form.
    Uuid,
    /// `local@domain`.
    Email,
    /// Absolute URI.
    Uri,
    /// RFC 1123 host name.
    Hostname,
    /// Dotted quad.
    Ipv4,
    /// RFC 4291 text form.
    Ipv6,
}

/// All that a column's values must satisfy, beside its type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Constraints {
    /// Allowed values; null is governed by `required` alone.
    pub enumeration: Option<Vec<Scalar>>,
    /// Least value.
    pub minimum: Option<Bound>,
    /// Greatest value.
    pub maximum: Option<Bound>,
    /// Values are multiples of this.
    pub multiple_of: Option<Scalar>,
    /// In characters (Unicode scalar values); bytes for binary.
    pub min_length: Option<u64>,
    /// In characters (Unicode scalar values); bytes for binary.
    pub max_length: Option<u64>,
    /// A regular expression found anywhere in the value (ECMA-262 search semantics), in the `regex` crate's syntax.
    pub pattern: Option<String>,
    /// A known format.
    pub format: Option<StringFormat>,
    /// Least number of elements.
    pub min_items: Option<u64>,
    /// Greatest number of elements.
    pub max_items: Option<u64>,
    /// Elements are all different.
    pub unique_items: bool,
    /// Least number of non-null fields of an object.
    pub min_properties: Option<u64>,
    /// Greatest number of non-null fields of an object.
    pub max_properties: Option<u64>,
}

/// One step from a table's row to a nested value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathStep {
    /// A field of the row or of an object, by folded name.
    Field(String),
    /// Every element of an array.
    Element,
    /// Every key of a map.
    Key,
    /// Every value of a map.
    Value,
}

/// Where a value is: `passenger.bags[].weight`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ColumnPath(pub Vec<PathStep>);

impl fmt::Display for ColumnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Field(name) if i > 0 => write!(f, ".{name}")?,
                PathStep::Field(name) => f.write_str(name)?,
                PathStep::Element => f.write_str("[]")?,
                PathStep::Key => f.write_str("{key}")?,
                PathStep::Value => f.write_str("{}")?,
            }
        }
        Ok(())
    }
}

/// One rule of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Not null.
    Required,
    /// One of these.
    Enum(Vec<Scalar>),
    /// At least, or more than.
    Minimum(Bound),
    /// At most, or less than.
    Maximum(Bound),
    /// A multiple of.
    MultipleOf(Scalar),
    /// Characters at least.
    MinLength(u64),
    /// Characters at most.
    MaxLength(u64),
    /// Found anywhere in the value.
    Pattern(String),
    /// A known string format.
    Format(StringFormat),
    /// Elements at least.
    MinItems(u64),
    /// Elements at most.
    MaxItems(u64),
    /// Elements all different.
    UniqueItems,
    /// Non-null fields at least.
    MinProperties(u64),
    /// Non-null fields at most.
    MaxProperties(u64),
}

impl Constraints {
    pub(crate) fn rules(&self) -> Vec<Rule> {
        [
            self.enumeration.clone().map(Rule::Enum),
            self.minimum.clone().map(Rule::Minimum),
            self.maximum.clone().map(Rule::Maximum),
            self.multiple_of.clone().map(Rule::MultipleOf),
            self.min_length.map(Rule::MinLength),
            self.max_length.map(Rule::MaxLength),
            self.pattern.clone().map(Rule::Pattern),
            self.format.map(Rule::Format),
            self.min_items.map(Rule::MinItems),
            self.max_items.map(Rule::MaxItems),
            self.unique_items.then_some(Rule::UniqueItems),
            self.min_properties.map(Rule::MinProperties),
            self.max_properties.map(Rule::MaxProperties),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Rule {
    /// The standard's word for it: `required`, `enum`, `maximum`, …
    pub fn word(&self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Enum(_) => "enum",
            Self::Minimum(bound) if bound.inclusive => "minimum",
            Self::Minimum(_) => "exclusiveMinimum",
            Self::Maximum(bound) if bound.inclusive => "maximum",
            Self::Maximum(_) => "exclusiveMaximum",
            Self::MultipleOf(_) => "multipleOf",
            Self::MinLength(_) => "minLength",
            Self::MaxLength(_) => "maxLength",
            Self::Pattern(_) => "pattern",
            Self::Format(_) => "format",
            Self::MinItems(_) => "minItems",
            Self::MaxItems(_) => "maxItems",
            Self::UniqueItems => "uniqueItems",
            Self::MinProperties(_) => "minProperties",
            Self::MaxProperties(_) => "maxProperties",
        }
    }
}
