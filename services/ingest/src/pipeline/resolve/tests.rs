//! What is kept to the last digit, and what is refused because it would not be.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_schema::{DataType, FieldRef};
use serde_json::{Value, json};

use crate::pipeline::decode::avro::Schemas;
use crate::pipeline::fixtures::{chunk, contract, framed, json_outcome, outcome, plan, schemas};
use crate::pipeline::resolve::TargetColumn;
use crate::pipeline::transform::transform;

/// One JSON value of a column `v`: what is stored, or `reason`.
fn check(property: &str, value: &str, expected: Result<Value, &str>) {
    let contract = contract("json", &[property, "{name: w, logicalType: boolean}"], "");
    let (rows, refused) = json_outcome(&contract, &[&format!("{{\"v\":{value},\"w\":true}}")]);
    let found = rows.first().map(|row| row["v"].clone()).ok_or_else(|| refused.first().cloned().unwrap_or_default());
    assert_eq!(found, expected.map_err(|reason| format!("0 {reason} v")), "{property} {value}");
}

/// One Avro value of a column `v`.
fn check_avro(property: &str, ty: Value, value: Value, expected: Result<Value, &str>) {
    let contract = contract("avro", &[property, "{name: w, logicalType: boolean}"], "");
    let schema =
        json!({"type": "record", "name": "r", "fields": [{"name": "v", "type": ty}, {"name": "w", "type": "boolean"}]});
    let values = [Some(framed(1, &schema, &json!({"v": value, "w": true})))];
    let (rows, refused) = outcome(&transform(&chunk(&values), &plan(&contract), &schemas(&[(1, &schema)])).unwrap());
    let found = rows.first().map(|row| row["v"].clone()).ok_or_else(|| refused.first().cloned().unwrap_or_default());
    assert_eq!(found, expected.map_err(|reason| format!("0 {reason} v")), "{property} {schema}");
}

#[test]
fn integers_are_whole() {
    let long = "{name: v, logicalType: integer}";
    check(long, "9007199254740993", Ok(json!(9_007_199_254_740_993_i64)));
    check(long, "-9223372036854775808", Ok(json!(i64::MIN)));
    check(long, "1e3", Ok(json!(1000)));
    check(long, "2.0", Ok(json!(2)));
    check(long, "2.5", Err("cut"));
    check(long, "9223372036854775808", Err("overflow"));
    check(long, "true", Err("type"));
    check(long, "\"7\"", Ok(json!(7)));
    check(long, "7.00000000000000000000000", Ok(json!(7)));
    check(long, "1e-19", Err("cut"));
    check(long, "0.0000000000000000001", Err("cut"));
    check(long, "\"1e-30\"", Err("cut"));
}

/// arrow-json wraps around on these (panics in a debug build): 1 and 0 in the end.
#[test]
fn numbers_written_as_text_do_not_wrap_around() {
    let long = "{name: v, logicalType: integer}";
    let zeros = format!("\"1{}\"", "0".repeat(260));
    check(long, "\"1e65536\"", Err("overflow"));
    check(long, &zeros, Err("overflow"));
    check(long, "\"1\\u0065\\u0036\\u0035536\"", Err("overflow"));
    check("{name: v, logicalType: number, physicalType: 'decimal(5,2)'}", &zeros, Err("overflow"));
    let refused = json_outcome(
        &contract("json", &["{name: v, logicalType: array, items: {logicalType: integer}}"], ""),
        &[&format!("{{\"v\":[1,{zeros}]}}")],
    );
    assert_eq!(refused.1, ["0 overflow v[]"]);
    // Where text belongs it may be any.
    check("{name: v, logicalType: string}", &zeros, Ok(serde_json::from_str(&zeros).unwrap()));
    check("{name: v, logicalType: string}", "\"\\u0031\\\"\"", Ok(json!("1\"")));
}

#[test]
fn doubles_are_finite() {
    check("{name: v, logicalType: number}", "1e-300", Ok(json!(1e-300)));
    check("{name: v, logicalType: number}", "0.1234567890123456789", Ok(json!(0.123_456_789_012_345_68)));
    check("{name: v, logicalType: number}", "0.1", Ok(json!(0.1)));
    check("{name: v, logicalType: number}", "1e999", Err("overflow"));
    check("{name: v, logicalType: number}", "\"NaN\"", Err("overflow"));
}

#[test]
fn decimals_keep_their_places() {
    let decimal = "{name: v, logicalType: number, physicalType: 'decimal(5,2)'}";
    check(decimal, "123.45", Ok(json!(123.45)));
    check(decimal, "\"1.50\"", Ok(json!(1.5)));
    check(decimal, "0.001", Err("cut"));
    check(decimal, "1e-90", Err("cut"));
    check(decimal, "1.2500000000000000000000000", Ok(json!(1.25)));
    check(decimal, "1234567890123456789012345678901234567890123456789012345678901234567890123456789", Err("overflow"));
}

#[test]
fn moments_have_an_offset_and_microseconds() {
    let moment = "{name: v, logicalType: timestamp}";
    check(moment, "\"2013-01-01T05:00:00Z\"", Ok(json!("2013-01-01T05:00:00Z")));
    check(moment, "\"2013-01-01T05:00:00.123456+02:00\"", Ok(json!("2013-01-01T03:00:00.123456Z")));
    check(moment, "\"2013-01-01T05:00:00.1234567Z\"", Err("cut"));
    check(moment, "\"2013-01-01T05:00:00\"", Err("type"));
    check(moment, "1357016400", Err("type"));
}

#[test]
fn texts_are_texts() {
    check("{name: v, logicalType: string}", "5", Err("type"));
    check("{name: v, logicalType: string}", "\"5\"", Ok(json!("5")));
}

#[test]
fn avro_moments_come_in_three_units() {
    let moment = "{name: v, logicalType: timestamp}";
    let of = |logical| json!({"type": "long", "logicalType": logical});
    check_avro(moment, of("timestamp-millis"), json!(1_357_016_400_000_i64), Ok(json!("2013-01-01T05:00:00Z")));
    check_avro(
        moment,
        of("timestamp-micros"),
        json!(1_357_016_400_000_001_i64),
        Ok(json!("2013-01-01T05:00:00.000001Z")),
    );
    check_avro(moment, of("timestamp-nanos"), json!(1_357_016_400_000_000_001_i64), Err("cut"));
    check_avro(moment, of("timestamp-millis"), json!(i64::MAX / 10), Err("overflow"));
    check_avro(moment, json!("long"), json!(1), Err("uncovered-schema"));
}

#[test]
fn avro_numbers_widen_but_never_round() {
    check_avro("{name: v, logicalType: integer}", json!("int"), json!(5), Ok(json!(5)));
    check_avro("{name: v, logicalType: number}", json!("long"), json!(9_007_199_254_740_993_i64), Err("cut"));
    check_avro(
        "{name: v, logicalType: number}",
        json!("long"),
        json!(9_007_199_254_740_992_i64),
        Ok(json!(9_007_199_254_740_992.0)),
    );
}

#[test]
fn avro_keeps_what_is_no_number_and_refuses_it_where_there_is_a_range() {
    use crate::pipeline::decode::avro::SchemaId;
    use crate::pipeline::fixtures::contract;
    let double = json!({"type": "record", "name": "thing", "fields": [{"name": "v", "type": "double"}]});
    let value = |v: f64| Some([&[0, 0, 0, 0, 1][..], &v.to_le_bytes()].concat());
    let check = |property: &str, expected: &[&str]| {
        let values = [f64::NAN, f64::INFINITY, 1.5].map(value);
        let schemas = [(SchemaId(1), double.to_string().into())].into();
        let done = transform(&chunk(&values), &plan(&contract("avro", &[property], "")), &schemas).unwrap();
        assert_eq!(outcome(&done).1, expected, "{property}");
    };
    check("{name: v, logicalType: number}", &[]);
    check("{name: v, logicalType: number, logicalTypeOptions: {maximum: 9}}", &["0 maximum v", "1 maximum v"]);
    check(
        "{name: v, logicalType: number, logicalTypeOptions: {multipleOf: 0.5}}",
        &["0 multiple-of v", "1 multiple-of v"],
    );
}

#[test]
fn moments_out_of_range_are_refused() {
    let moment = "{name: v, logicalType: timestamp}";
    check(moment, "\"9999-12-31T23:59:59.999999Z\"", Ok(json!("9999-12-31T23:59:59.999999Z")));
    check(moment, "\"0001-01-01T00:00:00Z\"", Ok(json!("0001-01-01T00:00:00Z")));
    check(moment, "\"10000-01-01T00:00:00Z\"", Err("type"));
    check(moment, "\"2013-02-30T00:00:00Z\"", Err("type"));
    check("{name: v, logicalType: date}", "\"2013-13-01\"", Err("type"));
}

#[test]
fn avro_moments_that_nobody_can_show_are_refused() {
    let of = |ty: &str, logical| json!({"type": ty, "logicalType": logical});
    let time = "{name: v, logicalType: time}";
    check_avro(time, of("long", "time-micros"), json!(86_399_999_999_i64), Ok(json!("23:59:59.999999")));
    check_avro(time, of("long", "time-micros"), json!(86_400_000_000_i64), Err("overflow"));
    check_avro(time, of("long", "time-micros"), json!(-1), Err("overflow"));
    check_avro("{name: v, logicalType: timestamp}", of("long", "timestamp-micros"), json!(i64::MAX), Err("overflow"));
    check_avro(
        "{name: v, logicalType: timestamp}",
        of("long", "timestamp-micros"),
        json!(253_402_300_799_999_999_i64),
        Ok(json!("9999-12-31T23:59:59.999999Z")),
    );
    let schema = json!({"type": "record", "name": "r", "fields": [{"name": "v", "type": of("int", "date")}]});
    // Day 2147483647.
    let values = [Some([&[0, 0, 0, 0, 1][..], &[0xfe, 0xff, 0xff, 0xff, 0x0f]].concat())];
    let contract = contract("avro", &["{name: v, logicalType: date}"], "");
    let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(1, &schema)])).unwrap();
    assert_eq!(outcome(&done).1, ["0 overflow v"]);
}

#[test]
fn the_field_of_the_very_name_wins() {
    let both = json!({"type": "record", "name": "thing", "fields": [
        {"name": "V", "type": "long"}, {"name": "v", "type": "long"},
    ]});
    let values = [Some(framed(1, &both, &json!({"V": 1, "v": 2})))];
    let contract = contract("avro", &["{name: v, logicalType: integer}"], "");
    let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(1, &both)])).unwrap();
    assert_eq!(outcome(&done).0, [json!({"v": 2})]);
}

/// Another engine widened the table's column: the contract's type stays the limit, in both formats.
#[test]
fn a_widened_column_takes_what_the_contract_takes() {
    let wider = |from: &DataType| match from {
        DataType::Int32 => DataType::Int64,
        DataType::Float32 => DataType::Float64,
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
        other => other.clone(),
    };
    let cases = [
        ("{name: v, logicalType: integer, logicalTypeOptions: {format: i32}}", json!("long"), [1_i64, 3_000_000_000]),
        (
            "{name: v, logicalType: number, physicalType: 'decimal(5,0)'}",
            json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}),
            [1, 100_000],
        ),
    ];
    for (property, written, values) in cases {
        for format in ["json", "avro"] {
            let contract = contract(format, &[property], "");
            let mut plan = plan(&contract);
            let narrow = contract.arrow_schema();
            let wide = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(wider(field.data_type())));
            let fields: Vec<FieldRef> = narrow.fields().iter().map(wide).collect();
            plan.target = TargetColumn::new(&fields).within(&narrow);
            let schema = json!({"type": "record", "name": "r", "fields": [{"name": "v", "type": written}]});
            let records = values.map(|value| match (format, written.is_string()) {
                ("json", _) => Some(json!({"v": value}).to_string().into_bytes()),
                (_, true) => Some(framed(1, &schema, &json!({"v": value}))),
                // Three bytes, big-endian.
                (_, false) => Some([&[0, 0, 0, 0, 1, 6][..], &value.to_be_bytes()[5..]].concat()),
            });
            let done = transform(&chunk(&records), &plan, &schemas(&[(1, &schema)])).unwrap();
            let (rows, refused) = outcome(&done);
            assert_eq!((rows.len(), refused), (1, vec!["1 overflow v".to_owned()]), "{format} {property}");
            assert_eq!(done.batches[0].schema().field(0).data_type(), plan.target.schema().field(0).data_type());
        }
    }
}

#[test]
fn a_map_has_each_key_once() {
    let contract = contract(
        "avro",
        &["{name: v, logicalType: map, map: {key: {logicalType: string}, value: {logicalType: integer}}}"],
        "",
    );
    let schema = json!({"type": "record", "name": "r", "fields": [
        {"name": "v", "type": {"type": "map", "values": "long"}}]});
    let values = [
        Some(b"\0\0\0\0\x01\x04\x02a\x02\x02b\x02\0".to_vec()),
        Some(b"\0\0\0\0\x01\x04\x02a\x02\x02a\x04\0".to_vec()),
        Some(b"\0\0\0\0\x01\x02\x02a\x02\x02\x02a\x04\0".to_vec()),
    ];
    let done = transform(&chunk(&values), &plan(&contract), &schemas(&[(1, &schema)])).unwrap();
    let (rows, refused) = outcome(&done);
    assert_eq!((rows.len(), refused), (1, vec!["1 type v{key}".to_owned(), "2 type v{key}".to_owned()]));
    let contract = crate::pipeline::fixtures::contract(
        "json",
        &["{name: v, logicalType: map, map: {key: {logicalType: integer}, value: {logicalType: string}}}"],
        "",
    );
    let records = [
        "{\"v\":{\"1\":\"a\",\"-2\":\"b\"}}",
        "{\"v\":[{\"key\":1,\"value\":\"a\"},{\"value\":\"b\",\"key\":\"2\"}]}",
        "{\"v\":{\"1\":\"a\",\"1.0\":\"b\"}}",
        "{\"v\":{\"x\":\"a\"}}",
        "{\"v\":[{\"value\":\"a\"}]}",
        "{\"v\":[{\"key\":null}]}",
    ];
    let records = records.map(|record| Some(record.as_bytes().to_vec()));
    let done = transform(&chunk(&records), &plan(&contract), &Schemas::new()).unwrap();
    assert_eq!(done.batches.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 2);
    let refused: Vec<_> =
        done.refusals.iter().map(|(at, refusal)| format!("{at} {} {}", refusal.reason, refusal.place)).collect();
    assert_eq!(refused, ["2 type v{key}", "3 type v{key}", "4 type v{key}", "5 type v{key}"]);
}
