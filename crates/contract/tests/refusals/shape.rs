//! What the standard's schema refuses: words, their places and their types.

use mesh_contract::Severity;

use super::{HEAD, found, one, property, refuses};

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

/// What a later version of the standard brought is one finding that names it.
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

/// Words of other standards get the standard's own as a remedy.
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
