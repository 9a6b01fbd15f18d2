//! The columns that a table has after a contract's revision: the contract's own by field id, and what others added.
//!
//! In: the table's schema, the contract's columns, and which field each of them was at the last revision. Out: the next
//! schema. Never: a contract's column that goes to another field than before; files that cannot be read any more.
//!
//! Other engines may add columns (they stay, optional), widen types and drop `required` (ingest judges by the contract),
//! and that refuses no revision. What they rename or drop of the contract's own is a clash, since names and values part.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type};
use mesh_contract::ProductContract;
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_lakehouse::{LakehouseError, RecordedColumns, schema};

use crate::pipeline::existing::TableFacts;

/// Why contract and table do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) what: String,
    /// How the table gets back to what it was, where an engine can do that.
    pub(super) undo: Option<String>,
}

impl Clash {
    pub(super) fn of(what: String) -> Self {
        Self { what, undo: None }
    }
}

/// The next schema. `alone` says that no revision is active to compare with: then every difference is a clash.
pub(super) fn next(
    table: &TableFacts,
    contract: &ProductContract,
    known: Option<&RecordedColumns>,
    alone: bool,
) -> Result<Result<Schema, LakehouseError>, Clash> {
    let wanted = contract.iceberg_schema(None);
    moved(&table.schema, known, &wanted)?;
    let evolved = match schema::evolve_from(&table.schema, table.last_column_id, &wanted) {
        Ok(evolved) => evolved,
        Err(problem) => return Ok(Err(problem)),
    };
    let merge = Merge { known, alone };
    let fields = merge.fields(table.schema.as_struct().fields(), evolved.as_struct().fields(), "")?;
    Ok(build(fields, &evolved))
}

/// A column of the contract that another engine renamed or dropped.
fn moved(schema: &Schema, known: Option<&RecordedColumns>, wanted: &IcebergSchema) -> Result<(), Clash> {
    let known = known.into_iter().flat_map(RecordedColumns::iter).filter(|(path, _)| wanted.id(path).is_some());
    for (path, id) in known {
        match schema.name_by_field_id(id) {
            Some(name) if name == path => {}
            Some(name) => {
                let what = format!("another engine renamed the column `{path}` (field {id}) to `{name}`");
                return Err(Clash { what, undo: Some(format!("rename `{name}` back to `{path}` in the table")) });
            }
            None => return Err(Clash::of(format!("another engine dropped the column `{path}` (field {id})"))),
        }
    }
    Ok(())
}

fn build(fields: Vec<NestedFieldRef>, evolved: &Schema) -> Result<Schema, LakehouseError> {
    let required = |id: &i32| fields.iter().any(|field| field.id == *id && field.required);
    let identifiers: Vec<i32> = evolved.identifier_field_ids().filter(required).collect();
    let built = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build();
    built.map_err(|source| LakehouseError::Schema {
        what: "the table's schema".to_owned(),
        source: Some(Box::new(source)),
    })
}

/// Puts the table's fields and the contract's together, field by field.
struct Merge<'a> {
    known: Option<&'a RecordedColumns>,
    alone: bool,
}

impl Merge<'_> {
    fn fields(
        &self,
        before: &[NestedFieldRef],
        after: &[NestedFieldRef],
        parent: &str,
    ) -> Result<Vec<NestedFieldRef>, Clash> {
        let mut merged = Vec::with_capacity(after.len());
        for field in after {
            merged.push(match before.iter().find(|old| old.id == field.id) {
                Some(old) => Arc::new(self.field(old, field, parent)?),
                None => self.added(field, parent)?,
            });
        }
        let end = merged.iter().position(|field| field.name == schema::MESH_COLUMN).unwrap_or(merged.len());
        for (at, field) in before.iter().filter(|old| after.iter().all(|field| field.id != old.id)).enumerate() {
            merged.insert(end + at, self.foreign(field, parent)?);
        }
        Ok(merged)
    }

    /// A column that the table does not have yet.
    fn added(&self, field: &NestedFieldRef, parent: &str) -> Result<NestedFieldRef, Clash> {
        match field.required {
            true => Err(Clash::of(format!("`{}` is required, and rows there have none", path(parent, field)))),
            false => Ok(field.clone()),
        }
    }

    /// A column that the contract does not name: another engine's stays, optional; the contract's own may not go.
    fn foreign(&self, field: &NestedFieldRef, parent: &str) -> Result<NestedFieldRef, Clash> {
        match self.known {
            Some(known) if known.path(field.id).is_none() => {
                Ok(Arc::new(NestedField { required: false, ..field.as_ref().clone() }))
            }
            _ => Err(Clash::of(format!("`{}` would go", path(parent, field)))),
        }
    }

    fn field(&self, before: &NestedField, after: &NestedField, parent: &str) -> Result<NestedField, Clash> {
        let path = path(parent, after);
        if self.alone && after.required && !before.required {
            return Err(Clash::of(format!("`{path}` may be null there")));
        }
        let field_type = Box::new(self.types(&before.field_type, &after.field_type, &path)?);
        Ok(NestedField { field_type, required: before.required && after.required, ..after.clone() })
    }

    fn types(&self, before: &Type, after: &Type, path: &str) -> Result<Type, Clash> {
        match (before, after) {
            (Type::Primitive(there), Type::Primitive(wanted)) => match there {
                _ if there == wanted || widens(there, wanted) => Ok(after.clone()),
                _ if !self.alone && widens(wanted, there) => Ok(before.clone()),
                _ => Err(Clash::of(format!("`{path}` is {there} there, and {wanted} in the contract"))),
            },
            (Type::Struct(there), Type::Struct(wanted)) => {
                Ok(Type::Struct(StructType::new(self.fields(there.fields(), wanted.fields(), path)?)))
            }
            (Type::List(there), Type::List(wanted)) => {
                let element = self.field(&there.element_field, &wanted.element_field, path)?;
                Ok(Type::List(ListType::new(Arc::new(element))))
            }
            (Type::Map(there), Type::Map(wanted)) => {
                let key = self.field(&there.key_field, &wanted.key_field, path)?;
                let value = self.field(&there.value_field, &wanted.value_field, path)?;
                Ok(Type::Map(MapType::new(Arc::new(key), Arc::new(value))))
            }
            _ => Err(Clash::of(format!("`{path}` is {before} there, and {after} in the contract"))),
        }
    }
}

fn path(parent: &str, field: &NestedField) -> String {
    if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) }
}

/// Whether files with the one type can be read as the other: Iceberg's promotions.
fn widens(from: &PrimitiveType, to: &PrimitiveType) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (from, to) {
        (Int, Long) | (Float, Double) => true,
        (Decimal { precision, scale }, Decimal { precision: wider, scale: same }) => {
            wider >= precision && scale == same
        }
        _ => false,
    }
}
