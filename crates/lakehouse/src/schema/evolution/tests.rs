//! Contracts over tables that another engine changed: generated from the changes that it can make to each type.
#![allow(clippy::unwrap_used, clippy::panic)]

use iceberg::spec::PrimitiveType as P;
use mesh_contract::{Field, Type as T};

use super::*;

fn contract(fields: Vec<Field>) -> IcebergSchema {
    IcebergSchema::assign(fields, None)
}

fn table(fields: &[(i32, &str, Type, bool)]) -> Schema {
    let field = |(id, name, ty, required): &(i32, &str, Type, bool)| {
        Arc::new(NestedField::new(*id, *name, ty.clone(), *required))
    };
    let mut fields: Vec<NestedFieldRef> = fields.iter().map(field).collect();
    fields.push(Arc::new(mesh_column()));
    Schema::builder().with_fields(fields).build().unwrap()
}

fn next(current: &Schema, fields: Vec<Field>) -> Result<Schema> {
    build(&contract(fields), Some(current), 500)
}

fn primitive(ty: P) -> Type {
    Type::Primitive(ty)
}

#[test]
fn columns_of_another_engine_stay_and_are_optional() {
    let inner = StructType::new(vec![
        Arc::new(NestedField::optional(103, "x", primitive(P::Long))),
        Arc::new(NestedField::required(104, "theirs", primitive(P::Uuid))),
    ]);
    let current = table(&[
        (100, "a", primitive(P::Long), true),
        (101, "theirs", primitive(P::Fixed(3)), true),
        (102, "s", Type::Struct(inner), false),
    ]);
    let s = T::Struct(vec![Field::optional("x", T::Long), Field::optional("y", T::Date)]);
    let next = next(&current, vec![Field::required("a", T::Long), Field::optional("s", s)]).unwrap();
    let found = |path: &str| next.field_by_name(path).map(|field| (field.id, field.required));
    assert_eq!(found("a"), Some((100, true)));
    assert_eq!(found("theirs"), Some((101, false)));
    assert_eq!(found("s.x"), Some((103, false)));
    assert_eq!(found("s.theirs"), Some((104, false)));
    assert_eq!(found("s.y"), Some((501, false)));
    assert_eq!(next.as_struct().fields().last().unwrap().name, MESH_COLUMN);
}

#[test]
fn a_type_is_widened_kept_or_refused() {
    let types = [
        (T::Boolean, P::Boolean),
        (T::Int, P::Int),
        (T::Long, P::Long),
        (T::Float, P::Float),
        (T::Double, P::Double),
        (T::Decimal { precision: 5, scale: 2 }, P::Decimal { precision: 5, scale: 2 }),
        (T::Decimal { precision: 9, scale: 2 }, P::Decimal { precision: 9, scale: 2 }),
        (T::Decimal { precision: 9, scale: 3 }, P::Decimal { precision: 9, scale: 3 }),
        (T::Date, P::Date),
        (T::Timestamp, P::Timestamp),
        (T::TimestampTz, P::Timestamptz),
        (T::String, P::String),
        (T::Uuid, P::Uuid),
        (T::Binary, P::Binary),
    ];
    let promotes = |from: &P, to: &P| {
        matches!((from, to), (P::Int, P::Long) | (P::Float, P::Double))
            || matches!((from, to), (P::Decimal { precision: 5, scale: 2 }, P::Decimal { precision: 9, scale: 2 }))
    };
    for (wanted, of_contract) in &types {
        for (_, of_table) in &types {
            let current = table(&[(100, "a", primitive(of_table.clone()), false)]);
            let found = next(&current, vec![Field::optional("a", wanted.clone())]);
            let expected = match () {
                () if of_contract == of_table || promotes(of_contract, of_table) => Some(of_table),
                () if promotes(of_table, of_contract) => Some(of_contract),
                () => None,
            };
            let found = found.map(|schema| schema.field_by_name("a").unwrap().field_type.as_primitive_type().cloned());
            assert_eq!(found.ok().flatten().as_ref(), expected, "{wanted} on {of_table}");
        }
    }
}

#[test]
fn a_name_that_another_engine_gave_to_another_kind_is_refused_with_a_remedy() {
    let current = table(&[(100, "a", primitive(P::String), false)]);
    let list = T::List(Box::new(Field::optional("element", T::String)));
    let error = next(&current, vec![Field::optional("a", list)]).unwrap_err();
    assert_eq!(error.code(), "MESH-LAKEHOUSE-0019");
    assert!(error.to_string().contains("name the contract's column otherwise"), "{error}");
}

#[test]
fn a_table_of_the_version_before_goes_on() {
    let required = |field: NestedFieldRef| Arc::new(NestedField { required: true, ..field.as_ref().clone() });
    let Type::Struct(mesh) = mesh_column().field_type.as_ref().clone() else { panic!() };
    let mesh = StructType::new(mesh.fields().iter().cloned().map(required).collect());
    let fields = vec![
        Arc::new(NestedField::optional(100, "a", primitive(P::Long))),
        Arc::new(NestedField::optional(1, MESH_COLUMN, Type::Struct(mesh))),
    ];
    let before = Schema::builder().with_fields(fields).build().unwrap();
    let after = next(&before, vec![Field::optional("a", T::Long)]).unwrap();
    assert_eq!(after.field_id_to_name_map(), before.field_id_to_name_map());
    assert!(!after.field_by_name("_mesh.topic").unwrap().required);
}
