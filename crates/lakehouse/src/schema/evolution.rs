//! A contract's columns as the next schema of a table that other engines may have changed.
//!
//! In: the contract's columns, the table's schema if there is one. Out: the next schema, `_mesh` last.
//! Never: an id given twice, a column of another engine lost, a type narrowed.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type};
use mesh_contract::types::iceberg::IcebergSchema;

use super::{MESH_COLUMN, mesh_column};
use crate::error::{LakehouseError, Result};

pub(super) fn build(columns: &IcebergSchema, current: Option<&Schema>, last_id: i32) -> Result<Schema> {
    let parsed: Schema = serde_json::from_value(columns.to_json(0)).map_err(|e| LakehouseError::Schema {
        what: "the contract's Iceberg schema".to_owned(),
        source: Some(Box::new(e)),
    })?;
    let mut next = Next { current, last_id };
    let mut fields = next.fields(parsed.as_struct().fields(), "")?;
    if columns.fields.iter().any(|field| field.name == MESH_COLUMN) {
        return Err(refused(format!("the contract has a column `{MESH_COLUMN}`, which is the mesh's own")));
    }
    fields.retain(|field| field.name != MESH_COLUMN);
    fields.push(Arc::new(mesh_column()));
    let schema =
        Schema::builder().with_fields(fields).build().map_err(|e| LakehouseError::schema("the table's schema", e))?;
    let identifiers = identifiers(&parsed, &schema);
    schema
        .into_builder()
        .with_identifier_field_ids(identifiers)
        .build()
        .map_err(|e| LakehouseError::schema("the table's schema", e))
}

/// The contract's identifier fields by the table's ids. One that the table holds as optional cannot be one.
fn identifiers(parsed: &Schema, schema: &Schema) -> Vec<i32> {
    let names = parsed.identifier_field_ids().filter_map(|id| parsed.name_by_field_id(id));
    let fields = names.filter_map(|name| schema.field_by_name(name));
    fields.filter(|field| field.required).map(|field| field.id).collect()
}

fn refused(what: String) -> LakehouseError {
    LakehouseError::Schema { what, source: None }
}

/// Gives ids by path: the current schema's, or the next free one.
struct Next<'a> {
    current: Option<&'a Schema>,
    last_id: i32,
}

impl Next<'_> {
    /// The contract's fields of a struct, then those that the table alone has.
    fn fields(&mut self, contract: &[NestedFieldRef], parent: &str) -> Result<Vec<NestedFieldRef>> {
        let mut fields = contract.iter().map(|field| self.field(field, parent)).collect::<Result<Vec<_>>>()?;
        let is_foreign = |field: &&NestedFieldRef| contract.iter().all(|known| known.name != field.name);
        let foreign = self.current_fields(parent).into_iter().filter(|field| is_foreign(&field));
        // Nothing feeds it, so it cannot be required.
        fields.extend(foreign.map(|field| Arc::new(NestedField { required: false, ..field.as_ref().clone() })));
        Ok(fields)
    }

    fn current_fields(&self, parent: &str) -> Vec<NestedFieldRef> {
        let Some(current) = self.current else { return Vec::new() };
        match parent {
            "" => current.as_struct().fields().to_vec(),
            path => match current.field_by_name(path).map(|field| field.field_type.as_ref()) {
                Some(Type::Struct(inner)) => inner.fields().to_vec(),
                _ => Vec::new(),
            },
        }
    }

    fn field(&mut self, field: &NestedField, parent: &str) -> Result<NestedFieldRef> {
        let path = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
        let current = self.current.and_then(|schema| schema.field_by_name(&path)).cloned();
        let id = current.as_ref().map_or_else(|| self.new_id(), |field| field.id);
        let ty = self.nested(&field.field_type, current.as_ref().map(|field| field.field_type.as_ref()), &path)?;
        let required = field.required && current.is_none_or(|current| current.required);
        Ok(Arc::new(NestedField { id, required, field_type: Box::new(ty), ..field.clone() }))
    }

    fn new_id(&mut self) -> i32 {
        self.last_id += 1;
        self.last_id
    }

    fn nested(&mut self, ty: &Type, current: Option<&Type>, path: &str) -> Result<Type> {
        let clash = |found: &Type| {
            refused(format!(
                "the column `{path}` is {found} in the table, which another engine made so, and {ty} in the contract: \
                 name the contract's column otherwise, or drop the table's"
            ))
        };
        Ok(match (ty, current) {
            (Type::Primitive(wanted), None) => Type::Primitive(wanted.clone()),
            (Type::Primitive(wanted), Some(Type::Primitive(found))) => {
                let wider = wider(wanted, found).ok_or_else(|| clash(&Type::Primitive(found.clone())))?;
                Type::Primitive(wider.clone())
            }
            (Type::Struct(inner), None | Some(Type::Struct(_))) => {
                Type::Struct(StructType::new(self.fields(inner.fields(), path)?))
            }
            (Type::List(list), None | Some(Type::List(_))) => {
                Type::List(ListType::new(self.field(&list.element_field, path)?))
            }
            (Type::Map(map), None | Some(Type::Map(_))) => {
                Type::Map(MapType::new(self.field(&map.key_field, path)?, self.field(&map.value_field, path)?))
            }
            (_, Some(found)) => return Err(clash(found)),
        })
    }
}

/// Of two types the one that Iceberg promotes the other to.
fn wider<'a>(a: &'a PrimitiveType, b: &'a PrimitiveType) -> Option<&'a PrimitiveType> {
    use PrimitiveType as P;
    let promotes = |from: &P, to: &P| match (from, to) {
        (P::Int, P::Long) | (P::Float, P::Double) => true,
        (P::Decimal { precision, scale }, P::Decimal { precision: wider, scale: same }) => {
            scale == same && precision <= wider
        }
        (same, other) => same == other,
    };
    match (promotes(a, b), promotes(b, a)) {
        (true, _) => Some(b),
        (_, true) => Some(a),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
