//! Which types a table can be partitioned by, and in which place of a document: every pair, at every place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::document;
use mesh_contract::{ProductContract, Severity, parse};

/// A type as a property writes it, and the transforms that the specification and the table's writer allow on it.
const TYPES: &[(&str, &str)] = &[
    ("logicalType: boolean", "identity"),
    ("logicalType: integer, logicalTypeOptions: {format: i32}", "identity bucket truncate"),
    ("logicalType: integer", "identity bucket truncate"),
    ("logicalType: number, logicalTypeOptions: {format: f32}", "identity"),
    ("logicalType: number", "identity"),
    ("logicalType: number, physicalType: 'decimal(38,10)'", "identity bucket truncate"),
    ("logicalType: date", "identity year month day bucket"),
    ("logicalType: time", "identity bucket"),
    ("logicalType: timestamp", "identity year month day hour bucket"),
    ("logicalType: timestamp, logicalTypeOptions: {timezone: false}", "identity year month day hour bucket"),
    ("logicalType: string", "identity bucket truncate"),
    ("logicalType: string, physicalType: uuid", "bucket"),
    ("logicalType: string, physicalType: binary", "identity bucket truncate"),
    ("logicalType: object, properties: [{name: x, logicalType: string}]", ""),
    ("logicalType: array, items: {logicalType: string}", ""),
    ("logicalType: map, map: {key: {logicalType: integer}, value: {logicalType: string}}", ""),
];

/// Transforms as they may be written, and what they are; nothing for what is none.
const TRANSFORMS: &[(&str, &str)] = &[
    ("identity", "identity"),
    ("year", "year"),
    ("months", "month"),
    ("day", "day"),
    ("hour", "hour"),
    ("'bucket[16]'", "bucket"),
    ("'bucket(1)'", "bucket"),
    ("'bucket[2147483647]'", "bucket"),
    ("'truncate[4]'", "truncate"),
    ("'truncate[2147483647]'", "truncate"),
    ("'bucket[0]'", ""),
    ("'bucket[2147483648]'", ""),
    ("'bucket[3000000000]'", ""),
    ("'bucket[-1]'", ""),
    ("bucket", ""),
    ("'truncate[0]'", ""),
    ("'truncate[3000000000]'", ""),
    ("'truncate[99999999999999999999]'", ""),
    ("'day[2]'", ""),
    ("weekly", ""),
    ("''", ""),
    ("5", ""),
    ("true", ""),
];

/// A name, where the property stands in the document, and whether a table can be partitioned by it.
const PLACES: &[(&str, &str, bool)] = &[
    ("  - {P}\n", "/schema/0/properties/0/", true),
    ("  - {name: a, logicalType: string}\n  - {P}\n", "/schema/0/properties/1/", true),
    ("  - {name: o, logicalType: object, properties: [{P}]}\n", "/schema/0/properties/0/properties/0/", false),
    ("  - {name: l, logicalType: array, items: {P}}\n", "/schema/0/properties/0/items/", false),
    (
        "  - {name: m, logicalType: map, map: {key: {logicalType: string}, value: {P}}}\n",
        "/schema/0/properties/0/map/value/",
        false,
    ),
];

const KAFKA: &str = "servers:\n- {server: k, type: kafka, host: h, format: avro}\n";

/// The offline verdict and admission agree, and each refusal is at its property with a remedy.
#[track_caller]
fn check(properties: &str, place: &str, admitted: bool) {
    for servers in [KAFKA, ""] {
        let text = document(properties, servers);
        let parsed = parse("f.yaml", &text);
        let errors: Vec<_> = parsed.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        let product = parsed.contracts().next().map(|contract| ProductContract::new(contract.clone()));
        assert_eq!(matches!(product, Some(Ok(_))), admitted, "{text}\n{product:?}");
        if !servers.is_empty() {
            assert_eq!(errors.is_empty(), admitted, "{text}\n{:#?}", parsed.findings);
        }
        for error in errors {
            assert!(error.path.starts_with(place) && !error.remedy.is_empty() && error.line > 5, "{text}\n{error:#?}");
        }
    }
}

#[test]
fn every_type_by_every_transform_at_every_place() {
    let mut admitted = 0;
    for (ty, allowed) in TYPES {
        for (written, transform) in TRANSFORMS {
            for (properties, place, is_top) in PLACES {
                let fits = *is_top && !transform.is_empty() && allowed.split(' ').any(|one| one == *transform);
                admitted += usize::from(fits);
                let partition = format!(
                    "name: p, {ty}, partitioned: true, customProperties: [{{property: partitionTransform, value: {written}}}]"
                );
                check(&properties.replace("{P}", &format!("{{{partition}}}")), place, fits);
            }
        }
        for (properties, place, is_top) in PLACES {
            let fits = *is_top && allowed.split(' ').any(|one| one == "identity");
            check(&properties.replace("{P}", &format!("{{name: p, {ty}, partitioned: true}}")), place, fits);
            let unused = format!("{{name: p, {ty}, customProperties: [{{property: partitionTransform, value: day}}]}}");
            check(&properties.replace("{P}", &unused), place, false);
            check(&properties.replace("{P}", &format!("{{name: p, {ty}}}")), place, true);
        }
    }
    assert_eq!(admitted, 126, "pairs at a top-level place");
}
