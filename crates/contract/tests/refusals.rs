//! What is refused, where, with which words: beyond the standard's own negative tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mesh_contract::{Finding, Severity, parse};

const HEAD: &str = "apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: 1.0.0\nstatus: active\n";

fn found(text: &str, severity: Severity) -> Vec<Finding> {
    parse("f.yaml", text).findings.into_iter().filter(|f| f.severity == severity).collect()
}

/// The body of a 3.2.0 contract has exactly one error: code, JSON pointer, words of message and remedy.
#[track_caller]
fn refuses(body: &str, code: u16, path: &str, words: &str) {
    one(&found(&format!("{HEAD}{body}"), Severity::Error), code, path, words);
}

#[track_caller]
fn doubts(body: &str, code: u16, path: &str, words: &str) {
    assert_eq!(found(&format!("{HEAD}{body}"), Severity::Error), []);
    one(&found(&format!("{HEAD}{body}"), Severity::Warning), code, path, words);
}

#[track_caller]
fn one(findings: &[Finding], code: u16, path: &str, words: &str) {
    let [finding] = findings else {
        panic!("{findings:#?}");
    };
    assert_eq!((finding.code, finding.path.as_str()), (format!("MESH-CONTRACT-{code:04}").as_str(), path), "{finding}");
    assert!(finding.to_string().contains(words), "{finding}");
    assert!(!finding.remedy.is_empty(), "{finding}");
}

#[track_caller]
fn accepts(body: &str) {
    assert_eq!(found(&format!("{HEAD}{body}"), Severity::Error), []);
}

/// One property of one object.
fn property(rest: &str) -> String {
    format!("schema:\n- name: t\n  properties:\n  - {{name: c, {rest}}}\n")
}

fn rule(rest: &str) -> String {
    property(&format!("logicalType: string, quality: [{{{rest}}}]"))
}

#[test]
fn documents() {
    let check = |text: &str, code, path, words| one(&found(text, Severity::Error), code, path, words);
    check("", 4, "", "no document");
    check("- a", 4, "", "not an object");
    check("kind: DataContract\nid: x\nversion: 1.0.0", 5, "", "lacks `apiVersion`");
    check("apiVersion: v3.2.0\nid: x", 5, "", "lacks `kind`");
    check("apiVersion: v3.2.0\nkind: DataContracts", 4, "/kind", "did you mean `DataContract`?");
    check("apiVersion: v2.2.2\nkind: DataContract", 4, "/apiVersion", "v3.0.0");
    check("apiVersion: 3.2.0\nkind: DataContract", 4, "/apiVersion", "v3.2.0");
    check("apiVersion: v3.1.0\nkind: DataContract\nid: x\nversion: 1.0.0", 5, "", "lacks `status`");
    check("apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: 1.0", 7, "/version", "put it in quotes");
    check("a: 1\na: 2", 2, "", "f.yaml:2:1: error[MESH-CONTRACT-0002]: duplicate key `a`");
}

#[test]
fn places_are_those_of_the_mistake() {
    let finding =
        &found(&format!("{HEAD}{}", rule("type: sql, query: q, mustBe: 0, dimension: validity")), Severity::Error)[0];
    assert_eq!((finding.line, finding.column), (9, 90), "{finding}");
    let second = format!("{HEAD}---\n{HEAD}foo: 1\n");
    let finding = &found(&second, Severity::Error)[0];
    assert_eq!((finding.document, finding.line, finding.column), (1, 12, 1), "{finding}");
}

#[test]
fn unknown_properties_at_every_level() {
    refuses("descripton: {}", 6, "/descripton", "did you mean `description`?");
    refuses("schema: [{name: t, foo: 1}]", 6, "/schema/0/foo", "not a property of a schema object");
    refuses(&property("logicaltype: string"), 6, "/schema/0/properties/0/logicaltype", "did you mean `logicalType`?");
    refuses(&property("foo: 1"), 6, "/schema/0/properties/0/foo", "not a property of a schema property");
    refuses("servers: [{server: s, type: kafka, host: h, foo: 1}]", 6, "/servers/0/foo", "not a property of a server");
    refuses(
        "servers: [{server: s, type: kafka, host: h, database: d}]",
        6,
        "/servers/0/database",
        "with `type: kafka`",
    );
    refuses("team: {foo: 1}", 6, "/team/foo", "not a property of `team`");
    refuses("team: {members: [{username: u, foo: 1}]}", 6, "/team/members/0/foo", "a team member");
    refuses("team: [{username: u, foo: 1}]", 6, "/team/0/foo", "a team member");
    refuses("roles: [{role: r, foo: 1}]", 6, "/roles/0/foo", "a role");
    refuses("support: [{channel: c, foo: 1}]", 6, "/support/0/foo", "a support channel");
    refuses("price: {foo: 1}", 6, "/price/foo", "`price`");
    refuses("slaProperties: [{property: p, value: 1, foo: 1}]", 6, "/slaProperties/0/foo", "an SLA property");
    refuses("customProperties: [{property: p, value: 1, foo: 1}]", 6, "/customProperties/0/foo", "a custom property");
    refuses(
        "authoritativeDefinitions: [{url: u, type: t, foo: 1}]",
        6,
        "/authoritativeDefinitions/0/foo",
        "an authoritative definition",
    );
    refuses("context: {foo: 1}", 6, "/context/foo", "`context`");
    refuses(
        &property("logicalType: string, enum: [{value: a, foo: 1}]"),
        6,
        "/schema/0/properties/0/enum/0/foo",
        "an `enum` entry",
    );
    refuses(&property("logicalType: string, items: {}"), 6, "/schema/0/properties/0/items", "logicalType: array");
    refuses(
        &property("logicalType: array, items: {logicalType: string, foo: 1}"),
        6,
        "/schema/0/properties/0/items/foo",
        "an item",
    );
    refuses(
        &property("logicalType: string, logicalTypeOptions: {minimum: 1}"),
        6,
        "/schema/0/properties/0/logicalTypeOptions/minimum",
        "not a property of",
    );
    refuses(
        &property("logicalTypeOptions: {minimum: 1}"),
        5,
        "/schema/0/properties/0/logicalTypeOptions",
        "add `logicalType`",
    );
    refuses(
        "schema: [{name: t, relationships: [{from: t.a, to: t.b, foo: 1}]}]",
        6,
        "/schema/0/relationships/0/foo",
        "relationship",
    );
    refuses(
        &property("logicalType: string, relationships: [{from: t.c, to: t.c}]"),
        6,
        "/schema/0/properties/0/relationships/0/from",
        "not allowed in a property-level relationship",
    );
}

#[test]
fn missing_properties() {
    refuses("schema: [{physicalType: table}]", 5, "/schema/0", "a schema object lacks `name`");
    refuses("servers: [{type: kafka, host: h}]", 5, "/servers/0", "lacks `server`");
    refuses("servers: [{server: s, host: h}]", 5, "/servers/0", "lacks `type`");
    refuses("servers: [{server: s, type: kafka}]", 5, "/servers/0", "lacks `host`");
    refuses("roles: [{access: read}]", 5, "/roles/0", "a role lacks `role`");
    refuses("support: [{url: u}]", 5, "/support/0", "lacks `channel`");
    refuses("team: {members: [{role: r}]}", 5, "/team/members/0", "lacks `username`");
    refuses("slaProperties: [{value: 1}]", 5, "/slaProperties/0", "lacks `property`");
    refuses("customProperties: [{property: p}]", 5, "/customProperties/0", "lacks `value`");
    refuses("authoritativeDefinitions: [{url: u}]", 5, "/authoritativeDefinitions/0", "lacks `type`");
    refuses(&property("logicalType: map"), 5, "/schema/0/properties/0", "lacks `map`");
    refuses(
        &property("logicalType: map, map: {key: {logicalType: string}}"),
        5,
        "/schema/0/properties/0/map",
        "lacks `value`",
    );
    refuses(&property("logicalType: string, enum: [{label: a}]"), 5, "/schema/0/properties/0/enum/0", "lacks `value`");
    refuses(
        &property("logicalType: string, relationships: [{type: foreignKey}]"),
        5,
        "/schema/0/properties/0/relationships/0",
        "lacks `to`",
    );
    refuses("schema: [{name: t, relationships: [{to: t.b}]}]", 5, "/schema/0/relationships/0", "lacks `from`");
    // A misspelt name is one mistake, not two.
    refuses("roles: [{rol: r}]", 6, "/roles/0/rol", "did you mean `role`?");
}

#[test]
fn wrong_types_and_choices() {
    refuses("tags: finance", 7, "/tags", "write a list");
    refuses("tags: [1]", 7, "/tags/0", "entry 1 of `tags` is an integer, not a string");
    refuses("schema: {name: t}", 7, "/schema", "`schema` is an object, not a list");
    refuses("description: text", 7, "/description", "write an object");
    refuses("team: text", 7, "/team", "`team` is a string");
    refuses("servers: [{server: s, type: kafkaa, host: h}]", 8, "/servers/0/type", "did you mean `kafka`?");
    refuses(
        &property("logicalType: varchar"),
        8,
        "/schema/0/properties/0/logicalType",
        "`varchar` is not a value of `logicalType`",
    );
    refuses(
        &property("logicalType: String, logicalTypeOptions: {minLength: 1}"),
        8,
        "/schema/0/properties/0/logicalType",
        "did you mean `string`?",
    );
    refuses(
        &property("logicalType: arry, items: {logicalType: string}"),
        8,
        "/schema/0/properties/0/logicalType",
        "did you mean `array`?",
    );
    refuses(
        &property("logicalType: string, required: 'true'"),
        7,
        "/schema/0/properties/0/required",
        "leave the quotes out",
    );
    refuses(
        &property("logicalType: string, required: yes"),
        7,
        "/schema/0/properties/0/required",
        "write true or false",
    );
    refuses(
        &property("logicalType: integer, logicalTypeOptions: {format: int64}"),
        8,
        "/schema/0/properties/0/logicalTypeOptions/format",
        "`i64`",
    );
    refuses(
        &property("logicalType: string, logicalTypeOptions: {minLength: -1}"),
        9,
        "/schema/0/properties/0/logicalTypeOptions/minLength",
        "write 0 or more",
    );
    refuses(
        &property("logicalType: string, enum: [a, b]").replace("[a, b]", "[a]"),
        7,
        "/schema/0/properties/0/enum/0",
        "write `value: a`",
    );
    refuses(
        &property("logicalType: string, enum: [{value: a}, {value: a}]"),
        9,
        "/schema/0/properties/0/enum/1",
        "twice",
    );
    refuses(&property("logicalType: string, id: a b"), 9, "/schema/0/properties/0/id", "Stable technical identifier");
    refuses(
        &property("logicalType: string, semanticType: metric"),
        8,
        "/schema/0/properties/0/semanticType",
        "`measure`",
    );
    refuses(
        "schema: [{name: t, relationships: [{from: t, to: t.b}]}]",
        9,
        "/schema/0/relationships/0/from",
        "`t` is not allowed as `from`",
    );
    refuses(
        "schema: [{name: t, relationships: [{from: t.a, to: [t.b]}]}]",
        7,
        "/schema/0/relationships/0/to",
        "not a string",
    );
    refuses("slaProperties: [{property: p, value: [1]}]", 7, "/slaProperties/0/value", "is a list");
    refuses("price: {priceAmount: '9'}", 7, "/price/priceAmount", "leave the quotes out: 9");
}

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

/// What a later version brought is told so, once.
#[test]
fn what_came_with_3_2() {
    let older = |property_: &str| format!("{HEAD}{}", property(property_)).replace("v3.2.0", "v3.1.0");
    let map = "logicalType: map, map: {key: {logicalType: string}, value: {logicalType: string}}";
    one(
        &found(&older(map), Severity::Error),
        8,
        "/schema/0/properties/0/logicalType",
        "`apiVersion: v3.2.0`, which has it",
    );
    let choices = older("logicalType: string, enum: [{value: a}]");
    one(&found(&choices, Severity::Error), 6, "/schema/0/properties/0/enum", "`apiVersion: v3.2.0`, which has `enum`");
    refuses(&property("logicalType: string, enum: [a]"), 7, "/schema/0/properties/0/enum/0", "write `value: a`");
    let version = |v: &str| format!("apiVersion: {v}\nkind: DataContract\nid: x\nversion: 1.0.0\n");
    one(&found(&version("3.1.0"), Severity::Error), 4, "/apiVersion", "did you mean `v3.1.0`?");
    one(&found(&version("v3.2"), Severity::Error), 4, "/apiVersion", "did you mean `v3.2.0`?");
}

/// Words of other standards are told ours.
#[test]
fn what_others_call_so() {
    refuses(
        &property("logicalType: string, nullable: false"),
        6,
        "/schema/0/properties/0/nullable",
        "did you mean `required`?",
    );
    refuses(
        &property("logicalType: string, isNullable: false, isUnique: true"),
        6,
        "/schema/0/properties/0/isNullable",
        "remove them",
    );
    refuses(&property("type: string"), 6, "/schema/0/properties/0/type", "did you mean `logicalType`?");
    refuses("schema: [{name: t, columns: [{name: a}]}]", 6, "/schema/0/columns", "did you mean `properties`?");
    refuses("owner: me", 6, "/owner", "did you mean `team`?");
}

/// A word that is misspelt, missing or of another type is one mistake, whatever hangs on it.
#[test]
fn what_follows_from_a_mistake_is_not_told() {
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

/// However much is wrong, the first hundred are told; a time that grew with their square would hang here.
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
