//! JSON as Python's `json`, `decimal` and `datetime` read it: generated records, the same verdict and the same values.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::pipeline::decode::avro::Schemas;
use crate::pipeline::fixtures::{chunk, contract, plan};
use crate::pipeline::transform::transform;

const PROPERTIES: &[&str] = &[
    "{name: int, logicalType: integer, logicalTypeOptions: {format: i32}}",
    "{name: long, logicalType: integer}",
    "{name: money, logicalType: number, physicalType: 'decimal(12,2)'}",
    "{name: wide, logicalType: number, physicalType: 'decimal(38,18)'}",
    "{name: double, logicalType: number}",
    "{name: text, logicalType: string}",
    "{name: flag, logicalType: boolean}",
    "{name: day, logicalType: date}",
    "{name: time, logicalType: time}",
    "{name: moment, logicalType: timestamp}",
    "{name: local, logicalType: timestamp, logicalTypeOptions: {timezone: false}}",
    "{name: list, logicalType: array, items: {logicalType: integer}}",
    "{name: map, logicalType: map, map: {key: {logicalType: string}, value: {logicalType: integer}}}",
    "{name: inner, logicalType: object, properties: [{name: x, logicalType: string}]}",
];

/// For each record in hexadecimal digits: null if it is to be refused, else its columns.
const SCRIPT: &str = r#"
import datetime, json, math, re, sys
from decimal import Decimal, getcontext, InvalidOperation
getcontext().prec = 2000
class Number(str): pass
class Refused(Exception): pass
class Pairs(list): pass
def constant(x): raise Refused(x)
def depth(text):
    deep = most = 0; inside = escaped = False
    for c in text:
        if escaped: escaped = False
        elif c == "\\" and inside: escaped = True
        elif c == '"': inside = not inside
        elif inside: pass
        elif c in "[{": deep += 1; most = max(most, deep)
        elif c in "]}": deep -= 1
    return most
def names(pairs):
    if not isinstance(pairs, Pairs): raise Refused("no object")
    found = {}
    for k, v in pairs:
        characters(k)
        if k in found: raise Refused("twice")
        found[k] = v
    return found
def characters(t):
    if any(0xD800 <= ord(c) < 0xE000 for c in t): raise Refused("surrogate")
    return t
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
def exact(v, precision, scale):
    if not NUMBER.fullmatch(v): raise Refused(v)
    mantissa, _, exponent = v.lower().partition("e")
    sign = -1 if mantissa.startswith("-") else 1
    whole, _, places = mantissa.lstrip("+-").partition(".")
    digits, power = (whole + places).lstrip("0"), int(exponent or 0) - len(places)
    while digits.endswith("0"): digits, power = digits[:-1], power + 1
    if not digits: return 0
    power += scale
    if power < 0 or len(digits) + power > precision: raise Refused(v)
    return sign * int(digits) * 10 ** power
def integer(low, high):
    def take(v):
        if not isinstance(v, str): raise Refused(v)
        n = exact(v, 38, 0)
        if not low <= n <= high: raise Refused(v)
        return str(n)
    return take
def decimal(precision, scale):
    def take(v):
        if not isinstance(v, str): raise Refused(v)
        return str(exact(v, precision, scale))
    return take
def double(v):
    if not isinstance(v, str) or not NUMBER.fullmatch(v): raise Refused(v)
    if not math.isfinite(float(v)): raise Refused(v)
    return float(v).hex()
def text(v):
    if not isinstance(v, str) or isinstance(v, Number): raise Refused(v)
    return [ord(c) for c in characters(v)]
def flag(v):
    if not isinstance(v, bool): raise Refused(v)
    return v
EPOCH = datetime.datetime(1970, 1, 1)
def written(pattern, v):
    if not isinstance(v, str) or isinstance(v, Number): raise Refused(v)
    found = re.fullmatch(pattern, v, re.ASCII)
    if not found: raise Refused(v)
    return found.groups()
DATE, TIME = r"(\d{4})-(\d\d)-(\d\d)", r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?"
def clock(h, m, s, fraction):
    fraction = (fraction or "").rstrip("0")
    if len(fraction) > 6: raise Refused("fine")
    return datetime.time(int(h), int(m), int(s), int(fraction.ljust(6, "0")))
def micros(delta): return str(delta // datetime.timedelta(microseconds=1))
def day(v): return str((datetime.date(*map(int, written(DATE, v))) - EPOCH.date()).days)
def time(v): return micros(datetime.datetime.combine(EPOCH, clock(*written(TIME, v))) - EPOCH)
def local(v):
    g = written(DATE + "[Tt ]" + TIME, v)
    return micros(datetime.datetime.combine(datetime.date(*map(int, g[:3])), clock(*g[3:])) - EPOCH)
def moment(v):
    g = written(DATE + "[Tt ]" + TIME + r"(?:[Zz]|([+-])(\d\d):(\d\d))", v)
    at = datetime.datetime.combine(datetime.date(*map(int, g[:3])), clock(*g[3:7]))
    if g[7]:
        if int(g[8]) > 23 or int(g[9]) > 59: raise Refused(v)
        offset = datetime.timedelta(hours=int(g[8]), minutes=int(g[9]))
        at = at - offset if g[7] == "+" else at + offset
    return micros(at - EPOCH)
LONG = integer(-2**63, 2**63 - 1)
def items(v):
    if isinstance(v, Pairs) or not isinstance(v, list): raise Refused(v)
    return [None if x is None else LONG(x) for x in v]
def entries(v): return [[[ord(c) for c in k], None if x is None else LONG(x)] for k, x in names(v).items()]
def inner(v):
    x = names(v).get("x")
    return None if x is None else text(x)
COLUMNS = {"int": integer(-2**31, 2**31 - 1), "long": LONG, "money": decimal(12, 2), "wide": decimal(38, 18),
           "double": double, "text": text, "flag": flag, "day": day, "time": time, "moment": moment, "local": local,
           "list": items, "map": entries, "inner": inner}
for line in sys.stdin:
    try:
        raw = bytes.fromhex(line.strip()).decode("utf-8")
        if depth(raw) > 127: raise Refused("deep")
        record = names(json.loads(raw, parse_int=Number, parse_float=Number, parse_constant=constant, object_pairs_hook=Pairs))
        out = {k: None if record.get(k) is None else take(record[k]) for k, take in COLUMNS.items()}
    except (Refused, ValueError, OverflowError, RecursionError):
        out = None
    print(json.dumps(out))
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number, or nearly one.
fn number() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "0",
        "-0",
        "0.0",
        "1e400",
        "-1e400",
        "1e-400",
        "1e-80",
        "-1e-350",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "9007199254740993.0000000000000000001",
        "2147483648",
        "0123",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "1_000",
        "--1",
        "9999999999.99",
        "10000000000.00",
        "100.5",
        "0.005",
        "12345678901234567890.123456789012345678",
        "1E2",
        "1e+2",
        "99999999999999999999.999999999999999999",
        "1e19",
        "1e99999999999999999999",
        "0e99999999999",
        "1e-99999999999999999999",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "4.9e-324",
        "2e-324",
        "\u{661}",
        "1 ",
        "٣",
    ]);
    prop_oneof![
        1 => odd.prop_map(str::to_owned),
        1 => "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?",
        1 => "[-+]?[0-9]{0,4}\\.?[0-9]{0,4}[eE]?[-+]?[0-9]{0,2}",
    ]
}

/// What stands between quotes.
fn characters() -> impl Strategy<Value = String> {
    let escape = prop_oneof![
        select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\b", "\\x", "\\u12", "\t", "\u{0}", "\u{7f}", "\u{2028}"])
            .prop_map(str::to_owned),
        (0_u16..=u16::MAX).prop_map(|unit| format!("\\u{unit:04X}")),
        // Pairs: any character beyond the first plane.
        (0x1_0000_u32..=0x10_ffff).prop_map(|code| {
            let code = code - 0x1_0000;
            format!("\\u{:04x}\\u{:04x}", 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff))
        }),
        any::<char>().prop_filter("no quote", |c| !"\"\\".contains(*c)).prop_map(String::from),
        "[a-z]{1,4}",
    ];
    prop::collection::vec(escape, 0..5).prop_map(|parts| parts.concat())
}

/// A day, a time, a moment, or nearly one.
fn written() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "26-01-01",
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
        "10000-01-01",
        "+2020-01-01",
        "2013-02-29",
        "2000-02-29",
        "1900-02-29",
        "23:59:60",
        "24:00:00",
        "23:59:59.999999",
        "23:59:59.9999999",
        "23:59:59.9999990",
        "12:00",
        "12:00:00.",
        "2016-12-31T23:59:60Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59.999999-00:01",
        "2020-01-01T00:00:00",
        "2020-01-01T00:00:00+24:00",
        "2020-01-01T00:00:00+05:60",
        "2020-01-01T00:00:00 Z",
        "2020-01-01t00:00:00z",
        "\u{0662}020-01-01",
    ]);
    let day = "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]";
    let time = "[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,8})?";
    prop_oneof![
        odd.prop_map(str::to_owned),
        day,
        time,
        (day, "[Tt ]", time).prop_map(|(day, t, time)| format!("{day}{t}{time}")),
        (day, "[Tt ]", time, "(Z|z|[+-][0-2][0-9]:[0-5][0-9])")
            .prop_map(|(day, t, time, at)| format!("{day}{t}{time}{at}")),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        4 => number(),
        2 => number().prop_map(|number| format!("\"{number}\"")),
        3 => characters().prop_map(|text| format!("\"{text}\"")),
        4 => written().prop_map(|text| format!("\"{text}\"")),
        2 => select(vec!["true", "false", "null", "nul", "True", "\"true\"", "[", "{}", "[]", "{\"x\":1}", "{\"x\":\"\\ud842\\udfb7\"}"])
            .prop_map(str::to_owned),
    ];
    plain.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((select(vec!["\"a\"", "\"x\"", "\"\\u0061\"", "\"b\""]), inner), 0..4).prop_map(
                |members| {
                    let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                    format!("{{{}}}", members.join(", "))
                }
            ),
        ]
    })
}

const NAMES: [&str; 15] = [
    "int", "long", "money", "wide", "double", "text", "flag", "day", "time", "moment", "local", "list", "map", "inner",
    "more",
];

/// A record, mostly of one member, so that mostly one thing is wrong; some bytes of it changed at times.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let member = (select(NAMES.to_vec()), value());
    let record = prop::collection::vec(member, 0..3).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    let change = prop::option::weighted(0.15, (any::<prop::sample::Index>(), any::<u8>(), 0..3));
    (record, change).prop_map(|(mut record, change)| {
        if let Some((at, byte, kind)) = change {
            let at = at.index(record.len());
            match kind {
                0 => record[at] = byte,
                1 => record.insert(at, byte),
                _ => {
                    record.remove(at);
                }
            }
        }
        record
    })
}

fn odd_records() -> Vec<Vec<u8>> {
    let nested = |depth: usize| format!("{{\"list\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let mut records: Vec<Vec<u8>> = [
        "",
        " ",
        "{}",
        "{} ",
        "{}{}",
        "{},",
        "[{}]",
        "[{\"int\":1},{\"int\":2}]",
        "null",
        "1",
        "{\"int\":1,}",
        "{,}",
        "{\"int\" 1}",
        "\u{feff}{}",
        "{\"int\":1}\u{0}",
        "{'int':1}",
        "{int:1}",
        "{\"int\":1}//",
        "{\"int\":1,\"int\":1}",
        "{\"map\":{\"a\":1,\"a\":1}}",
        "{\"map\":{\"a\":1,\"\\u0061\":1}}",
        "{\"\\u0069nt\":5}",
        "{\"more\":{\"deep\":[1e999,\"\\ud800\"]}}",
        "{\"list\":[1,]}",
        "{\"list\":[1 2]}",
        "{\"text\":\"a\nb\"}",
        "{\"text\":\"\\ud842\\udfb7\"}",
        "{\"text\":\"\\udfb7\\ud842\"}",
        "{\"text\":\"\\ud842\"}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    records.extend([1, 2, 126, 127, 128, 8_000, 100_000].map(nested));
    records.push([&b"{\"text\":\""[..], &[0xed, 0xa0, 0x80], b"\"}"].concat());
    records.push([&b"{\"more\":\""[..], &[0xff], b"\"}"].concat());
    records
}

fn shown(values: &ArrayRef, at: usize) -> Value {
    if values.is_null(at) {
        return Value::Null;
    }
    let codes = |text: &str| json!(text.chars().map(u32::from).collect::<Vec<_>>());
    match values.data_type() {
        DataType::Boolean => json!(values.as_boolean().value(at)),
        DataType::Int32 => json!(values.as_primitive::<Int32Type>().value(at).to_string()),
        DataType::Int64 => json!(values.as_primitive::<Int64Type>().value(at).to_string()),
        DataType::Float64 => json!(values.as_primitive::<Float64Type>().value(at)),
        DataType::Decimal128(..) => json!(values.as_primitive::<Decimal128Type>().value(at).to_string()),
        DataType::Date32 => json!(values.as_primitive::<Date32Type>().value(at).to_string()),
        DataType::Time64(_) => json!(values.as_primitive::<Time64MicrosecondType>().value(at).to_string()),
        DataType::Timestamp(..) => json!(values.as_primitive::<TimestampMicrosecondType>().value(at).to_string()),
        DataType::Utf8 => codes(values.as_string::<i32>().value(at)),
        DataType::List(_) => {
            let items = values.as_list::<i32>().value(at);
            json!((0..items.len()).map(|item| shown(&items, item)).collect::<Vec<_>>())
        }
        DataType::Map(..) => {
            let entries = values.as_map().value(at);
            let pair = |at| json!([shown(entries.column(0), at), shown(entries.column(1), at)]);
            json!((0..entries.len()).map(pair).collect::<Vec<_>>())
        }
        DataType::Struct(_) => shown(values.as_struct().column(0), at),
        other => panic!("{other}"),
    }
}

fn ours(records: &[Vec<u8>]) -> Vec<Value> {
    let values: Vec<Option<Vec<u8>>> = records.iter().cloned().map(Some).collect();
    let done = transform(&chunk(&values), &plan(&contract("json", PROPERTIES, "")), &Schemas::new()).unwrap();
    let mut rows = vec![Value::Null; records.len()];
    for batch in &done.batches {
        let offsets = batch.column_by_name("_mesh").unwrap().as_struct().column_by_name("offset").unwrap().clone();
        for at in 0..batch.num_rows() {
            let row = usize::try_from(offsets.as_primitive::<Int64Type>().value(at)).unwrap();
            let columns = PROPERTIES.len();
            let schema = batch.schema();
            rows[row] = (0..columns)
                .map(|column| (schema.field(column).name().clone(), shown(batch.column(column), at)))
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
    }
    assert_eq!(rows.iter().filter(|row| row.is_null()).count(), done.refusals.len());
    rows
}

fn theirs(records: &[Vec<u8>]) -> Vec<Value> {
    // Its standard library is enough: where the tests with clients are left out, any Python does.
    let python = mesh_testkit::python().unwrap().unwrap_or_else(|| "python3".into());
    let child = Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let text: String = records.iter().map(|record| format!("{}\n", hex(record))).collect();
    let mut input = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Python's hexadecimal form of a double as a number.
fn number_of(hex: &str) -> f64 {
    let negative = hex.starts_with('-');
    let (mantissa, exponent) = hex.trim_start_matches('-').trim_start_matches("0x").split_once('p').unwrap();
    let (whole, places) = mantissa.split_once('.').unwrap();
    let size = u64::from_str_radix(&format!("{whole}{places}"), 16).unwrap() as f64;
    let exponent: i32 = exponent.parse::<i32>().unwrap() - 4 * i32::try_from(places.len()).unwrap();
    // In two steps: the least numbers are beyond one power.
    let size = size * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2);
    if negative { -size } else { size }
}

#[test]
fn json_is_read_as_python_reads_it() {
    // `MESH_SEED=n` for another walk; the records are the same in each run otherwise.
    let seed: u8 = std::env::var("MESH_SEED").map_or(7, |seed| seed.parse().unwrap());
    let rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut records = odd_records();
    let generated = record();
    records.extend((0..20_000).map(|_| generated.new_tree(&mut runner).unwrap().current()));
    let (ours, mut theirs) = (ours(&records), theirs(&records));
    assert_eq!(ours.len(), theirs.len());
    for row in &mut theirs {
        if let Some(double) = row.get_mut("double").filter(|double| double.is_string()) {
            *double = json!(number_of(double.as_str().unwrap()));
        }
    }
    let rows = ours.iter().filter(|row| !row.is_null()).count();
    assert!(rows * 5 > records.len() && rows * 5 < records.len() * 4, "{rows} rows of {} records", records.len());
    let pairs = records.iter().zip(ours.iter().zip(&theirs));
    let differ: Vec<String> = pairs
        .filter(|(_, (ours, theirs))| ours != theirs)
        .map(|(record, (ours, theirs))| {
            let text: String = String::from_utf8_lossy(record).chars().take(200).collect();
            format!("{text}: {ours}, Python {theirs}")
        })
        .collect();
    assert!(differ.is_empty(), "{} of {} differ: {:#?}", differ.len(), records.len(), &differ[..differ.len().min(20)]);
}
