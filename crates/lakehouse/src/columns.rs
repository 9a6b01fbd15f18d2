//! The contract's columns by path and field id, as the publisher recorded them with a revision.
//!
//! In: a table's schema and the contract's columns. Out: the table property `mesh.contract-columns`, and what it says.
//! Never: a column known by its name alone. Another engine may rename columns; a field id stays with its values.

use std::collections::BTreeMap;

use iceberg::spec::Schema;
use mesh_contract::types::iceberg::IcebergSchema;

use crate::error::{LakehouseError, Result};
use crate::summary;
use crate::table::Table;

/// Column paths (`a.b`, `a.element`, `m.key`, `m.value`) and their field ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedColumns(BTreeMap<String, i32>);

impl RecordedColumns {
    /// The contract's columns as a table schema that holds all of them has them.
    pub fn of(schema: &Schema, columns: &IcebergSchema) -> Self {
        let ids = columns.ids.keys().filter_map(|path| Some((path.clone(), schema.field_id_by_name(path)?)));
        Self(ids.collect())
    }

    /// What the table's property says; none for a table that a version before this property made.
    pub fn read(table: &Table) -> Result<Option<Self>> {
        let parsed = Self::parse(table.property(summary::CONTRACT_COLUMNS));
        parsed.map_err(|e| LakehouseError::invalid(table.ident(), "read its property mesh.contract-columns", e))
    }

    /// What a property's text says.
    pub fn parse(text: Option<&str>) -> std::result::Result<Option<Self>, serde_json::Error> {
        text.map(|text| serde_json::from_str(text).map(Self)).transpose()
    }

    /// The property's value.
    pub fn to_property(&self) -> String {
        serde_json::json!(self.0).to_string()
    }

    /// The field id of a contract's column.
    pub fn id(&self, path: &str) -> Option<i32> {
        self.0.get(path).copied()
    }

    /// The path of the contract's column with this field id.
    pub fn path(&self, id: i32) -> Option<&str> {
        self.0.iter().find(|(_, other)| **other == id).map(|(path, _)| path.as_str())
    }

    /// All columns, nested ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32)> {
        self.0.iter().map(|(path, id)| (path.as_str(), *id))
    }
}
