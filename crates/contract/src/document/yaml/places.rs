//! Where the keys and values of a document are, by JSON pointer, and how scalars were written.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::reader::{Kind, Node};
use super::{MAX_POINTERS, Place, YamlError, join, limit};

/// Where the keys and values of a document are, by JSON pointer.
#[derive(Debug, Default)]
pub(crate) struct Places {
    values: HashMap<String, Place>,
    keys: HashMap<String, Place>,
    /// As written, where that is not how JSON writes it: `1.10`, `0x1f`, `yes`.
    written: HashMap<String, String>,
    bytes: usize,
}

impl Places {
    /// Where the value at a JSON pointer starts; its nearest ancestor's place if it is not there.
    pub(crate) fn place(&self, pointer: &str) -> Place {
        lookup(&self.values, pointer).unwrap_or(Place::START)
    }
    /// Where the key of the member at a JSON pointer is; the value's place for list items.
    pub(crate) fn key_place(&self, pointer: &str) -> Place {
        self.keys.get(pointer).copied().unwrap_or_else(|| self.place(pointer))
    }
    /// The scalar at a JSON pointer as it was written, if JSON would write it in another way.
    pub(crate) fn written(&self, pointer: &str) -> Option<&str> {
        self.written.get(pointer).map(String::as_str)
    }

    /// A node as JSON, its places kept.
    pub(super) fn take(&mut self, node: Node, pointer: String) -> Result<Value, YamlError> {
        self.bytes += pointer.len();
        if self.bytes > MAX_POINTERS {
            return Err(limit(node.place, "long keys over many values".to_owned()));
        }
        let value = match node.kind {
            Kind::Scalar(value, written) => {
                if let Some(written) = written {
                    self.written.insert(pointer.clone(), written);
                }
                value
            }
            Kind::List(items) => {
                let items = items.into_iter().enumerate();
                items.map(|(i, item)| self.take(item, format!("{pointer}/{i}"))).collect::<Result<_, _>>()?
            }
            Kind::Object(members) => {
                let mut map = Map::new();
                for (key, place, member) in members {
                    let child = join(&pointer, &key);
                    self.keys.insert(child.clone(), place);
                    map.insert(key, self.take(member, child)?);
                }
                Value::Object(map)
            }
        };
        self.values.insert(pointer, node.place);
        Ok(value)
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
