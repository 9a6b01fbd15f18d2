//! A Python that writes Avro (fastavro) and reads tables (pyiceberg): neither shares code with us.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mesh_lakehouse::CatalogConfig;
use serde_json::{Value, json};

use crate::Rows;
use crate::cells::Cell;

const SCRIPT: &str = r#"
import base64, datetime, io, json, sys, traceback, uuid
from decimal import Decimal, getcontext
import fastavro
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo, IsNull
getcontext().prec = 60
def convert(schema, v):
    if isinstance(schema, list):
        return None if v is None else convert([s for s in schema if s != "null"][0], v)
    kind, logical = (schema, None) if isinstance(schema, str) else (schema["type"], schema.get("logicalType"))
    if isinstance(kind, (dict, list)): return convert(kind, v)
    if logical == "decimal": return Decimal(v)
    if logical == "date": return datetime.date.fromisoformat(v)
    if logical == "time-micros": return datetime.time.fromisoformat(v)
    if logical and "timestamp" in logical:
        at = datetime.datetime.fromisoformat(v.replace("Z", "+00:00"))
        return at.astimezone(datetime.timezone.utc) if at.tzinfo and at.year > 1 else at
    if logical == "uuid": return uuid.UUID(v)
    if logical == "map":
        entries = v.items() if isinstance(v, dict) else [(e["key"], e["value"]) for e in v]
        key, value = schema["items"]["fields"]
        return [{"key": convert(key["type"], k), "value": convert(value["type"], x)} for k, x in entries]
    if kind == "bytes": return base64.b64decode(v)
    if kind == "record": return {f["name"]: convert(f["type"], v.get(f["name"])) for f in schema["fields"]}
    if kind == "array": return [convert(schema["items"], x) for x in v]
    if kind == "map": return {k: convert(schema["values"], x) for k, x in v.items()}
    if kind in ("long", "int"): return int(v)
    if kind in ("double", "float"): return float(v)
    return v
def encode(schema, text):
    out = io.BytesIO()
    value = convert(schema, json.loads(text, parse_float=Decimal))
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue().hex()
def read(uri, warehouse, name, show, filtered):
    table = SqlCatalog("mesh", uri=uri, warehouse=warehouse).load_table(name)
    rows = table.scan().to_arrow().to_pylist()
    shown = {r["id"]: None if r["v"] is None else eval(show, {**globals(), "v": r["v"]}) for r in rows}
    for r in rows if filtered else []:
        v = r["v"]
        if isinstance(v, bytes) and "uuid" in show: v = uuid.UUID(bytes=v)
        found = table.scan(row_filter=IsNull("v") if v is None else EqualTo("v", v)).to_arrow()["id"].to_pylist()
        if r["id"] not in found: raise Exception("a filter by the value of %s finds %s" % (r, found))
    return shown
for line in sys.stdin:
    request = json.loads(line)
    try:
        print(json.dumps({"ok": {"encode": encode, "read": read}[request[0]](*request[1:])}), flush=True)
    except Exception as e:
        print(json.dumps({"error": "%s: %s" % (type(e).__name__, traceback.format_exc()[-900:])}), flush=True)
"#;

/// A running interpreter.
pub struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// The interpreter that has the libraries; `None` only if `MESH_SKIP=python`.
    pub fn start() -> Option<Self> {
        let python = mesh_testkit::python().unwrap()?;
        let child = Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, input, output })
    }

    fn request(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get("ok") {
            Some(ok) => Ok(ok.clone()),
            None => Err(answer["error"].to_string()),
        }
    }

    /// A record in Avro.
    pub fn encode(&mut self, schema: &Value, record: &str) -> Vec<u8> {
        let hex = self.request(&json!(["encode", schema, record])).unwrap();
        let hex = hex.as_str().unwrap().as_bytes();
        hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where pyiceberg reads something else than what was written.
pub fn differences(folder: &Path, expected: &[(String, String, Cell, Rows)]) -> Vec<String> {
    let mut python = Python::start().unwrap();
    let config = CatalogConfig::in_folder(folder);
    let mut differences = Vec::new();
    for (at, table, cell, rows) in expected {
        let is_plain =
            !["object", "array", "map"].iter().any(|kind| cell.property.contains(&format!("logicalType: {kind}")));
        // pyiceberg 0.11.1 does not find 0.1 in a table of its own that is partitioned by a double's identity.
        let is_filtered = is_plain && cell.title != "double";
        let found = python.request(&json!(["read", config.uri, config.warehouse, table, cell.python, is_filtered]));
        let wanted: serde_json::Map<String, Value> =
            rows.iter().map(|(id, shown)| (id.to_string(), json!(shown))).collect();
        match found {
            Ok(Value::Object(found))
                if found.len() == wanted.len() && wanted.iter().all(|(id, v)| found.get(id) == Some(v)) => {}
            found => differences.push(format!("{at}: wrote {rows:?}, pyiceberg reads {found:?}")),
        }
    }
    differences
}
