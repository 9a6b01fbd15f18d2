//! Types in Arrow: what batches look like between decoding and Parquet.

use arrow_schema::{DataType, Schema};

use crate::types::{Field, Type};
use crate::types::iceberg::IcebergSchema;

/// The zone of every `timestamptz`: what arrow-avro and iceberg-rust write too.
pub const UTC: &str = "+00:00";
/// The metadata key under which Parquet finds a field's id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// A type's Arrow form, nested fields without ids.
pub fn data_type(_ty: &Type) -> DataType {
    todo!()
}
/// The type of an Arrow form, if the table has one.
pub fn from_data_type(_data_type: &DataType) -> Option<Type> {
    todo!()
}
/// An Arrow schema without ids.
pub fn schema(_fields: &[Field]) -> Schema {
    todo!()
}
/// An Arrow schema with `PARQUET:field_id` on every field, nested ones too.
pub fn schema_with_ids(_schema: &IcebergSchema) -> Schema {
    todo!()
}
