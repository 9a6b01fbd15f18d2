//! Schemas of the mesh's tables: contract columns, the `_mesh` system column, the dead-letter table.
//!
//! Field ids below [`FIRST_CONTRACT_ID`] are the mesh's own and never change, so a contract's columns evolve
//! without touching them.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Transform, Type, UnboundPartitionField,
    UnboundPartitionSpec,
};
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_contract::{PartitionSpec, TableName};

use crate::error::{Error, Result};
use crate::table::Table;

/// The system column's name.
pub const MESH_COLUMN: &str = "_mesh";
/// Field ids below are reserved for `_mesh`; a contract's columns start here.
pub const FIRST_CONTRACT_ID: i32 = 100;

/// A product table's place in the catalog.
pub fn ident(name: &TableName) -> TableIdent {
    TableIdent::new(iceberg::NamespaceIdent::new(name.namespace.clone()), name.table.clone())
}

/// The `_mesh` struct: where a row came from. All of it required but key, headers and trace id.
///
/// topic (1 → string), partition (int), offset (long), timestamp (timestamptz), key (binary),
/// headers (map<string, binary>; a repeated header keeps its last value), trace_id (string, 32 hex digits).
pub fn mesh_column() -> NestedField {
    let primitive = |id, name: &str, required, ty| Arc::new(NestedField::new(id, name, Type::Primitive(ty), required));
    let headers = MapType::new(
        NestedField::map_key_element(9, Type::Primitive(PrimitiveType::String)).into(),
        NestedField::map_value_element(10, Type::Primitive(PrimitiveType::Binary), false).into(),
    );
    let fields = vec![
        primitive(2, "topic", true, PrimitiveType::String),
        primitive(3, "partition", true, PrimitiveType::Int),
        primitive(4, "offset", true, PrimitiveType::Long),
        primitive(5, "timestamp", true, PrimitiveType::Timestamptz),
        primitive(6, "key", false, PrimitiveType::Binary),
        Arc::new(NestedField::optional(7, "headers", Type::Map(headers))),
        primitive(8, "trace_id", false, PrimitiveType::String),
    ];
    NestedField::required(1, MESH_COLUMN, Type::Struct(StructType::new(fields))).with_doc("Where this row came from.")
}

/// A product table's first schema: the contract's columns with ids from [`FIRST_CONTRACT_ID`], then `_mesh`.
pub fn table_schema(columns: &IcebergSchema) -> Result<Schema> {
    build(columns, None, FIRST_CONTRACT_ID - 1)
}

/// A product table's next schema: columns keep the ids that their paths have now; new ones get ids never used before.
pub fn evolve(table: &Table, columns: &IcebergSchema) -> Result<Schema> {
    build(columns, Some(table.schema()), table.metadata().last_column_id().max(FIRST_CONTRACT_ID - 1))
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
        let source = schema.field_by_name(&field.column).ok_or_else(|| Error::Schema {
            what: format!("partition column `{}` is not a column of the table", field.column),
            source: None,
        })?;
        let transform: Transform = field.transform.to_string().parse().map_err(|e| Error::schema("partition transform", e))?;
        let unbound = UnboundPartitionField { source_id: source.id, field_id: None, name: field.name.clone(), transform };
        builder = builder.add_partition_fields([unbound]).map_err(|e| Error::schema("partition spec", e))?;
    }
    Ok(Some(builder.build()))
}

/// The dead-letter table: topic, partition, offset, timestamp, key, headers, value, reason_code, reason, place
/// (column path), contract_revision, trace_id.
pub fn dead_letter_schema() -> Result<Schema> {
    let primitive = |id, name: &str, required, ty| Arc::new(NestedField::new(id, name, Type::Primitive(ty), required));
    let headers = MapType::new(
        NestedField::map_key_element(13, Type::Primitive(PrimitiveType::String)).into(),
        NestedField::map_value_element(14, Type::Primitive(PrimitiveType::Binary), false).into(),
    );
    let fields = vec![
        primitive(1, "topic", true, PrimitiveType::String),
        primitive(2, "partition", true, PrimitiveType::Int),
        primitive(3, "offset", true, PrimitiveType::Long),
        primitive(4, "timestamp", true, PrimitiveType::Timestamptz),
        primitive(5, "key", false, PrimitiveType::Binary),
        Arc::new(NestedField::optional(6, "headers", Type::Map(headers))),
        primitive(7, "value", false, PrimitiveType::Binary),
        primitive(8, "reason_code", true, PrimitiveType::String),
        primitive(9, "reason", true, PrimitiveType::String),
        primitive(10, "place", false, PrimitiveType::String),
        primitive(11, "contract_revision", true, PrimitiveType::Long),
        primitive(12, "trace_id", false, PrimitiveType::String),
    ];
    Schema::builder().with_fields(fields).build().map_err(|e| Error::schema("the dead-letter schema", e))
}

fn build(columns: &IcebergSchema, current: Option<&Schema>, last_id: i32) -> Result<Schema> {
    let parsed: Schema = serde_json::from_value(columns.to_json(0)).map_err(|e| Error::Schema {
        what: "the contract's Iceberg schema".to_owned(),
        source: Some(Box::new(e)),
    })?;
    let mut ids = Ids { current, last_id };
    let mut fields: Vec<NestedFieldRef> = parsed.as_struct().fields().iter().map(|f| ids.field(f, "")).collect();
    if fields.iter().any(|f| f.name == MESH_COLUMN) {
        return Err(Error::Schema { what: format!("the contract has a column `{MESH_COLUMN}`, which is the mesh's own"), source: None });
    }
    fields.push(Arc::new(mesh_column()));
    let old: Vec<&str> = parsed.identifier_field_ids().filter_map(|id| parsed.name_by_field_id(id)).collect();
    let schema = Schema::builder().with_fields(fields).build().map_err(|e| Error::schema("the table's schema", e))?;
    let identifiers: Vec<i32> = old.iter().filter_map(|name| schema.field_id_by_name(name)).collect();
    schema.into_builder().with_identifier_field_ids(identifiers).build().map_err(|e| Error::schema("the table's schema", e))
}

/// Gives ids by path: the current schema's, or the next free one.
struct Ids<'a> {
    current: Option<&'a Schema>,
    last_id: i32,
}

impl Ids<'_> {
    fn id(&mut self, path: &str) -> i32 {
        if let Some(id) = self.current.and_then(|schema| schema.field_id_by_name(path)) {
            return id;
        }
        self.last_id += 1;
        self.last_id
    }

    fn field(&mut self, field: &NestedField, parent: &str) -> NestedFieldRef {
        let path = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
        let id = self.id(&path);
        let ty = self.nested(&field.field_type, &path);
        Arc::new(NestedField { id, field_type: Box::new(ty), ..field.clone() })
    }

    fn nested(&mut self, ty: &Type, path: &str) -> Type {
        match ty {
            Type::Primitive(primitive) => Type::Primitive(primitive.clone()),
            Type::Struct(inner) => Type::Struct(StructType::new(inner.fields().iter().map(|f| self.field(f, path)).collect())),
            Type::List(list) => Type::List(ListType::new(self.field(&list.element_field, path))),
            Type::Map(map) => Type::Map(MapType::new(self.field(&map.key_field, path), self.field(&map.value_field, path))),
        }
    }
}
