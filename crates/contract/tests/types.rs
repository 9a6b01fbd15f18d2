//! The one type table: every type, nested ones too, goes to Avro, Arrow and Iceberg and comes back as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use arrow_schema::{DataType, TimeUnit};
use common::contract;
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_contract::types::{arrow, avro};
use mesh_contract::{Field, Type};
use proptest::prelude::*;

fn primitive() -> impl Strategy<Value = Type> {
    prop_oneof![
        Just(Type::Boolean),
        Just(Type::Int),
        Just(Type::Long),
        Just(Type::Float),
        Just(Type::Double),
        (1u8..=38)
            .prop_flat_map(|p| (Just(p), 0..=p))
            .prop_map(|(precision, scale)| Type::Decimal { precision, scale }),
        Just(Type::Date),
        Just(Type::Time),
        Just(Type::Timestamp),
        Just(Type::TimestampTz),
        Just(Type::String),
        Just(Type::Uuid),
        Just(Type::Binary),
    ]
}

fn fields(ty: impl Strategy<Value = Type>) -> impl Strategy<Value = Vec<Field>> {
    let doc = prop::option::of("[ -~é]{0,12}");
    prop::collection::vec((ty, any::<bool>(), doc), 1..5).prop_map(|columns| {
        let named = columns.into_iter().enumerate();
        named.map(|(i, (ty, required, doc))| Field { name: format!("f{i}"), ty, required, doc }).collect()
    })
}

fn any_type() -> impl Strategy<Value = Type> {
    primitive().prop_recursive(3, 24, 4, |inner| {
        let part = |name: &'static str, inner: BoxedStrategy<Type>| {
            (inner, any::<bool>()).prop_map(move |(ty, required)| Field {
                name: name.to_owned(),
                ty,
                required,
                doc: None,
            })
        };
        prop_oneof![
            fields(inner.clone()).prop_map(Type::Struct),
            part("element", inner.clone().boxed()).prop_map(|element| Type::List(Box::new(element))),
            (primitive(), part("value", inner.boxed()))
                .prop_map(|(key, value)| Type::Map(Box::new(Field::required("key", key)), Box::new(value))),
        ]
    })
}

/// Arrow carries no documentation.
fn without_docs(fields: &[Field]) -> Vec<Field> {
    let strip = |f: &Field| Field { doc: None, ty: bare(&f.ty), ..f.clone() };
    fields.iter().map(strip).collect()
}

fn bare(ty: &Type) -> Type {
    match ty {
        Type::Struct(fields) => Type::Struct(without_docs(fields)),
        Type::List(element) => Type::List(Box::new(without_docs(&[(**element).clone()]).remove(0))),
        Type::Map(key, value) => Type::Map(key.clone(), Box::new(without_docs(&[(**value).clone()]).remove(0))),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn avro_and_back(fields in fields(any_type())) {
        let schema = avro::schema("domain", "object", &fields).to_string();
        prop_assert_eq!(avro::fields(&schema).unwrap(), fields.clone());
        let verdict = avro::covers(&fields, &schema).unwrap();
        prop_assert!(verdict.covered && verdict.unknown.is_empty(), "{:?}", verdict);
    }

    /// Another's parser reads what we write.
    #[test]
    fn apache_avro_reads_our_schemas(fields in fields(any_type())) {
        let schema = avro::schema("domain", "object", &fields).to_string();
        prop_assert!(apache_avro::Schema::parse_str(&schema).is_ok(), "{}", schema);
    }

    #[test]
    fn arrow_and_back(fields in fields(any_type())) {
        let schema = arrow::schema(&fields);
        let back: Vec<Field> = schema.fields().iter().map(|f| arrow::from_field(f).unwrap()).collect();
        prop_assert_eq!(back, without_docs(&fields));
    }

    #[test]
    fn iceberg_and_back(fields in fields(any_type())) {
        let schema = IcebergSchema::assign(fields, None);
        prop_assert_eq!(IcebergSchema::from_json(&schema.to_json(3), None).unwrap(), schema.clone());
        let mut ids: Vec<i32> = schema.ids.values().copied().collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (1..=schema.last_column_id).collect::<Vec<_>>());
    }

    /// Ids stay with their path, whatever is added or dropped, and are never given twice.
    #[test]
    fn ids_survive_evolution(before in fields(any_type()), after in fields(any_type())) {
        let first = IcebergSchema::assign(before, None);
        let second = IcebergSchema::assign(after, Some(&first));
        for (path, id) in &second.ids {
            match first.id(path) {
                Some(old) => prop_assert_eq!(*id, old),
                None => prop_assert!(*id > first.last_column_id),
            }
        }
    }

    #[test]
    fn every_arrow_field_has_its_id(fields in fields(any_type())) {
        let schema = IcebergSchema::assign(fields, None);
        let mut count = 0;
        count_ids(arrow::schema_with_ids(&schema).fields(), &mut count);
        prop_assert_eq!(count, schema.ids.len());
    }
}

fn count_ids(fields: &arrow_schema::Fields, count: &mut usize) {
    for field in fields {
        *count += usize::from(field.metadata().contains_key(arrow::FIELD_ID));
        match field.data_type() {
            DataType::Struct(inner) => count_ids(inner, count),
            DataType::List(element) => count_ids(&vec![element.clone()].into(), count),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(inner) => count_ids(inner, count),
                other => panic!("{other}"),
            },
            _ => {}
        }
    }
}

#[track_caller]
fn types(property: &str, ty: Type, arrow_type: DataType) {
    let contract = contract(&format!("  - {{name: c, {property}}}\n"), "");
    assert_eq!(contract.columns()[0].ty, ty, "{property}");
    assert_eq!(contract.arrow_schema().field(0).data_type(), &arrow_type);
}

#[test]
fn odcs_types() {
    let decimal = |precision, scale| Type::Decimal { precision, scale };
    types("logicalType: integer", Type::Long, DataType::Int64);
    types("logicalType: integer, physicalType: int", Type::Long, DataType::Int64);
    types("logicalType: integer, logicalTypeOptions: {format: i16}", Type::Int, DataType::Int32);
    types("logicalType: integer, logicalTypeOptions: {format: u32}", Type::Long, DataType::Int64);
    types("logicalType: integer, logicalTypeOptions: {format: u64}", decimal(20, 0), DataType::Decimal128(20, 0));
    types("logicalType: number", Type::Double, DataType::Float64);
    types("logicalType: number, physicalType: decimal", Type::Double, DataType::Float64);
    types("logicalType: number, physicalType: 'DECIMAL(18,2)'", decimal(18, 2), DataType::Decimal128(18, 2));
    types("logicalType: number, logicalTypeOptions: {format: f32}", Type::Float, DataType::Float32);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(arrow::UTC.into()));
    types("logicalType: timestamp", Type::TimestampTz, utc);
    types(
        "logicalType: timestamp, logicalTypeOptions: {timezone: false}",
        Type::Timestamp,
        DataType::Timestamp(TimeUnit::Microsecond, None),
    );
    types("logicalType: date", Type::Date, DataType::Date32);
    types("logicalType: time", Type::Time, DataType::Time64(TimeUnit::Microsecond));
    types("logicalType: boolean", Type::Boolean, DataType::Boolean);
    types("logicalType: string", Type::String, DataType::Utf8);
    types("logicalType: string, logicalTypeOptions: {format: uuid}", Type::String, DataType::Utf8);
    types("logicalType: string, physicalType: uuid", Type::Uuid, DataType::FixedSizeBinary(16));
    types("logicalType: string, physicalType: bytes", Type::Binary, DataType::Binary);
    types("physicalType: varchar(3)", Type::String, DataType::Utf8);
    types("physicalType: bigint", Type::Long, DataType::Int64);
}

/// What a writer's Avro says of field `c`, and whether a property covers it.
#[track_caller]
fn covers(property: &str, writer: &str, expected: Result<(), &str>) {
    let contract = contract(&format!("  - {{name: c, {property}}}\n"), "");
    let schema = format!(r#"{{"type": "record", "name": "w", "fields": [{{"name": "c", "type": {writer}}}]}}"#);
    let verdict = contract.covers(&schema).unwrap();
    match expected {
        Ok(()) => assert!(verdict.covered, "{verdict:?}"),
        Err(words) => assert!(verdict.problems.iter().any(|p| p.contains(words)), "{verdict:?}"),
    }
}

#[test]
fn writers_schemas() {
    covers("logicalType: integer", r#""int""#, Ok(()));
    covers("logicalType: integer", r#"["null", "long"]"#, Ok(()));
    covers("logicalType: integer, required: true", r#"["null", "long"]"#, Err("allows null"));
    covers("logicalType: number", r#""long""#, Err("the contract has double, the schema long"));
    covers("logicalType: number", r#""float""#, Ok(()));
    covers("logicalType: integer", r#""string""#, Err("the schema string"));
    covers("logicalType: string", r#"{"type": "enum", "name": "e", "symbols": ["A"]}"#, Ok(()));
    covers("logicalType: string", r#"["string", "long"]"#, Err("a union of several types"));
    covers("logicalType: timestamp", r#""long""#, Err("timestamptz"));
    covers("logicalType: timestamp", r#"{"type": "long", "logicalType": "timestamp-millis"}"#, Ok(()));
    covers("logicalType: timestamp", r#"{"type": "long", "logicalType": "timestamp-nanos"}"#, Err("timestamp-nanos"));
    covers("logicalType: timestamp", r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#, Err("local-"));
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    covers("logicalType: number, physicalType: 'decimal(10,2)'", decimal, Ok(()));
    covers("logicalType: number, physicalType: 'decimal(8,2)'", decimal, Err("decimal(9, 2)"));
    let items =
        r#"{"type": "array", "items": {"type": "record", "name": "i", "fields": [{"name": "x", "type": "int"}]}}"#;
    covers(
        "logicalType: array, items: {logicalType: object, properties: [{name: x, logicalType: integer}]}",
        items,
        Ok(()),
    );
    covers(
        "logicalType: array, items: {logicalType: object, properties: [{name: y, logicalType: integer, required: true}]}",
        items,
        Err("c.element.y: required"),
    );
    covers(
        "logicalType: map, map: {key: {logicalType: string}, value: {logicalType: integer}}",
        r#"{"type": "map", "values": "long"}"#,
        Ok(()),
    );
}

#[test]
fn unknown_fields_are_listed_and_broken_schemas_refused() {
    let contract = contract("  - {name: c, logicalType: string}\n", "");
    let wider =
        r#"{"type": "record", "name": "w", "fields": [{"name": "c", "type": "string"}, {"name": "d", "type": "int"}]}"#;
    let verdict = contract.covers(wider).unwrap();
    assert_eq!((verdict.covered, verdict.unknown), (true, vec!["d".to_owned()]));
    for broken in [
        "{",
        "\"string\"",
        r#"{"type": "record", "name": "r", "fields": [{"name": "c", "type": "nope"}]}"#,
        r#"{"type": "record", "name": "r", "fields": [{"name": "c", "type": "r"}]}"#,
        r#"{"type": "record", "name": "r", "fields": [{"name": "d", "type": {"type": "array", "items": "null"}}]}"#,
        r#"{"type": "record", "name": "r", "fields": [{"name": "d", "type": {"type": "array", "items": {"type": "record", "name": "e", "fields": []}}}]}"#,
    ] {
        assert_eq!(contract.covers(broken).unwrap_err().code(), "MESH-CONTRACT-0050");
    }
}

/// Each name is the one before it twice: 2^30 types in 2 kB of text.
#[test]
fn names_within_names_are_bounded() {
    let nested = (1..30).fold(r#"{"type":"record","name":"r0","fields":[]}"#.to_owned(), |inner, i| {
        format!(
            r#"{{"type":"record","name":"r{i}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"r{0}"}}]}}"#,
            i - 1
        )
    });
    let error = contract("  - {name: c, logicalType: string}\n", "").covers(&nested).unwrap_err();
    assert!(error.code() == "MESH-CONTRACT-0050" && error.to_string().contains("more than 10000 types"), "{error}");
    let wide: Vec<String> = (0..2_000).map(|i| format!(r#"{{"name":"f{i}","type":["null","string"]}}"#)).collect();
    let wide = format!(r#"{{"type":"record","name":"r","fields":[{}]}}"#, wide.join(","));
    assert!(contract("  - {name: c, logicalType: string}\n", "").covers(&wide).unwrap().covered);
}

#[test]
fn records_use_the_names_as_written() {
    let contract = contract(
        "  - {name: UniqueID, logicalType: string, required: true}\n  - {name: air time, logicalType: integer}\n",
        "",
    );
    let schema = contract.avro_schema().to_string();
    let expected = r#"{"type":"record","name":"orders","fields":[{"name":"UniqueID","type":"string"},{"name":"air_time","type":["null","long"],"default":null}],"namespace":"sales"}"#;
    assert_eq!(schema, expected);
}
