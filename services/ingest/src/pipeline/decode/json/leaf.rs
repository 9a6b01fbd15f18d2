//! Columns of plain values under construction.
//!
//! In: a value's JSON text, or what stands between its quotes. Out: the value, exactly, or null and why not.
//! Never: a number that goes through a double on its way into an integer or a decimal.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::ArrayBuilder as _;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder,
    Float64Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow_schema::{ArrowError, DataType};
use mesh_contract::types::number::{self, NumberError};
use mesh_contract::types::{Type, arrow};
use mesh_proto::record::cut_at_chars;

use crate::pipeline::refusal::Reason;
use crate::pipeline::resolve::text::{self, Unread};

/// What a refusal's message shows of a value at most.
const SHOWN: usize = 120;

/// One column of plain values.
#[derive(Debug)]
pub(super) enum Leaf {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    /// With the zone of what is written: with an offset or without.
    Timestamp(TimestampMicrosecondBuilder, bool),
    Text(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Binary(BinaryBuilder),
}

type Appended = Result<(), (Reason, String)>;

impl Leaf {
    /// A column of a plain type.
    pub(super) fn new(ty: &Type) -> Self {
        let moments = |ty: DataType| TimestampMicrosecondBuilder::new().with_data_type(ty);
        match ty {
            Type::Boolean => Self::Boolean(BooleanBuilder::new()),
            Type::Int => Self::Int(Int32Builder::new()),
            Type::Long => Self::Long(Int64Builder::new()),
            Type::Float => Self::Float(Float32Builder::new()),
            Type::Double => Self::Double(Float64Builder::new()),
            Type::Decimal { precision, scale } => {
                let builder = Decimal128Builder::new().with_data_type(arrow::data_type(ty));
                Self::Decimal(builder, *precision, *scale)
            }
            Type::Date => Self::Date(Date32Builder::new()),
            Type::Time => Self::Time(Time64MicrosecondBuilder::new()),
            Type::Timestamp => Self::Timestamp(moments(arrow::data_type(ty)), false),
            Type::TimestampTz => Self::Timestamp(moments(arrow::data_type(ty)), true),
            Type::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(16)),
            Type::Binary => Self::Binary(BinaryBuilder::new()),
            Type::String | Type::Struct(_) | Type::List(_) | Type::Map(..) => Self::Text(StringBuilder::new()),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Boolean(builder) => builder.len(),
            Self::Int(builder) => builder.len(),
            Self::Long(builder) => builder.len(),
            Self::Float(builder) => builder.len(),
            Self::Double(builder) => builder.len(),
            Self::Decimal(builder, ..) => builder.len(),
            Self::Date(builder) => builder.len(),
            Self::Time(builder) => builder.len(),
            Self::Timestamp(builder, _) => builder.len(),
            Self::Text(builder) => builder.len(),
            Self::Uuid(builder) => builder.len(),
            Self::Binary(builder) => builder.len(),
        }
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Long(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder, _) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Uuid(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
        }
    }

    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "true or false",
            Self::Int(_) | Self::Long(_) => "a whole number",
            Self::Float(_) | Self::Double(_) | Self::Decimal(..) => "a number",
            Self::Date(_) => text::DATE,
            Self::Time(_) => text::TIME,
            Self::Timestamp(_, true) => text::MOMENT,
            Self::Timestamp(_, false) => text::LOCAL,
            Self::Text(_) => "a text",
            Self::Uuid(_) => text::UUID,
            Self::Binary(_) => text::BASE64,
        }
    }

    /// Appends the value of a piece of JSON; null and why not, if it is none of the column's.
    pub(super) fn append(&mut self, json: &str) -> Appended {
        match (json.as_bytes().first(), &mut *self) {
            (Some(b'n'), _) => {
                self.append_null();
                Ok(())
            }
            (Some(b't' | b'f'), Self::Boolean(builder)) => {
                builder.append_value(json == "true");
                Ok(())
            }
            (Some(b'"'), Self::Boolean(_)) => self.mismatch(json),
            (Some(b'"'), _) if !json.contains('\\') => self.append_written(&json[1..json.len() - 1]),
            (Some(b'"'), _) => match serde_json::from_str::<String>(json) {
                Ok(text) => self.append_written(&text),
                Err(_) => self.mismatch(json),
            },
            (
                Some(b'-' | b'0'..=b'9'),
                Self::Int(_) | Self::Long(_) | Self::Float(_) | Self::Double(_) | Self::Decimal(..),
            ) => self.append_written(json),
            _ => self.mismatch(json),
        }
    }

    /// Appends what is written as text: numbers, moments, bytes.
    pub(super) fn append_written(&mut self, written: &str) -> Appended {
        let appended = match self {
            Self::Boolean(builder) => append(written.parse().map_err(|_| Unread::Form), |v| builder.append_option(v)),
            Self::Int(builder) => append(number::integer(written), |v| builder.append_option(v)),
            Self::Long(builder) => append(number::integer(written), |v| builder.append_option(v)),
            Self::Float(builder) => append(float(written, |v: f32| v.is_finite()), |v| builder.append_option(v)),
            Self::Double(builder) => append(float(written, |v: f64| v.is_finite()), |v| builder.append_option(v)),
            Self::Decimal(builder, precision, scale) => {
                append(number::decimal(written, *precision, *scale), |v| builder.append_option(v))
            }
            Self::Date(builder) => append(text::date(written), |v| builder.append_option(v)),
            Self::Time(builder) => append(text::time(written), |v| builder.append_option(v)),
            Self::Timestamp(builder, true) => append(text::moment(written), |v| builder.append_option(v)),
            Self::Timestamp(builder, false) => append(text::local(written), |v| builder.append_option(v)),
            Self::Text(builder) => {
                builder.append_value(written);
                Ok(())
            }
            Self::Uuid(builder) => match text::uuid(written) {
                // The length is the builder's own.
                Ok(bytes) => builder.append_value(bytes).map_err(|_| Unread::Form),
                Err(unread) => {
                    builder.append_null();
                    Err(unread)
                }
            },
            Self::Binary(builder) => append(text::base64(written), |v| builder.append_option(v)),
        };
        appended.map_err(|unread| self.refusal(unread, written))
    }

    fn mismatch(&mut self, found: &str) -> Appended {
        self.append_null();
        Err(self.refusal(Unread::Form, found))
    }

    fn refusal(&self, unread: Unread, found: &str) -> (Reason, String) {
        let found = cut_at_chars(found, SHOWN);
        let limits = match self {
            Self::Decimal(_, precision, scale) => format!(" of up to {precision} digits, {scale} after the point"),
            Self::Int(_) => " of 32 bits".to_owned(),
            Self::Long(_) => " of 64 bits".to_owned(),
            _ => String::new(),
        };
        (unread.reason(), unread.message(&format!("{}{limits}", self.expected()), &found))
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Long(mut builder) => Arc::new(builder.finish()),
            Self::Float(mut builder) => Arc::new(builder.finish()),
            Self::Double(mut builder) => Arc::new(builder.finish()),
            Self::Decimal(mut builder, ..) => Arc::new(builder.finish()),
            Self::Date(mut builder) => Arc::new(builder.finish()),
            Self::Time(mut builder) => Arc::new(builder.finish()),
            Self::Timestamp(mut builder, _) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Uuid(mut builder) => Arc::new(builder.finish()),
            Self::Binary(mut builder) => Arc::new(builder.finish()),
        })
    }
}

fn append<T, E: Into<Unread>>(parsed: Result<T, E>, mut to: impl FnMut(Option<T>)) -> Result<(), Unread> {
    match parsed {
        Ok(value) => {
            to(Some(value));
            Ok(())
        }
        Err(unread) => {
            to(None);
            Err(unread.into())
        }
    }
}

/// The nearest number that the type has. JSON has no infinities: one that comes out of digits is an overflow.
fn float<T: std::str::FromStr + Copy>(written: &str, is_finite: impl Fn(T) -> bool) -> Result<T, Unread> {
    let value: T = written.parse().map_err(|_| Unread::Form)?;
    match (is_finite(value), number::is_number(written)) {
        (false, _) => Err(NumberError::Overflow.into()),
        (true, false) => Err(Unread::Form),
        (true, true) => Ok(value),
    }
}
