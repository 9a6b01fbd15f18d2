//! Where the standards' text is wider than their JSON schemas: what is changed in a schema before it judges.
//! In: a schema as it was published. Out: the same, wider. Never: narrower, nor wider than the text of its version.

use serde_json::{Map, Value, json};

/// What the text of every version has and no schema.
pub(super) fn of_3_1(schema: &mut Value) {
    dimensions(schema);
    servers(schema);
    references(schema);
}

/// "`accuracy` (synonym `ac`), …"
fn dimensions(schema: &mut Value) {
    let names = schema.pointer_mut("/$defs/DataQuality/properties/dimension/enum").and_then(Value::as_array_mut);
    let synonyms = ["ac", "cp", "cf", "cs", "cv", "tm", "uq"];
    names.into_iter().for_each(|names| names.extend(synonyms.map(Value::from)));
}

/// Ports that have a default, a schema and a folder that are no must, the stream of Kinesis.
fn servers(schema: &mut Value) {
    for (server, optional) in
        [("MySqlServer", &["port"][..]), ("PostgresServer", &["port", "schema"]), ("AthenaServer", &["stagingDir"])]
    {
        let required = schema.pointer_mut(&format!("/$defs/ServerSource/{server}/required"));
        if let Some(required) = required.and_then(Value::as_array_mut) {
            required.retain(|name| name.as_str().is_none_or(|name| !optional.contains(&name)));
        }
    }
    let kinesis = schema.pointer_mut("/$defs/ServerSource/KinesisServer/properties").and_then(Value::as_object_mut);
    if let Some(kinesis) = kinesis {
        kinesis
            .insert("stream".to_owned(), json!({"type": "string", "description": "Name of the Kinesis data stream."}));
    }
}

/// Another contract's file may be a `file:` URL, its columns may be named in short, and a relationship be described.
fn references(schema: &mut Value) {
    const FILE: &str = r"^(?:(?:(?:https?|file):\/\/)?[A-Za-z0-9._\-\/]+\.yaml#)?";
    for (notation, own) in
        [("ShorthandReference", "^"), ("FullyQualifiedReference", r"^(?:(?:https?:\/\/)?[A-Za-z0-9._\-\/]+\.yaml#)?")]
    {
        if let Some(pattern) = schema.pointer_mut(&format!("/$defs/{notation}/pattern")) {
            let rest = pattern.as_str().and_then(|pattern| pattern.strip_prefix(own)).map(str::to_owned);
            rest.into_iter().for_each(|rest| *pattern = json!(format!("{FILE}{rest}")));
        }
    }
    let of_all = schema.pointer_mut("/$defs/RelationshipBase/properties").and_then(Value::as_object_mut);
    if let Some(of_all) = of_all {
        of_all.insert("description".to_owned(), json!({"type": "string"}));
    }
}

/// A member needs no user name, and may have a comment.
fn members_of_3_0(schema: &mut Value) {
    let Some(member) = schema.pointer_mut("/$defs/TeamMember").and_then(Value::as_object_mut) else { return };
    member.remove("required");
    if let Some(properties) = member.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("comment".to_owned(), json!({"type": "string"}));
    }
}

/// The 3.2.0 schema's branch for `logicalType: map` also holds when `logicalType` is absent (its `if` lacks `required`),
/// and then demands `map`; the standard's text makes `logicalType` optional. So `map` is demanded only where it is stated.
pub(super) fn of_3_2(schema: &mut Value) {
    of_3_1(schema);
    let Some(branches) = schema.pointer_mut("/$defs/SchemaBaseProperty/allOf").and_then(Value::as_array_mut) else {
        return;
    };
    for branch in branches.iter_mut() {
        let is_map = branch.pointer("/if/properties/logicalType/const") == Some(&json!("map"));
        if let (true, Some(then)) = (is_map, branch.get_mut("then").and_then(Value::as_object_mut)) {
            then.remove("required");
        }
    }
    branches.push(json!({
        "if": {"properties": {"logicalType": {"const": "map"}}, "required": ["logicalType"]},
        "then": {"required": ["map"]}
    }));
}

/// The text of 3.0.x has `exclusiveMaximum: true` beside `maximum` (3.1.0 has a bound of its own), and library rules that
/// are named by `rule`, with an operator, `validValues` or neither (3.1.0 names a `metric`).
pub(super) fn of_3_0(schema: &mut Value) {
    of_3_1(schema);
    members_of_3_0(schema);
    for name in ["exclusiveMaximum", "exclusiveMinimum"] {
        let options = schema.pointer_mut("/$defs/SchemaBaseProperty/allOf").and_then(Value::as_array_mut);
        for branch in options.into_iter().flatten() {
            let at = format!("/then/properties/logicalTypeOptions/properties/{name}");
            if let Some(bound) = branch.pointer_mut(&at) {
                *bound = json!({"anyOf": [bound.take(), {"type": "boolean"}]});
            }
        }
    }
    let operators = schema.pointer("/$defs/DataQualityOperators/oneOf").and_then(Value::as_array);
    let operators: Map<String, Value> = operators
        .into_iter()
        .flatten()
        .filter_map(|branch| branch.get("properties")?.as_object().cloned())
        .flatten()
        .collect();
    let condition = schema.pointer_mut("/$defs/DataQuality/allOf/0/if/anyOf").and_then(Value::as_array_mut);
    if let Some(condition) = condition {
        condition.push(json!({"properties": {"rule": {"type": "string"}}, "required": ["rule"]}));
    }
    let Some(library) = schema.pointer_mut("/$defs/DataQualityLibrary").and_then(Value::as_object_mut) else {
        return;
    };
    let of_metric = json!([{"if": {"required": ["metric"]}, "then": {"allOf": library.remove("allOf")}}]);
    library.insert("allOf".to_owned(), of_metric);
    library.insert("anyOf".to_owned(), json!([{"required": ["metric"]}, {"required": ["rule"]}]));
    library.remove("required");
    if let Some(properties) = library.get_mut("properties").and_then(Value::as_object_mut) {
        properties.extend(operators);
        properties.insert("validValues".to_owned(), json!({"type": "array"}));
    }
}

/// The text of ODPS 0.9.0 has `team` as the list of its members.
pub(super) fn of_odps_0_9(schema: &mut Value) {
    if let Some(team) = schema.pointer_mut("/properties/team") {
        *team = json!({"oneOf": [team.take(), {"type": "array", "items": {"$ref": "#/$defs/TeamMember"}}]});
    }
}
