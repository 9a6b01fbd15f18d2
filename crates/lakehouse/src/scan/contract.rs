//! A table as its contract has it: identity is the table's uuid and each column's field id, never a name alone.
//!
//! In: a loaded table, the uuid and the columns that its contract names, the field ids that the publisher recorded
//! (`mesh.contract-columns`). Out: the schema to read it with: the contract's names and types over the table's fields.
//! A column that another engine renamed is read under its contract's name, a widened one as its contract's type.
//! Never: a field that only happens to have a column's name (it would undo a mask), a table that only has the name.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type};
use mesh_contract::types::iceberg::IcebergSchema;
use uuid::Uuid;

use super::error::ScanError;
use crate::columns::RecordedColumns;
use crate::error::LakehouseError;
use crate::schema::mesh_column;
use crate::summary;
use crate::table::Table;

/// Refuses a table that has the contract's name and not its uuid: another engine dropped and created it.
pub fn check_identity(table: &Table, uuid: &str) -> Result<(), ScanError> {
    // A contract without a uuid means no table.
    let wanted = Uuid::parse_str(uuid).unwrap_or_default();
    match table.uuid() == wanted {
        true => Ok(()),
        false => Err(LakehouseError::other_table(table, wanted).into()),
    }
}

/// The schema of a table's contract columns and `_mesh`: names and types by the contract, ids by the table.
///
/// `revision` is the contract's. A table of a later one is read in the table's own types: the publisher widens a
/// column before it publishes the contract that says so.
pub fn contract_schema(table: &Table, columns: &IcebergSchema, revision: i64) -> Result<Schema, ScanError> {
    let schema_error =
        |source: iceberg::Error| ScanError::Schema { table: table.ident().to_string(), source: Box::new(source) };
    let contract: Schema = serde_json::from_value(columns.to_json(0))
        .map_err(|e| schema_error(iceberg::Error::new(iceberg::ErrorKind::DataInvalid, e.to_string())))?;
    let binder = Binder::new(table, revision)?;
    let mut fields = binder.fields(contract.as_struct(), "")?;
    let provenance = mesh_column();
    if let Some(found) = table.schema().field_by_id(provenance.id) {
        fields.push(Arc::new(NestedField { name: provenance.name, ..found.as_ref().clone() }));
    }
    Schema::builder().with_fields(fields).build().map_err(schema_error)
}

/// The same with the columns that other engines added, of which no policy knows.
pub fn with_foreign_columns(table: &Table, contract: &Schema) -> Result<Schema, ScanError> {
    let known = |field: &&NestedFieldRef| contract.field_by_id(field.id).is_none();
    let added = table.schema().as_struct().fields().iter().filter(known).cloned();
    let fields = contract.as_struct().fields().iter().cloned().chain(added);
    Schema::builder()
        .with_fields(fields)
        .build()
        .map_err(|source| ScanError::Schema { table: table.ident().to_string(), source: Box::new(source) })
}

/// Finds the field of each contract column.
struct Binder<'a> {
    table: &'a Table,
    recorded: Option<RecordedColumns>,
    /// Whether the table has the columns of a later revision than the contract that is read by.
    is_newer: bool,
}

impl<'a> Binder<'a> {
    fn new(table: &'a Table, revision: i64) -> Result<Self, ScanError> {
        let recorded = RecordedColumns::read(table)?;
        let of_table = table.property(summary::CONTRACT_REVISION).and_then(|text| text.parse::<i64>().ok());
        Ok(Self { table, recorded, is_newer: of_table.is_some_and(|of_table| of_table > revision) })
    }

    fn fields(&self, contract: &StructType, parent: &str) -> Result<Vec<NestedFieldRef>, ScanError> {
        contract.fields().iter().map(|field| self.field(field, &path(parent, &field.name))).collect()
    }

    fn field(&self, contract: &NestedField, at: &str) -> Result<NestedFieldRef, ScanError> {
        let found = self.find(at)?;
        let ty = self.ty(&contract.field_type, &found.field_type, at)?;
        Ok(Arc::new(NestedField {
            name: contract.name.clone(),
            doc: contract.doc.clone(),
            field_type: Box::new(ty),
            ..found.as_ref().clone()
        }))
    }

    fn ty(&self, contract: &Type, found: &Type, at: &str) -> Result<Type, ScanError> {
        Ok(match (contract, found) {
            (Type::Struct(contract), Type::Struct(_)) => Type::Struct(StructType::new(self.fields(contract, at)?)),
            (Type::List(contract), Type::List(_)) => {
                Type::List(ListType::new(self.field(&contract.element_field, &path(at, "element"))?))
            }
            (Type::Map(contract), Type::Map(_)) => Type::Map(MapType::new(
                self.field(&contract.key_field, &path(at, "key"))?,
                self.field(&contract.value_field, &path(at, "value"))?,
            )),
            (Type::Primitive(contract), Type::Primitive(found)) if !self.is_newer && is_widened(contract, found) => {
                Type::Primitive(contract.clone())
            }
            (_, found) => found.clone(),
        })
    }

    /// The table's field for a column. Its name may have changed since the publisher recorded the id, unless another
    /// field has the name now: who writes by name would put values there that the column's mask does not cover.
    fn find(&self, at: &str) -> Result<&'a NestedFieldRef, ScanError> {
        let schema = self.table.schema();
        let recorded = self.recorded.as_ref().and_then(|ids| ids.id(at));
        let id = recorded.or_else(|| self.first_id(at));
        let table = || self.table.ident().to_string();
        let dropped = || ScanError::ColumnDropped { table: table(), column: at.to_owned() };
        let id = id.ok_or_else(dropped)?;
        let field = schema.field_by_id(id).ok_or_else(dropped)?;
        let called = schema.name_by_field_id(id).unwrap_or(&field.name);
        let is_taken = schema.field_id_by_name(at).is_some_and(|other| other != id);
        if is_taken || (recorded.is_none() && called != at) {
            return Err(ScanError::ColumnMoved { table: table(), column: at.to_owned(), called: called.to_owned() });
        }
        Ok(field)
    }

    /// For tables that were made before ids were recorded: the oldest schema that has the name is the publisher's,
    /// which was there first.
    fn first_id(&self, at: &str) -> Option<i32> {
        let with_name = self.table.metadata().schemas_iter().filter_map(|schema| {
            let id = schema.field_id_by_name(at)?;
            Some((schema.schema_id(), id))
        });
        with_name.min().map(|(_, id)| id)
    }
}

fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// Whether a table's type holds more values than the contract's.
fn is_widened(contract: &PrimitiveType, found: &PrimitiveType) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (contract, found) {
        (Int, Long) | (Float, Double) => true,
        (Decimal { precision, scale }, Decimal { precision: wider, scale: same }) => wider > precision && same == scale,
        _ => false,
    }
}

/// Whether reading the table by this schema can fail on a value: a column is wider than its contract.
pub(super) fn narrows(table: &Table, schema: &Schema) -> bool {
    let primitive = |field: &NestedFieldRef| field.field_type.as_primitive_type().cloned();
    schema.field_id_to_fields().iter().any(|(id, field)| {
        let found = table.schema().field_by_id(*id).and_then(primitive);
        primitive(field).zip(found).is_some_and(|(contract, found)| is_widened(&contract, &found))
    })
}
