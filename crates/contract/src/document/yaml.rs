//! YAML to JSON with places.
//! In: one file's text. Out: its documents as JSON values, and line and column of every key and value.
//! Never: a duplicate key that silently wins, an alias that grows without bound, a value that JSON cannot hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use saphyr::{Scalar, ScalarStyle, Tag};
use saphyr_parser::{Event, Marker, Parser, Span, StrInput};
use serde_json::{Map, Number, Value};

/// Longest file that is read.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting that is read.
pub(crate) const MAX_DEPTH: usize = 64;
/// Most nodes of a file, those that aliases repeat included.
pub(crate) const MAX_NODES: usize = 200_000;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
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

/// Where the keys and values of a document are, by JSON pointer.
#[derive(Debug, Default)]
pub(crate) struct Places {
    values: HashMap<String, Place>,
    keys: HashMap<String, Place>,
}

impl Places {
    /// Where the value at a JSON pointer starts; its nearest ancestor's place if it is not there.
    pub(crate) fn place(&self, pointer: &str) -> Place {
        lookup(&self.values, pointer).unwrap_or(Place { line: 1, column: 1 })
    }
    /// Where the key of the member at a JSON pointer is; the value's place for list items.
    pub(crate) fn key_place(&self, pointer: &str) -> Place {
        self.keys.get(pointer).copied().unwrap_or_else(|| self.place(pointer))
    }
}

fn lookup(places: &HashMap<String, Place>, pointer: &str) -> Option<Place> {
    let mut pointer = pointer;
    loop {
        if let Some(place) = places.get(pointer) {
            return Some(*place);
        }
        pointer = &pointer[..pointer.rfind('/')?];
    }
}

/// A JSON pointer one step deeper.
pub(crate) fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Reads all documents of a text; empty ones are left out.
pub(crate) fn read(text: &str) -> Result<Vec<YamlDocument>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(limit(
            Place { line: 1, column: 1 },
            format!("the file has {} bytes, more than {MAX_BYTES}", text.len()),
        ));
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                reader.anchors.clear();
                let node = reader.node(0)?;
                let mut places = Places::default();
                let value = places.take(node, String::new());
                if !value.is_null() {
                    documents.push(YamlDocument { value, places: Arc::new(places) });
                }
            }
            _ => {}
        }
    }
}

/// A node before places are keyed by pointer, so that an alias is placed where it stands.
#[derive(Debug, Clone)]
struct Node {
    place: Place,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<(String, Place, Node)>),
}

impl Places {
    fn take(&mut self, node: Node, pointer: String) -> Value {
        let value = match node.kind {
            Kind::Scalar(value) => value,
            Kind::List(items) => Value::Array(
                items.into_iter().enumerate().map(|(i, item)| self.take(item, format!("{pointer}/{i}"))).collect(),
            ),
            Kind::Object(members) => {
                let mut map = Map::new();
                for (key, place, member) in members {
                    let child = join(&pointer, &key);
                    self.keys.insert(child.clone(), place);
                    map.insert(key, self.take(member, child));
                }
                Value::Object(map)
            }
        };
        self.values.insert(pointer, node.place);
        value
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(syntax(error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, YamlError> {
        let (event, span) = self.next()?;
        self.node_from(event, span, depth)
    }

    fn node_from(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let place = Place::from(span.start);
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(limit(place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let before = self.nodes;
        let (kind, anchor) = match event {
            Event::Alias(id) => return self.alias(id, place),
            Event::Scalar(text, style, anchor, tag) => {
                (Kind::Scalar(scalar(text, style, tag.as_ref(), place)?), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.object(depth)?, anchor),
            _ => (Kind::Scalar(Value::Null), 0),
        };
        let node = Node { place, kind };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<Node, YamlError> {
        let Some((node, size)) = self.anchors.get(&id).map(|(node, size)| (node.clone(), *size)) else {
            return Err(YamlError {
                code: "MESH-CONTRACT-0001",
                place,
                message: "an alias inside the value that it names".to_owned(),
                remedy: "write the value out".to_owned(),
            });
        };
        self.count(size, place)?;
        Ok(at(node, place))
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(limit(
                place,
                format!("more than {MAX_NODES} values, aliases counted as often as they are used"),
            ));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node_from(event, span, depth + 1)?),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let mut members: Vec<(String, Place, Node)> = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Kind::Object(members));
            }
            let key = self.node_from(event, span, depth + 1)?;
            let name = key_name(&key)?;
            if let Some(first) = seen.insert(name.clone(), key.place) {
                return Err(duplicate_key(&name, key.place, first));
            }
            let value = self.node(depth + 1)?;
            members.push((name, key.place, value));
        }
    }
}

/// An alias's value lies, for findings, where the alias is.
fn at(node: Node, place: Place) -> Node {
    let kind = match node.kind {
        Kind::Scalar(value) => Kind::Scalar(value),
        Kind::List(items) => Kind::List(items.into_iter().map(|item| at(item, place)).collect()),
        Kind::Object(members) => {
            Kind::Object(members.into_iter().map(|(key, _, member)| (key, place, at(member, place))).collect())
        }
    };
    Node { place, kind }
}

fn key_name(key: &Node) -> Result<String, YamlError> {
    match &key.kind {
        Kind::Scalar(Value::String(name)) => Ok(name.clone()),
        Kind::Scalar(other) => Err(YamlError {
            code: "MESH-CONTRACT-0002",
            place: key.place,
            message: format!("the key {other} is not a string"),
            remedy: format!("put it in quotes: \"{other}\""),
        }),
        _ => Err(YamlError {
            code: "MESH-CONTRACT-0002",
            place: key.place,
            message: "a list or an object as a key".to_owned(),
            remedy: "use a string as the key".to_owned(),
        }),
    }
}

fn duplicate_key(name: &str, place: Place, first: Place) -> YamlError {
    YamlError {
        code: "MESH-CONTRACT-0002",
        place,
        message: format!("duplicate key `{name}`, first in line {}", first.line),
        remedy: "keep one of the two".to_owned(),
    }
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

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Cow<'_, Tag>>,
    place: Place,
) -> Result<Value, YamlError> {
    if style == ScalarStyle::Plain && tag.is_none() {
        // YAML's integers have no bound, saphyr's have 64 signed bits.
        if let Ok(unsigned) = text.parse::<u64>() {
            return Ok(Value::Number(unsigned.into()));
        }
    }
    let bad = |message: String, remedy: &str| YamlError {
        code: "MESH-CONTRACT-0001",
        place,
        message,
        remedy: remedy.to_owned(),
    };
    let original = text.to_string();
    match Scalar::parse_from_cow_and_metadata(text, style, tag) {
        None => Err(bad(format!("`{original}` does not have the type of its tag"), "leave the tag out")),
        Some(Scalar::Null) => Ok(Value::Null),
        Some(Scalar::Boolean(value)) => Ok(Value::Bool(value)),
        Some(Scalar::Integer(value)) => Ok(Value::Number(value.into())),
        Some(Scalar::FloatingPoint(value)) => Number::from_f64(value.0).map(Value::Number).ok_or_else(|| {
            bad(format!("`{original}` is not a finite number"), "write a finite number, or put it in quotes")
        }),
        Some(Scalar::String(value)) => Ok(Value::String(value.into_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let documents = read(text).unwrap();
        assert_eq!(Value::Array(documents.into_iter().map(|d| d.value).collect()), expected);
    }

    #[track_caller]
    fn refuses(text: &str, code: &str, line: usize, message: &str) {
        let error = read(text).unwrap_err();
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
    fn what_json_cannot_hold_is_refused() {
        refuses("a: 1\nb: 2\na: 3", "MESH-CONTRACT-0002", 3, "duplicate key `a`, first in line 1");
        refuses("a: .nan", "MESH-CONTRACT-0001", 1, "finite");
        refuses("1: x", "MESH-CONTRACT-0002", 1, "not a string");
        refuses("[a, b]: x", "MESH-CONTRACT-0002", 1, "as a key");
        refuses("a: !!int x", "MESH-CONTRACT-0001", 1, "tag");
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
        let document = &*read("a:\n  - b: 1\n    c/d: x\n").unwrap()[0].places;
        assert_eq!(document.key_place("/a/0/c~1d"), Place { line: 3, column: 5 });
        assert_eq!(document.place("/a/0/c~1d"), Place { line: 3, column: 10 });
        assert_eq!(document.place("/a/0/missing/deeper"), Place { line: 2, column: 5 });
    }
}
