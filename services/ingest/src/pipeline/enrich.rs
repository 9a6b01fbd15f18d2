//! Where a row came from: the `_mesh` column.
//!
//! In: rows and the chunk they were decoded from. Out: the rows with topic, partition, offset, timestamp, key, headers
//! and trace id of their records; the same columns stand in a dead letter.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, MapBuilder, StringBuilder};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, Field, Fields, Schema};
use mesh_lakehouse::schema::MESH_COLUMN;

use crate::pipeline::chunk::{Chunk, Record};
use crate::pipeline::decode::Rows;

/// The rows with their `_mesh` column.
pub fn enrich(rows: &Rows, chunk: &Chunk, topic: &str) -> Result<RecordBatch, ArrowError> {
    let records = || rows.records.iter().map(|index| chunk.record(*index));
    let mesh: Vec<(Field, ArrayRef)> = origin(records, topic)?;
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = mesh.into_iter().unzip();
    let mesh = StructArray::try_new(Fields::from(fields), columns, None)?;
    let mut fields: Vec<_> = rows.batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(MESH_COLUMN, mesh.data_type().clone(), false)));
    let mut columns = rows.batch.columns().to_vec();
    columns.push(Arc::new(mesh));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Where records came from, as columns.
pub(crate) fn origin<'a, I: Iterator<Item = Record<'a>>>(
    records: impl Fn() -> I,
    topic: &str,
) -> Result<Vec<(Field, ArrayRef)>, ArrowError> {
    let rows = records().count();
    let topic: StringArray = std::iter::repeat_n(Some(topic), rows).collect();
    let partitions: Int32Array = records().map(|record| Some(record.partition())).collect();
    let offsets: Int64Array = records().map(|record| Some(record.offset())).collect();
    let timestamps: TimestampMicrosecondArray = records().map(|record| Some(record.timestamp_us())).collect();
    let mut keys = BinaryBuilder::new();
    let mut traces = StringBuilder::new();
    for record in records() {
        keys.append_option(record.key());
        traces.append_option(record.trace().map(|trace| trace.trace_id_hex()));
    }
    let columns: [(&str, ArrayRef, bool); 7] = [
        ("topic", Arc::new(topic), false),
        ("partition", Arc::new(partitions), false),
        ("offset", Arc::new(offsets), false),
        ("timestamp", Arc::new(timestamps.with_timezone("+00:00")), false),
        ("key", Arc::new(keys.finish()), true),
        ("headers", headers(records())?, true),
        ("trace_id", Arc::new(traces.finish()), true),
    ];
    Ok(columns.into_iter().map(|(name, array, null)| (Field::new(name, array.data_type().clone(), null), array)).collect())
}

/// A map has a key once: of a repeated header the last value counts.
fn headers<'a>(records: impl Iterator<Item = Record<'a>>) -> Result<ArrayRef, ArrowError> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), BinaryBuilder::new());
    let mut last: Vec<(&str, Option<&[u8]>)> = Vec::new();
    for record in records {
        last.clear();
        for (name, value) in record.headers() {
            match last.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => last.push((name, value)),
            }
        }
        for (name, value) in &last {
            builder.keys().append_value(name);
            builder.values().append_option(*value);
        }
        builder.append(!last.is_empty())?;
    }
    Ok(Arc::new(builder.finish()))
}
