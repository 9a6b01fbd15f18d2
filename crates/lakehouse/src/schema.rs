//! Schemas of the mesh's tables: contract columns, the `_mesh` system column, the dead-letter table.
//!
//! Field ids below [`FIRST_CONTRACT_ID`] are the mesh's own and never change, so a contract's columns evolve
//! without touching them.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{
    ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Transform, Type, UnboundPartitionField,
    UnboundPartitionSpec,
};
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_contract::{PartitionSpec, TableName};

use crate::error::{LakehouseError, Result};
use crate::table::Table;

mod evolution;

use evolution::build;

/// The system column's name.
pub const MESH_COLUMN: &str = "_mesh";
/// Field ids below are reserved for `_mesh`; a contract's columns start here.
pub const FIRST_CONTRACT_ID: i32 = 100;

/// A product table's place in the catalog.
pub fn ident(name: &TableName) -> TableIdent {
    TableIdent::new(iceberg::NamespaceIdent::new(name.namespace.clone()), name.table.clone())
}

/// The `_mesh` struct: where a row came from. Null for rows that another engine wrote: nothing in it is required, since
/// engines refuse to append rows without a struct that has required fields.
///
/// topic (string), partition (int), offset (long), timestamp (timestamptz), key (binary, may be null),
/// headers (list of {key: string, value: binary}, in the record's order), trace_id (string of 32 hex digits, may be null).
pub fn mesh_column() -> NestedField {
    let fields = vec![
        primitive(2, "topic", false, PrimitiveType::String),
        primitive(3, "partition", false, PrimitiveType::Int),
        primitive(4, "offset", false, PrimitiveType::Long),
        primitive(5, "timestamp", false, PrimitiveType::Timestamptz),
        primitive(6, "key", false, PrimitiveType::Binary),
        headers(7, 9, false),
        primitive(8, "trace_id", false, PrimitiveType::String),
    ];
    NestedField::optional(1, MESH_COLUMN, Type::Struct(StructType::new(fields))).with_doc("Where this row came from.")
}

fn primitive(id: i32, name: &str, required: bool, ty: PrimitiveType) -> NestedFieldRef {
    Arc::new(NestedField::new(id, name, Type::Primitive(ty), required))
}

/// A list, since Kafka lets a header's key repeat. Its element takes `element` and the two ids after.
fn headers(id: i32, element: i32, required: bool) -> NestedFieldRef {
    let header = StructType::new(vec![
        primitive(element + 1, "key", required, PrimitiveType::String),
        primitive(element + 2, "value", false, PrimitiveType::Binary),
    ]);
    let list = ListType::new(NestedField::list_element(element, Type::Struct(header), required).into());
    Arc::new(NestedField::optional(id, "headers", Type::List(list)))
}

/// A product table's first schema: the contract's columns with ids from [`FIRST_CONTRACT_ID`], then `_mesh`.
pub fn table_schema(columns: &IcebergSchema) -> Result<Schema> {
    build(columns, None, FIRST_CONTRACT_ID - 1)
}

/// A product table's next schema: columns keep the ids that their paths have now; new ones get ids never used before.
/// What another engine changed stays: its columns, optional from now on, and types that it widened. A column of the
/// contract whose name another engine gave to another type is an error.
pub fn evolve(table: &Table, columns: &IcebergSchema) -> Result<Schema> {
    evolve_from(table.schema(), table.metadata().last_column_id(), columns)
}

/// The same for a schema that no table need have.
pub fn evolve_from(current: &Schema, last_column_id: i32, columns: &IcebergSchema) -> Result<Schema> {
    build(columns, Some(current), last_column_id.max(FIRST_CONTRACT_ID - 1))
}

/// The contract columns of a product table: its schema without `_mesh`.
pub fn contract_columns(schema: &Schema) -> Vec<NestedFieldRef> {
    schema.as_struct().fields().iter().filter(|f| f.name != MESH_COLUMN).cloned().collect()
}

/// The partition spec for a schema made by [`table_schema`]; `None` if unpartitioned.
pub fn partition_spec(spec: &PartitionSpec, schema: &Schema) -> Result<Option<UnboundPartitionSpec>> {
    if spec.fields.is_empty() {
        return Ok(None);
    }
    let mut builder = UnboundPartitionSpec::builder();
    for field in &spec.fields {
        let source = schema.field_by_name(&field.column).ok_or_else(|| LakehouseError::Schema {
            what: format!("partition column `{}` is not a column of the table", field.column),
            source: None,
        })?;
        let transform: Transform =
            field.transform.to_string().parse().map_err(|e| LakehouseError::schema("partition transform", e))?;
        let unbound =
            UnboundPartitionField { source_id: source.id, field_id: None, name: field.name.clone(), transform };
        builder = builder.add_partition_fields([unbound]).map_err(|e| LakehouseError::schema("partition spec", e))?;
    }
    Ok(Some(builder.build()))
}

/// The dead-letter table: topic, partition, offset, timestamp, key, headers (as in `_mesh`), value (raw bytes, null for
/// a tombstone), reason_code, reason, place (column path), contract_revision, trace_id.
pub fn dead_letter_schema() -> Result<Schema> {
    let fields = vec![
        primitive(1, "topic", true, PrimitiveType::String),
        primitive(2, "partition", true, PrimitiveType::Int),
        primitive(3, "offset", true, PrimitiveType::Long),
        primitive(4, "timestamp", true, PrimitiveType::Timestamptz),
        primitive(5, "key", false, PrimitiveType::Binary),
        headers(6, 13, true),
        primitive(7, "value", false, PrimitiveType::Binary),
        primitive(8, "reason_code", true, PrimitiveType::String),
        primitive(9, "reason", true, PrimitiveType::String),
        primitive(10, "place", false, PrimitiveType::String),
        primitive(11, "contract_revision", true, PrimitiveType::Long),
        primitive(12, "trace_id", false, PrimitiveType::String),
    ];
    Schema::builder().with_fields(fields).build().map_err(|e| LakehouseError::schema("the dead-letter schema", e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use mesh_contract::{Field, Type as T};

    use super::*;

    fn columns(fields: Vec<Field>) -> IcebergSchema {
        IcebergSchema::assign(fields, None)
    }

    fn ids(schema: &Schema) -> Vec<(String, i32)> {
        let mut ids: Vec<_> = schema.field_id_to_name_map().iter().map(|(id, name)| (name.clone(), *id)).collect();
        ids.retain(|(name, _)| !name.starts_with(MESH_COLUMN));
        ids.sort();
        ids
    }

    #[test]
    fn contract_columns_start_at_their_own_ids_and_mesh_is_below() {
        let list = T::List(Box::new(Field::optional("element", T::Long)));
        let schema = table_schema(&columns(vec![Field::required("a", T::Long), Field::optional("b", list)])).unwrap();
        assert_eq!(ids(&schema), [("a".to_owned(), 100), ("b".to_owned(), 101), ("b.element".to_owned(), 102)]);
        let mesh: Vec<i32> =
            schema.field_id_to_name_map().keys().copied().filter(|id| *id < FIRST_CONTRACT_ID).collect();
        assert_eq!(mesh.len(), 11);
        assert_eq!(schema.field_id_by_name("_mesh.headers.element.value"), Some(11));
    }

    #[test]
    fn a_column_named_like_ours_is_refused() {
        let error = table_schema(&columns(vec![Field::optional(MESH_COLUMN, T::Long)])).unwrap_err();
        assert_eq!(error.code(), "MESH-LAKEHOUSE-0019");
    }

    #[test]
    fn every_type_of_the_mesh_reaches_iceberg_and_arrow() {
        let all = vec![
            T::Boolean,
            T::Int,
            T::Long,
            T::Float,
            T::Double,
            T::Decimal { precision: 38, scale: 9 },
            T::Date,
            T::Time,
            T::Timestamp,
            T::TimestampTz,
            T::String,
            T::Uuid,
            T::Binary,
            T::Struct(vec![Field::required("x", T::Int)]),
            T::List(Box::new(Field::required("element", T::String))),
            T::Map(Box::new(Field::required("key", T::String)), Box::new(Field::optional("value", T::Double))),
        ];
        let fields = all.into_iter().zip('a'..).map(|(ty, name)| Field::optional(name.to_string(), ty)).collect();
        let schema = Arc::new(table_schema(&columns(fields)).unwrap());
        assert_eq!(crate::writer::arrow_schema(&schema).unwrap().fields().len(), 17);
    }

    #[test]
    fn the_dead_letter_schema_stands() {
        assert_eq!(dead_letter_schema().unwrap().highest_field_id(), 15);
    }
}
