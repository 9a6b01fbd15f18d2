//! Where a row came from: the `_mesh` column.
//!
//! In: rows and the batch they were decoded from. Out: the rows with topic, partition, offset, timestamp, key, headers
//! and trace id of their records; the same columns stand in a dead letter.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder as _, BinaryBuilder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use mesh_lakehouse::schema::MESH_COLUMN;

use crate::pipeline::decode::DecodedRows;
use crate::pipeline::source_batch::{SourceBatch, SourceRecord};

/// The rows with their `_mesh` column.
pub fn enrich(rows: &DecodedRows, source: &SourceBatch, topic: &str) -> Result<RecordBatch, ArrowError> {
    let records = || rows.records.iter().map(|index| source.record(*index));
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
pub(crate) fn origin<'a, I: Iterator<Item = SourceRecord<'a>>>(
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
    let mut digits = [0; 32];
    for record in records() {
        keys.append_option(record.key());
        traces.append_option(record.trace().and_then(|trace| hex(&trace.trace_id, &mut digits)));
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
    Ok(columns
        .into_iter()
        .map(|(name, array, null)| (Field::new(name, array.data_type().clone(), null), array))
        .collect())
}

/// A trace id in its usual form.
fn hex<'a>(id: &[u8; 16], digits: &'a mut [u8; 32]) -> Option<&'a str> {
    hex::encode_to_slice(id, digits).ok()?;
    std::str::from_utf8(digits).ok()
}

/// Every header of each record, in its order: names may repeat.
fn headers<'a>(records: impl Iterator<Item = SourceRecord<'a>>) -> Result<ArrayRef, ArrowError> {
    let mut names = StringBuilder::new();
    let mut values = BinaryBuilder::new();
    let mut lengths = Vec::new();
    let mut present = NullBufferBuilder::new(0);
    for record in records {
        let before = names.len();
        for (name, value) in record.headers() {
            names.append_value(name);
            values.append_option(value);
        }
        lengths.push(names.len() - before);
        present.append(names.len() > before);
    }
    let fields =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
    let pairs = StructArray::try_new(fields.clone(), vec![Arc::new(names.finish()), Arc::new(values.finish())], None)?;
    let element = Arc::new(Field::new("element", DataType::Struct(fields), false));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(element, offsets, Arc::new(pairs), present.finish())?))
}
