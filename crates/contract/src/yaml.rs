//! YAML to JSON with places.
//! In: one file's text. Out: its documents as JSON values, and line and column of every key and value.
//! Never: a duplicate key that silently wins, an alias that grows without bound, a value that JSON cannot hold.

mod places;
mod reader;
mod repair;
mod scalar;

use std::sync::Arc;

use saphyr_parser::Marker;
use serde_json::Value;

pub(crate) use self::places::Places;
use self::reader::Reader;

/// Longest file that is read.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting that is read.
pub(crate) const MAX_DEPTH: usize = 64;
/// Most nodes of a file, those that aliases repeat included.
pub(crate) const MAX_NODES: usize = 200_000;
/// Most bytes of keys and texts, those that aliases repeat included.
pub(crate) const MAX_TEXT: usize = 16 << 20;
/// Most bytes of the pointers by which places are found: long keys high up are in each of them.
pub(crate) const MAX_POINTERS: usize = 64 << 20;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// Where a file starts.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

impl From<Marker> for Place {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

/// Why a text is no YAML that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) code: &'static str,
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// One document, and where its parts are.
#[derive(Debug, Clone)]
pub(crate) struct YamlDocument {
    pub(crate) value: Value,
    pub(crate) places: Arc<Places>,
}

/// A JSON pointer one step deeper.
pub(crate) fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Reads the documents of a text up to the first that cannot be read; empty ones are left out.
pub(crate) fn read(text: &str) -> (Vec<YamlDocument>, Option<YamlError>) {
    let mut documents = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", text.len());
        return (documents, Some(limit(Place::START, message)));
    }
    let text = repair::indented(text);
    let error = Reader::new(&text).documents(&mut documents).err();
    (documents, error)
}

fn limit(place: Place, message: String) -> YamlError {
    YamlError { code: "MESH-CONTRACT-0003", place, message, remedy: "split or simplify the file".to_owned() }
}

fn syntax(marker: &Marker, info: &str) -> YamlError {
    let remedy = if info.contains("tab") {
        "indent with spaces; YAML allows no tabs there"
    } else if info.contains("mapping values are not allowed") {
        "put text that holds `: ` in quotes, or check the indentation"
    } else if info.contains("unknown anchor") {
        "define the anchor with `&name` before its alias"
    } else {
        "check indentation, quotes and brackets at this place"
    };
    YamlError {
        code: "MESH-CONTRACT-0001",
        place: Place::from(*marker),
        message: format!("not valid YAML: {info}"),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let (documents, error) = read(text);
        assert_eq!(error, None);
        assert_eq!(Value::Array(documents.into_iter().map(|d| d.value).collect()), expected);
    }

    #[track_caller]
    fn refuses(text: &str, code: &str, line: usize, message: &str) {
        let error = read(text).1.unwrap();
        assert_eq!((error.code, error.place.line), (code, line), "{error:?}");
        assert!(error.message.contains(message), "{error:?}");
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        check(
            "a: NO\nb: 0123\nc: 0o17\nd: 2022-10-03\ne: ~\nf: true\ng: 1.5",
            json!([{
                "a": "NO", "b": 123, "c": 15, "d": "2022-10-03", "e": null, "f": true, "g": 1.5
            }]),
        );
        check(
            "v: 1.0.0\nt: 09:00-08:00\nu: 18446744073709551615\nq: '1'",
            json!([{
                "v": "1.0.0", "t": "09:00-08:00", "u": 18_446_744_073_709_551_615_u64, "q": "1"
            }]),
        );
    }

    #[test]
    fn several_documents_bom_and_crlf() {
        check("\u{feff}a: 1\r\n---\r\nb: |\r\n  x\r\n  y\r\n", json!([{"a": 1}, {"b": "x\ny\n"}]));
        check("---\n---\na: 1\n...\n", json!([{"a": 1}]));
        check("", json!([]));
        check("{\"a\": [1, \"é\"]}", json!([{"a": [1, "é"]}]));
    }

    #[test]
    fn anchors_are_values_but_bounded() {
        check("a: &x [1, 2]\nb: *x", json!([{"a": [1, 2], "b": [1, 2]}]));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        }
        refuses(&bomb, "MESH-CONTRACT-0003", 6, "aliases");
        refuses("a: &x\n  b: *x", "MESH-CONTRACT-0001", 2, "");
    }

    #[test]
    fn text_and_pointers_are_bounded_too() {
        let long = "x".repeat(1 << 20);
        let aliases = format!("a: &x {long}\nb: [{}]\n", "*x, ".repeat(1_000));
        refuses(&aliases, "MESH-CONTRACT-0003", 2, "bytes of text");
        let key = format!("? \"{}\"\n: [{}]\n", &long[..1_000], "0, ".repeat(80_000));
        refuses(&key, "MESH-CONTRACT-0003", 2, "long keys");
    }

    #[test]
    fn merge_keys_are_read() {
        check("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", json!([{"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}]));
        check(
            "a: &x {b: 1}\ne: &y {b: 2, f: 3}\nd: {<<: [*x, *y]}",
            json!([{"a": {"b": 1}, "e": {"b": 2, "f": 3}, "d": {"b": 1, "f": 3}}]),
        );
        check("a: {'<<': 1}", json!([{"a": {"<<": 1}}]));
        refuses("a: {<<: 1}", "MESH-CONTRACT-0001", 1, "no object");
    }

    #[test]
    fn a_document_that_can_be_read_is_read_though_another_cannot() {
        let (documents, error) = read("a: 1\n---\nb: [\n");
        assert_eq!((documents.len(), error.map(|e| e.code)), (1, Some("MESH-CONTRACT-0001")));
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        refuses("a: 1\nb: 2\na: 3", "MESH-CONTRACT-0002", 3, "duplicate key `a`, first in line 1");
        refuses("a: .nan", "MESH-CONTRACT-0001", 1, "finite");
        refuses("1: x", "MESH-CONTRACT-0002", 1, "not a string");
        refuses("[a, b]: x", "MESH-CONTRACT-0002", 1, "as a key");
        refuses("a: !!int x", "MESH-CONTRACT-0001", 1, "tag");
        refuses("a: !degrees 5", "MESH-CONTRACT-0001", 1, "`!degrees` has no meaning");
        refuses("a: !!set {b, c}", "MESH-CONTRACT-0001", 1, "tag");
        refuses(": 1", "MESH-CONTRACT-0002", 1, "empty key");
    }

    #[test]
    fn depth_and_size_are_bounded() {
        refuses(&"[".repeat(100), "MESH-CONTRACT-0003", 1, "nested deeper");
        refuses(&"a".repeat(MAX_BYTES + 1), "MESH-CONTRACT-0003", 1, "bytes");
    }

    #[test]
    fn syntax_errors_have_places() {
        refuses("a: 1\nb: [1, 2\nc: 3", "MESH-CONTRACT-0001", 3, "");
        refuses("a:\n\tb: 1", "MESH-CONTRACT-0001", 2, "");
    }

    #[test]
    fn keys_and_values_have_places() {
        let document = &*read("a:\n  - b: 1\n    c/d: x\n").0[0].places;
        assert_eq!(document.key_place("/a/0/c~1d"), Place { line: 3, column: 5 });
        assert_eq!(document.place("/a/0/c~1d"), Place { line: 3, column: 10 });
        let written = &*read("a: 1.10\nb: 0x1f\nc: 1.5\nd: ~\n").0[0].places;
        assert_eq!((written.written("/a"), written.written("/b")), (Some("1.10"), Some("0x1f")));
        assert_eq!((written.written("/c"), written.written("/d")), (None, None));
        assert_eq!(document.place("/a/0/missing/deeper"), Place { line: 2, column: 5 });
    }
}
