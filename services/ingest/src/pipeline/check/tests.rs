//! Each constraint, by what it lets through.
#![allow(clippy::unwrap_used)]

use crate::pipeline::decode::avro::Schemas;
use crate::pipeline::fixtures::{chunk, contract, json_outcome, plan};
use crate::pipeline::transform::transform;

/// One column `v` with a property's text; JSON values of it; the indices that are refused, each with its reason.
fn check(property: &str, values: &[&str], refused: &[&str]) {
    let contract = contract("json", &[property], "");
    let records: Vec<String> = values.iter().map(|value| format!("{{\"v\":{value}}}")).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let (rows, found) = json_outcome(&contract, &records);
    assert_eq!(found, refused, "{property}");
    assert_eq!(rows.len() + refused.len(), values.len());
}

#[test]
fn required_refuses_null_and_missing() {
    check("{name: v, logicalType: integer, required: true}", &["1", "null"], &["1 required v"]);
    let contract = contract("json", &["{name: v, logicalType: string, required: true}"], "");
    assert_eq!(json_outcome(&contract, &["{}"]).1, ["0 required v"]);
}

#[test]
fn a_range_has_ends() {
    check(
        "{name: v, logicalType: integer, logicalTypeOptions: {minimum: 0, maximum: 2359}}",
        &["-1", "0", "2359", "2400", "null"],
        &["0 minimum v", "3 maximum v"],
    );
    check(
        "{name: v, logicalType: number, logicalTypeOptions: {exclusiveMinimum: 0, exclusiveMaximum: 1}}",
        &["0", "0.5", "1.0"],
        &["0 minimum v", "2 maximum v"],
    );
}

#[test]
fn a_date_has_a_range_too() {
    check(
        "{name: v, logicalType: date, logicalTypeOptions: {minimum: '2013-01-01'}}",
        &["\"2012-12-31\"", "\"2013-01-01\"", "\"soon\""],
        &["0 minimum v", "2 type v"],
    );
}

#[test]
fn multiples() {
    check("{name: v, logicalType: integer, logicalTypeOptions: {multipleOf: 5}}", &["10", "11"], &["1 multiple-of v"]);
    check(
        "{name: v, logicalType: number, logicalTypeOptions: {multipleOf: 0.1}}",
        &["0.3", "0.35"],
        &["1 multiple-of v"],
    );
}

#[test]
fn text_has_length_and_pattern() {
    check(
        "{name: v, logicalType: string, logicalTypeOptions: {minLength: 2, maxLength: 3}}",
        &["\"a\"", "\"ab\"", "\"äöü\"", "\"abcd\""],
        &["0 min-length v", "3 max-length v"],
    );
    check(
        "{name: v, logicalType: string, logicalTypeOptions: {pattern: '^[A-Z]{3}$'}}",
        &["\"JFK\"", "\"jfk\"", "null"],
        &["1 pattern v"],
    );
}

#[test]
fn text_has_a_format() {
    check(
        "{name: v, logicalType: string, logicalTypeOptions: {format: email}}",
        &["\"a@example.com\"", "\"a.example.com\""],
        &["1 format v"],
    );
}

#[test]
fn elements_are_counted_compared_and_checked() {
    let property = "{name: v, logicalType: array, logicalTypeOptions: {minItems: 1, maxItems: 3, uniqueItems: true}, \
                    items: {logicalType: integer, logicalTypeOptions: {maximum: 9}}}";
    check(
        property,
        &["[]", "[1]", "[1,1]", "[1,2,3,4]", "[1,10]", "null"],
        &["0 min-items v", "2 unique-items v", "3 max-items v", "4 maximum v[]"],
    );
}

#[test]
fn a_field_of_an_absent_object_is_not_missing() {
    let property = "{name: v, logicalType: object, properties: [{name: w, logicalType: string, required: true}]}";
    check(property, &["null", "{}", "{\"w\":\"x\"}"], &["1 required v.w"]);
}

/// A value that equals its limit is within it, whatever its digits; the message has the limit as it is written.
#[test]
fn limits_are_compared_exactly() {
    let money = "{name: v, logicalType: number, physicalType: 'decimal(12,2)', logicalTypeOptions: {minimum: -100.5, maximum: 100.5}}";
    check(money, &["100.5", "100.50", "\"-100.5\"", "100.51", "-100.51"], &["3 maximum v", "4 minimum v"]);
    let float = "{name: v, logicalType: number, logicalTypeOptions: {format: f32, minimum: 0, maximum: 0.1}}";
    check(float, &["0.1", "-0.0", "0.2"], &["2 maximum v"]);
    let double = "{name: v, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 0.1}}";
    check(double, &["0.1", "-0.0", "0.10000000000000002"], &["2 maximum v"]);
    let integer = "{name: v, logicalType: integer, logicalTypeOptions: {maximum: 9007199254740992}}";
    check(integer, &["9007199254740992", "9007199254740993"], &["1 maximum v"]);
    let tenths = "{name: v, logicalType: number, logicalTypeOptions: {multipleOf: 0.1}}";
    check(tenths, &["10000000000.1", "10000000000.05", "-0.3"], &["1 multiple-of v"]);
}

#[test]
fn a_message_has_the_limit_as_it_is_written() {
    let message = |property: &str, value: &str| {
        let contract = contract("json", &[property], "");
        let values = [Some(format!("{{\"v\":{value}}}").into_bytes())];
        let done = transform(&chunk(&values), &plan(&contract), &Schemas::new()).unwrap();
        done.refusals.iter().next().unwrap().1.message.clone()
    };
    let money = "{name: v, logicalType: number, physicalType: 'decimal(12,2)', logicalTypeOptions: {maximum: 100.5}}";
    assert_eq!(message(money, "101"), "expected at most 100.50, found 101.00");
    let day = "{name: v, logicalType: date, logicalTypeOptions: {minimum: '2013-01-01'}}";
    assert_eq!(message(day, "\"2012-12-31\""), "expected at least 2013-01-01, found 2012-12-31");
    let time = "{name: v, logicalType: time, logicalTypeOptions: {maximum: '12:00:00'}}";
    assert!(message(time, "\"13:00:00\"").starts_with("expected at most 12:00:00, found 13:00:00"));
    let moment = "{name: v, logicalType: timestamp, logicalTypeOptions: {minimum: '2013-01-01T00:00:00Z'}}";
    assert!(
        message(moment, "\"2012-12-31T00:00:00Z\"").starts_with("expected at least 2013-01-01T00:00:00+00:00, found")
    );
}
