//! One constraint as a test over an array.
//!
//! In: a rule and a column's type, once; then arrays. Out: the indices of the values that break it, and why.

use std::collections::HashSet;

use arrow::compute::kernels::cmp;
use arrow::compute::{cast, is_null, or};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Datum, Decimal128Array, Float64Array, Int64Array, PrimitiveArray, Scalar as One,
    StringArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{ArrowError, DataType};
use mesh_contract::{Bound, Rule, Scalar, Type};
use mesh_proto::record::cut_at_chars;
use regex::Regex;

use crate::error::IngestError;
use crate::pipeline::check::formats::RecordFormat;
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

/// A value to compare with. Whole numbers, dates, times and moments are all compared as 64-bit integers.
#[derive(Debug, Clone)]
enum Operand {
    Boolean(bool),
    Long(i64),
    Double(f64),
    Decimal(i128, u8, i8),
    Text(String),
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
                let shown: Vec<String> = values.iter().map(show_scalar).collect();
                (Kind::one_of(values, ty, operand)?, format!("one of {}", cut_at_chars(&shown.join(", "), SHOWN)))
            }
            Rule::Minimum(Bound { value, inclusive }) => {
                let words = if *inclusive { "at least" } else { "more than" };
                (Kind::Minimum(operand(value)?, *inclusive), format!("{words} {}", show_scalar(value)))
            }
            Rule::Maximum(Bound { value, inclusive }) => {
                let words = if *inclusive { "at most" } else { "less than" };
                (Kind::Maximum(operand(value)?, *inclusive), format!("{words} {}", show_scalar(value)))
            }
            Rule::MultipleOf(value) => {
                (Kind::Multiple(operand(value)?), format!("a multiple of {}", show_scalar(value)))
            }
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

    /// The indices of values that break the constraint. `live` says where a value's parent is there at all.
    pub(crate) fn violations(&self, values: &ArrayRef, live: Option<&NullBuffer>) -> Result<Vec<usize>, ArrowError> {
        let mask = match &self.kind {
            Kind::Required => is_null(values)?,
            Kind::Words(words) => texts(values, |text| !words.contains(text))?,
            Kind::OneOf(operands) => {
                let values = comparable(values)?;
                let mut found = BooleanArray::new(BooleanBuffer::new_unset(values.len()), None);
                for operand in operands {
                    found = or(&found, &operand.compare(&values, cmp::eq)?)?;
                }
                arrow::compute::not(&found)?
            }
            Kind::Minimum(operand, true) => operand.compare(&comparable(values)?, cmp::lt)?,
            Kind::Minimum(operand, false) => operand.compare(&comparable(values)?, cmp::lt_eq)?,
            Kind::Maximum(operand, true) => operand.compare(&comparable(values)?, cmp::gt)?,
            Kind::Maximum(operand, false) => operand.compare(&comparable(values)?, cmp::gt_eq)?,
            Kind::Multiple(operand) => operand.no_multiple(&comparable(values)?)?,
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

impl Operand {
    fn new(scalar: &Scalar, ty: &Type) -> Option<Self> {
        Some(match (scalar, ty) {
            (Scalar::Boolean(v), Type::Boolean) => Self::Boolean(*v),
            (Scalar::Long(v), Type::Int | Type::Long) => Self::Long(*v),
            (Scalar::Double(v), Type::Float | Type::Double) => Self::Double(*v),
            (Scalar::Decimal(v), Type::Decimal { precision, scale }) => {
                Self::Decimal(*v, *precision, i8::try_from(*scale).ok()?)
            }
            (Scalar::Date(v), Type::Date) => Self::Long(i64::from(*v)),
            (Scalar::Time(v), Type::Time) | (Scalar::Timestamp(v), Type::Timestamp | Type::TimestampTz) => {
                Self::Long(*v)
            }
            (Scalar::Text(v), Type::String) => Self::Text(v.clone()),
            (Scalar::Text(v), Type::Uuid) => Self::Text(v.to_lowercase()),
            _ => return None,
        })
    }

    fn compare(
        &self,
        values: &ArrayRef,
        kernel: fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>,
    ) -> Result<BooleanArray, ArrowError> {
        match self {
            Self::Boolean(v) => kernel(values, &One::new(BooleanArray::from(vec![*v]))),
            Self::Long(v) => kernel(values, &One::new(Int64Array::from(vec![*v]))),
            Self::Double(v) => kernel(values, &One::new(Float64Array::from(vec![*v]))),
            Self::Decimal(v, precision, scale) => {
                let one = Decimal128Array::from(vec![*v]).with_precision_and_scale(*precision, *scale)?;
                kernel(values, &One::new(one))
            }
            Self::Text(v) => kernel(values, &One::new(StringArray::from(vec![v.as_str()]))),
        }
    }

    fn no_multiple(&self, values: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        match self {
            Self::Long(of) if *of != 0 => {
                Ok(BooleanArray::from_unary(values.as_primitive::<Int64Type>(), |v| v.wrapping_rem(*of) != 0))
            }
            Self::Decimal(of, ..) if *of != 0 => {
                Ok(BooleanArray::from_unary(values.as_primitive::<Decimal128Type>(), |v| v.wrapping_rem(*of) != 0))
            }
            Self::Double(of) if *of != 0.0 => {
                // 0.3 is a multiple of 0.1 for people: the quotient may miss a whole number by rounding errors.
                let apart = |v: f64| {
                    let quotient = v / of;
                    let whole = (quotient - quotient.round()).abs() <= 1e-9 * quotient.abs().max(1.0);
                    !(quotient.is_finite() && whole)
                };
                Ok(BooleanArray::from_unary(values.as_primitive::<Float64Type>(), apart))
            }
            _ => Err(ArrowError::ComputeError("multipleOf needs a number other than 0".into())),
        }
    }
}

/// Values in the form operands are compared in.
fn comparable(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match values.data_type() {
        DataType::Int32 => cast(values, &DataType::Int64),
        DataType::Date32 => {
            let days: PrimitiveArray<Int64Type> = values.as_primitive::<Date32Type>().unary(i64::from);
            Ok(std::sync::Arc::new(days))
        }
        DataType::Time64(_) | DataType::Timestamp(..) => cast(values, &DataType::Int64),
        DataType::Float32 => cast(values, &DataType::Float64),
        _ => Ok(values.clone()),
    }
}

/// True where the text (a uuid in its usual form) fails.
fn texts(values: &ArrayRef, fails: impl Fn(&str) -> bool) -> Result<BooleanArray, ArrowError> {
    match values.data_type() {
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            let mask = BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && fails(values.value(at)));
            Ok(BooleanArray::new(mask, None))
        }
        DataType::FixedSizeBinary(16) => {
            let values = values.as_fixed_size_binary();
            let text = |at| uuid::Uuid::from_slice(values.value(at)).map(|uuid| uuid.to_string()).unwrap_or_default();
            let mask = BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && fails(&text(at)));
            Ok(BooleanArray::new(mask, None))
        }
        other => Err(ArrowError::ComputeError(format!("a constraint on text stands on a column of {other}"))),
    }
}

/// True where the length is out of range: characters of text, bytes of binary.
fn lengths(values: &ArrayRef, least: usize, most: usize) -> Result<BooleanArray, ArrowError> {
    let out = |length: usize| length < least || length > most;
    match values.data_type() {
        // As many characters as bytes at most: what is short enough in bytes need not be counted.
        DataType::Utf8 => texts(values, |text| {
            let bytes = text.len();
            (bytes > most || least > 0) && out(if text.is_ascii() { bytes } else { text.chars().count() })
        }),
        DataType::Binary => {
            let values = values.as_binary::<i32>();
            let mask =
                BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && out(values.value(at).len()));
            Ok(BooleanArray::new(mask, None))
        }
        DataType::LargeBinary => {
            let values = values.as_binary::<i64>();
            let mask =
                BooleanBuffer::collect_bool(values.len(), |at| values.is_valid(at) && out(values.value(at).len()));
            Ok(BooleanArray::new(mask, None))
        }
        other => Err(ArrowError::ComputeError(format!("a constraint on length stands on a column of {other}"))),
    }
}

fn list_offsets(values: &ArrayRef) -> Result<&[i32], ArrowError> {
    match values.data_type() {
        DataType::List(_) => Ok(values.as_list::<i32>().value_offsets()),
        DataType::Map(..) => Ok(values.as_map().value_offsets()),
        other => Err(ArrowError::ComputeError(format!("a constraint on items stands on a column of {other}"))),
    }
}

fn counted(values: &ArrayRef, least: usize, most: usize) -> Result<BooleanArray, ArrowError> {
    let offsets = list_offsets(values)?;
    let out = |at: usize| {
        let count = usize::try_from(offsets[at + 1] - offsets[at]).unwrap_or_default();
        values.is_valid(at) && (count < least || count > most)
    };
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(values.len(), out), None))
}

fn repeated(values: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let list = values.as_list_opt::<i32>();
    let list =
        list.ok_or_else(|| ArrowError::ComputeError("uniqueItems stands on a column that is no array".into()))?;
    let converter = RowConverter::new(vec![SortField::new(list.value_type())])?;
    let rows = converter.convert_columns(&[list.values().clone()])?;
    let offsets = list.value_offsets();
    let twice = |at: usize| {
        let mut seen = HashSet::new();
        let bounds = |at: usize| usize::try_from(offsets[at]).unwrap_or_default();
        list.is_valid(at) && (bounds(at)..bounds(at + 1)).any(|item| !seen.insert(rows.row(item)))
    };
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(list.len(), twice), None))
}

fn properties(values: &ArrayRef, least: usize, most: usize) -> Result<BooleanArray, ArrowError> {
    if let DataType::Map(..) = values.data_type() {
        return counted(values, least, most);
    }
    let object = values.as_struct_opt();
    let object =
        object.ok_or_else(|| ArrowError::ComputeError("minProperties stands on a column that is no object".into()))?;
    let out = |at: usize| {
        let count = object.columns().iter().filter(|column| column.is_valid(at)).count();
        object.is_valid(at) && (count < least || count > most)
    };
    Ok(BooleanArray::new(BooleanBuffer::collect_bool(object.len(), out), None))
}

/// Where the mask is true and the parent there.
fn broken(mask: &BooleanArray, live: Option<&NullBuffer>) -> Vec<usize> {
    if mask.true_count() == 0 {
        return Vec::new();
    }
    let hit = |at: &usize| mask.is_valid(*at) && mask.value(*at) && live.is_none_or(|live| live.is_valid(*at));
    (0..mask.len()).filter(hit).collect()
}

fn show_scalar(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Boolean(v) => v.to_string(),
        Scalar::Long(v) | Scalar::Time(v) | Scalar::Timestamp(v) => v.to_string(),
        Scalar::Double(v) => v.to_string(),
        Scalar::Decimal(v) => v.to_string(),
        Scalar::Text(v) => v.clone(),
        Scalar::Date(v) => v.to_string(),
    }
}
