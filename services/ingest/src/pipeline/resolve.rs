//! The writer's columns become the contract's, by folded name.
//!
//! In: rows in the writer's (or JSON's wire) types. Out: rows in the table's types, every field still nullable, with
//! what is missing as null; a refusal for each row with a value that is of another kind, would be cut or overflows.
//! Must never happen: a value in the table that is not the one that was written.

use std::sync::Arc;

use arrow::compute::filter_record_batch;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use mesh_contract::names::fold_column;

use crate::pipeline::decode::DecodedRows;
use crate::pipeline::refusal::{Reason, Refusal, Refusals};

mod leaf;
mod text;

/// What the values were written in: some conversions are right for one format only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Typed by the writer's schema.
    Avro,
    /// JSON's few types: moments, bytes and uuids are text.
    Json,
}

/// The contract's columns as they leave this stage.
#[derive(Debug, Clone)]
pub struct TargetColumn {
    schema: SchemaRef,
}

impl TargetColumn {
    /// Of the table's own columns (without `_mesh`).
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a FieldRef>) -> Self {
        let fields: Vec<FieldRef> = columns.into_iter().map(nullable).collect();
        Self { schema: Arc::new(Schema::new(fields)) }
    }

    /// The columns, every one nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The writer's top-level fields that no column takes.
    pub fn unknown(&self, writer: &Schema) -> Vec<String> {
        let known = |field: &FieldRef| self.schema.fields().iter().any(|column| is_named(field, column.name()));
        writer.fields().iter().filter(|field| !known(field)).map(|field| field.name().clone()).collect()
    }
}

/// Resolves rows; refused rows are left out.
pub fn resolve(
    rows: DecodedRows,
    target: &TargetColumn,
    origin: Origin,
    refusals: &mut Refusals,
) -> Result<Option<DecodedRows>, ArrowError> {
    let mut bad = Vec::new();
    let written = StructArray::from(rows.batch);
    let columns = match (Resolver { origin }).fields(&written, target.schema.fields(), "", &mut bad) {
        Ok(columns) => columns,
        Err(Stop::Arrow(error)) => return Err(error),
        Err(Stop::Mismatch(refusal)) => {
            rows.records.iter().for_each(|record| refusals.add(*record, refusal.clone()));
            return Ok(None);
        }
    };
    let batch = RecordBatch::try_new(target.schema.clone(), columns)?;
    let mut keep = vec![true; rows.records.len()];
    for (row, refusal) in bad {
        keep[row] = false;
        refusals.add(rows.records[row], refusal);
    }
    retain(DecodedRows { batch, records: rows.records }, &keep)
}

/// Keeps some rows; `None` when none is left.
pub fn retain(rows: DecodedRows, keep: &[bool]) -> Result<Option<DecodedRows>, ArrowError> {
    let kept = keep.iter().filter(|keep| **keep).count();
    if kept == 0 {
        return Ok(None);
    }
    if kept == keep.len() {
        return Ok(Some(rows));
    }
    let batch = filter_record_batch(&rows.batch, &BooleanArray::from(keep.to_vec()))?;
    let records = rows.records.iter().zip(keep).filter_map(|(record, keep)| keep.then_some(*record)).collect();
    Ok(Some(DecodedRows { batch, records }))
}

/// A value that cannot be the column's: its index in the array, and why.
pub(crate) type Bad = Vec<(usize, Refusal)>;

/// Why a whole column cannot be resolved.
pub(crate) enum Stop {
    /// These types have no conversion: no record of this schema can be taken.
    Mismatch(Refusal),
    /// A kernel failed.
    Arrow(ArrowError),
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

struct Resolver {
    origin: Origin,
}

impl Resolver {
    /// A record's fields, by the target's folded names.
    fn fields(&self, from: &StructArray, to: &Fields, place: &str, bad: &mut Bad) -> Result<Vec<ArrayRef>, Stop> {
        to.iter()
            .map(|field| {
                let exact = from.fields().iter().position(|written| written.name() == field.name());
                let at = exact.or_else(|| from.fields().iter().position(|written| is_named(written, field.name())));
                match at {
                    Some(at) => self.value(from.column(at), field.data_type(), &join(place, field.name()), bad),
                    None => Ok(new_null_array(field.data_type(), from.len())),
                }
            })
            .collect()
    }

    fn value(&self, from: &ArrayRef, to: &DataType, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
        match (from.data_type(), to) {
            (DataType::Struct(_), DataType::Struct(fields)) => {
                let from = from.as_struct();
                let columns = self.fields(from, fields, place, bad)?;
                let nulls = from.nulls().cloned();
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, from.len())?))
            }
            (DataType::List(_), DataType::List(element)) => self.list(from.as_list(), element, place, bad),
            (DataType::Map(..), DataType::Map(entries, _)) => self.map(from.as_map(), entries, place, bad),
            _ => leaf::convert(from, to, self.origin, place, bad),
        }
    }

    fn list(&self, from: &ListArray, element: &FieldRef, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
        let mut inner = Vec::new();
        let values = self.value(from.values(), element.data_type(), &format!("{place}[]"), &mut inner)?;
        lift(inner, from.value_offsets(), bad);
        Ok(Arc::new(ListArray::try_new(element.clone(), from.offsets().clone(), values, from.nulls().cloned())?))
    }

    fn map(&self, from: &MapArray, entries: &FieldRef, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(mismatch(from.data_type(), entries.data_type(), place));
        };
        let [key, value] = fields.as_ref() else {
            return Err(mismatch(from.data_type(), entries.data_type(), place));
        };
        let mut inner = Vec::new();
        let keys = self.value(from.keys(), key.data_type(), &format!("{place}{{key}}"), &mut inner)?;
        let values = self.value(from.values(), value.data_type(), &format!("{place}{{}}"), &mut inner)?;
        lift(inner, from.value_offsets(), bad);
        let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        let nulls = from.nulls().cloned();
        Ok(Arc::new(MapArray::try_new(entries.clone(), from.offsets().clone(), pairs, nulls, false)?))
    }
}

/// An element's refusal is its row's.
fn lift(inner: Bad, offsets: &[i32], bad: &mut Bad) {
    for (at, refusal) in inner {
        let row = offsets.partition_point(|offset| usize::try_from(*offset).is_ok_and(|offset| offset <= at));
        bad.push((row.saturating_sub(1), refusal));
    }
}

pub(crate) fn mismatch(from: &DataType, to: &DataType, place: &str) -> Stop {
    let message = format!("the writer's schema has {from} here, which cannot become the contract's {to}");
    Stop::Mismatch(Refusal::at(Reason::UncoveredSchema, place, message))
}

fn is_named(written: &Field, column: &str) -> bool {
    written.name() == column || fold_column(written.name()).is_ok_and(|name| name == column)
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// The field with everything in it nullable, map keys aside: `required` is the next stage's to judge.
fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), nullable_type(field.data_type()), true))
}

fn nullable_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect()),
        DataType::List(element) => DataType::List(nullable(element)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let fields: Fields = fields
                    .iter()
                    .enumerate()
                    .map(|(at, field)| nullable(field).as_ref().clone().with_nullable(at > 0))
                    .collect();
                DataType::Map(Arc::new(Field::new(entries.name(), DataType::Struct(fields), false)), *sorted)
            }
            _ => ty.clone(),
        },
        _ => ty.clone(),
    }
}

#[cfg(test)]
mod tests;
