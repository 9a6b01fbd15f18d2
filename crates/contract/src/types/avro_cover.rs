//! Can every record of a writer's Avro schema be decoded into these fields?
//! In: fields of the type table, a resolved Avro type. Out: a verdict with one line per problem.
//! Never: a promotion that can cut a value (long to double, nanoseconds to microseconds).

use crate::types::avro::AvroVerdict;
use crate::types::avro_parse::{Avro, AvroField, Unit};
use crate::types::iceberg::path;
use crate::types::{Field, Type, TypeError};

pub(crate) fn covers(fields: &[Field], writer: &Avro) -> Result<AvroVerdict, TypeError> {
    let Avro::Record(written) = writer else {
        return Err(TypeError::Avro { path: String::new(), reason: "the schema is not a record".to_owned() });
    };
    let mut verdict = AvroVerdict { covered: true, problems: Vec::new(), unknown: Vec::new() };
    record(fields, written, "", &mut verdict);
    verdict.covered = verdict.problems.is_empty();
    Ok(verdict)
}

fn record(fields: &[Field], written: &[AvroField], at: &str, verdict: &mut AvroVerdict) {
    if written.is_empty() {
        let place = if at.is_empty() { "the schema" } else { at };
        verdict.problems.push(format!("{place}: a record without fields, which takes no bytes and holds no values"));
    }
    for field in fields {
        let inside = path(at, &field.name);
        match written.iter().find(|w| w.name == field.name) {
            Some(w) => value(field, &w.ty, &inside, verdict),
            None if field.required => {
                verdict.problems.push(format!("{inside}: required by the contract, and the schema lacks it"));
            }
            None => {}
        }
    }
    let unknown = written.iter().filter(|w| fields.iter().all(|f| f.name != w.name));
    verdict.unknown.extend(unknown.map(|w| path(at, &w.name)));
}

/// A union with null and one other type is that type, optional.
fn unwrap_union(ty: &Avro) -> Result<(&Avro, bool), String> {
    let Avro::Union(branches) = ty else {
        return Ok((ty, *ty == Avro::Null));
    };
    let nullable = branches.contains(&Avro::Null);
    match branches.iter().filter(|b| **b != Avro::Null).collect::<Vec<_>>().as_slice() {
        [] => Ok((&Avro::Null, true)),
        [one] if nullable => Ok((one, true)),
        // It takes a byte more than its type alone: arrow-avro 58.4 does not read it.
        [_] => Err("a union of one type, which is not read here: write the type itself".to_owned()),
        _ => Err("a union of several types, which no column holds".to_owned()),
    }
}

fn value(field: &Field, written: &Avro, at: &str, verdict: &mut AvroVerdict) {
    let (written, nullable) = match unwrap_union(written) {
        Ok(unwrapped) => unwrapped,
        Err(reason) => return verdict.problems.push(format!("{at}: {reason}")),
    };
    if nullable && field.required {
        verdict.problems.push(format!("{at}: required by the contract, and the schema allows null"));
    }
    match (&field.ty, written) {
        // A record of such fields alone takes no bytes either.
        (_, Avro::Null) => verdict.problems.push(format!("{at}: a type that is always null: leave the field out")),
        (Type::Struct(fields), Avro::Record(written)) => record(fields, written, at, verdict),
        (Type::List(element), Avro::Array(items)) => value(element, items, &path(at, "element"), verdict),
        (Type::Map(key, v), Avro::Map(values)) if key.ty == Type::String => {
            value(v, values, &path(at, "value"), verdict);
        }
        (Type::Map(key, v), Avro::Entries(keys, values)) => {
            value(key, keys, &path(at, "key"), verdict);
            value(v, values, &path(at, "value"), verdict);
        }
        (ty, written) if fits(ty, written) => {}
        (ty, written) => {
            verdict.problems.push(format!("{at}: the contract has {ty}, the schema {}", words(written)));
        }
    }
}

fn fits(ty: &Type, written: &Avro) -> bool {
    match (ty, written) {
        (Type::Boolean, Avro::Boolean)
        | (Type::Int, Avro::Int)
        | (Type::Long, Avro::Int | Avro::Long)
        | (Type::Float, Avro::Float)
        | (Type::Double, Avro::Int | Avro::Float | Avro::Double)
        | (Type::Date, Avro::Date)
        | (Type::Time, Avro::TimeMillis | Avro::TimeMicros)
        | (Type::String, Avro::String | Avro::Enum | Avro::Uuid { text: true })
        | (Type::Uuid, Avro::Uuid { .. })
        | (Type::Binary, Avro::Bytes | Avro::Fixed(_)) => true,
        (Type::Timestamp, Avro::Timestamp { unit, utc: false })
        | (Type::TimestampTz, Avro::Timestamp { unit, utc: true }) => *unit != Unit::Nanos,
        (Type::Decimal { precision, scale }, Avro::Decimal { precision: p, scale: s }) => {
            let precision = u64::from(*precision);
            let scale = u64::from(*scale);
            *s <= scale && p.saturating_sub(*s) <= precision - scale
        }
        _ => false,
    }
}

fn words(ty: &Avro) -> String {
    match ty {
        Avro::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        Avro::Timestamp { unit, utc } => {
            format!("{}timestamp-{}", if *utc { "" } else { "local-" }, format!("{unit:?}").to_lowercase())
        }
        Avro::Record(_) => "a record".to_owned(),
        Avro::Array(_) => "an array".to_owned(),
        Avro::Map(_) | Avro::Entries(..) => "a map".to_owned(),
        Avro::Uuid { text: false } => "a uuid of 16 bytes".to_owned(),
        Avro::Uuid { text: true } => "uuid".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// An Avro field in the type table.
pub(crate) fn to_field(field: &AvroField, parent: &str) -> Result<Field, TypeError> {
    let at = path(parent, &field.name);
    let (ty, required) = to_type(&field.ty, &at)?;
    Ok(Field { name: field.name.clone(), ty, required, doc: field.doc.clone() })
}

fn inner(name: &str, ty: &Avro, at: &str) -> Result<Box<Field>, TypeError> {
    let (ty, required) = to_type(ty, &path(at, name))?;
    Ok(Box::new(Field { name: name.to_owned(), ty, required, doc: None }))
}

fn to_type(ty: &Avro, at: &str) -> Result<(Type, bool), TypeError> {
    let bad = |reason: String| TypeError::Avro { path: at.to_owned(), reason };
    let (ty, nullable) = unwrap_union(ty).map_err(bad)?;
    let converted = match ty {
        Avro::Boolean => Type::Boolean,
        Avro::Int => Type::Int,
        Avro::Long => Type::Long,
        Avro::Float => Type::Float,
        Avro::Double => Type::Double,
        Avro::Bytes | Avro::Fixed(_) => Type::Binary,
        Avro::String | Avro::Enum => Type::String,
        Avro::Uuid { .. } => Type::Uuid,
        Avro::Date => Type::Date,
        Avro::TimeMillis | Avro::TimeMicros => Type::Time,
        Avro::Timestamp { unit: Unit::Nanos, .. } => return Err(bad("nanoseconds would be cut".to_owned())),
        Avro::Timestamp { utc: true, .. } => Type::TimestampTz,
        Avro::Timestamp { utc: false, .. } => Type::Timestamp,
        Avro::Decimal { precision, scale } => match (u8::try_from(*precision), u8::try_from(*scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => Type::Decimal { precision, scale },
            _ => return Err(bad(format!("decimal({precision}, {scale}) has more than 38 digits"))),
        },
        Avro::Record(fields) => Type::Struct(fields.iter().map(|f| to_field(f, at)).collect::<Result<_, _>>()?),
        Avro::Array(items) => Type::List(inner("element", items, at)?),
        Avro::Map(values) => Type::Map(Box::new(Field::required("key", Type::String)), inner("value", values, at)?),
        Avro::Entries(keys, values) => {
            let key = Field { required: true, ..*inner("key", keys, at)? };
            Type::Map(Box::new(key), inner("value", values, at)?)
        }
        Avro::Null | Avro::Union(_) => return Err(bad("a type that is always null".to_owned())),
    };
    Ok((converted, !nullable))
}
