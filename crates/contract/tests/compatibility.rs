//! The verdict on two contracts, case by case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::contract;
use mesh_contract::{Bump, compare};

/// Properties before and after, and the changes as `path kind`, breaking ones with a `!`.
#[track_caller]
fn check(old: &str, new: &str, expected: &[&str], bump: Bump) {
    let indent = |lines: &str| lines.lines().map(|line| format!("  - {{{line}}}\n")).collect::<String>();
    let verdict = compare(&contract(&indent(old), ""), &contract(&indent(new), ""));
    let changes: Vec<String> = verdict
        .changes
        .iter()
        .map(|c| {
            format!(
                "{} {}{}",
                c.path,
                serde_json::to_value(c.kind).unwrap().as_str().unwrap(),
                if c.breaking { "!" } else { "" }
            )
        })
        .collect();
    assert_eq!(changes, expected, "{verdict:?}");
    assert_eq!(verdict.required_bump, bump);
    assert_eq!(verdict.is_compatible(), bump != Bump::Major);
}

const A: &str = "name: a, logicalType: integer";

#[test]
fn columns() {
    check(A, A, &[], Bump::Patch);
    check(A, &format!("{A}\nname: b, logicalType: string"), &["b added"], Bump::Minor);
    check(A, &format!("{A}\nname: b, logicalType: string, required: true"), &["b added!"], Bump::Major);
    check(&format!("{A}\nname: b, logicalType: string"), A, &["b removed!"], Bump::Major);
    check(A, "name: a, logicalType: string", &["a type!"], Bump::Major);
    check(A, "name: a, logicalType: integer, logicalTypeOptions: {format: i32}", &["a type!"], Bump::Major);
    check(A, "name: A, logicalType: integer", &["a type!"], Bump::Major);
    check(A, "name: a, logicalType: integer, required: true", &["a required!"], Bump::Major);
    check("name: a, logicalType: integer, required: true", A, &["a required"], Bump::Minor);
    check(A, "name: a, logicalType: integer, description: x", &["a documentation"], Bump::Patch);
}

#[test]
fn constraints() {
    let a = |options: &str| format!("{A}, logicalTypeOptions: {{{options}}}");
    let narrowed = |old: &str, new: &str| {
        check(&a(old), &a(new), &["a narrowed!"], Bump::Major);
        check(&a(new), &a(old), &["a widened"], Bump::Minor);
    };
    narrowed("", "minimum: 1");
    narrowed("minimum: 1", "minimum: 2");
    narrowed("minimum: 1", "exclusiveMinimum: 1");
    narrowed("maximum: 2", "maximum: 1");
    narrowed("maximum: 2", "exclusiveMaximum: 2");
    // The same values in other words.
    for (old, new) in [("exclusiveMinimum: 0", "minimum: 1"), ("maximum: 9", "exclusiveMaximum: 10")] {
        check(&a(old), &a(new), &[" documentation"], Bump::Patch);
    }
    narrowed("multipleOf: 5", "multipleOf: 10");
    check(&a("multipleOf: 4"), &a("multipleOf: 6"), &["a narrowed!"], Bump::Major);
    let s = |rest: &str| format!("name: s, logicalType: string{rest}");
    check(&s(", enum: [{value: x}, {value: y}]"), &s(", enum: [{value: x}]"), &["s narrowed!"], Bump::Major);
    check(&s(", enum: [{value: x}]"), &s(", enum: [{value: y}, {value: x}]"), &["s widened"], Bump::Minor);
    check(
        &s(", logicalTypeOptions: {pattern: a}"),
        &s(", logicalTypeOptions: {pattern: b}"),
        &["s narrowed!"],
        Bump::Major,
    );
    check(&s(""), &s(", logicalTypeOptions: {minLength: 0}"), &[" documentation"], Bump::Patch);
    check(&s(""), &s(", logicalTypeOptions: {minLength: 1}"), &["s narrowed!"], Bump::Major);
    check(
        &s(", logicalTypeOptions: {maxLength: 3}"),
        &s(", logicalTypeOptions: {maxLength: 4}"),
        &["s widened"],
        Bump::Minor,
    );
}

#[test]
fn nested() {
    let o = |inside: &str| format!("name: o, logicalType: object, properties: [{inside}]");
    check(
        &o("{name: x, logicalType: date}"),
        &o("{name: x, logicalType: date}, {name: y, logicalType: date}"),
        &["o.y added"],
        Bump::Minor,
    );
    check(&o("{name: x, logicalType: date}"), &o("{name: x, logicalType: time}"), &["o.x type!"], Bump::Major);
    let l = |inside: &str| format!("name: l, logicalType: array, items: {{{inside}}}");
    check(&l("logicalType: string"), &l("logicalType: string, required: true"), &["l[] required!"], Bump::Major);
    check(
        &l("logicalType: string"),
        &o("{name: x, logicalType: date}").replace("name: o", "name: l"),
        &["l type!"],
        Bump::Major,
    );
}

#[test]
fn layout() {
    check(A, &format!("{A}, partitioned: true"), &[" layout!"], Bump::Major);
    let key = |position: &str| format!("{A}, required: true{position}");
    check(&key(""), &key(", primaryKey: true"), &[" layout!"], Bump::Major);
    let old = contract(&format!("  - {{{A}}}\n"), "");
    let json = contract(&format!("  - {{{A}}}\n"), "servers: [{server: k, type: kafka, host: h, format: json}]\n");
    assert!(!compare(&old, &json).is_compatible());
    let slow = contract(&format!("  - {{{A}}}\n"), "slaProperties: [{property: latency, value: 1, unit: d}]\n");
    assert_eq!(compare(&old, &slow).required_bump, Bump::Minor);
}

#[test]
fn versions_say_what_changed() {
    let old = contract(&format!("  - {{{A}}}\n"), "");
    let new = contract(&format!("  - {{{A}}}\n  - {{name: b, logicalType: string}}\n"), "");
    let verdict = compare(&old, &new);
    assert!(verdict.check_version("1.0.0", "1.1.0").is_ok());
    assert!(verdict.check_version("1.0.0", "2.0.0").is_ok());
    assert!(verdict.check_version("1.0.0", "1.0.1").unwrap_err().remedy().contains("`version: 1.1.0` or higher"));
    assert!(verdict.check_version("1.0.0", "1.0.0").unwrap_err().remedy().contains("`version: 1.1.0` or higher"));
    assert!(verdict.check_version("1.1.0", "1.0.0").unwrap_err().to_string().contains("before the active 1.1.0"));
    assert!(compare(&old, &old).check_version("1.0.0", "1.0.0").is_ok());
}
