//! What the standards' text has, and their schemas have not: accepted, each in the versions that have it, and in no
//! other; and what only looks like a mistake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mesh_contract::{Finding, Metric, Operator, Parsed, RuleKind, Severity, parse};

const OLD: [&str; 3] = ["v3.0.0", "v3.0.1", "v3.0.2"];
const NEW: [&str; 2] = ["v3.1.0", "v3.2.0"];

fn read(version: &str, body: &str) -> Parsed {
    let head = format!("apiVersion: {version}\nkind: DataContract\nid: x\nversion: 1.0.0\nstatus: active\n");
    parse("f.yaml", &format!("{head}{body}"))
}

fn of(parsed: &Parsed, severity: Severity) -> Vec<&Finding> {
    parsed.findings.iter().filter(|f| f.severity == severity).collect()
}

/// Accepted in `versions`, and refused for one reason in all others.
#[track_caller]
fn check(body: &str, versions: &[&str], otherwise: (u16, &str)) {
    for version in OLD.iter().chain(&NEW) {
        let parsed = read(version, body);
        let errors = of(&parsed, Severity::Error);
        match (versions.contains(version), errors.as_slice()) {
            (true, []) => {}
            (false, [one]) => {
                assert_eq!((one.code, one.path.as_str()), (&*format!("MESH-CONTRACT-{:04}", otherwise.0), otherwise.1));
            }
            _ => panic!("{version}: {errors:#?}"),
        }
    }
}

#[track_caller]
fn everywhere(body: &str) {
    check(body, &[OLD.as_slice(), &NEW].concat(), (0, ""));
}

fn property(rest: &str) -> String {
    format!("schema:\n- name: t\n  properties:\n  - {{name: c, {rest}}}\n")
}

/// "Some fields have `null` value: even if it is equivalent to not having the field in the contract, …"
#[test]
fn null_is_not_there() {
    everywhere(
        "name: null\ntags:\ndescription: {purpose: p, limitations: null}\nschema:\n- {name: t, description: ~}\n",
    );
    everywhere(&property("logicalType: string, classification: null, primaryKey: null, examples: [null]"));
    let side = |name: &str| format!("{name}: {{logicalType: string, description: null}}");
    let map = property(&format!("logicalType: map, map: {{{}, {}}}", side("key"), side("value")));
    assert!(read("v3.2.0", &map).is_valid());
    let parsed = read("v3.1.0", "slaProperties: [{property: p, value: null, unit: null}]\ntags: null\n");
    let contract = parsed.contracts().next().unwrap();
    assert_eq!(contract.sla[0].value, serde_json::Value::Null);
    assert!(contract.document.get("tags").is_none());
    for (body, at, words) in [
        ("schema: [{name: null}]", "/schema/0/name", "`name` is empty: a schema object lacks `name`"),
        (
            "slaProperties: [{property: null, value: 1}]",
            "/slaProperties/0/property",
            "an SLA property lacks `property`",
        ),
        ("tags: [null]", "/tags/0", "entry 1 of `tags` is empty"),
    ] {
        let parsed = read("v3.2.0", body);
        let errors = of(&parsed, Severity::Error);
        assert!(errors.len() == 1 && errors[0].message.contains(words), "{errors:#?}");
        assert_eq!((errors[0].path.as_str(), errors[0].line), (at, 6), "{errors:#?}");
    }
}

#[test]
fn dimensions_have_short_names() {
    for short in ["ac", "cp", "cf", "cs", "cv", "tm", "uq"] {
        let rule = format!("type: sql, query: q, mustBe: 0, dimension: {short}");
        everywhere(&property(&format!("logicalType: string, quality: [{{{rule}}}]")));
    }
}

#[test]
fn servers_need_what_the_text_says() {
    everywhere("servers: [{server: s, type: postgres, host: h, database: d}]");
    everywhere("servers: [{server: s, type: postgresql, host: h, database: d, schema: s}]");
    everywhere("servers: [{server: s, type: mysql, host: h, database: d}]");
    everywhere("servers: [{server: s, type: athena, schema: s}]");
    everywhere("servers: [{server: s, type: kinesis, stream: s, region: r}]");
    check("servers: [{server: s, type: postgres, host: h, port: 1, schema: s}]", &[], (5, "/servers/0"));
    check("servers: [{server: s, type: athena, stagingDir: s}]", &[], (5, "/servers/0"));
}

#[test]
fn relationships_are_described_and_lead_elsewhere() {
    let to = |rest: &str| property(&format!("logicalType: string, relationships: [{{to: {rest}}}]"));
    let newer = |body: &str| {
        NEW.iter().for_each(|version| {
            assert_eq!(of(&read(version, body), Severity::Error), Vec::<&Finding>::new(), "{body}");
        })
    };
    newer(&to("t.c, description: d"));
    newer(&to("'https://example.com/data-contract-v1.yaml#profiles.user_id'"));
    newer(&to("'file:///path/to/data-contract-v1.yaml#/schema/a/properties/b'"));
    newer(&to("'../../path/to/c.yaml#schema/a'"));
    for wrong in ["customers", "'a b.c'", "'x.yaml#profiles'"] {
        let parsed = read("v3.2.0", &to(wrong));
        assert_eq!(of(&parsed, Severity::Error).iter().map(|f| f.code).collect::<Vec<_>>(), ["MESH-CONTRACT-0009"]);
    }
}

#[test]
fn members_before_3_1() {
    check("team: [{name: Ann, role: owner}]", &OLD, (5, "/team/0"));
    check("team: [{username: ann, comment: away}]", &OLD, (6, "/team/0/comment"));
    let parsed = read("v3.0.0", "team: [{name: Ann, role: owner}]");
    assert_eq!(parsed.contracts().next().unwrap().team.owner(), Some("Ann"));
}

#[test]
fn a_list_of_valid_values_before_3_1() {
    let body = property("logicalType: string, quality: [{rule: validValues, validValues: [pounds, kg]}]");
    check(&body, &OLD, (6, "/schema/0/properties/0/quality/0/validValues"));
    let parsed = read("v3.0.2", &body);
    let RuleKind::Library { metric, operator, .. } = &parsed.contracts().next().unwrap().objects[0].quality[0].kind
    else {
        panic!("{parsed:#?}");
    };
    assert!(matches!(metric, Metric::InvalidValues { valid: Some(valid), .. } if valid.len() == 2), "{metric:?}");
    assert_eq!(operator, &Operator::MustBe(0.into()));
}

/// Timestamps are ISO 8601 in UTC.
#[test]
fn moments() {
    for moment in
        ["2024-09-17T11:58:08Z", "2024-09-17T11:58:08", "'2022-11-15 02:59:43'", "2024-09-17T11:58:08.123+02:00"]
    {
        everywhere(&format!("contractCreatedTs: {moment}"));
    }
    check("contractCreatedTs: yesterday", &[], (9, "/contractCreatedTs"));
}

/// `${NAME}` is filled in by tools: what it will be is not known here, and a mesh fills in nothing.
#[test]
fn variables() {
    everywhere("contractCreatedTs: ${NOW}\nslaProperties: [{property: latency, value: 1, unit: '${UNIT:-d}'}]\n");
    let versioned = parse("f", "apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: ${VERSION}\n");
    assert_eq!(of(&versioned, Severity::Error), Vec::<&Finding>::new());
    let named = property("logicalType: string");
    for body in [format!("domain: ${{DOMAIN}}\n{named}"), format!("domain: d\ndataProduct: ${{P}}\n{named}")] {
        let contract = read("v3.2.0", &body).contracts().next().unwrap().clone();
        let error = mesh_contract::ProductContract::new(contract).unwrap_err();
        assert!(error.code() == "MESH-CONTRACT-0044" && error.to_string().contains("names a variable"), "{error}");
    }
}

#[test]
fn ids_in_values_belong_to_no_entry() {
    everywhere(&property("logicalType: object, properties: [{name: id}], examples: [{id: a}, {id: a, n: 2}]"));
    let rule = "metric: invalidValues, mustBe: 0, arguments: {validValues: [{id: a}, {id: a, n: 1}]}";
    everywhere(&property(&format!("logicalType: string, quality: [{{{rule}}}]")));
}

#[test]
fn arrays_by_any_name() {
    let array =
        |of: &str| property(&format!("logicalType: array, physicalType: '{of}', items: {{logicalType: string}}"));
    for of in ["int[]", "numeric(10,2)[]", "bigint[][]", "integer array", "RECORD", "REPEATED STRING", "ARRAY<INT64>"] {
        everywhere(&array(of));
    }
    let at = "/schema/0/properties/0/physicalType";
    check(&array("int"), &[], (25, at));
    check(&property("logicalType: integer, physicalType: 'int[]'"), &[], (25, at));
    check(&property("logicalType: string, physicalType: 'text[]'"), &[], (25, at));
}

/// 3.0.x has neither timestamps nor times of day among its types.
#[test]
fn moments_were_strings_before_3_1() {
    for of in ["timestamp", "DATETIME", "time"] {
        let body = property(&format!("logicalType: string, physicalType: {of}"));
        check(&body, &OLD, (25, "/schema/0/properties/0/physicalType"));
    }
}

/// ECMA-262's Annex B, which all of the web reads.
#[test]
fn patterns_as_the_web_reads_them() {
    let pattern = |text: &str| property(&format!("logicalType: string, logicalTypeOptions: {{pattern: '{text}'}}"));
    for text in [r"^[\w-\.]+@([\w-]+\.)+[\w-]{2,4}$", "^{[a-z]+}$", "^[^[]+$", r"^[\d-x]$", r"[\b]"] {
        everywhere(&pattern(text));
    }
    let rule = r"metric: invalidValues, mustBe: 0, arguments: {pattern: '^[\w-\.]\d$'}";
    let parsed = read("v3.2.0", &property(&format!("logicalType: string, quality: [{{{rule}}}]")));
    let RuleKind::Library { metric: Metric::InvalidValues { pattern: Some(in_rust), .. }, .. } =
        &parsed.contracts().next().unwrap().objects[0].quality[0].kind
    else {
        panic!("{parsed:#?}");
    };
    let in_rust = regex::Regex::new(in_rust).unwrap();
    // ECMA-262's digits are ten.
    assert!(in_rust.is_match("-7") && !in_rust.is_match("-٧"), "{in_rust}");
    for text in ["[0-9", "a)", "*a", "a**"] {
        check(&pattern(text), &[], (24, "/schema/0/properties/0/logicalTypeOptions/pattern"));
    }
    let parsed = read("v3.2.0", &pattern(r"^x\Z"));
    let doubts: Vec<&str> = of(&parsed, Severity::Warning).iter().map(|f| f.code).collect();
    assert!(doubts.contains(&"MESH-CONTRACT-0024"), "{:#?}", parsed.findings);
}

/// A warning, no error: the order of keys is plain, and the length of four is unknown.
#[test]
fn doubts() {
    let keys = |positions: [&str; 2]| {
        let column = |name: &str, position: &str| {
            format!(
                "  - {{name: {name}, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: {position}}}\n"
            )
        };
        format!("schema:\n- name: t\n  properties:\n{}{}", column("a", positions[0]), column("b", positions[1]))
    };
    for (body, code) in [
        (keys(["1", "3"]), "MESH-CONTRACT-0022"),
        ("slaProperties: [{property: latency, value: 4}]".to_owned(), "MESH-CONTRACT-0027"),
    ] {
        everywhere(&body);
        let parsed = read("v3.2.0", &body);
        assert_eq!(of(&parsed, Severity::Warning).iter().map(|f| f.code).collect::<Vec<_>>(), [code]);
    }
    // Of two mistakes, one follows from the other.
    check(&keys(["2", "2"]), &[], (22, "/schema/0/properties/1/primaryKeyPosition"));
    everywhere("slaProperties: [{property: retention, value: 2, unit: quarters}]");
}
