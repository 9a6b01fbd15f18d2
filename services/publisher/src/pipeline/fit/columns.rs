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
    if let Ok(parsed) = serde_json::from_value::<Schema>(wanted.to_json(0)) {
        let check = Check { known, alone };
        check.fields(table.schema.as_struct().fields(), parsed.as_struct().fields(), "")?;
    }
    let evolved = schema::evolve_from(&table.schema, table.last_column_id, &wanted);
    Ok(evolved.and_then(|evolved| {
        let fields = kept(table.schema.as_struct().fields(), evolved.as_struct().fields());
        build(fields, &evolved)
    }))
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

/// Compares the table's fields with the contract's, by name: names are where they were, since nothing has moved.
struct Check<'a> {
    known: Option<&'a RecordedColumns>,
    alone: bool,
}

impl Check<'_> {
    fn fields(&self, there: &[NestedFieldRef], wanted: &[NestedFieldRef], parent: &str) -> Result<(), Clash> {
        for field in wanted {
            match there.iter().find(|old| old.name == field.name) {
                Some(old) => self.field(old, field, parent)?,
                None if field.required => {
                    return Err(Clash::of(format!("`{}` is required, and rows there have none", path(parent, field))));
                }
                None => {}
            }
        }
        let others = there.iter().filter(|old| wanted.iter().all(|field| field.name != old.name));
        let mut others = others.filter(|old| !(parent.is_empty() && old.name == schema::MESH_COLUMN));
        match others.find(|old| self.is_the_contract_s(old.id)) {
            Some(old) => Err(Clash::of(format!("`{}` would go", path(parent, old)))),
            None => Ok(()),
        }
    }

    /// Whether a field is one of an earlier revision, and not another engine's. Where nothing is recorded, all are.
    fn is_the_contract_s(&self, id: i32) -> bool {
        self.known.is_none_or(|known| known.path(id).is_some())
    }

    fn field(&self, there: &NestedField, wanted: &NestedField, parent: &str) -> Result<(), Clash> {
        let path = path(parent, wanted);
        if self.alone && wanted.required && !there.required {
            return Err(Clash::of(format!("`{path}` may be null there")));
        }
        match (there.field_type.as_ref(), wanted.field_type.as_ref()) {
            (Type::Primitive(one), Type::Primitive(other)) => match one == other || widens(one, other) {
                true => Ok(()),
                false if !self.alone && widens(other, one) => Ok(()),
                false => Err(Clash::of(format!("`{path}` is {one} there, and {other} in the contract"))),
            },
            (Type::Struct(one), Type::Struct(other)) => self.fields(one.fields(), other.fields(), &path),
            (Type::List(one), Type::List(other)) => self.field(&one.element_field, &other.element_field, &path),
            (Type::Map(one), Type::Map(other)) => {
                self.field(&one.key_field, &other.key_field, &path)?;
                self.field(&one.value_field, &other.value_field, &path)
            }
            (one, other) => Err(Clash::of(format!("`{path}` is {one} there, and {other} in the contract"))),
        }
    }
}

/// The fields of the next schema, with what the table has beside them: other engines' fields, optional, and types that
/// they widened.
fn kept(before: &[NestedFieldRef], after: &[NestedFieldRef]) -> Vec<NestedFieldRef> {
    let merge = |field: &NestedFieldRef| match before.iter().find(|old| old.id == field.id) {
        Some(old) => Arc::new(kept_field(old, field)),
        None => field.clone(),
    };
    let mut fields: Vec<NestedFieldRef> = after.iter().map(merge).collect();
    let end = fields.iter().position(|field| field.name == schema::MESH_COLUMN).unwrap_or(fields.len());
    let foreign = before.iter().filter(|old| after.iter().all(|field| field.id != old.id));
    for (at, field) in foreign.enumerate() {
        fields.insert(end + at, Arc::new(NestedField { required: false, ..field.as_ref().clone() }));
    }
    fields
}

fn kept_field(before: &NestedField, after: &NestedField) -> NestedField {
    let field_type = match (before.field_type.as_ref(), after.field_type.as_ref()) {
        (Type::Primitive(there), Type::Primitive(wanted)) if widens(wanted, there) => Type::Primitive(there.clone()),
        (Type::Struct(there), Type::Struct(wanted)) => {
            Type::Struct(StructType::new(kept(there.fields(), wanted.fields())))
        }
        (Type::List(there), Type::List(wanted)) => {
            Type::List(ListType::new(Arc::new(kept_field(&there.element_field, &wanted.element_field))))
        }
        (Type::Map(there), Type::Map(wanted)) => Type::Map(MapType::new(
            Arc::new(kept_field(&there.key_field, &wanted.key_field)),
            Arc::new(kept_field(&there.value_field, &wanted.value_field)),
        )),
        (_, wanted) => wanted.clone(),
    };
    NestedField { field_type: Box::new(field_type), required: before.required && after.required, ..after.clone() }
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
