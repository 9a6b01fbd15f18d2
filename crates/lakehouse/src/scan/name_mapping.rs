//! Field ids for files that have none, by the table's `schema.name-mapping.default`.
//!
//! In: a file's columns as it names them, the mapping. Out: the same columns with the ids that the mapping gives to
//! their names or aliases, nested ones too. A column that the mapping does not name gets no id, so it is not read.
//! Never: an id by position.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, MappedField, NameMapping};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::error::ScanError;
use crate::table::Table;

/// The table's mapping, if it has one. One that cannot be read is an error: without it columns would be null.
pub(super) fn of(table: &Table) -> Result<Option<NameMapping>, ScanError> {
    let text = table.property(DEFAULT_SCHEMA_NAME_MAPPING);
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|source| ScanError::NameMapping { table: table.ident().to_string(), source })
}

/// The columns with ids.
pub(super) fn labelled(columns: &Fields, mapping: &NameMapping) -> Fields {
    let mapped: Vec<&MappedField> = mapping.fields().iter().collect();
    columns.iter().map(|column| field(column, column.name(), &mapped)).collect()
}

/// `name` is what the mapping calls it: engines name the parts of lists and maps differently.
fn field(found: &FieldRef, name: &str, mapped: &[&MappedField]) -> FieldRef {
    let Some(entry) = mapped.iter().find(|entry| entry.names().iter().any(|alias| alias == name)) else {
        return Arc::clone(found);
    };
    let parts: Vec<&MappedField> = entry.fields().iter().map(AsRef::as_ref).collect();
    let data_type = nested(found.data_type(), &parts);
    let mut labelled = found.as_ref().clone().with_data_type(data_type);
    if let Some(id) = entry.field_id() {
        labelled.metadata_mut().insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    }
    Arc::new(labelled)
}

fn nested(data_type: &DataType, parts: &[&MappedField]) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| field(f, f.name(), parts)).collect()),
        DataType::List(item) => DataType::List(field(item, "element", parts)),
        DataType::LargeList(item) => DataType::LargeList(field(item, "element", parts)),
        DataType::Map(entries, sorted) => DataType::Map(map_entries(entries, parts), *sorted),
        other => other.clone(),
    }
}

fn map_entries(entries: &FieldRef, parts: &[&MappedField]) -> FieldRef {
    let DataType::Struct(pair) = entries.data_type() else { return Arc::clone(entries) };
    let names = ["key", "value"].into_iter();
    let pair: Fields = pair.iter().zip(names).map(|(part, name)| field(part, name, parts)).collect();
    Arc::new(Field::new(entries.name(), DataType::Struct(pair), entries.is_nullable()))
}
