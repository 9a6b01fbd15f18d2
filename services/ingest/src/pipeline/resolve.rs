//! The writer's columns become the contract's, by folded name.
//!
//! In: rows in the writer's types. Out: rows in the table's types, every field still nullable, with what is missing as
//! null; a refusal for each row with a value that is of another kind, would be cut, overflows, or that no calendar has.
//! Must never happen: a value in the table that is not the one that was written.

use std::sync::Arc;

use arrow::compute::filter_record_batch;
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BooleanArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use mesh_contract::names::fold_column;

use crate::pipeline::decode::DecodedRows;
use crate::pipeline::refusal::{Reason, Refusal, Refusals};

mod leaf;
mod map;
pub(crate) mod text;

/// The table's columns as they leave this stage.
#[derive(Debug, Clone)]
pub struct TargetColumn {
    schema: SchemaRef,
    /// The contract's own columns, where another engine widened one of them: what the contract's type refuses is refused.
    contract: Option<SchemaRef>,
}

impl TargetColumn {
    /// Of the table's own columns (without `_mesh`).
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a FieldRef>) -> Self {
        let fields: Vec<FieldRef> = columns.into_iter().map(nullable).collect();
        Self { schema: Arc::new(Schema::new(fields)), contract: None }
    }

    /// Holds values to the contract's types, which may be narrower than the table's.
    #[must_use]
    pub fn within(mut self, contract: &Schema) -> Self {
        let of_contract: Vec<FieldRef> = contract.fields().iter().map(nullable).collect();
        let same = |field: &FieldRef| {
            self.schema
                .field_with_name(field.name())
                .is_ok_and(|column| is_as_wide(column.data_type(), field.data_type()))
        };
        let narrower = !of_contract.iter().all(same);
        self.contract = narrower.then(|| Arc::new(Schema::new(of_contract)));
        self
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
    refusals: &mut Refusals,
) -> Result<Option<DecodedRows>, ArrowError> {
    match &target.contract {
        None => resolve_to(rows, &target.schema, refusals),
        Some(contract) => match resolve_to(rows, contract, refusals)? {
            Some(rows) => resolve_to(rows, &target.schema, refusals),
            None => Ok(None),
        },
    }
}

fn resolve_to(
    rows: DecodedRows,
    schema: &SchemaRef,
    refusals: &mut Refusals,
) -> Result<Option<DecodedRows>, ArrowError> {
    let mut bad = Vec::new();
    let written = StructArray::from(rows.batch);
    let columns = match fields(&written, schema.fields(), "", &mut bad) {
        Ok(columns) => columns,
        Err(Stop::Arrow(error)) => return Err(error),
        Err(Stop::Mismatch(refusal)) => {
            rows.records.iter().for_each(|record| refusals.add(*record, refusal.clone()));
            return Ok(None);
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.records.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    without(DecodedRows { batch, records: rows.records }, bad, refusals)
}

/// Refuses some rows, by their index, and keeps the others.
pub fn without(rows: DecodedRows, bad: Bad, refusals: &mut Refusals) -> Result<Option<DecodedRows>, ArrowError> {
    let mut keep = vec![true; rows.records.len()];
    for (row, refusal) in bad {
        keep[row] = false;
        refusals.add(rows.records[row], refusal);
    }
    retain(rows, &keep)
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
pub type Bad = Vec<(usize, Refusal)>;

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

/// A record's fields, by the target's folded names.
fn fields(from: &StructArray, to: &Fields, place: &str, bad: &mut Bad) -> Result<Vec<ArrayRef>, Stop> {
    to.iter()
        .map(|field| {
            let exact = from.fields().iter().position(|written| written.name() == field.name());
            let at = exact.or_else(|| from.fields().iter().position(|written| is_named(written, field.name())));
            match at {
                Some(at) => value(from.column(at), field.data_type(), &join(place, field.name()), bad),
                None => Ok(new_null_array(field.data_type(), from.len())),
            }
        })
        .collect()
}

fn value(from: &ArrayRef, to: &DataType, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
    match (from.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(inner)) => {
            let from = from.as_struct();
            let columns = fields(from, inner, place, bad)?;
            let nulls = from.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(inner.clone(), columns, nulls, from.len())?))
        }
        (DataType::List(_), DataType::List(element)) => list(from.as_list(), element, place, bad),
        (DataType::Map(..), DataType::Map(entries, _)) => map::map(from.as_map(), entries, place, bad),
        (DataType::List(_), DataType::Map(entries, _)) => map::entries(from.as_list(), entries, place, bad),
        _ => leaf::convert(from, to, place, bad),
    }
}

fn list(from: &ListArray, element: &FieldRef, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
    let mut inner = Vec::new();
    let values = value(from.values(), element.data_type(), &format!("{place}[]"), &mut inner)?;
    lift(inner, from.value_offsets(), bad);
    Ok(Arc::new(ListArray::try_new(element.clone(), from.offsets().clone(), values, from.nulls().cloned())?))
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

/// Whether a column's type is the other or a form of it that holds the same values.
fn is_as_wide(column: &DataType, contract: &DataType) -> bool {
    match (column, contract) {
        (DataType::LargeBinary, DataType::Binary) => true,
        (DataType::Struct(columns), DataType::Struct(fields)) => fields.iter().all(|field| {
            let column = columns.iter().find(|column| column.name() == field.name());
            column.is_some_and(|column| is_as_wide(column.data_type(), field.data_type()))
        }),
        (DataType::List(column), DataType::List(field)) | (DataType::Map(column, _), DataType::Map(field, _)) => {
            is_as_wide(column.data_type(), field.data_type())
        }
        (column, field) => column == field,
    }
}

/// The field with everything in it nullable: `required` is the next stage's to judge. A map's key too, until the rows that
/// lack one are left out.
fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), nullable_type(field.data_type()), true))
}

fn nullable_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect()),
        DataType::List(element) => DataType::List(nullable(element)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let fields = fields.iter().map(nullable).collect();
                DataType::Map(Arc::new(Field::new(entries.name(), DataType::Struct(fields), false)), *sorted)
            }
            _ => ty.clone(),
        },
        _ => ty.clone(),
    }
}

#[cfg(test)]
mod covers;
#[cfg(test)]
mod tests;
