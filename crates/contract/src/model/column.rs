//! Schema properties as columns.
//! In: a valid `properties` list. Out: typed columns; what cannot be typed is noted as [`Untyped`], never guessed.

use serde_json::Value;

use super::common::{custom_properties, entries, flag, text, texts};
use super::{Column, Untyped, options};
use crate::names::fold_column;
use crate::partition::Transform;
use crate::types::Type;
use crate::types::odcs;
use crate::yaml::Places;

/// What reading an object's columns needs, and what it could not type.
pub(crate) struct Reading<'a> {
    /// Where the document's values stand, and how they were written.
    pub(crate) places: &'a Places,
    pub(crate) untyped: Vec<Untyped>,
}

/// A list of properties; measures and dimensions are computed, not carried, and left out.
pub(crate) fn columns(owner: &Value, pointer: &str, prefix: &str, read: &mut Reading<'_>) -> Vec<Column> {
    entries(owner, "properties")
        .enumerate()
        .filter(|(_, property)| !matches!(text(property, "semanticType").as_deref(), Some("measure" | "dimension")))
        .filter_map(|(i, property)| {
            let original = text(property, "name").unwrap_or_default();
            let pointer = format!("{pointer}/{i}");
            match fold_column(&original) {
                Ok(name) => column(property, name, original, &pointer, prefix, read),
                Err(error) => {
                    read.untyped.push(Untyped {
                        pointer,
                        column: format!("{prefix}{original}"),
                        reason: error.to_string(),
                    });
                    None
                }
            }
        })
        .collect()
}

fn column(
    property: &Value,
    name: String,
    original: String,
    pointer: &str,
    prefix: &str,
    read: &mut Reading<'_>,
) -> Option<Column> {
    let path = format!("{prefix}{name}");
    let (ty, children) = match odcs::type_of(property) {
        Err(reason) => return note(read, pointer, &path, reason),
        Ok(odcs::Shape::Plain(ty)) => (ty, Vec::new()),
        Ok(odcs::Shape::Object) => object(property, pointer, &path, read)?,
        Ok(odcs::Shape::Array) => array(property, pointer, &path, read)?,
        Ok(odcs::Shape::Map) => map(property, pointer, &path, read)?,
    };
    let constraints = match options::constraints(property, pointer, &ty, read.places) {
        Ok(constraints) => constraints,
        Err(reason) => return note(read, pointer, &path, reason),
    };
    let partition = partition(property);
    Some(Column {
        name,
        original,
        ty,
        children,
        required: flag(property, "required"),
        unique: flag(property, "unique"),
        primary_key_position: position(property, "primaryKey", "primaryKeyPosition"),
        partition,
        constraints,
        classification: text(property, "classification"),
        encrypted_name: text(property, "encryptedName"),
        tags: texts(property, "tags"),
        description: text(property, "description"),
        business_name: text(property, "businessName"),
        physical_type: text(property, "physicalType"),
        critical: flag(property, "criticalDataElement"),
        custom_properties: custom_properties(property),
    })
}

fn note<T>(read: &mut Reading<'_>, pointer: &str, path: &str, reason: String) -> Option<T> {
    read.untyped.push(Untyped { pointer: pointer.to_owned(), column: path.to_owned(), reason });
    None
}

type Nested = Option<(Type, Vec<Column>)>;

fn object(property: &Value, pointer: &str, path: &str, read: &mut Reading<'_>) -> Nested {
    let before = read.untyped.len();
    let mut fields = columns(property, &format!("{pointer}/properties"), &format!("{path}."), read);
    if read.untyped.len() > before {
        return None;
    }
    let demanded = property.get("logicalTypeOptions").map(|o| texts(o, "required")).unwrap_or_default();
    for field in fields.iter_mut().filter(|field| demanded.contains(&field.original)) {
        field.required = true;
    }
    if fields.is_empty() {
        let reason = "an object without properties: list its `properties`, or use `map`".to_owned();
        return note(read, pointer, path, reason);
    }
    Some((Type::Struct(fields.iter().map(Column::field).collect()), fields))
}

fn array(property: &Value, pointer: &str, path: &str, read: &mut Reading<'_>) -> Nested {
    let Some(items) = property.get("items") else {
        return note(read, pointer, path, "an array without `items`: say what its items are".to_owned());
    };
    let element = part(items, "element", &format!("{pointer}/items"), path, read)?;
    Some((Type::List(Box::new(element.field())), vec![element]))
}

fn map(property: &Value, pointer: &str, path: &str, read: &mut Reading<'_>) -> Nested {
    let null = Value::Null;
    let of = |side: &str| property.get("map").and_then(|map| map.get(side)).unwrap_or(&null);
    let mut key = part(of("key"), "key", &format!("{pointer}/map/key"), path, read)?;
    key.required = true;
    let value = part(of("value"), "value", &format!("{pointer}/map/value"), path, read)?;
    Some((Type::Map(Box::new(key.field()), Box::new(value.field())), vec![key, value]))
}

fn part(item: &Value, name: &str, pointer: &str, path: &str, read: &mut Reading<'_>) -> Option<Column> {
    column(item, name.to_owned(), name.to_owned(), pointer, &format!("{path}."), read)
}

/// From 1; a lone key without a position is the first.
fn position(property: &Value, flag_name: &str, position_name: &str) -> Option<u32> {
    if !flag(property, flag_name) {
        return None;
    }
    let position = property.get(position_name).and_then(Value::as_f64).unwrap_or(-1.0);
    Some(if position >= 1.0 { position as u32 } else { u32::MAX })
}

/// A transform that is none gives no partition: [`crate::product`] refuses it at its place.
fn partition(property: &Value) -> Option<(u32, Transform)> {
    let position = position(property, "partitioned", "partitionKeyPosition")?;
    let transform = match custom_properties(property).get("partitionTransform") {
        None => Transform::Identity,
        Some(value) => value.as_str()?.parse().ok()?,
    };
    Some((position, transform))
}

/// Positions as written, then document order; counted from 1 without gaps.
pub(crate) fn rank(columns: &mut [Column]) {
    let ranks = |positions: Vec<Option<u32>>| -> Vec<Option<u32>> {
        let mut order: Vec<(u32, usize)> =
            positions.iter().enumerate().filter_map(|(i, p)| p.map(|p| (p, i))).collect();
        order.sort_unstable();
        let mut ranks = vec![None; positions.len()];
        for (rank, (_, i)) in (1..).zip(order) {
            ranks[i] = Some(rank);
        }
        ranks
    };
    let keys = ranks(columns.iter().map(|c| c.primary_key_position).collect());
    let partitions = ranks(columns.iter().map(|c| c.partition.map(|(p, _)| p)).collect());
    for (column, (key, partition)) in columns.iter_mut().zip(keys.into_iter().zip(partitions)) {
        column.primary_key_position = key;
        column.partition = partition.and_then(|rank| column.partition.map(|(_, transform)| (rank, transform)));
    }
}
