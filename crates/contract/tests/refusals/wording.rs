//! How findings read: with their place, once, as written, and bounded.

use mesh_contract::Severity;

use super::{HEAD, accepts, found, property, refuses, rule};

#[test]
fn places_are_those_of_the_mistake() {
    let finding =
        &found(&format!("{HEAD}{}", rule("type: sql, query: q, mustBe: 0, dimension: validity")), Severity::Error)[0];
    assert_eq!((finding.line, finding.column), (9, 90), "{finding}");
    let second = format!("{HEAD}---\n{HEAD}foo: 1\n");
    let finding = &found(&second, Severity::Error)[0];
    assert_eq!((finding.document, finding.line, finding.column), (1, 12, 1), "{finding}");
}

/// A word that is misspelt, missing or of another type is one mistake, whatever hangs on it.
#[test]
fn what_follows_from_a_mistake_is_no_finding() {
    let at = |rest: &str| format!("/schema/0/properties/0/quality/0{rest}");
    refuses(&rule("metric: rowCount, mustsBe: 1"), 6, &at("/mustsBe"), "did you mean `mustBe`?");
    refuses(&rule("engine: soda, implementation: x"), 6, &at("/engine"), "write `type: custom`");
    refuses(&rule("query: q, mustBe: 1"), 6, &at("/query"), "write `type: sql`");
    refuses(&rule("metric: 5, mustBe: 1, arguments: {}"), 7, &at("/metric"), "put it in quotes");
    let misspelt = property("logcalType: integer, logicalTypeOptions: {minimum: 1}");
    refuses(&misspelt, 6, "/schema/0/properties/0/logcalType", "did you mean `logicalType`?");
    refuses(
        "schema: [{name: t, properties: [{name: a, primaryKeyPosition: 1}, {name: b, primaryKey: true, primaryKeyPosition: 2}]}]",
        22,
        "/schema/0/properties/0/primaryKeyPosition",
        "without `primaryKey: true`",
    );
}

#[test]
fn a_number_is_quoted_as_it_was_written() {
    let finding = &found("apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: 1.10\n", Severity::Error)[0];
    assert_eq!(finding.remedy, "put it in quotes: \"1.10\"");
    let finding = &found(&format!("{HEAD}tags: [0x1F]"), Severity::Error)[0];
    assert_eq!(finding.remedy, "put it in quotes: \"0x1F\"");
}

/// However much is wrong, the first hundred are listed; a time that grew with their square would hang here.
#[test]
fn thousands_of_mistakes() {
    let many = |one: &str, n: usize| one.repeat(n);
    for body in [
        format!("tags: [{}]", many("1, ", 40_000)),
        format!("schema: [{}]", many("{nam: t}, ", 15_000)),
        format!(
            "schema:\n- name: t\n  properties:\n{}",
            many(
                "  - {name: a, quality: [{metric: duplicateValues, mustBe: 0, arguments: {properties: [b]}}]}\n",
                10_000
            )
        ),
        property(&format!("logicalType: string, enum: [{}]", many("{value: a}, ", 20_000))),
        format!(
            "schema:\n- name: t\n  properties:\n{}",
            (0..8_000).map(|i| format!("  - {{name: a{i}, relationships: [{{to: t.b{i}}}]}}\n")).collect::<String>()
        ),
    ] {
        let findings = found(&format!("{HEAD}{body}"), Severity::Error);
        assert!((1..=101).contains(&findings.len()), "{}", findings.len());
        assert!(findings.len() < 101 || findings[100].code == "MESH-CONTRACT-0011", "{}", findings[100]);
    }
}

#[test]
fn what_the_standards_text_allows_is_accepted() {
    accepts(&property("physicalType: text"));
    accepts("schema: [{name: t, properties: [{name: c}]}]");
    accepts(&property("map: {key: {logicalType: string}, value: {logicalType: string}}"));
    accepts("status: draft".replace("status", "name").as_str());
}
