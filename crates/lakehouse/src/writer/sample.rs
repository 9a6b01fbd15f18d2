//! Whether rows of a schema can be written by a partition spec, before there is a table: for the admission of contracts.
//!
//! In: a schema and a partition spec. Out: nothing, or why no row could ever be written. [`can_write`] judges by the
//! types; [`write_sample`] takes two rows through the table's own conversion, partitioning, Parquet and manifest
//! writers into memory.
//! Never: a spec accepted whose table cannot be fed.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
    LargeBinaryArray, ListArray, MapArray, RecordBatch, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use iceberg::TableIdent;
use iceberg::spec::{
    DataFile, FormatVersion, PartitionSpec, PrimitiveType, Schema, SchemaRef, Transform, UnboundPartitionSpec,
    write_data_files_to_avro,
};

use super::WriterOptions;
use super::conform::conform;
use super::file::{OpenFile, Target};
use super::partition::Partitioner;
use crate::error::{LakehouseError, Result};

/// The greatest width or number of buckets: other engines hold it in 32 signed bits.
const WIDEST: u32 = i32::MAX.cast_unsigned();

/// Whether each partition field's transform takes its source column.
pub fn can_write(schema: &Schema, spec: Option<&UnboundPartitionSpec>) -> Result<()> {
    for field in spec.into_iter().flat_map(UnboundPartitionSpec::fields) {
        let refused = |why: String| Err(LakehouseError::Schema { what: why, source: None });
        let Some(source) = schema.field_by_id(field.source_id) else {
            return refused(format!("the partition field `{}` has no source column", field.name));
        };
        let Some(ty) = source.field_type.as_primitive_type() else {
            return refused(format!("a table cannot be partitioned by `{}`, which is no plain value", source.name));
        };
        if schema.as_struct().field_by_id(field.source_id).is_none() {
            return refused(format!("a table cannot be partitioned by `{}`, which lies within a column", source.name));
        }
        if !takes(field.transform, ty) {
            return refused(format!(
                "the partition transform {} does not take `{}`: {ty}",
                field.transform, source.name
            ));
        }
    }
    Ok(())
}

fn takes(transform: Transform, ty: &PrimitiveType) -> bool {
    use PrimitiveType as P;
    let in_range = |n: u32| (1..=WIDEST).contains(&n);
    match transform {
        // iceberg 0.10.1 writes the partition value of a uuid as Avro text where the specification has 16 bytes, and cannot
        // read those (`avro/schema.rs`; apache-avro 0.21 `decode.rs`, `Schema::Uuid`).
        Transform::Identity => !matches!(ty, P::Uuid | P::TimestampNs | P::TimestamptzNs),
        Transform::Void => true,
        Transform::Year | Transform::Month | Transform::Day => matches!(ty, P::Date | P::Timestamp | P::Timestamptz),
        Transform::Hour => matches!(ty, P::Timestamp | P::Timestamptz),
        Transform::Bucket(n) => {
            in_range(n) && !matches!(ty, P::Boolean | P::Float | P::Double | P::TimestampNs | P::TimestamptzNs)
        }
        Transform::Truncate(n) => {
            in_range(n) && matches!(ty, P::Int | P::Long | P::Decimal { .. } | P::String | P::Binary)
        }
        Transform::Unknown => false,
    }
}

/// Writes a row with a value in every column, and one with nulls where they may be, into memory.
pub fn write_sample(schema: &SchemaRef, spec: Option<&UnboundPartitionSpec>) -> Result<()> {
    can_write(schema, spec)?;
    let table = TableIdent::from_strs(["sample", "sample"]).map_err(|e| LakehouseError::schema("a sample row", e))?;
    let refused = |e: iceberg::Error| LakehouseError::invalid(&table, "write a sample row", e);
    let spec = match spec {
        Some(spec) => spec.clone().bind(schema.clone()).map_err(refused)?,
        None => PartitionSpec::unpartition_spec(),
    };
    let arrow = super::arrow_schema(schema)?;
    let failed = |e: ArrowError| LakehouseError::Rows { table: table.clone(), source: Box::new(e) };
    let columns = arrow.fields().iter().map(|field| sample(field)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let batch = conform(&table, &RecordBatch::try_new(arrow.clone(), columns).map_err(failed)?, &arrow)?;
    let parts = match spec.is_unpartitioned() {
        true => vec![(iceberg::spec::Struct::empty(), batch)],
        false => Partitioner::new(&table, &spec, schema)?.split(&table, &batch)?,
    };
    let target =
        Target::new("memory:", uuid::Uuid::nil(), arrow, schema.clone(), spec.spec_id(), &WriterOptions::default());
    let mut files: Vec<DataFile> = Vec::new();
    for (partition, rows) in parts {
        let mut file = OpenFile::new(&target, "memory:sample".to_owned(), partition, Vec::new())?;
        file.write(&rows)?;
        files.push(file.end(&target)?.0);
    }
    let partition_type = spec.partition_type(schema).map_err(refused)?;
    let written = write_data_files_to_avro(&mut Vec::new(), files, &partition_type, FormatVersion::V2);
    written.map(|_| ()).map_err(refused)
}

/// Two values: one of the type, and null where it may be.
fn sample(field: &Field) -> Result<ArrayRef, ArrowError> {
    let one = value(field.data_type())?;
    let second = if field.is_nullable() { new_null_array(field.data_type(), 1) } else { one.clone() };
    arrow::compute::concat(&[&one, &second])
}

fn value(ty: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match ty {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![true])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![7])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![7])),
        DataType::Float32 => Arc::new(Float32Array::from(vec![-0.5])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![-0.5])),
        DataType::Decimal128(precision, scale) => {
            Arc::new(Decimal128Array::from(vec![7]).with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Date32 => Arc::new(Date32Array::from(vec![-1])),
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(Time64MicrosecondArray::from(vec![1])),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(TimestampMicrosecondArray::from(vec![-1]).with_timezone_opt(zone.clone()))
        }
        DataType::Utf8 => Arc::new(StringArray::from(vec!["a\u{10348}b"])),
        DataType::FixedSizeBinary(size) => {
            let mut builder = FixedSizeBinaryBuilder::new(*size);
            builder.append_value(vec![0xa5; usize::try_from(*size).unwrap_or_default()])?;
            Arc::new(builder.finish())
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            builder.append_value([0, 0xff]);
            Arc::new(builder.finish())
        }
        DataType::LargeBinary => Arc::new(LargeBinaryArray::from(vec![&[0, 0xff][..]])),
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| value(field.data_type())).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None::<NullBuffer>, 1)?)
        }
        DataType::List(element) => {
            let values = value(element.data_type())?;
            Arc::new(ListArray::try_new(element.clone(), OffsetBuffer::from_lengths([1]), values, None)?)
        }
        DataType::Map(entries, sorted) => {
            let pairs = value(entries.data_type())?;
            let pairs = arrow_array::cast::as_struct_array(&pairs).clone();
            Arc::new(MapArray::try_new(entries.clone(), OffsetBuffer::from_lengths([1]), pairs, None, *sorted)?)
        }
        other => return Err(ArrowError::SchemaError(format!("rows of a table have no values of type {other}"))),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use iceberg::spec::{NestedField, Type, UnboundPartitionField};

    use super::*;

    fn types() -> Vec<PrimitiveType> {
        use PrimitiveType as P;
        vec![
            P::Boolean,
            P::Int,
            P::Long,
            P::Float,
            P::Double,
            P::Decimal { precision: 5, scale: 2 },
            P::Decimal { precision: 38, scale: 38 },
            P::Date,
            P::Time,
            P::Timestamp,
            P::Timestamptz,
            P::String,
            P::Uuid,
            P::Binary,
        ]
    }

    fn transforms() -> Vec<Transform> {
        let widths = [0, 1, 3, WIDEST, WIDEST + 1, 3_000_000_000];
        let plain = [Transform::Identity, Transform::Void, Transform::Year, Transform::Month, Transform::Day];
        let wide = widths.iter().flat_map(|n| [Transform::Bucket(*n), Transform::Truncate(*n)]);
        plain.into_iter().chain([Transform::Hour, Transform::Unknown]).chain(wide).collect()
    }

    /// What is admitted can be written, and what cannot be written is not admitted.
    #[test]
    fn every_pair_of_type_and_transform_is_judged_as_the_writer_does() {
        let mut admitted = 0;
        for ty in types() {
            for transform in transforms() {
                let field = NestedField::optional(100, "v", Type::Primitive(ty.clone()));
                let schema = Arc::new(Schema::builder().with_fields([Arc::new(field)]).build().unwrap());
                let spec = UnboundPartitionSpec::builder().add_partition_fields([UnboundPartitionField {
                    source_id: 100,
                    field_id: None,
                    name: "part".into(),
                    transform,
                }]);
                let spec = spec.unwrap().build();
                if can_write(&schema, Some(&spec)).is_ok() {
                    admitted += 1;
                    write_sample(&schema, Some(&spec)).unwrap_or_else(|e| panic!("{transform} of {ty}: {e:?}"));
                }
            }
        }
        assert_eq!(admitted, 89);
    }
}
