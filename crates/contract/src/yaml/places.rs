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

    /// The number at a JSON pointer as JSON with every digit, where it was written with more than a double holds or in
    /// another form than JSON's own. Hexadecimal and octal numbers are not among them: integers of 64 bits hold those.
    pub(crate) fn number(&self, pointer: &str) -> Option<String> {
        let written = self.written.get(pointer)?;
        let (sign, digits) = match written.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", written.strip_prefix('+').unwrap_or(written)),
        };
        let digits = if digits.starts_with('.') { format!("0{digits}") } else { digits.to_owned() };
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => digits.split_at(at),
            None => (digits.as_str(), ""),
        };
        let mantissa = mantissa.strip_suffix('.').unwrap_or(mantissa);
        let zeros = mantissa.len() - mantissa.trim_start_matches('0').len();
        let rest = &mantissa[zeros..];
        let lead = if rest.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "0" };
        let number = format!("{sign}{lead}{rest}{exponent}");
        number.parse::<serde_json::Number>().is_ok().then_some(number)
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
