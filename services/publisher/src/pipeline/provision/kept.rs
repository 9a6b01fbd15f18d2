//! In: a table and the schema and partitioning that a contract asks for. Out: what of the table would not be kept. Pure.
//! Must never happen: a column that changes its type under files that were written with the old one. Compatibility is
//! asked of an active contract only; the table of a retired one is still there.

use iceberg::spec::{NestedField, PrimitiveType, Schema, Type, UnboundPartitionSpec};
use mesh_lakehouse::Table;

/// The first thing that the table has and would lose.
pub(super) fn difference(table: &Table, next: &Schema, partition: Option<&UnboundPartitionSpec>) -> Option<String> {
    columns(table.schema(), next).or_else(|| partitioning(table, partition))
}

fn columns(old: &Schema, next: &Schema) -> Option<String> {
    let ids = 1..=old.highest_field_id();
    ids.filter_map(|id| old.field_by_id(id)).find_map(|before| {
        let name = old.name_by_field_id(before.id).unwrap_or(&before.name);
        match next.field_by_id(before.id) {
            None => Some(format!("`{name}` would go")),
            Some(after) if after.required && !before.required => Some(format!("`{name}` may be null there")),
            Some(after) if !reads(before, after) => {
                Some(format!("`{name}` is {} there, and {} in the contract", before.field_type, after.field_type))
            }
            Some(_) => None,
        }
    })
}

/// Whether files with the one type can be read as the other: the same, or one of Iceberg's promotions.
fn reads(before: &NestedField, after: &NestedField) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (before.field_type.as_ref(), after.field_type.as_ref()) {
        (Type::Primitive(Int), Type::Primitive(Long)) | (Type::Primitive(Float), Type::Primitive(Double)) => true,
        (Type::Primitive(Decimal { precision, scale }), Type::Primitive(Decimal { precision: wider, scale: same })) => {
            wider >= precision && scale == same
        }
        (Type::Primitive(one), Type::Primitive(other)) => one == other,
        // Their fields have ids of their own, and are looked at one by one.
        (Type::Struct(_), Type::Struct(_)) | (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) => true,
        _ => false,
    }
}

fn partitioning(table: &Table, wanted: Option<&UnboundPartitionSpec>) -> Option<String> {
    let spec = table.metadata().default_partition_spec();
    let there = spec.fields().iter().map(|field| (field.source_id, field.transform)).collect::<Vec<_>>();
    let wanted = wanted.map(UnboundPartitionSpec::fields).unwrap_or_default();
    let wanted = wanted.iter().map(|field| (field.source_id, field.transform)).collect::<Vec<_>>();
    (there != wanted).then(|| "it is partitioned otherwise".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::StructType;

    use super::*;

    fn schema(fields: &[(i32, &str, PrimitiveType, bool)]) -> Schema {
        let field = |(id, name, of, required): &(i32, &str, PrimitiveType, bool)| {
            Arc::new(NestedField::new(*id, *name, Type::Primitive(of.clone()), *required))
        };
        let inner = Type::Struct(StructType::new(fields.iter().map(field).collect()));
        let nest = Arc::new(NestedField::optional(1, "nest", inner));
        Schema::builder().with_fields([nest]).build().unwrap()
    }

    fn check(after: &[(i32, &str, PrimitiveType, bool)], expected: Option<&str>) {
        let before = schema(&[(2, "a", PrimitiveType::Int, true), (3, "b", PrimitiveType::String, false)]);
        assert_eq!(columns(&before, &schema(after)).as_deref(), expected);
    }

    #[test]
    fn a_table_keeps_what_it_has() {
        use PrimitiveType::{Int, Long, String};
        check(&[(2, "a", Int, true), (3, "b", String, false)], None);
        check(&[(2, "a", Long, false), (3, "c", String, false), (4, "d", Int, false)], None);
        check(&[(2, "a", Int, true)], Some("`nest.b` would go"));
        check(
            &[(2, "a", String, true), (3, "b", String, false)],
            Some("`nest.a` is int there, and string in the contract"),
        );
        check(&[(2, "a", Int, true), (3, "b", String, true)], Some("`nest.b` may be null there"));
    }
}
