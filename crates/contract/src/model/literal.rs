//! Literals of a document with every digit that was written.
//! In: a value, and where it stands. Out: a [`Scalar`] of the column's type.
//! Never: a number that went through a double where its column holds more.

use serde_json::Value;

use crate::constraints::Scalar;
use crate::scalar::{self, Round};
use crate::types::Type;
use crate::yaml::{Places, join};

/// Reads the literal at a JSON pointer; `None` if the type has no such value.
pub(crate) fn literal(places: &Places, value: &Value, pointer: &str, ty: &Type, round: Round) -> Option<Scalar> {
    match places.number(pointer).filter(|_| value.is_number()) {
        Some(text) => scalar::number(&text, ty, round),
        None => scalar::scalar(value, ty, round),
    }
}

/// The value as JSON text with every digit.
pub(crate) fn text(places: &Places, value: &Value, pointer: &str) -> String {
    places.number(pointer).filter(|_| value.is_number()).unwrap_or_else(|| value.to_string())
}

/// A value as JSON, its numbers with every digit.
pub(crate) fn json(value: &Value, places: &Places, pointer: &str) -> String {
    let mut out = String::new();
    write(value, places, pointer, &mut out);
    out
}

fn write(value: &Value, places: &Places, pointer: &str, out: &mut String) {
    match value {
        Value::Object(members) => {
            out.push('{');
            for (i, (name, member)) in members.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(member, places, &join(pointer, name), out);
            }
            out.push('}');
        }
        Value::Array(entries) => {
            out.push('[');
            for (i, entry) in entries.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write(entry, places, &format!("{pointer}/{i}"), out);
            }
            out.push(']');
        }
        scalar => out.push_str(&text(places, scalar, pointer)),
    }
}
