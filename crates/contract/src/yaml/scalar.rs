//! Scalars by YAML 1.2's core schema, as JSON.

use std::borrow::Cow;

use saphyr::{Scalar, ScalarStyle, Tag};
use serde_json::{Number, Value};

use super::{Place, YamlError};

/// A scalar's value, and how it was written where JSON writes it in another way.
pub(super) fn read(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Cow<'_, Tag>>,
    place: Place,
) -> Result<(Value, Option<String>), YamlError> {
    let original = text.to_string();
    let value = value(text, style, tag, place)?;
    let as_json = value.to_string();
    let same = value.is_string() || value.is_null() || as_json == original;
    Ok((value, (!same).then_some(original)))
}

fn value(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>, place: Place) -> Result<Value, YamlError> {
    if style == ScalarStyle::Plain && tag.is_none() {
        // YAML's integers have no bound, saphyr's have 64 signed bits.
        if let Ok(unsigned) = text.parse::<u64>() {
            return Ok(Value::Number(unsigned.into()));
        }
    }
    let bad = |message: String, remedy: &str| YamlError {
        code: "MESH-CONTRACT-0001",
        place,
        message,
        remedy: remedy.to_owned(),
    };
    // `!` alone only says that what follows is no guess.
    let known = |tag: &Tag| tag.is_yaml_core_schema() || (tag.handle.is_empty() && tag.suffix == "!");
    if let Some(tag) = tag.filter(|tag| !known(tag)) {
        return Err(bad(format!("the tag `{tag}` has no meaning in JSON"), "leave the tag out"));
    }
    let original = text.to_string();
    match Scalar::parse_from_cow_and_metadata(text, style, tag) {
        None => Err(bad(format!("`{original}` does not have the type of its tag"), "leave the tag out")),
        Some(Scalar::Null) => Ok(Value::Null),
        Some(Scalar::Boolean(value)) => Ok(Value::Bool(value)),
        Some(Scalar::Integer(value)) => Ok(Value::Number(value.into())),
        Some(Scalar::FloatingPoint(value)) => Number::from_f64(value.0).map(Value::Number).ok_or_else(|| {
            bad(format!("`{original}` is not a finite number"), "write a finite number, or put it in quotes")
        }),
        Some(Scalar::String(value)) => Ok(Value::String(value.into_owned())),
    }
}
