//! What no schema can say: names, keys, versions, ranges, references.

use mesh_contract::{Severity, parse};

use super::{accepts, doubts, found, one, property, refuses, rule};

#[test]
fn quality_rules() {
    let at = |rest: &str| format!("/schema/0/properties/0/quality/0{rest}");
    refuses(&rule("type: library, metric: nullValues"), 10, &at(""), "no operator");
    refuses(&rule("type: library, mustBe: 0"), 5, &at(""), "lacks `metric`");
    refuses(&rule("type: library, metric: nulls, mustBe: 0"), 8, &at("/metric"), "`nullValues`");
    refuses(&rule("type: sql, query: q"), 10, &at(""), "no operator");
    refuses(
        &rule("type: sql, query: q, mustBe: 1, mustBeLessThan: 3"),
        10,
        &at("/mustBeLessThan"),
        "`mustBe` and `mustBeLessThan`",
    );
    refuses(&rule("type: sql, query: q, mustBeLessThan: x"), 7, &at("/mustBeLessThan"), "not a number");
    refuses(&rule("type: sql, query: q, mustBeBetween: [1]"), 9, &at("/mustBeBetween"), "at least 2");
    refuses(&rule("type: sql, query: q, mustBeBetween: [3, 1]"), 23, &at("/mustBeBetween"), "write [1, 3]");
    refuses(&rule("type: custom, engine: soda"), 5, &at(""), "lacks `implementation`");
    refuses(&rule("type: custom, implementation: x"), 5, &at(""), "lacks `engine`");
    refuses(&rule("type: text, query: q"), 6, &at("/query"), "type: sql");
    refuses(&rule("mustBe: 1"), 6, &at("/mustBe"), "type: library");
    refuses(&rule("type: library, metric: nullValues, mustBe: 0, foo: 1"), 6, &at("/foo"), "a quality rule");
    refuses(
        &rule("type: library, metric: nullValues, mustBe: 0, unit: percnt"),
        27,
        &at("/unit"),
        "did you mean `percent`?",
    );
    refuses(&rule("type: library, metric: nullValues, mustBe: none"), 28, &at("/mustBe"), "write a number");
    refuses(
        &rule("metric: duplicateValues, mustBe: 0, arguments: {properties: [c, d]}"),
        26,
        &at("/arguments/properties/1"),
        "`d` is no property of `t`",
    );
    refuses(
        &rule("metric: invalidValues, mustBe: 0, arguments: {pattern: '['}"),
        24,
        &at("/arguments/pattern"),
        "no regular expression",
    );
    accepts(&rule("type: text, description: d"));
    for empty in ["", "id: x", "name: n, severity: error", "dimension: accuracy, schedule: daily"] {
        refuses(&rule(empty), 5, &at(""), "it judges nothing");
    }
    refuses("schema: [{name: t, quality: [{}]}]", 5, "/schema/0/quality/0", "write a `metric`");
    doubts(&rule("description: d"), 5, &at(""), "add `type: text`");
    doubts(&rule("metric: invalidValues, mustBe: 0"), 28, &at(""), "neither `validValues` nor `pattern`");
    doubts(&rule("metric: rowCount, unit: percent, mustBe: 0"), 28, &at(""), "write `unit: rows`");
    accepts(&rule("metric: duplicateValues, mustBe: 0"));
    let of_object = "schema: [{name: t, quality: [{metric: duplicateValues, mustBe: 0}]}]";
    doubts(of_object, 28, "/schema/0/quality/0", "names no columns");
    accepts(&rule("metric: rowCount, mustBeBetween: [1, 3]"));
    doubts(
        &rule("metric: rowCount, mustBeBetween: [1, 2]"),
        23,
        &at("/mustBeBetween"),
        "no whole number is between 1 and 2",
    );
    accepts(&rule("metric: nullValues, unit: percent, mustBeBetween: [1, 2]"));
}

#[test]
fn names_and_keys() {
    refuses("schema: [{name: t}, {name: t}]", 21, "/schema/1/name", "`t` is there twice");
    refuses("schema: [{name: Air Quality}, {name: air_quality}]", 21, "/schema/1/name", "both `air_quality`");
    let two = |a: &str, b: &str| format!("schema:\n- name: t\n  properties:\n  - {{{a}}}\n  - {{{b}}}\n");
    refuses(&two("name: a", "name: A"), 21, "/schema/0/properties/1/name", "`a` and `A` are both `a`");
    refuses(&two("name: a, id: i", "name: b, id: i"), 29, "/schema/0/properties/1/id", "entry 1");
    let key = |position: &str| format!("required: true, primaryKey: true, primaryKeyPosition: {position}");
    let at = "/schema/0/properties/1/primaryKeyPosition";
    refuses(
        &two(&format!("name: a, {}", key("1")), &format!("name: b, {}", key("1"))),
        22,
        at,
        "`a` and `b` have the same",
    );
    refuses(&two("name: a", &format!("name: b, {}", key("0"))), 22, at, "count from 1");
    refuses(&two("name: a", "name: b, primaryKeyPosition: 1"), 22, at, "without `primaryKey: true`");
    doubts(
        &two("name: a, logicalType: date, partitioned: true, partitionKeyPosition: 2", "name: b, logicalType: date"),
        22,
        "/schema/0/properties/0/partitionKeyPosition",
        "1 is not",
    );
    doubts(
        &two("name: a, logicalType: string, primaryKey: true", "name: b, logicalType: date"),
        22,
        "/schema/0/properties/0/primaryKey",
        "not required",
    );
    accepts(&two("name: a, primaryKey: true, required: true", "name: b, primaryKeyPosition: -1"));
}

#[test]
fn versions_and_dates() {
    let version = |v: &str| format!("apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: '{v}'\n");
    one(&found(&version("1"), Severity::Error), 20, "/version", "write 1.0.0");
    one(&found(&version("1.2"), Severity::Error), 20, "/version", "write 1.2.0");
    one(&found(&version("latest"), Severity::Error), 20, "/version", "major.minor.patch");
    assert_eq!(found(&version("v1.2.3-rc.1"), Severity::Error), []);
    refuses("contractCreatedTs: yesterday", 9, "/contractCreatedTs", "no date and time");
    refuses("team: {members: [{username: u, dateIn: 2022-13-01}]}", 9, "/team/members/0/dateIn", "no date");
    refuses(
        "team: {members: [{username: u, dateIn: 2022-02-01, dateOut: 2021-02-01}]}",
        23,
        "/team/members/0/dateOut",
        "before",
    );
}

#[test]
fn types_and_ranges() {
    let option = |name: &str| format!("/schema/0/properties/0/logicalTypeOptions/{name}");
    let of = |ty: &str, options: &str| property(&format!("logicalType: {ty}, logicalTypeOptions: {{{options}}}"));
    refuses(&of("integer", "minimum: 5, maximum: 1"), 23, &option("minimum"), "nothing is between");
    refuses(
        &of("integer", "exclusiveMinimum: 1, exclusiveMaximum: 2"),
        23,
        &option("exclusiveMinimum"),
        "nothing is between",
    );
    refuses(&of("integer", "minimum: 1e300, maximum: -1e300"), 23, &option("minimum"), "nothing is between");
    refuses(&of("number", "minimum: 1, exclusiveMaximum: 1"), 23, &option("minimum"), "nothing is between");
    refuses(&of("string", "minLength: 5, maxLength: 1"), 23, &option("minLength"), "greater than");
    refuses(&of("array", "minItems: 5, maxItems: 1"), 23, &option("minItems"), "greater than");
    refuses(&of("date", "minimum: '2020-01-02', maximum: '2020-01-01'"), 23, &option("minimum"), "nothing is between");
    refuses(&of("date", "minimum: tomorrow"), 28, &option("minimum"), "write it like 2026-01-31");
    refuses(&of("string", "pattern: 'a('"), 24, &option("pattern"), "no regular expression");
    doubts(&of("string", "pattern: '(?=a)b'"), 24, &option("pattern"), "look-around");
    accepts(&of("number", "exclusiveMinimum: 1, exclusiveMaximum: 2"));
    accepts(&of("integer", "minimum: 1, maximum: 1"));
    let physical = "/schema/0/properties/0/physicalType";
    refuses(
        &property("logicalType: integer, physicalType: varchar(10)"),
        25,
        physical,
        "cannot hold `logicalType: integer`",
    );
    refuses(&property("logicalType: string, physicalType: BIGINT"), 25, physical, "cannot hold");
    refuses(&property("logicalType: boolean, physicalType: timestamp"), 25, physical, "cannot hold");
    refuses(&property("logicalType: number, physicalType: 'decimal(2,4)'"), 25, physical, "a scale up to it");
    refuses(
        &property("logicalType: integer, physicalType: 'decimal(10,2)'"),
        25,
        physical,
        "use `logicalType: number`",
    );
    refuses(&property("logicalType: boolean, physicalType: varchar(20)"), 25, physical, "cannot hold");
    accepts(&property("logicalType: number, physicalType: 'decimal(40,2)'"));
    accepts(&property("logicalType: boolean, physicalType: CHAR(1)"));
    accepts(&property("logicalType: date, physicalType: 'DECIMAL(8,0)'"));
    refuses(
        &property("logicalType: string, enum: [{value: 1}]"),
        28,
        "/schema/0/properties/0/enum/0/value",
        "put it in quotes",
    );
    refuses(
        &property("logicalType: integer, enum: [{value: '1'}]"),
        28,
        "/schema/0/properties/0/enum/0/value",
        "leave the quotes out",
    );
    doubts(&property("logicalType: integer, examples: [a]"), 28, "/schema/0/properties/0/examples/0", "no integer");
    refuses(
        &property("logicalType: object, logicalTypeOptions: {required: [x]}, properties: [{name: y}]"),
        26,
        "/schema/0/properties/0/logicalTypeOptions/required/0",
        "`x` is no property",
    );
}

#[test]
fn references_and_units() {
    let sla = |rest: &str| format!("{}slaProperties: [{{{rest}}}]\n", property("logicalType: string"));
    refuses(&sla("property: latency, value: 1, unit: furlong"), 27, "/slaProperties/0/unit", "no unit of time");
    doubts(&sla("property: latency, value: 1"), 27, "/slaProperties/0", "without a `unit`");
    refuses(&sla("property: retention, value: -1, unit: d"), 23, "/slaProperties/0/value", "positive");
    refuses(
        &sla("property: latency, value: 1, unit: d, element: t.x"),
        26,
        "/slaProperties/0/element",
        "`x` is no property of `t`",
    );
    refuses(
        &sla("property: latency, value: 1, unit: d, element: x"),
        26,
        "/slaProperties/0/element",
        "`x` is no property of `t`",
    );
    accepts(&sla("property: latency, value: 1, unit: d, element: t.c"));
    accepts(&sla("property: availability, value: 99.9, unit: percent"));
    let to = |reference: &str| property(&format!("logicalType: string, relationships: [{{to: {reference}}}]"));
    refuses(&to("t.d"), 26, "/schema/0/properties/0/relationships/0/to", "`d` is no property of `t`");
    refuses(&to("schema/t_id"), 26, "/schema/0/properties/0/relationships/0/to", "has the `id` `t_id`");
    doubts(&to("other.id"), 26, "/schema/0/properties/0/relationships/0/to", "no schema object of this document");
    accepts(&to("t.c"));
    let with_id = to("t.c_id").replace("name: c,", "name: c, id: c_id_prop,");
    doubts(&with_id, 26, "/schema/0/properties/0/relationships/0/to", "write `c`");
    accepts(&to("'https://example.com/c.yaml#schema/a/properties/b'"));
    let pair =
        "schema: [{name: t, properties: [{name: a}, {name: b}], relationships: [{from: [t.a, t.b], to: [t.a]}]}]";
    refuses(pair, 26, "/schema/0/relationships/0", "`from` has 2 columns, `to` has 1");
}

#[test]
fn data_products() {
    let head = "apiVersion: v1.0.0\nkind: DataProduct\nid: x\nstatus: active\n";
    let check =
        |body: &str, code, path, words| one(&found(&format!("{head}{body}"), Severity::Error), code, path, words);
    check("foo: 1", 6, "/foo", "not a property of the document");
    check("inputPorts: [{name: a, version: 1.0.0}]", 5, "/inputPorts/0", "an input port lacks `contractId`");
    check("outputPorts: [{name: a}]", 5, "/outputPorts/0", "an output port lacks `version`");
    check("outputPorts: [{name: a, version: '1'}]", 20, "/outputPorts/0/version", "write 1.0.0");
    check("description: {foo: 1}", 6, "/description/foo", "`description`");
    let no_status = "apiVersion: v0.9.0\nkind: DataProduct\nid: x\n";
    one(&found(no_status, Severity::Error), 5, "", "lacks `status`");
}

#[test]
fn ports_and_what_they_are_made_from() {
    let head = "apiVersion: v1.0.0\nkind: DataProduct\nid: x\nstatus: active\n";
    let port = "{name: a, version: 1.0.0, contractId: c";
    let twice = found(&format!("{head}inputPorts: [{port}}}, {port}}}]"), Severity::Error);
    one(&twice, 21, "/inputPorts/1/name", "the port `a` 1.0.0 is entry 1 already");
    let versions = format!("{head}inputPorts: [{port}}}, {port}}}]").replacen(
        "1.0.0, contractId: c}]",
        "2.0.0, contractId: c}]",
        1,
    );
    assert_eq!(found(&versions, Severity::Error), []);
    let made = |id: &str| {
        format!("{head}inputPorts: [{port}}}]\noutputPorts: [{port}, inputContracts: [{{id: {id}, version: 1.0.0}}]}}]")
    };
    assert_eq!(parse("f", &made("c")).findings, []);
    one(
        &found(&made("d"), Severity::Warning),
        26,
        "/outputPorts/0/inputContracts/0/id",
        "no input port has the contract `d`",
    );
    let members = head.replace("v1.0.0", "v0.9.0") + "team: [{username: u, role: owner}]";
    assert_eq!(parse("f", &members).findings, []);
    let members = found(&members.replace("username: u", "user: u"), Severity::Error);
    one(&members, 6, "/team/0/user", "did you mean `username`?");
    let newer = found(&format!("{head}team: [{{username: u}}]"), Severity::Error);
    one(&newer, 7, "/team", "write an object");
}

#[test]
fn what_is_known_by_a_name_is_there_once() {
    let server = "{server: s, type: kafka, host: h}";
    refuses(&format!("servers: [{server}, {server}]"), 21, "/servers/1/server", "the server `s` is there twice");
    doubts("roles: [{role: r}, {role: r}]", 21, "/roles/1/role", "twice");
    doubts(
        "customProperties: [{property: p, value: 1}, {property: p, value: 2}]",
        21,
        "/customProperties/1/property",
        "twice",
    );
    let at = "/schema/0/properties/0/enum/1";
    let twice = |more: &str| property(&format!("logicalType: string, enum: [{{value: a}}, {{value: a{more}}}]"));
    refuses(&twice(", label: A"), 21, &format!("{at}/value"), "that of entry 1 already");
    refuses(&twice(""), 9, at, "twice");
}
