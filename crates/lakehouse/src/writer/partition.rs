//! Rows of one partition together: partition values by Iceberg's transforms, groups by their bytes.
//!
//! In: batches in the table's types, a partition spec. Out: the partition value and the rows of each partition.
//! Never: a row in a partition that its value does not have.

use std::collections::HashMap;

use arrow::compute::take_record_batch;
use arrow::row::{Row, RowConverter, SortField};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array, make_array};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType};
use iceberg::TableIdent;
use iceberg::spec::{Literal, PartitionSpec, Schema, Struct, Transform, Type};
use uuid::Uuid;

use crate::error::{Cause, LakehouseError, Result};
use crate::table::Table;

mod transform;

use transform::beyond;
pub use transform::transform;

/// Splits batches by a partition spec.
#[derive(Debug, Clone)]
pub struct Partitioner {
    fields: Vec<PartitionedBy>,
}

#[derive(Debug, Clone)]
struct PartitionedBy {
    /// The source column, by the names that lead to it.
    path: Vec<String>,
    transform: Transform,
}

/// A row that no partition can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpartitionable {
    /// Its index in the batch.
    pub row: usize,
    /// The source column.
    pub column: String,
    /// The transform, as Iceberg spells it.
    pub transform: String,
}

impl Partitioner {
    /// Of a table's current partition spec; nothing if it is unpartitioned.
    pub fn of(table: &Table) -> Result<Option<Self>> {
        let spec = table.metadata().default_partition_spec();
        match spec.is_unpartitioned() {
            true => Ok(None),
            false => Self::new(table.ident(), spec, table.schema()).map(Some),
        }
    }

    /// The spec's transforms over columns of the schema.
    pub fn new(table: &TableIdent, spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let lacking = || LakehouseError::invalid(table, "write by its partition spec", "a source column is not there");
        let fields = spec.fields().iter().map(|field| {
            let name = schema.name_by_field_id(field.source_id).ok_or_else(lacking)?;
            let path = path_to(schema, name).ok_or_else(lacking)?;
            Ok(PartitionedBy { path, transform: field.transform })
        });
        Ok(Self { fields: fields.collect::<Result<_>>()? })
    }

    /// The rows that have no partition value.
    pub fn refused(&self, batch: &RecordBatch) -> Result<Vec<Unpartitionable>, ArrowError> {
        let mut refused = Vec::new();
        for field in self.fields.iter().filter(|field| matches!(field.transform, Transform::Truncate(_))) {
            let rows = beyond(field.transform, &field.column(batch)?).into_iter();
            refused.extend(rows.map(|row| Unpartitionable {
                row,
                column: field.path.join("."),
                transform: field.transform.to_string(),
            }));
        }
        Ok(refused)
    }

    /// The batch's rows by partition value.
    pub(super) fn split(&self, table: &TableIdent, batch: &RecordBatch) -> Result<Vec<(Struct, RecordBatch)>> {
        self.groups(batch).map_err(|source| LakehouseError::Rows { table: table.clone(), source })
    }

    fn groups(&self, batch: &RecordBatch) -> Result<Vec<(Struct, RecordBatch)>, Cause> {
        let values = self.fields.iter().map(|field| transform(field.transform, &field.column(batch)?));
        let values = values.collect::<Result<Vec<_>, ArrowError>>()?;
        let fields = values.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(&values)?;
        let first = rows.row(0);
        // Time-ordered sources mostly stay within one partition.
        if rows.iter().all(|row| row == first) {
            return Ok(vec![(partition(&values, 0)?, batch.clone())]);
        }
        let mut groups: HashMap<Row<'_>, Vec<u32>> = HashMap::new();
        for (index, row) in (0u32..).zip(rows.iter()) {
            groups.entry(row).or_default().push(index);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_unstable_by_key(|rows| rows.first().copied());
        let part = |rows: Vec<u32>| {
            let first = rows.first().map_or(0, |row| *row as usize);
            Ok((partition(&values, first)?, take_record_batch(batch, &UInt32Array::from(rows))?))
        };
        groups.into_iter().map(part).collect()
    }
}

impl PartitionedBy {
    /// The source column; null where a struct on the way to it is.
    fn column(&self, batch: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        let missing = || ArrowError::SchemaError(format!("the partition column `{}` is missing", self.path.join(".")));
        let mut names = self.path.iter();
        let mut column = names.next().and_then(|name| batch.column_by_name(name)).ok_or_else(missing)?.clone();
        for name in names {
            let parent = column.as_struct_opt().ok_or_else(missing)?;
            let child = parent.column_by_name(name).ok_or_else(missing)?;
            let nulls = NullBuffer::union(parent.nulls(), child.nulls());
            column = make_array(child.to_data().into_builder().nulls(nulls).build()?);
        }
        Ok(column)
    }
}

/// The names that lead to a field: a name may hold a dot itself.
fn path_to(schema: &Schema, full_name: &str) -> Option<Vec<String>> {
    let mut fields = schema.as_struct().fields();
    let mut rest = full_name;
    let mut path = Vec::new();
    loop {
        let inside = |name: &str| rest == name || rest.strip_prefix(name).is_some_and(|tail| tail.starts_with('.'));
        let field = fields.iter().filter(|field| inside(&field.name)).max_by_key(|field| field.name.len())?;
        path.push(field.name.clone());
        match rest.strip_prefix(field.name.as_str())?.strip_prefix('.') {
            None => return Some(path),
            Some(tail) => rest = tail,
        }
        fields = match field.field_type.as_ref() {
            Type::Struct(inner) => inner.fields(),
            _ => return None,
        };
    }
}

/// One row's partition value.
fn partition(values: &[ArrayRef], row: usize) -> Result<Struct, Cause> {
    values.iter().map(|column| literal(column, row)).collect::<Result<Vec<_>, _>>().map(Struct::from_iter)
}

fn literal(values: &ArrayRef, row: usize) -> Result<Option<Literal>, Cause> {
    if values.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match values.data_type() {
        DataType::Boolean => Literal::bool(values.as_boolean().value(row)),
        DataType::Int32 => Literal::int(values.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Literal::long(values.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Literal::float(values.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Literal::double(values.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => Literal::decimal(values.as_primitive::<Decimal128Type>().value(row)),
        DataType::Date32 => Literal::date(values.as_primitive::<Date32Type>().value(row)),
        DataType::Time64(_) => Literal::time(values.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(_, None) => {
            Literal::timestamp(values.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(_, Some(_)) => {
            Literal::timestamptz(values.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Utf8 => Literal::string(values.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Literal::string(values.as_string::<i64>().value(row)),
        DataType::FixedSizeBinary(16) => Literal::uuid(Uuid::from_slice(values.as_fixed_size_binary().value(row))?),
        DataType::FixedSizeBinary(_) => Literal::fixed(values.as_fixed_size_binary().value(row).to_vec()),
        DataType::Binary => Literal::binary(values.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Literal::binary(values.as_binary::<i64>().value(row).to_vec()),
        other => return Err(format!("no partition value has the type {other}").into()),
    }))
}
