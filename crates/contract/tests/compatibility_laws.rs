//! What "compatible" promises, tried on random contracts and records: no record once accepted is now refused, no column
//! that was there is removed or of another type.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mesh_contract::constraints::Constraints;
use mesh_contract::{Bump, Column, ProductContract, Scalar, Type, compare};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

fn property(name: &'static str) -> impl Strategy<Value = Value> {
    let bound = || prop::option::of(-3..4i64);
    let integer =
        (bound(), bound(), any::<bool>(), prop::option::of(1..4i64)).prop_map(|(min, max, exclusive, multiple)| {
            let mut options = Map::new();
            let (low, high) = if exclusive { ("exclusiveMinimum", "exclusiveMaximum") } else { ("minimum", "maximum") };
            let (min, max) = match (min, max) {
                (Some(a), Some(b)) => (Some(a.min(b) - 2), Some(a.max(b) + 2)),
                other => other,
            };
            min.map(|n| options.insert(low.to_owned(), json!(n)));
            max.map(|n| options.insert(high.to_owned(), json!(n)));
            multiple.map(|n| options.insert("multipleOf".to_owned(), json!(n)));
            json!({"logicalType": "integer", "logicalTypeOptions": options})
        });
    let words = prop::sample::subsequence(vec!["", "a", "aa", "b", "ab"], 0..5);
    let string = (
        words,
        prop::option::of(0..2u32),
        prop::option::of(2..4u32),
        prop::option::of(prop::sample::select(vec!["^a", "b$"])),
    )
        .prop_map(|(words, min, max, pattern)| {
            let mut options = Map::new();
            min.map(|n| options.insert("minLength".to_owned(), json!(n)));
            max.map(|n| options.insert("maxLength".to_owned(), json!(n)));
            pattern.map(|p| options.insert("pattern".to_owned(), json!(p)));
            let mut property = json!({"logicalType": "string", "logicalTypeOptions": options});
            if !words.is_empty() {
                property["enum"] = words.iter().map(|w| json!({"value": w})).collect();
            }
            property
        });
    (prop_oneof![integer, string], any::<bool>()).prop_map(move |(mut property, required)| {
        property["name"] = json!(name);
        property["required"] = json!(required);
        property
    })
}

fn contract() -> impl Strategy<Value = ProductContract> {
    (prop::option::of(property("a")), prop::option::of(property("b")), property("c")).prop_map(|(a, b, c)| {
        let properties: Vec<Value> = a.into_iter().chain(b).chain([c]).collect();
        let document = json!({
            "apiVersion": "v3.2.0", "kind": "DataContract", "id": "x", "version": "1.0.0", "domain": "d",
            "schema": [{"name": "t", "properties": properties}],
        });
        ProductContract::parse("f", &document.to_string()).unwrap()
    })
}

/// Often a small step from the first contract, else the two have too little in common to be compatible.
fn pair() -> impl Strategy<Value = (ProductContract, ProductContract)> {
    (contract(), contract(), prop::collection::vec(any::<bool>(), 3), any::<bool>()).prop_map(
        |(old, other, keep, looser)| {
            let mut document = old.contract().document.clone();
            let properties = document["schema"][0]["properties"].as_array_mut().unwrap();
            for (property, keep) in properties.iter_mut().zip(keep) {
                let replacement = other.contract().document["schema"][0]["properties"].as_array().unwrap().iter();
                if let (false, Some(new)) = (keep, replacement.into_iter().find(|p| p["name"] == property["name"])) {
                    *property = new.clone();
                } else if looser {
                    property["required"] = json!(false);
                    property.as_object_mut().unwrap().remove("enum");
                }
            }
            let new = ProductContract::parse("f", &document.to_string()).unwrap();
            (old, new)
        },
    )
}

fn record() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just(Value::Null),
        (-6..7i64).prop_map(Value::from),
        prop::sample::select(vec!["", "a", "aa", "b", "ab", "aaab"]).prop_map(Value::from),
    ];
    (value.clone(), value.clone(), value).prop_map(|(a, b, c)| json!({"a": a, "b": b, "c": c}))
}

fn accepts(contract: &ProductContract, record: &Value) -> bool {
    contract.columns().iter().all(|column| accepts_value(column, record.get(&column.name).unwrap_or(&Value::Null)))
}

fn accepts_value(column: &Column, value: &Value) -> bool {
    let c = &column.constraints;
    match (&column.ty, value) {
        (_, Value::Null) => !column.required,
        (Type::Long, Value::Number(n)) => accepts_long(c, n.as_i64().unwrap()),
        (Type::String, Value::String(text)) => accepts_text(c, text),
        _ => false,
    }
}

fn accepts_long(c: &Constraints, n: i64) -> bool {
    let value = Scalar::Long(n);
    c.minimum.as_ref().is_none_or(|b| value > b.value || (b.inclusive && value == b.value))
        && c.maximum.as_ref().is_none_or(|b| value < b.value || (b.inclusive && value == b.value))
        && c.multiple_of.as_ref().is_none_or(|m| matches!(m, Scalar::Long(m) if n % m == 0))
}

fn accepts_text(c: &Constraints, text: &str) -> bool {
    let length = text.chars().count() as u64;
    c.enumeration.as_ref().is_none_or(|values| values.contains(&Scalar::Text(text.to_owned())))
        && c.min_length.is_none_or(|n| length >= n)
        && c.max_length.is_none_or(|n| length <= n)
        && c.pattern.as_ref().is_none_or(|p| regex::Regex::new(p).unwrap().is_match(text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_record_once_accepted_is_now_refused(
        (old, new) in pair(),
        records in prop::collection::vec(record(), 60),
    ) {
        let verdict = compare(&old, &new);
        if verdict.is_compatible() {
            // A column that is new may meet a field that writers sent before: that is outside the verdict (ADR 0011).
            let known = |r: &Value| old.columns().iter().map(|c| (c.name.clone(), r[&c.name].clone())).collect::<Map<_, _>>();
            for record in records.iter().map(|r| Value::Object(known(r))).filter(|r| accepts(&old, r)) {
                prop_assert!(accepts(&new, &record), "{} after {:?}", record, verdict);
            }
        }
    }

    #[test]
    fn no_query_once_valid_fails_or_changes_type((old, new) in pair()) {
        if compare(&old, &new).is_compatible() {
            for column in old.columns() {
                prop_assert_eq!(&new.column(&column.name).unwrap().ty, &column.ty);
            }
        }
    }

    #[test]
    fn every_breaking_change_says_major((old, new) in pair()) {
        let verdict = compare(&old, &new);
        prop_assert_eq!(verdict.required_bump == Bump::Major, verdict.breaking().count() > 0);
        prop_assert!(compare(&old, &old).changes.is_empty());
    }
}

/// A law that no pair tests would hold by luck.
#[test]
fn compatible_pairs_do_occur() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let compatible = (0..400)
        .filter(|_| {
            let (old, new) = pair().new_tree(&mut runner).unwrap().current();
            let verdict = compare(&old, &new);
            verdict.is_compatible() && !verdict.changes.is_empty()
        })
        .count();
    assert!(compatible > 20, "{compatible} of 400");
}
