//! One constraint as a test over an array.
//!
//! In: a rule and a column's type, once; then arrays. Out: the indices of the values that break it, and why.

use std::collections::HashSet;

use arrow::compute::{is_null, or};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_array::{Array as _, ArrayRef, BooleanArray};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::ArrowError;
use mesh_contract::{Bound, Rule, Scalar, Type};
use mesh_proto::record::cut_at_chars;
use regex::Regex;

use crate::error::IngestError;
use crate::pipeline::check::formats::RecordFormat;
use crate::pipeline::check::measure::{counted, lengths, properties, repeated, texts};
use crate::pipeline::check::operand::{ABOVE, BELOW, EQUAL, NOT_ABOVE, NOT_BELOW, Operand, comparable, show};
use crate::pipeline::check::place::Place;
use crate::pipeline::refusal::Reason;

/// What the message of a constraint shows of the value at most.
const SHOWN: usize = 120;

/// A compiled constraint.
#[derive(Debug)]
pub(crate) struct Test {
    kind: Kind,
    /// What the contract asks for, for messages.
    expected: String,
}

#[derive(Debug)]
enum Kind {
    Required,
    Words(HashSet<String>),
    OneOf(Vec<Operand>),
    Minimum(Operand, bool),
    Maximum(Operand, bool),
    Multiple(Operand),
    Length { least: usize, most: usize, reason: Reason },
    Pattern(Regex),
    RecordFormat(RecordFormat),
    Items { least: usize, most: usize, reason: Reason },
    Unique,
    Properties { least: usize, most: usize, reason: Reason },
}

impl Test {
    pub(crate) fn compile(rule: &Rule, ty: &Type, place: &Place) -> Result<Self, IngestError> {
        let unusable = |why: &str| IngestError::Constraint { place: place.to_string(), why: why.to_owned() };
        let operand = |scalar: &Scalar| {
            Operand::new(scalar, ty).ok_or_else(|| unusable("its operand is not of the column's type"))
        };
        let size = |count: &u64| usize::try_from(*count).unwrap_or(usize::MAX);
        let most = usize::MAX;
        let (kind, expected) = match rule {
            Rule::Required => (Kind::Required, "a value".to_owned()),
            Rule::Enum(values) => {
                let shown: Vec<String> = values.iter().map(|scalar| show(scalar, ty)).collect();
                (Kind::one_of(values, ty, operand)?, format!("one of {}", cut_at_chars(&shown.join(", "), SHOWN)))
            }
            Rule::Minimum(Bound { value, inclusive }) => {
                let words = if *inclusive { "at least" } else { "more than" };
                (Kind::Minimum(operand(value)?, *inclusive), format!("{words} {}", show(value, ty)))
            }
            Rule::Maximum(Bound { value, inclusive }) => {
                let words = if *inclusive { "at most" } else { "less than" };
                (Kind::Maximum(operand(value)?, *inclusive), format!("{words} {}", show(value, ty)))
            }
            Rule::MultipleOf(value) => (Kind::Multiple(operand(value)?), format!("a multiple of {}", show(value, ty))),
            Rule::MinLength(n) => {
                (Kind::Length { least: size(n), most, reason: Reason::MinLength }, format!("a length of at least {n}"))
            }
            Rule::MaxLength(n) => (
                Kind::Length { least: 0, most: size(n), reason: Reason::MaxLength },
                format!("a length of at most {n}"),
            ),
            Rule::Pattern(pattern) => {
                let regex = Regex::new(pattern).map_err(|error| unusable(&error.to_string()))?;
                (Kind::Pattern(regex), format!("a match of {pattern}"))
            }
            Rule::Format(format) => {
                (Kind::RecordFormat(RecordFormat::new(*format)), format!("the format {format:?}").to_lowercase())
            }
            Rule::MinItems(n) => {
                (Kind::Items { least: size(n), most, reason: Reason::MinItems }, format!("at least {n} items"))
            }
            Rule::MaxItems(n) => {
                (Kind::Items { least: 0, most: size(n), reason: Reason::MaxItems }, format!("at most {n} items"))
            }
            Rule::UniqueItems => (Kind::Unique, "items that are all different".to_owned()),
            Rule::MinProperties(n) => (
                Kind::Properties { least: size(n), most, reason: Reason::MinProperties },
                format!("at least {n} fields"),
            ),
            Rule::MaxProperties(n) => (
                Kind::Properties { least: 0, most: size(n), reason: Reason::MaxProperties },
                format!("at most {n} fields"),
            ),
        };
        Ok(Self { kind, expected })
    }

    pub(crate) fn reason(&self) -> Reason {
        match &self.kind {
            Kind::Required => Reason::Required,
            Kind::Words(_) | Kind::OneOf(_) => Reason::Enum,
            Kind::Minimum(..) => Reason::Minimum,
            Kind::Maximum(..) => Reason::Maximum,
            Kind::Multiple(_) => Reason::MultipleOf,
            Kind::Length { reason, .. } | Kind::Items { reason, .. } | Kind::Properties { reason, .. } => *reason,
            Kind::Pattern(_) => Reason::Pattern,
            Kind::RecordFormat(_) => Reason::Format,
            Kind::Unique => Reason::UniqueItems,
        }
    }

    /// Why the value at an index breaks the constraint.
    pub(crate) fn message(&self, values: &ArrayRef, at: usize) -> String {
        let found = ArrayFormatter::try_new(values, &FormatOptions::new().with_null("null")).map_or_else(
            |_| "another value".to_owned(),
            |formatter| cut_at_chars(&formatter.value(at).to_string(), SHOWN),
        );
        format!("expected {}, found {found}", self.expected)
    }

    /// The indices of values that break the constraint. `live` is set where a value's parent is there at all.
    pub(crate) fn violations(&self, values: &ArrayRef, live: Option<&NullBuffer>) -> Result<Vec<usize>, ArrowError> {
        let mask = match &self.kind {
            Kind::Required => is_null(values)?,
            Kind::Words(words) => texts(values, |text| !words.contains(text))?,
            Kind::OneOf(operands) => {
                let values = comparable(values)?;
                let mut found = BooleanArray::new(BooleanBuffer::new_unset(values.len()), None);
                for operand in operands {
                    found = or(&found, &operand.compare(&values, &EQUAL)?)?;
                }
                arrow::compute::not(&found)?
            }
            Kind::Minimum(operand, true) => operand.compare(&comparable(values)?, &BELOW)?,
            Kind::Minimum(operand, false) => operand.compare(&comparable(values)?, &NOT_ABOVE)?,
            Kind::Maximum(operand, true) => operand.compare(&comparable(values)?, &ABOVE)?,
            Kind::Maximum(operand, false) => operand.compare(&comparable(values)?, &NOT_BELOW)?,
            Kind::Multiple(operand) => operand.no_multiple(values)?,
            Kind::Length { least, most, .. } => lengths(values, *least, *most)?,
            Kind::Pattern(regex) => texts(values, |text| !regex.is_match(text))?,
            Kind::RecordFormat(format) => texts(values, |text| !format.accepts(text))?,
            Kind::Items { least, most, .. } => counted(values, *least, *most)?,
            Kind::Unique => repeated(values)?,
            Kind::Properties { least, most, .. } => properties(values, *least, *most)?,
        };
        Ok(broken(&mask, live))
    }
}

impl Kind {
    fn one_of(
        values: &[Scalar],
        ty: &Type,
        operand: impl Fn(&Scalar) -> Result<Operand, IngestError>,
    ) -> Result<Self, IngestError> {
        let operands = values.iter().map(operand).collect::<Result<Vec<_>, _>>()?;
        if !matches!(ty, Type::String | Type::Uuid) {
            return Ok(Self::OneOf(operands));
        }
        let word = |operand| if let Operand::Text(text) = operand { Some(text) } else { None };
        Ok(Self::Words(operands.into_iter().filter_map(word).collect()))
    }
}

/// Where the mask is true and the parent there.
fn broken(mask: &BooleanArray, live: Option<&NullBuffer>) -> Vec<usize> {
    if mask.true_count() == 0 {
        return Vec::new();
    }
    let hit = |at: &usize| mask.is_valid(*at) && mask.value(*at) && live.is_none_or(|live| live.is_valid(*at));
    (0..mask.len()).filter(hit).collect()
}
