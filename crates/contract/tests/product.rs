//! A contract as a mesh runs it: names, topic, key, partition, promises, constraints; and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{contract, document};
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_contract::{
    ContractError, ProductContract, RuleKind, StartFrom, Transform, Type, UpkeepSettings, ValueFormat, parse,
    parse_bytes,
};
use pretty_assertions::assert_eq;

const FLIGHTS: &str = "
apiVersion: v3.2.0
kind: DataContract
id: flights
version: 2.1.0
status: active
domain: Operations
dataProduct: flights
servers:
- {server: k, type: kafka, host: 'localhost:9092', format: json}
team:
  name: ops
  members:
  - {username: amy, role: Owner, dateOut: '2020-01-01'}
  - {username: bob, role: Owner}
schema:
- name: Flights
  physicalType: topic
  physicalName: operations.flights.v2
  customProperties:
  - {property: closed, value: true}
  properties:
  - {name: year, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 2}
  - {name: Carrier, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1, enum: [{value: UA}, {value: AA}]}
  - {name: arr_time, logicalType: integer, logicalTypeOptions: {minimum: 0, maximum: 2359}}
  - name: time_hour
    logicalType: timestamp
    partitioned: true
    partitionKeyPosition: 1
    customProperties: [{property: partitionTransform, value: day}]
  - name: tail num
    logicalType: object
    properties: [{name: code, logicalType: string, required: true, logicalTypeOptions: {pattern: '^N', maxLength: 6}}]
  - {name: total, logicalType: number, semanticType: measure}
slaProperties:
- {property: latency, value: 2, unit: h, element: Flights.time_hour}
- {property: retention, value: 90, unit: d}
";

#[test]
fn a_product_knows_its_places() {
    let flights = ProductContract::parse("flights.yaml", FLIGHTS).unwrap();
    assert_eq!(flights.product().to_string(), "operations.flights");
    assert_eq!(flights.table().to_string(), "operations.flights_v2");
    assert_eq!(flights.dead_letter_table().to_string(), "operations.flights_v2_dead_letters");
    assert_eq!(
        (flights.topic(), flights.schema_subject().as_str()),
        ("operations.flights.v2", "operations.flights.v2-value")
    );
    assert_eq!(flights.value_format(), ValueFormat::Json);
    assert_eq!(flights.owner(), Some("bob"));
    assert!(flights.is_closed() && !flights.is_upsert());
}

#[test]
fn columns_keys_and_partitions() {
    let flights = ProductContract::parse("flights.yaml", FLIGHTS).unwrap();
    let columns: Vec<(&str, &str)> = flights.columns().iter().map(|c| (c.name.as_str(), c.record_name())).collect();
    let expected = [
        ("year", "year"),
        ("carrier", "Carrier"),
        ("arr_time", "arr_time"),
        ("time_hour", "time_hour"),
        ("tail_num", "tail_num"),
    ];
    assert_eq!(columns, expected);
    let keys: Vec<&str> = flights.record_key_columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(keys, ["carrier", "year"]);
    let spec = &flights.partition_spec().fields;
    assert_eq!((spec[0].name.as_str(), spec[0].transform), ("time_hour_day", Transform::Day));
    assert_eq!(flights.column("time_hour").unwrap().ty, Type::TimestampTz);
}

#[test]
fn promises() {
    let flights = ProductContract::parse("flights.yaml", FLIGHTS).unwrap();
    assert_eq!(flights.freshness(), Some(Duration::from_secs(7_200)));
    assert_eq!(flights.retention(), Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(flights.event_time_column(), Some("time_hour"));
}

#[test]
fn hard_constraints_have_places() {
    let flights = ProductContract::parse("flights.yaml", FLIGHTS).unwrap();
    let rules: Vec<String> =
        flights.hard_constraints().iter().map(|c| format!("{} {}", c.path, c.rule.word())).collect();
    let expected = [
        "year required",
        "carrier required",
        "carrier enum",
        "arr_time minimum",
        "arr_time maximum",
        "tail_num.code required",
        "tail_num.code maxLength",
        "tail_num.code pattern",
    ];
    assert_eq!(rules, expected);
}

#[test]
fn iceberg_ids_stay_by_path() {
    let first = contract(
        "  - {name: a, logicalType: string}\n  - {name: b, logicalType: object, properties: [{name: x, logicalType: date}]}\n",
        "",
    );
    let before = first.iceberg_schema(None);
    assert_eq!((before.id("a"), before.id("b"), before.id("b.x")), (Some(1), Some(2), Some(3)));
    let second = contract(
        "  - {name: c, logicalType: string}\n  - {name: b, logicalType: object, properties: [{name: y, logicalType: date}, {name: x, logicalType: date}]}\n",
        "",
    );
    let after = second.iceberg_schema(Some(&before));
    assert_eq!((after.id("a"), after.id("b"), after.id("b.x")), (None, Some(2), Some(3)));
    assert_eq!((after.id("c"), after.id("b.y"), after.last_column_id), (Some(4), Some(5), 5));
    assert_eq!(IcebergSchema::from_json(&after.to_json(1), None).unwrap(), after);
}

#[test]
fn a_document_written_back_is_the_same_contract() {
    let flights = ProductContract::parse("flights.yaml", FLIGHTS).unwrap();
    let again = ProductContract::parse("flights.json", &flights.contract().to_json()).unwrap();
    assert_eq!(again.contract().document, flights.contract().document);
    assert_eq!(again.iceberg_schema(None), flights.iceberg_schema(None));
}

/// As `mesh apply` judges it.
fn admit(text: &str) -> Result<ProductContract, ContractError> {
    ProductContract::admit("f", text)
}

#[track_caller]
fn refuses(properties: &str, rest: &str, code: &str, message: &str) {
    let text = document(properties, rest);
    let error = admit(&text).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    let chain = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(chain.contains(message), "{chain}");
}

#[test]
fn what_a_mesh_cannot_run_is_refused() {
    let a = "  - {name: a, logicalType: string}\n";
    refuses("  - {name: a}\n", "", "MESH-CONTRACT-0043", "add `logicalType`");
    refuses("  - {name: a, logicalType: array}\n", "", "MESH-CONTRACT-0043", "without `items`");
    refuses("  - {name: 1a, logicalType: string}\n", "", "MESH-CONTRACT-0043", "start with a letter");
    refuses("  - {name: _mesh, logicalType: string}\n", "", "MESH-CONTRACT-0043", "reserved");
    refuses(
        "  - {name: a, logicalType: timestamp, logicalTypeOptions: {defaultTimezone: Asia/Tokyo}}\n",
        "",
        "MESH-CONTRACT-0043",
        "only UTC",
    );
    let avro = |format: &str| format!("servers:\n- {{server: k, type: kafka, host: h, format: {format}}}\n");
    refuses(a, &avro("protobuf"), "MESH-CONTRACT-0044", "write avro or json");
    refuses(
        "  - {name: a, logicalType: date, logicalTypeOptions: {format: dd.MM.yyyy}}\n",
        &avro("json"),
        "MESH-CONTRACT-0044",
        "ISO 8601",
    );
    for inside in [
        "array, items: {logicalType: date, logicalTypeOptions: {format: dd.MM.yyyy}}",
        "map, map: {key: {logicalType: string}, value: {logicalType: time, logicalTypeOptions: {format: hh a}}}",
    ] {
        let properties = format!("  - {{name: a, logicalType: {inside}}}\n");
        refuses(&properties, &avro("json"), "MESH-CONTRACT-0044", "ISO 8601");
    }
    let partitioned = |transform: &str| {
        format!(
            "  - {{name: a, logicalType: string, partitioned: true, customProperties: [{{property: partitionTransform, value: {transform}}}]}}\n"
        )
    };
    refuses(&partitioned("day"), "", "MESH-CONTRACT-0044", "cannot be partitioned by day");
    refuses(&partitioned("weekly"), "", "MESH-CONTRACT-0044", "no partition transform");
}

/// `mesh validate` says what `mesh apply` will not take, where it is.
#[test]
fn what_a_mesh_cannot_type_is_a_doubt() {
    let parsed = parse("f", &document("  - {name: a, logicalType: number, physicalType: 'numeric(300,2)'}\n", ""));
    let [finding] = parsed.findings.as_slice() else { panic!("{:?}", parsed.findings) };
    assert!(parsed.is_valid() && finding.message.contains("up to 38 digits"), "{finding}");
    assert_eq!((finding.code, finding.path.as_str()), ("MESH-CONTRACT-0043", "/schema/0/properties/0"));
}

#[test]
fn promises_by_any_of_their_names() {
    let with = |sla: &str| document("  - {name: a, logicalType: string}\n", &format!("slaProperties: [{sla}]\n"));
    let contract =
        ProductContract::parse("f", &with("{property: RE, value: 3, unit: d}, {property: Latency, value: 1, unit: h}"));
    let contract = contract.unwrap();
    assert_eq!(contract.retention(), Some(Duration::from_secs(3 * 86_400)));
    assert_eq!(contract.freshness(), Some(Duration::from_secs(3_600)));
    let twice = with("{property: retention, value: 90, unit: d}, {property: re, value: 10, unit: y}");
    let error = ProductContract::parse("f", &twice).unwrap_err();
    assert!(error.to_string().contains("`retention` is there 2 times"), "{error}");
}

#[test]
fn rules_inside_lists_and_maps_are_rules_too() {
    let rule = "quality: [{metric: nullValues, mustBe: 0}]";
    let contract = contract(
        &format!(
            "  - {{name: a, logicalType: array, items: {{logicalType: string, {rule}}}}}\n  - {{name: b, logicalType: string, {rule}, unique: true}}\n"
        ),
        "",
    );
    let ids: Vec<&str> = contract.quality().iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["a.element.nullValues", "b.nullValues"]);
}

/// 3.0.x wrote `exclusiveMaximum: true` beside `maximum`, and named library rules by `rule`.
#[test]
fn what_3_0_said_is_understood() {
    let text = document(
        "  - {name: a, logicalType: integer, logicalTypeOptions: {maximum: 5, exclusiveMaximum: true}, quality: [{type: library, rule: nullCheck}, {rule: nullValues, mustBe: 0}]}\n",
        "",
    );
    let contract = ProductContract::parse("f", &text.replace("v3.2.0", "v3.0.2")).unwrap();
    let maximum = contract.columns()[0].constraints.maximum.clone().unwrap();
    assert!(!maximum.inclusive, "{maximum:?}");
    let kinds: Vec<bool> = contract.quality().iter().map(|r| matches!(r.kind, RuleKind::Custom { .. })).collect();
    assert_eq!(kinds, [true, false]);
    assert!(!parse("f", &text.replace("v3.2.0", "v3.1.0")).is_valid());
}

#[test]
fn one_contract_one_object() {
    let one = document("  - {name: a, logicalType: string}\n", "");
    let two_objects = format!("{one}- name: Other\n");
    assert!(parse("f", &two_objects).is_valid());
    let error = ProductContract::parse("f", &two_objects).unwrap_err();
    assert_eq!(error.code(), "MESH-CONTRACT-0040", "{error}");
    let twice = format!("{one}---\n{one}");
    assert!(matches!(ProductContract::parse("f", &twice), Err(ContractError::NotOneContract { found: 2 })));
    let no_domain = one.replace("domain: sales\n", "");
    assert_eq!(ProductContract::parse("f", &no_domain).unwrap_err().code(), "MESH-CONTRACT-0042");
    let no_name = one.replace("domain: sales\n", "domain: '42'\n");
    assert_eq!(ProductContract::parse("f", &no_name).unwrap_err().code(), "MESH-CONTRACT-0041");
}

#[test]
fn others_findings_have_places_too() {
    let parsed = parse("f.yaml", &document("  - {name: a, logicalType: string}\n", ""));
    let finding = parsed.contracts().next().unwrap().finding_at(
        "f.yaml",
        "MESH-POLICY-0011",
        "/schema/0/properties/0/classification",
        "m",
        "r",
    );
    assert_eq!((finding.line, finding.column), (13, 5));
}

#[test]
fn bytes_that_are_no_text_are_a_finding() {
    let finding = &parse_bytes("f", b"a: 1\nb: \xff").findings[0];
    assert_eq!((finding.code, finding.line, finding.column), ("MESH-CONTRACT-0001", 2, 4));
}

/// Every value of every setting: what is good is taken as it is meant, all else is refused by its name.
#[test]
fn settings_of_the_schema_object() {
    let parsed = |name: &str, value: &str| {
        let text = document("  - {name: a, logicalType: string}\n", "");
        let object = format!("- name: Orders\n  customProperties: [{{property: {name}, value: {value}}}]\n");
        assert!(text.contains("- name: Orders\n"), "{text}");
        admit(&text.replace("- name: Orders\n", &object))
    };
    let upkeep = |name: &str, value: &str| parsed(name, value).unwrap().upkeep();
    for (value, millis) in [("100ms", 100), ("1h", 3_600_000), ("2s", 2_000), ("'1m 30s'", 90_000)] {
        assert_eq!(upkeep("commitInterval", value).commit_interval, Some(Duration::from_millis(millis)));
    }
    assert_eq!(upkeep("startFrom", "earliest-available").start_from, StartFrom::EarliestAvailable);
    for (value, keep) in [("1", 1), ("'20'", 20), ("601", 601)] {
        assert_eq!(upkeep("minSnapshotsToKeep", value).snapshots_to_keep(), keep);
    }
    let none = ProductContract::parse("f", &document("  - {name: a, logicalType: string}\n", "")).unwrap().upkeep();
    assert_eq!((none, none.snapshots_to_keep()), (UpkeepSettings::default(), 600));
    let wrong =
        ["99ms", "61m", "5", "0", "-1", "true", "''", "1.5", "[1s]", "soon", "latest", "4294967296", "99999999999h"];
    for (name, good) in [("commitInterval", ""), ("startFrom", ""), ("minSnapshotsToKeep", "5")] {
        for value in wrong.iter().filter(|value| **value != good) {
            let error = parsed(name, value).unwrap_err();
            assert!(
                error.code() == "MESH-CONTRACT-0044" && error.to_string().contains(name),
                "{name}: {value}: {error}"
            );
        }
    }
}

/// What an earlier version admitted goes on: it is refused where it shall become active, and read where it is.
#[test]
fn active_contracts_of_an_earlier_version_are_read() {
    for properties in [
        "  - {name: a, logicalType: string, quality: [{}]}\n",
        "  - {name: a, logicalType: string, physicalType: uuid, partitioned: true}\n",
        "  - {name: a, logicalType: string, partitioned: true, customProperties: [{property: partitionTransform, value: 'truncate[3000000000]'}]}\n",
        "  - {name: a, logicalType: string, customProperties: [{property: partitionTransform, value: day}]}\n",
        "  - {name: a, logicalType: object, properties: [{name: b, logicalType: string, partitioned: true}]}\n",
        "  - {name: a, logicalType: array, items: {logicalType: string, primaryKey: true}}\n",
    ] {
        let text = document(properties, "");
        assert!(admit(&text).is_err(), "{text}");
        assert!(ProductContract::parse("f", &text).is_ok(), "{text}");
    }
}
