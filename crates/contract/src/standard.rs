//! The standards' own JSON schemas: which one judges a document, and where it is widened.
//! In: a document. Out: problems, one per mistake.
//! Never: a document that the schema refuses without a finding.

mod explain;
mod wider;
pub(crate) mod words;

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use self::explain::Explainer;
pub(crate) use self::explain::Problem;
use self::wider::{of_3_0, of_3_1, of_3_2, of_odps_0_9};

/// The two kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Odcs,
    Odps,
}

/// Every `apiVersion` that is read, by kind.
const ODCS: [&str; 5] = ["v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0"];
const ODPS: [&str; 2] = ["v0.9.0", "v1.0.0"];

struct Standard {
    schema: Value,
    judge: jsonschema::Validator,
}

impl Standard {
    fn new(text: &str, patch: fn(&mut Value)) -> Result<Self, String> {
        let mut schema: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        patch(&mut schema);
        let judge = jsonschema::options().should_validate_formats(false).build(&schema).map_err(|e| e.to_string())?;
        Ok(Self { schema, judge })
    }
}

static ODCS_3_0: OnceLock<Result<Standard, String>> = OnceLock::new();
static ODCS_3_1: OnceLock<Result<Standard, String>> = OnceLock::new();
static ODCS_3_2: OnceLock<Result<Standard, String>> = OnceLock::new();
static ODPS_0_9: OnceLock<Result<Standard, String>> = OnceLock::new();
static ODPS_1_0: OnceLock<Result<Standard, String>> = OnceLock::new();

fn odcs_3_0() -> &'static Result<Standard, String> {
    ODCS_3_0.get_or_init(|| Standard::new(include_str!("../schemas/odcs-json-schema-v3.1.0.json"), of_3_0))
}
fn odcs_3_1() -> &'static Result<Standard, String> {
    ODCS_3_1.get_or_init(|| Standard::new(include_str!("../schemas/odcs-json-schema-v3.1.0.json"), of_3_1))
}
fn odcs_3_2() -> &'static Result<Standard, String> {
    ODCS_3_2.get_or_init(|| Standard::new(include_str!("../schemas/odcs-json-schema-v3.2.0.json"), of_3_2))
}
fn odps_0_9() -> &'static Result<Standard, String> {
    ODPS_0_9.get_or_init(|| Standard::new(include_str!("../schemas/odps-json-schema-v1.0.0.json"), of_odps_0_9))
}
fn odps_1_0() -> &'static Result<Standard, String> {
    ODPS_1_0.get_or_init(|| Standard::new(include_str!("../schemas/odps-json-schema-v1.0.0.json"), |_| {}))
}

/// What kind of document this is, judged by `kind` and `apiVersion`; or why that is unknown.
pub(crate) fn identify(document: &Value) -> Result<Kind, Vec<Problem>> {
    let Some(object) = document.as_object() else {
        return Err(vec![Problem::new(
            "MESH-CONTRACT-0004",
            "",
            "the document is not an object".to_owned(),
            "start with `apiVersion: v3.2.0` and `kind: DataContract`".to_owned(),
        )]);
    };
    let kind = match object.get("kind") {
        Some(Value::String(kind)) if kind == "DataContract" => Kind::Odcs,
        Some(Value::String(kind)) if kind == "DataProduct" => Kind::Odps,
        Some(other) => return Err(vec![wrong_kind(other)]),
        None => return Err(vec![missing(object, "kind", "DataContract (ODCS) or DataProduct (ODPS)")]),
    };
    let known: &[&str] = if kind == Kind::Odcs { &ODCS } else { &ODPS };
    match object.get("apiVersion") {
        Some(Value::String(version)) if known.contains(&version.as_str()) => Ok(kind),
        Some(other) => Err(vec![wrong_version(other, known)]),
        None => Err(vec![missing(object, "apiVersion", &format!("one of {}", known.join(", ")))]),
    }
}

fn wrong_kind(kind: &Value) -> Problem {
    let kind = words::brief(kind);
    let hint = words::did_you_mean(&kind, ["DataContract", "DataProduct"]);
    Problem::new(
        "MESH-CONTRACT-0004",
        "/kind",
        format!("`{kind}` is no `kind` of document that a mesh knows"),
        format!("{hint}write `DataContract` (ODCS) or `DataProduct` (ODPS)"),
    )
}

fn wrong_version(version: &Value, known: &[&str]) -> Problem {
    let version = words::brief(version);
    let number = |version: &str| version.trim_start_matches(['v', 'V']).to_owned();
    let meant = known.iter().find(|known| !number(&version).is_empty() && number(known).starts_with(&number(&version)));
    let hint = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    Problem::new(
        "MESH-CONTRACT-0004",
        "/apiVersion",
        format!("`{version}` is no `apiVersion` that a mesh reads"),
        format!("{hint}write one of {}", known.join(", ")),
    )
}

fn missing(object: &Map<String, Value>, name: &str, choices: &str) -> Problem {
    let near = object.keys().find(|key| words::nearest(key, [name]).is_some() && key.as_str() != name);
    let hint = near.map(|key| format!("rename `{key}` to `{name}`, or ")).unwrap_or_default();
    Problem::new(
        "MESH-CONTRACT-0005",
        "",
        format!("the document lacks `{name}`"),
        format!("{hint}add `{name}`: {choices}"),
    )
}

fn standard(kind: Kind, version: &str) -> &'static Result<Standard, String> {
    match (kind, version) {
        (Kind::Odcs, "v3.2.0") => odcs_3_2(),
        (Kind::Odcs, "v3.1.0") => odcs_3_1(),
        (Kind::Odcs, _) => odcs_3_0(),
        (Kind::Odps, "v0.9.0") => odps_0_9(),
        (Kind::Odps, _) => odps_1_0(),
    }
}

/// ODCS's text: a field that is `null` is one that is not there. The document without such fields, where it needs it.
pub(crate) fn without_nulls(kind: Kind, document: &Value) -> Cow<'_, Value> {
    let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let is_valid = standard(kind, version).as_ref().is_ok_and(|standard| standard.judge.is_valid(document));
    if is_valid || kind != Kind::Odcs {
        return Cow::Borrowed(document);
    }
    let mut stripped = document.clone();
    strip(&mut stripped);
    Cow::Owned(stripped)
}

/// Where null is a value, or what is inside is not the standard's.
const VALUES: [&str; 7] = ["value", "valueExt", "mustBe", "mustNotBe", "arguments", "implementation", "examples"];

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // The `value` of a map is a property like any other.
            let is_map = members.contains_key("key");
            let kept = |name: &str| VALUES.contains(&name) && !(is_map && name == "value");
            members.retain(|name, member| !member.is_null() || kept(name));
            members.iter_mut().filter(|(name, _)| !kept(name)).for_each(|(_, member)| strip(member));
        }
        Value::Array(entries) => entries.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Every mistake that the kind's and version's schema finds.
pub(crate) fn validate(kind: Kind, document: &Value) -> Vec<Problem> {
    let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    match standard(kind, version) {
        Ok(standard) => judge(standard, document),
        Err(reason) => vec![Problem::new(
            "MESH-CONTRACT-0009",
            "",
            format!("the standard's schema cannot be used: {reason}"),
            "this is a fault of Meshwork: report it".to_owned(),
        )],
    }
}

/// The crate `jsonschema` decides, the explainer says why; should it find no reason, the crate's own is given.
fn judge(standard: &Standard, document: &Value) -> Vec<Problem> {
    if standard.judge.is_valid(document) {
        return Vec::new();
    }
    let problems = Explainer::new(&standard.schema).explain(document);
    if !problems.is_empty() {
        return problems;
    }
    standard
        .judge
        .iter_errors(document)
        .take(1)
        .map(|error| {
            Problem::new(
                "MESH-CONTRACT-0009",
                error.instance_path().as_str(),
                words::brief(&Value::String(error.to_string())),
                "see the standard at https://bitol.io".to_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const RICH: &str = include_str!("../tests/data/rich.json");
    const RICH_PRODUCT: &str = include_str!("../tests/data/product.json");

    /// The first of each schema's versions.
    const JUDGES: [(Kind, &str); 5] = [
        (Kind::Odcs, "v3.0.0"),
        (Kind::Odcs, "v3.1.0"),
        (Kind::Odcs, "v3.2.0"),
        (Kind::Odps, "v0.9.0"),
        (Kind::Odps, "v1.0.0"),
    ];

    fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| pointers(member, crate::yaml::join(&at, name), out));
            }
            Value::Array(entries) => {
                entries.iter().enumerate().for_each(|(i, entry)| pointers(entry, format!("{at}/{i}"), out));
            }
            _ => {}
        }
        out.push(at);
    }

    /// One change somewhere in the document.
    fn mutate(document: &mut Value, seed: (usize, usize, usize)) {
        let mut places = Vec::new();
        pointers(document, String::new(), &mut places);
        let place = &places[seed.0 % places.len()];
        let (parent, name) = place.rsplit_once('/').unwrap_or(("", ""));
        let words =
            ["string", "sql", "kafka", "x", "array", "library", "t.a", "type", "items", "metric", "from", "map"];
        let values = [
            json!(1),
            json!(1.5),
            json!(true),
            json!(null),
            json!([]),
            json!({}),
            json!(words[seed.2 % words.len()]),
            json!([1, 2]),
        ];
        match seed.1 % 4 {
            0 => {
                if let Some(object) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
                    object.remove(&name.replace("~1", "/"));
                }
            }
            1 | 2 => {
                if let Some(value) = document.pointer_mut(place) {
                    *value = values[seed.2 % values.len()].clone();
                }
            }
            _ => {
                if let Some(object) = document.pointer_mut(place).and_then(Value::as_object_mut) {
                    object.insert(words[seed.2 % words.len()].to_owned(), values[seed.0 % values.len()].clone());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// The explainer finds a reason exactly where the `jsonschema` crate refuses.
        #[test]
        fn judge_and_explainer_agree(
            judge in prop::sample::select(JUDGES.to_vec()),
            seeds in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 0..4),
        ) {
            let rich = if judge.0 == Kind::Odcs { RICH } else { RICH_PRODUCT };
            let mut document: Value = serde_json::from_str(rich).unwrap();
            document["apiVersion"] = json!(judge.1);
            if judge.1 == "v3.0.0" {
                document["schema"][0]["quality"][1] = json!({"type": "library", "rule": "rowCount", "mustBe": 1});
                document["schema"][0]["properties"][1]["logicalTypeOptions"]["exclusiveMinimum"] = json!(true);
            }
            prop_assert!(validate(judge.0, &document).is_empty());
            for seed in seeds {
                mutate(&mut document, seed);
            }
            let standard = standard(judge.0, judge.1).as_ref().unwrap();
            let problems = Explainer::new(&standard.schema).explain(&document);
            prop_assert_eq!(standard.judge.is_valid(&document), problems.is_empty(), "{:?}\n{}", problems, document);
        }
    }

    #[test]
    fn only_the_map_branch_is_widened() {
        let original: Value = serde_json::from_str(include_str!("../schemas/odcs-json-schema-v3.2.0.json")).unwrap();
        let original = jsonschema::options().should_validate_formats(false).build(&original).unwrap();
        let document = |property: Value| {
            json!({"apiVersion": "v3.2.0", "kind": "DataContract", "id": "x", "version": "1.0.0",
                   "schema": [{"name": "t", "properties": [property]}]})
        };
        let check = |property: Value, before: bool, now: bool| {
            let document = document(property);
            assert_eq!(
                (
                    original.is_valid(&document),
                    standard(Kind::Odcs, "v3.2.0").as_ref().unwrap().judge.is_valid(&document)
                ),
                (before, now)
            );
        };
        check(json!({"name": "a"}), false, true);
        check(json!({"name": "a", "logicalType": "map"}), false, false);
        check(json!({"name": "a", "logicalType": "string", "map": {}}), false, false);
        check(json!({"name": "a", "logicalTypeOptions": {"minLength": 1}}), false, false);
    }
}
