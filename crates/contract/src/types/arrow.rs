//! Types in Arrow: what batches look like between decoding and Parquet.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Fields, Schema, TimeUnit};

use crate::types::iceberg::{IcebergSchema, path};
use crate::types::{Field, Type};

/// The zone of every `timestamptz`: what arrow-avro and iceberg-rust write too.
pub const UTC: &str = "+00:00";
/// The metadata key under which Parquet finds a field's id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// A type's Arrow form, nested fields without ids.
pub fn data_type(ty: &Type) -> DataType {
    convert(ty, "", &|_| None)
}

/// An Arrow schema without ids.
pub fn schema(fields: &[Field]) -> Schema {
    Schema::new(convert_fields(fields, "", &|_| None))
}

/// An Arrow schema with [`FIELD_ID`] on every field, nested ones too.
pub fn schema_with_ids(schema: &IcebergSchema) -> Schema {
    Schema::new(convert_fields(&schema.fields, "", &|path| schema.id(path)))
}

type Ids<'a> = &'a dyn Fn(&str) -> Option<i32>;

fn convert_fields(fields: &[Field], parent: &str, ids: Ids<'_>) -> Fields {
    fields.iter().map(|field| convert_field(field, parent, ids)).collect()
}

fn convert_field(field: &Field, parent: &str, ids: Ids<'_>) -> ArrowField {
    let at = path(parent, &field.name);
    let arrow = ArrowField::new(&field.name, convert(&field.ty, &at, ids), !field.required);
    match ids(&at) {
        Some(id) => arrow.with_metadata(HashMap::from([(FIELD_ID.to_owned(), id.to_string())])),
        None => arrow,
    }
}

fn convert(ty: &Type, at: &str, ids: Ids<'_>) -> DataType {
    match ty {
        Type::Boolean => DataType::Boolean,
        Type::Int => DataType::Int32,
        Type::Long => DataType::Int64,
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        Type::Decimal { precision, scale } => DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX)),
        Type::Date => DataType::Date32,
        Type::Time => DataType::Time64(TimeUnit::Microsecond),
        Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        Type::String => DataType::Utf8,
        Type::Uuid => DataType::FixedSizeBinary(16),
        Type::Binary => DataType::Binary,
        Type::Struct(fields) => DataType::Struct(convert_fields(fields, at, ids)),
        Type::List(element) => DataType::List(Arc::new(convert_field(element, at, ids))),
        Type::Map(key, value) => {
            let entries = Fields::from(vec![convert_field(key, at, ids), convert_field(value, at, ids)]);
            DataType::Map(Arc::new(ArrowField::new("key_value", DataType::Struct(entries), false)), false)
        }
    }
}

/// The type of an Arrow form, if the table has one. Narrow integers widen; every zone reads as UTC instants.
pub fn from_data_type(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Boolean => Type::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => Type::Int,
        DataType::Int64 | DataType::UInt32 => Type::Long,
        DataType::UInt64 => Type::Decimal { precision: 20, scale: 0 },
        DataType::Float32 => Type::Float,
        DataType::Float64 => Type::Double,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
            Type::Decimal { precision: *p, scale: u8::try_from(*s).ok()? }
        }
        DataType::Date32 => Type::Date,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => Type::Time,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return None,
        DataType::Timestamp(_, None) => Type::Timestamp,
        DataType::Timestamp(_, Some(_)) => Type::TimestampTz,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::String,
        DataType::FixedSizeBinary(16) => Type::Uuid,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::Binary,
        DataType::Struct(fields) => Type::Struct(fields.iter().map(|f| from_field(f)).collect::<Option<_>>()?),
        DataType::List(element) | DataType::LargeList(element) => {
            Type::List(Box::new(Field { name: "element".to_owned(), ..from_field(element)? }))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(entries) = entries.data_type() else {
                return None;
            };
            let key = from_field(entries.first()?)?;
            let value = from_field(entries.get(1)?)?;
            Type::Map(
                Box::new(Field { name: "key".to_owned(), required: true, ..key }),
                Box::new(Field { name: "value".to_owned(), ..value }),
            )
        }
        _ => return None,
    })
}

/// A field of the type table, without its documentation, which Arrow does not carry.
pub fn from_field(field: &ArrowField) -> Option<Field> {
    let ty = from_data_type(field.data_type())?;
    Some(Field { name: field.name().clone(), ty, required: !field.is_nullable(), doc: None })
}
