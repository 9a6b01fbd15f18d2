//! Poison in batches: any mix of good and bad messages gives exactly the good rows and the bad refusals.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::pipeline::decode::avro::Schemas;
use crate::pipeline::fixtures::{chunk, contract, framed, json_outcome, outcome, plan, schemas};
use crate::pipeline::transform::transform;

fn schema() -> Value {
    json!({"type": "record", "name": "thing", "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["A", "B"]}},
    ]})
}

const PROPERTIES: &[&str] = &[
    "{name: id, logicalType: integer, required: true}",
    "{name: name, logicalType: string}",
    "{name: kind, logicalType: string}",
];

fn good(id: i64) -> Vec<u8> {
    framed(3, &schema(), &json!({"id": id, "name": format!("n{id}"), "kind": "B"}))
}

/// Ways to spoil an Avro value.
fn poison(kind: u8, id: i64) -> Option<Vec<u8>> {
    let mut value = good(id);
    match kind {
        0 => return None,
        1 => value.truncate(value.len() - 1),
        2 => value.push(0),
        3 => value.extend(good(id)),
        4 => value[0] = 1,
        5 => value[4] = 9,
        6 => value.clear(),
        7 => value.truncate(5),
        // An enum's index beyond its symbols: found only when the batch is finished.
        8 => *value.last_mut().unwrap() = 40,
        // Text that is not UTF-8: found only when the batch is finished.
        _ => value[8] = 0xff,
    }
    Some(value)
}

fn json_poison(kind: u8) -> &'static str {
    match kind {
        0 => "",
        1 => "{\"id\":1",
        2 => "{\"id\":1}{\"id\":2}",
        3 => "[1]",
        4 => "{\"id\":\"one\"}",
        5 => "{\"id\":3.7}",
        6 => "{\"id\":9223372036854775808}",
        7 => "{\"id\":1,\"name\":5}",
        8 => "12",
        _ => "nonsense",
    }
}

fn mix() -> impl Strategy<Value = Vec<Option<u8>>> {
    prop::collection::vec(prop_oneof![3 => Just(None), 1 => (0u8..10).prop_map(Some)], 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn avro_gives_the_good_rows_and_refuses_the_rest(mix in mix()) {
        let values: Vec<_> = (0i64..).zip(&mix).map(|(id, poisoned)| match poisoned {
            None => Some(good(id)),
            Some(kind) => poison(*kind, id),
        }).collect();
        let contract = contract("avro", PROPERTIES, "");
        let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(3, &schema())])).unwrap();
        let (rows, refused) = outcome(&done);
        let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        let wanted: Vec<i64> = (0i64..).zip(&mix).filter(|(_, poisoned)| poisoned.is_none()).map(|(id, _)| id).collect();
        prop_assert_eq!(ids, wanted);
        prop_assert_eq!(refused.len(), mix.iter().flatten().count());
    }

    #[test]
    fn json_gives_the_good_rows_and_refuses_the_rest(mix in mix()) {
        let values: Vec<String> = (0i64..).zip(&mix).map(|(id, poisoned)| match poisoned {
            None => format!("{{\"id\":{id},\"name\":\"n\",\"more\":[{{}}]}}"),
            Some(kind) => json_poison(*kind).to_owned(),
        }).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let (rows, refused) = json_outcome(&contract("json", PROPERTIES, ""), &values);
        let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        let wanted: Vec<i64> = (0i64..).zip(&mix).filter(|(_, poisoned)| poisoned.is_none()).map(|(id, _)| id).collect();
        prop_assert_eq!(ids, wanted);
        prop_assert_eq!(refused.len(), mix.iter().flatten().count());
    }

    /// Whatever the bytes: a row or a refusal, no panic.
    #[test]
    fn any_bytes_are_a_row_or_a_refusal(tails in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 1..20)) {
        let values: Vec<_> = tails.into_iter().map(|tail| Some([&[0, 0, 0, 0, 3], tail.as_slice()].concat())).collect();
        let contract = contract("avro", PROPERTIES, "");
        let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(3, &schema())])).unwrap();
        let (rows, refused) = outcome(&done);
        prop_assert_eq!(rows.len() + refused.len(), values.len());
    }
}

#[test]
fn each_way_to_spoil_an_avro_value_has_its_reason() {
    let values: Vec<_> = (0..10).map(|kind| poison(kind, 5)).collect();
    let contract = contract("avro", PROPERTIES, "");
    let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(3, &schema())])).unwrap();
    let reasons: Vec<_> = done.refusals.iter().map(|(_, refusal)| refusal.reason.word()).collect();
    let undecodable = "undecodable";
    assert_eq!(
        reasons,
        [
            "tombstone",
            undecodable,
            undecodable,
            undecodable,
            "framing",
            "unknown-schema",
            "framing",
            undecodable,
            undecodable,
            undecodable
        ]
    );
}

#[test]
fn a_new_schema_is_read_beside_the_old() {
    let newer = json!({"type": "record", "name": "thing", "fields": [
        {"name": "Name", "type": "string"}, {"name": "extra", "type": "int"}, {"name": "ID", "type": "int"},
    ]});
    let values = [Some(good(1)), Some(framed(4, &newer, &json!({"Name": "x", "extra": 1, "ID": 2}))), Some(good(3))];
    let contract = contract("avro", PROPERTIES, "");
    let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(3, &schema()), (4, &newer)])).unwrap();
    let (rows, refused) = outcome(&done);
    assert_eq!(
        rows,
        [
            json!({"id": 1, "name": "n1", "kind": "B"}),
            json!({"id": 3, "name": "n3", "kind": "B"}),
            json!({"id": 2, "name": "x"})
        ]
    );
    assert!(refused.is_empty());
    assert_eq!(
        done.unknown.iter().map(|(id, fields)| (id.0, fields.clone())).collect::<Vec<_>>(),
        [(4, vec!["extra".to_owned()])]
    );
}

#[test]
fn a_schema_that_cannot_become_the_columns_refuses_its_records() {
    let other = json!({"type": "record", "name": "thing", "fields": [{"name": "id", "type": "string"}]});
    let values = [Some(framed(1, &other, &json!({"id": "x"})))];
    let done = transform(&chunk(&values), &plan(&contract("avro", PROPERTIES, "")), &schemas(&[(1, &other)])).unwrap();
    assert_eq!(outcome(&done).1, ["0 uncovered-schema id"]);
}

#[test]
fn a_closed_contract_refuses_unknown_json_fields() {
    let contract = contract("json", PROPERTIES, "    customProperties: [{property: closed, value: true}]\n");
    assert_eq!(json_outcome(&contract, &["{\"id\":1}", "{\"id\":1,\"more\":2}"]).1, ["1 unknown-field more"]);
}

#[test]
fn a_tombstone_is_a_dead_letter() {
    let done = transform(&chunk(&[None]), &plan(&contract("json", PROPERTIES, "")), &Schemas::new()).unwrap();
    assert_eq!(outcome(&done).1, ["0 tombstone"]);
}

/// One JSON value of a contract with `id`, `name` and `kind`: the row, or the refusal.
fn check_json(value: &[u8], expected: Result<Value, &str>) {
    let contract = contract("json", PROPERTIES, "");
    let done = transform(&chunk(&[Some(value.to_vec())]), &plan(&contract), &Schemas::new()).unwrap();
    let (rows, refused) = outcome(&done);
    let found = rows.first().cloned().ok_or_else(|| refused.first().cloned().unwrap_or_default());
    assert_eq!(found, expected.map_err(str::to_owned), "{}", String::from_utf8_lossy(value));
}

#[test]
fn odd_json_is_a_row_or_a_refusal() {
    check_json(br#"{"id":1,"id":2}"#, Err("0 undecodable"));
    check_json(br#"{"id":1,"more":2,"more":3}"#, Err("0 undecodable"));
    check_json(b" {\"id\":1}\n", Ok(json!({"id": 1})));
    check_json(br#"{"id":1,"name":"\u0000"}"#, Ok(json!({"id": 1, "name": "\u{0}"})));
    check_json(br#"{"id":NaN}"#, Err("0 undecodable"));
    check_json(br#"{"id":1,"name":"\ud800"}"#, Err("0 undecodable"));
    check_json(b"{\"id\":1,\"name\":\"\xff\"}", Err("0 undecodable"));
    check_json(b"\xef\xbb\xbf{\"id\":1}", Err("0 undecodable"));
    check_json(br#"null"#, Err("0 undecodable"));
    check_json(br#"{"id":-0}"#, Ok(json!({"id": 0})));
    check_json(br#"{"id":1e400}"#, Err("0 overflow id"));
}

#[test]
fn deep_and_huge_json_harms_nobody() {
    let deep = format!("{{\"id\":1,\"more\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let huge = format!("{{\"id\":2,\"name\":\"{}\"}}", "x".repeat(8 << 20));
    let values = [Some(deep.into_bytes()), Some(huge.into_bytes()), Some(b"{\"id\":3}".to_vec())];
    let done = transform(&chunk(&values), &plan(&contract("json", PROPERTIES, "")), &Schemas::new()).unwrap();
    let (rows, refused) = outcome(&done);
    assert_eq!((rows.len(), refused), (2, vec!["0 undecodable".to_owned()]));
}

/// A schema that names itself has no columns; registered as an unknown field, it must not take the process with it.
#[test]
fn a_schema_that_names_itself_refuses_its_records() {
    let list = json!({"type": "record", "name": "thing", "fields": [
        {"name": "id", "type": "long"}, {"name": "next", "type": ["null", "thing"]},
    ]});
    let done = transform(
        &chunk(&[Some([0, 0, 0, 0, 9, 2, 0].to_vec())]),
        &plan(&contract("avro", PROPERTIES, "")),
        &schemas(&[(9, &list)]),
    );
    assert_eq!(outcome(&done.unwrap()).1, ["0 uncovered-schema"]);
}

/// An array of nulls takes no bytes for its items: nine bytes claim four quintillions of them.
#[test]
fn a_record_that_claims_more_than_it_has_is_refused_at_once() {
    let nulls = json!({"type": "record", "name": "thing", "fields": [
        {"name": "id", "type": "long"}, {"name": "more", "type": {"type": "array", "items": "null"}},
    ]});
    let claim = [&[0, 0, 0, 0, 5, 2][..], &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]].concat();
    let values = [Some(good(1)), Some(claim), Some(good(3))];
    let contract = contract("avro", PROPERTIES, "");
    let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(3, &schema()), (5, &nulls)])).unwrap();
    let (rows, refused) = outcome(&done);
    assert_eq!((rows.len(), refused), (2, vec!["1 uncovered-schema".to_owned()]));
}
