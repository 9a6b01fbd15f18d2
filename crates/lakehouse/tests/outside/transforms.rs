//! Partition values of odd and generated values, ours and pyiceberg's.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use iceberg::spec::Transform;
use mesh_lakehouse::writer::transform;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::pyiceberg::python;

/// Reads `[type, transform, value]` a line, answers with the partition value, each in the form of [`shown`].
const SCRIPT: &str = r#"
import json, sys, uuid
from decimal import Decimal, getcontext
from pyiceberg.transforms import parse_transform
from pyiceberg import types
getcontext().prec = 60
TYPES = {"int": types.IntegerType(), "long": types.LongType(), "date": types.DateType(), "time": types.TimeType(),
         "timestamp": types.TimestampType(), "timestamptz": types.TimestamptzType(), "string": types.StringType(),
         "uuid": types.UUIDType(), "binary": types.BinaryType(), "decimal": types.DecimalType(38, 4)}
def value(ty, text):
    if ty == "decimal": return Decimal(int(text)).scaleb(-4)
    if ty == "string": return text
    if ty == "binary": return bytes.fromhex(text)
    if ty == "uuid": return uuid.UUID(text)
    return int(text)
def shown(v):
    if isinstance(v, Decimal): return str(int(v.scaleb(4)))
    if isinstance(v, bytes): return v.hex()
    return str(v)
for line in sys.stdin:
    ty, transform, text = json.loads(line)
    found = None if text is None else parse_transform(transform).transform(TYPES[ty])(value(ty, text))
    print(json.dumps(None if found is None else shown(found)))
"#;

/// A column with its type's word and the transforms that it takes.
struct Column {
    word: &'static str,
    values: ArrayRef,
    transforms: Vec<Transform>,
}

fn shown(values: &ArrayRef, at: usize) -> Value {
    if values.is_null(at) {
        return Value::Null;
    }
    json!(match values.data_type() {
        DataType::Int32 => values.as_primitive::<Int32Type>().value(at).to_string(),
        DataType::Int64 => values.as_primitive::<Int64Type>().value(at).to_string(),
        DataType::Date32 => values.as_primitive::<Date32Type>().value(at).to_string(),
        DataType::Time64(_) => values.as_primitive::<Time64MicrosecondType>().value(at).to_string(),
        DataType::Timestamp(..) => values.as_primitive::<TimestampMicrosecondType>().value(at).to_string(),
        DataType::Decimal128(..) => values.as_primitive::<Decimal128Type>().value(at).to_string(),
        DataType::Utf8 => values.as_string::<i32>().value(at).to_owned(),
        DataType::Binary => hex(values.as_binary::<i32>().value(at)),
        DataType::FixedSizeBinary(_) => hex(values.as_fixed_size_binary().value(at)),
        other => panic!("{other}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Odd values and some that are made up, and a null.
fn values<T: std::fmt::Debug + Clone>(odd: &[T], any: impl Strategy<Value = T>) -> Vec<Option<T>> {
    let mut runner = TestRunner::default();
    let mut values: Vec<Option<T>> = odd.iter().cloned().map(Some).collect();
    values.extend((0..60).map(|_| Some(any.new_tree(&mut runner).unwrap().current())));
    values.push(None);
    values
}

fn columns() -> Vec<Column> {
    const DAY: i64 = 86_400_000_000;
    let buckets = || [1, 2, 7, 16, 1_000_003, 2_147_483_647].map(Transform::Bucket).to_vec();
    let widths = || [1, 2, 3, 10, 64, 2_147_483_647].map(Transform::Truncate).to_vec();
    let dates = || vec![Transform::Year, Transform::Month, Transform::Day];
    let of = |parts: &[Vec<Transform>]| parts.concat();
    let days = -719_162..=2_932_896_i32;
    let moments = -719_162 * DAY..2_932_897 * DAY;
    let odd_days = [0, -1, 1, -365, -366, 365, 11_016, -719_162, 2_932_896, -25_567];
    let odd_moments: Vec<i64> =
        odd_days.iter().flat_map(|day| [0, 1, DAY - 1].map(|at| i64::from(*day) * DAY + at)).collect();
    // The least multiple that the type holds: below it there is none, which pyiceberg does not know.
    let longs = values(&[0, -1, 1, i64::MAX, i64::MIN + (1 << 40), -10, -11], i64::MIN + (1 << 40)..=i64::MAX);
    let ints = values(&[0, -1, 1, i32::MAX, -10, -11, -1_000], -1_000..=i32::MAX);
    let ten = 10_i128.pow(37);
    let decimals = values(&[0, -1, 1, 127, 128, -128, -129, 255, 256, ten, -ten, i128::from(i64::MIN)], -ten..=ten);
    let decimals = Decimal128Array::from(decimals).with_precision_and_scale(38, 4).unwrap();
    let texts =
        values(&["", "a", "\u{10348}\u{20bb7}\u{e9}e\u{301}", "\u{0}", "\u{ffff}x"].map(str::to_owned), ".{0,80}");
    let bytes = values(&[vec![], vec![0], vec![255; 70]], prop::collection::vec(any::<u8>(), 0..70));
    let uuids = values(&[[0; 16], [255; 16]], any::<[u8; 16]>());
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids.into_iter(), 16).unwrap();
    let moment = TimestampMicrosecondArray::from(values(&odd_moments, moments));
    vec![
        Column { word: "int", values: Arc::new(Int32Array::from(ints)), transforms: of(&[buckets(), widths()]) },
        Column { word: "long", values: Arc::new(Int64Array::from(longs)), transforms: of(&[buckets(), widths()]) },
        Column { word: "decimal", values: Arc::new(decimals), transforms: of(&[buckets(), widths()]) },
        Column {
            word: "date",
            values: Arc::new(Date32Array::from(values(&odd_days, days))),
            transforms: of(&[buckets(), dates()]),
        },
        Column {
            word: "time",
            values: Arc::new(Time64MicrosecondArray::from(values(&[0, DAY - 1], 0..DAY))),
            transforms: buckets(),
        },
        Column {
            word: "timestamp",
            values: Arc::new(moment.clone()),
            transforms: of(&[buckets(), dates(), vec![Transform::Hour]]),
        },
        Column {
            word: "timestamptz",
            values: Arc::new(moment.with_timezone("+00:00")),
            transforms: of(&[buckets(), dates(), vec![Transform::Hour]]),
        },
        Column { word: "string", values: Arc::new(StringArray::from(texts)), transforms: of(&[buckets(), widths()]) },
        Column {
            word: "binary",
            values: Arc::new(BinaryArray::from_iter(bytes)),
            transforms: of(&[buckets(), widths()]),
        },
        Column { word: "uuid", values: Arc::new(uuids), transforms: buckets() },
    ]
}

/// pyiceberg 0.11 hashes -2^(8n-1) with a byte more than the fewest, which the specification and Java have.
fn is_pyicebergs_own(line: &Value) -> bool {
    let value: Option<i128> = line[2].as_str().and_then(|text| text.parse().ok());
    let bits = |value: i128| value.unsigned_abs().trailing_zeros();
    let is_power = |value: i128| value < 0 && value.unsigned_abs().is_power_of_two() && bits(value) % 8 == 7;
    line[0] == "decimal" && line[1].as_str().is_some_and(|of| of.starts_with("bucket")) && value.is_some_and(is_power)
}

#[test]
fn partition_values_are_pyicebergs() {
    let Some(python) = python() else { return };
    let (mut lines, mut ours) = (Vec::new(), Vec::new());
    for column in columns() {
        for of in column.transforms {
            let found = transform(of, &column.values).unwrap();
            for at in 0..column.values.len() {
                lines.push(json!([column.word, of.to_string(), shown(&column.values, at)]));
                ours.push(shown(&found, at));
            }
        }
    }
    let mut child =
        Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success());
    let theirs = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<Value> = theirs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(theirs.len(), ours.len());
    let differ = lines.iter().zip(ours.iter().zip(&theirs)).filter(|(_, (ours, theirs))| ours != theirs);
    let differ = differ.filter(|(line, _)| !is_pyicebergs_own(line));
    let differ: Vec<String> =
        differ.map(|(line, (ours, theirs))| format!("{line}: {ours}, pyiceberg {theirs}")).collect();
    assert!(differ.is_empty(), "{} of {} differ: {:#?}", differ.len(), ours.len(), &differ[..differ.len().min(10)]);
}
