//! What the columns of a product must be: keys that have a text form, partitions that can be written, formats that
//! records are read in.
//! In: the schema object, as typed and as written. Out: the partition spec; what cannot be is a finding at its place.
//! Never: a partition that admission takes and no row can be written to, or a key that is passed over.

use serde_json::Value;

use super::ValueFormat;
use super::refusals::{Refusals, SETTING};
use super::settings::{custom_place, shown};
use crate::model::{Column, Contract, SchemaObject};
use crate::names::fold_column;
use crate::partition::{PartitionField, PartitionSpec, Transform};
use crate::types::Type;

const TRANSFORM: &str = "partitionTransform";

/// The columns as typed and as written.
pub(super) struct Columns<'a> {
    pub(super) contract: &'a Contract,
    pub(super) object: &'a SchemaObject,
    pub(super) format: ValueFormat,
}

impl Columns<'_> {
    /// Checks every property, and those inside each; the partition spec of the top-level ones.
    pub(super) fn check(&self, refusals: &mut Refusals<'_>) -> PartitionSpec {
        let mut partition: Vec<(u32, PartitionField)> = Vec::new();
        let properties = self.contract.document.pointer("/schema/0/properties").and_then(Value::as_array);
        for (i, property) in properties.into_iter().flatten().enumerate() {
            let pointer = format!("/schema/0/properties/{i}");
            self.format_of(property, &pointer, refusals);
            self.inside(property, &pointer, refusals);
            self.transform(property, &pointer, refusals);
            let name = fold_column(property["name"].as_str().unwrap_or_default()).unwrap_or_default();
            let Some(column) = self.object.columns.iter().find(|column| column.name == name) else {
                continue;
            };
            key(column, &pointer, refusals);
            partition.extend(self.partition(column, &pointer, refusals));
        }
        partition.sort_by_key(|(position, _)| *position);
        PartitionSpec { fields: partition.into_iter().map(|(_, field)| field).collect() }
    }

    fn partition(&self, column: &Column, pointer: &str, refusals: &mut Refusals<'_>) -> Option<(u32, PartitionField)> {
        let (position, transform) = column.partition?;
        let name = transform.field_name(&column.name);
        if !transform.accepts(&column.ty) {
            let message = format!("column {} is {}: it cannot be partitioned by {transform}", column.name, column.ty);
            let remedy = format!("use {}, or partition by another column", transforms(&column.ty));
            if transform == Transform::Identity && column.ty == Type::Uuid {
                refusals.add_at_admission(&self.stated(pointer), message, remedy);
            } else {
                refusals.add(SETTING, &self.stated(pointer), message, remedy);
            }
        }
        if name != column.name && self.object.columns.iter().any(|other| other.name == name) {
            let message = format!("partition field {name} has the name of a column");
            refusals.add(SETTING, pointer, message, "rename the column");
        }
        Some((position, PartitionField { column: column.name.clone(), name, transform }))
    }

    /// A transform that is none, or one that nothing is partitioned by.
    fn transform(&self, property: &Value, pointer: &str, refusals: &mut Refusals<'_>) {
        let Some(at) = custom_place(self.contract, pointer, TRANSFORM) else {
            return;
        };
        let value = self.contract.document.pointer(&at).unwrap_or(&Value::Null);
        let parsed =
            value.as_str().ok_or_else(|| format!("`{}` is no text", shown(value))).and_then(str::parse::<Transform>);
        match parsed {
            // A width beyond 32 signed bits was admitted once, and never fed.
            Err(why) => {
                let remedy = "write a transform such as day or bucket[16], of at most 2147483647";
                match shown(value).contains(['[', '(']) || property["partitioned"] != true {
                    true => refusals.add_at_admission(&at, why, remedy),
                    false => refusals.add(SETTING, &at, why, remedy),
                }
            }
            Ok(_) if property["partitioned"] != true => {
                let message = format!("`{TRANSFORM}: {}` without `partitioned: true` does nothing", shown(value));
                refusals.add_at_admission(&at, message, "add `partitioned: true`, or remove the property");
            }
            Ok(_) => {}
        }
    }

    /// Where a property states its transform, else that it is partitioned.
    fn stated(&self, pointer: &str) -> String {
        custom_place(self.contract, pointer, TRANSFORM).unwrap_or_else(|| format!("{pointer}/partitioned"))
    }

    /// Properties within a property: neither keys nor partitions are read there.
    fn inside(&self, owner: &Value, pointer: &str, refusals: &mut Refusals<'_>) {
        for (property, pointer) in parts(owner, pointer) {
            self.format_of(property, &pointer, refusals);
            for (flag, what) in [("partitioned", "partitioned"), ("primaryKey", "part of the record key")] {
                if property[flag] == true {
                    let message = format!("a property within another cannot be {what}");
                    let remedy = format!("remove `{flag}`, or give the value a top-level property of its own");
                    refusals.add_at_admission(&format!("{pointer}/{flag}"), message, remedy);
                }
            }
            let transform = custom_place(self.contract, &pointer, TRANSFORM);
            if let Some(at) = transform.filter(|_| property["partitioned"] != true) {
                let message = format!("`{TRANSFORM}` within another property does nothing");
                refusals.add_at_admission(&at, message, "remove it");
            }
            self.inside(property, &pointer, refusals);
        }
    }

    /// Records in JSON carry dates and times in ISO 8601; another `format` would be misread.
    fn format_of(&self, property: &Value, pointer: &str, refusals: &mut Refusals<'_>) {
        let temporal = matches!(property["logicalType"].as_str(), Some("date" | "time" | "timestamp"));
        let Some(format) = property["logicalTypeOptions"]["format"].as_str().filter(|_| temporal) else {
            return;
        };
        let plain: String = format.chars().filter(|c| *c != '\'').collect();
        if self.format == ValueFormat::Json && !plain.starts_with("yyyy-MM-dd") && !plain.starts_with("HH:mm") {
            let message = format!("`format: {format}`: JSON records carry ISO 8601 dates and times");
            let at = format!("{pointer}/logicalTypeOptions/format");
            refusals.add(SETTING, &at, message, "leave the format out, and send ISO 8601");
        }
    }
}

/// What is directly inside a property, with its pointer.
fn parts<'a>(owner: &'a Value, pointer: &str) -> Vec<(&'a Value, String)> {
    let fields = owner["properties"].as_array().into_iter().flatten().enumerate();
    let fields = fields.map(|(i, field)| (field, format!("{pointer}/properties/{i}")));
    let others = ["/items", "/map/key", "/map/value"];
    fields.chain(others.iter().filter_map(|at| Some((owner.pointer(at)?, format!("{pointer}{at}"))))).collect()
}

/// A record key is never null and has a text form.
fn key(column: &Column, pointer: &str, refusals: &mut Refusals<'_>) {
    if column.primary_key_position.is_none() {
        return;
    }
    let at = format!("{pointer}/primaryKey");
    if !column.required {
        let message = format!("primary key column {} may be null", column.name);
        refusals.add(SETTING, &at, message, "add `required: true`");
    }
    if !column.ty.is_primitive() || matches!(column.ty, Type::Float | Type::Double | Type::Binary) {
        let message = format!("primary key column {} is {}", column.name, column.ty);
        refusals.add(SETTING, &at, message, "use a column of text, whole numbers, decimals, dates or times");
    }
}

/// The transforms that a type allows, for a remedy.
fn transforms(ty: &Type) -> String {
    use Transform as T;
    let all = [T::Identity, T::Year, T::Month, T::Day, T::Hour, T::Bucket(16), T::Truncate(4)];
    let fitting: Vec<String> = all.iter().filter(|t| t.accepts(ty)).map(ToString::to_string).collect();
    if fitting.is_empty() { "no partition of this column".to_owned() } else { fitting.join(", ") }
}
