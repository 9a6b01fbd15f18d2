//! Events of the YAML parser to nodes, within bounds of depth, number and size.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr::{ScalarStyle, Tag};
use saphyr_parser::{Event, Parser, Span, StrInput};
use serde_json::Value;

use super::places::Places;
use super::{MAX_DEPTH, MAX_NODES, MAX_TEXT, Place, YamlDocument, YamlError, limit, scalar, syntax};

const BROKEN: &str = "MESH-CONTRACT-0001";
const KEY: &str = "MESH-CONTRACT-0002";

/// A node before places are keyed by pointer, so that an alias is placed where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Its value, and how it was written where JSON writes it in another way.
    Scalar(Value, Option<String>),
    List(Vec<Node>),
    Object(Members),
}

type Members = Vec<(String, Place, Node)>;

/// What has been read so far, aliases counted as often as they are used.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

pub(super) struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, Size)>,
    size: Size,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { parser: Parser::new_from_str(text), anchors: HashMap::new(), size: Size::default() }
    }

    pub(super) fn documents(&mut self, out: &mut Vec<YamlDocument>) -> Result<(), YamlError> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), _) => {
                    self.anchors.clear();
                    let node = self.node(0)?;
                    let mut places = Places::default();
                    let value = places.take(node, String::new())?;
                    if !value.is_null() {
                        out.push(YamlDocument { value, places: Arc::new(places) });
                    }
                }
                _ => {}
            }
        }
    }

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
        let before = self.size;
        self.count(Size { nodes: 1, bytes: 0 }, place)?;
        if depth > MAX_DEPTH {
            return Err(limit(place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (kind, anchor) = match event {
            Event::Alias(id) => return self.alias(id, place),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(Size { nodes: 0, bytes: text.len() }, place)?;
                let (value, written) = scalar::read(text, style, tag.as_ref(), place)?;
                (Kind::Scalar(value, written), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                untagged(tag.as_deref(), "seq", place)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                untagged(tag.as_deref(), "map", place)?;
                (self.object(depth)?, anchor)
            }
            _ => (Kind::Scalar(Value::Null, None), 0),
        };
        let node = Node { place, kind };
        if anchor > 0 {
            let size = Size { nodes: self.size.nodes - before.nodes, bytes: self.size.bytes - before.bytes };
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<Node, YamlError> {
        let Some((_, size)) = self.anchors.get(&id) else {
            return Err(YamlError {
                code: BROKEN,
                place,
                message: "an alias inside the value that it names".to_owned(),
                remedy: "write the value out".to_owned(),
            });
        };
        self.count(*size, place)?;
        let node = self.anchors.get(&id).map(|(node, _)| node.clone());
        Ok(at(node.unwrap_or(Node { place, kind: Kind::Scalar(Value::Null, None) }), place))
    }

    fn count(&mut self, more: Size, place: Place) -> Result<(), YamlError> {
        self.size.nodes += more.nodes;
        self.size.bytes += more.bytes;
        let counted = "aliases counted as often as they are used";
        if self.size.nodes > MAX_NODES {
            return Err(limit(place, format!("more than {MAX_NODES} values, {counted}")));
        }
        if self.size.bytes > MAX_TEXT {
            return Err(limit(place, format!("more than {MAX_TEXT} bytes of text, {counted}")));
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
        let mut members: Members = Vec::new();
        let mut merged: Members = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                merged.retain(|(name, ..)| !seen.contains_key(name));
                members.extend(merged);
                return Ok(Kind::Object(members));
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node_from(event, span, depth + 1)?;
            let name = key_name(&key)?;
            if let Some(first) = seen.insert(name.clone(), key.place) {
                return Err(duplicate_key(&name, key.place, first));
            }
            let value = self.node(depth + 1)?;
            if is_merge {
                merge(value, &mut merged)?;
            } else {
                members.push((name, key.place, value));
            }
        }
    }
}

/// `<<: *base`, `<<: [*a, *b]`: YAML 1.1's merge, which the standard's own tools read. The first to name a key wins.
fn merge(value: Node, into: &mut Members) -> Result<(), YamlError> {
    let place = value.place;
    let sources = match value.kind {
        Kind::List(items) => items,
        kind => vec![Node { place, kind }],
    };
    for source in sources {
        let Kind::Object(members) = source.kind else {
            return Err(YamlError {
                code: BROKEN,
                place: source.place,
                message: "`<<` merges something that is no object".to_owned(),
                remedy: "write `<<: *name`, where `&name` marks an object".to_owned(),
            });
        };
        for member in members {
            if into.iter().all(|(name, ..)| *name != member.0) {
                into.push(member);
            }
        }
    }
    Ok(())
}

/// A tag that says what the list or object is anyway is fine; any other would be lost in silence.
fn untagged(tag: Option<&Tag>, own: &str, place: Place) -> Result<(), YamlError> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == own) => Err(YamlError {
            code: BROKEN,
            place,
            message: format!("the tag `{tag}` has no meaning in JSON"),
            remedy: "leave the tag out".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// An alias's value lies, for findings, where the alias is.
fn at(node: Node, place: Place) -> Node {
    let kind = match node.kind {
        scalar @ Kind::Scalar(..) => scalar,
        Kind::List(items) => Kind::List(items.into_iter().map(|item| at(item, place)).collect()),
        Kind::Object(members) => {
            Kind::Object(members.into_iter().map(|(key, _, member)| (key, place, at(member, place))).collect())
        }
    };
    Node { place, kind }
}

fn key_name(key: &Node) -> Result<String, YamlError> {
    let (message, remedy) = match &key.kind {
        Kind::Scalar(Value::String(name), _) => return Ok(name.clone()),
        Kind::Scalar(Value::Null, _) => ("an empty key".to_owned(), "name the property before its `:`".to_owned()),
        Kind::Scalar(other, written) => {
            let text = written.clone().unwrap_or_else(|| other.to_string());
            (format!("the key {text} is not a string"), format!("put it in quotes: \"{text}\""))
        }
        _ => ("a list or an object as a key".to_owned(), "use a string as the key".to_owned()),
    };
    Err(YamlError { code: KEY, place: key.place, message, remedy })
}

fn duplicate_key(name: &str, place: Place, first: Place) -> YamlError {
    YamlError {
        code: KEY,
        place,
        message: format!("duplicate key `{name}`, first in line {}", first.line),
        remedy: "keep one of the two".to_owned(),
    }
}
