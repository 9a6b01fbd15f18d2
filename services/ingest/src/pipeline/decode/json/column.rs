//! Columns under construction, fed by serde_json's tokens.
//!
//! In: a record's tokens. Out: exactly one value more in every column, null where the record's is none of the column's;
//! the first such value's refusal. Never: columns of different lengths after a record that is JSON.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};
use mesh_contract::types::Type;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::leaf::Leaf;
use super::strict::Names;
use super::{Member, Shape};
use crate::pipeline::refusal::{Reason, Refusal};

/// Where a value is, for its refusal.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Record,
    Field(&'a Place<'a>, &'a str),
    Element(&'a Place<'a>),
    Key(&'a Place<'a>),
    Value(&'a Place<'a>),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => Ok(()),
            Self::Field(Self::Record, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent) => write!(f, "{parent}[]"),
            Self::Key(parent) => write!(f, "{parent}{{key}}"),
            Self::Value(parent) => write!(f, "{parent}{{}}"),
        }
    }
}

/// One column.
#[derive(Debug)]
pub(super) enum Column {
    Leaf(Leaf),
    Object(Object),
    List(Box<Items>),
    Map(Box<Entries>),
}

/// Fields by name.
#[derive(Debug)]
pub(super) struct Object {
    members: Vec<(Member, Column)>,
    by_name: HashMap<String, usize>,
    present: NullBufferBuilder,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct Items {
    lengths: Vec<usize>,
    present: NullBufferBuilder,
    element: Column,
}

#[derive(Debug)]
pub(super) struct Entries {
    lengths: Vec<usize>,
    present: NullBufferBuilder,
    key: Leaf,
    key_is_text: bool,
    value: Column,
}

impl Column {
    fn new(shape: &Shape, closed: bool) -> Self {
        let present = || NullBufferBuilder::new(0);
        match shape {
            Shape::Plain(ty) => Self::Leaf(Leaf::new(ty)),
            Shape::Object(members) => Self::Object(Object::new(members, closed)),
            Shape::List(element) => Self::List(Box::new(Items {
                lengths: Vec::new(),
                present: present(),
                element: Self::new(element, closed),
            })),
            Shape::Map(key, value) => Self::Map(Box::new(Entries {
                lengths: Vec::new(),
                present: present(),
                key: Leaf::new(key),
                key_is_text: *key == Type::String,
                value: Self::new(value, closed),
            })),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Object(object) => object.present.len(),
            Self::List(items) => items.lengths.len(),
            Self::Map(entries) => entries.lengths.len(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Leaf(leaf) => leaf.append_null(),
            Self::Object(object) => object.append_null(),
            Self::List(items) => {
                items.lengths.push(0);
                items.present.append_null();
            }
            Self::Map(entries) => {
                entries.lengths.push(0);
                entries.present.append_null();
            }
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::Leaf(leaf) => leaf.expected(),
            Self::Object(_) => "an object",
            Self::List(_) => "an array",
            Self::Map(entries) if entries.key_is_text => "an object",
            Self::Map(_) => "an object, or an array of objects with `key` and `value`",
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Leaf(leaf) => leaf.finish(),
            Self::Object(mut object) => {
                let present = object.present.finish();
                let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = object.finish()?.into_iter().unzip();
                Ok(Arc::new(StructArray::try_new(Fields::from(fields), columns, present)?))
            }
            Self::List(mut items) => {
                let present = items.present.finish();
                let element = items.element.finish()?;
                let field = Arc::new(Field::new("element", element.data_type().clone(), true));
                Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(items.lengths), element, present)?))
            }
            Self::Map(mut entries) => {
                let present = entries.present.finish();
                let keys = entries.key.finish()?;
                let values = entries.value.finish()?;
                let fields = Fields::from(vec![
                    Field::new("key", keys.data_type().clone(), true),
                    Field::new("value", values.data_type().clone(), true),
                ]);
                let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
                let field = Arc::new(Field::new("key_value", DataType::Struct(fields), false));
                let offsets = OffsetBuffer::from_lengths(entries.lengths);
                Ok(Arc::new(MapArray::try_new(field, offsets, pairs, present, false)?))
            }
        }
    }
}

impl Object {
    pub(super) fn new(members: &[Member], closed: bool) -> Self {
        let by_name = members.iter().enumerate().map(|(at, member)| (member.written.clone(), at)).collect();
        let members = members.iter().map(|member| (member.clone(), Column::new(&member.shape, closed))).collect();
        Self { members, by_name, present: NullBufferBuilder::new(0), closed }
    }

    fn append_null(&mut self) {
        self.members.iter_mut().for_each(|(_, column)| column.append_null());
        self.present.append_null();
    }

    pub(super) fn finish(self) -> Result<Vec<(Field, ArrayRef)>, ArrowError> {
        let column = |(member, column): (Member, Column)| {
            let array = column.finish()?;
            Ok((Field::new(member.name, array.data_type().clone(), true), array))
        };
        self.members.into_iter().map(column).collect()
    }

    /// The member of a name; most records name them in the same order.
    fn member(&self, name: &str, next: usize) -> Option<usize> {
        match self.members.get(next) {
            Some((member, _)) if member.written == name => Some(next),
            _ => self.by_name.get(name).copied(),
        }
    }
}

/// The first refusal of a record.
pub(super) type Refused = Option<Refusal>;

fn refuse(refused: &mut Refused, reason: Reason, place: &Place<'_>, message: String) {
    refused.get_or_insert_with(|| Refusal::at(reason, place.to_string(), message));
}

/// A record, which must be an object.
pub(super) struct Row<'a> {
    pub(super) object: &'a mut Object,
    pub(super) refused: &'a mut Refused,
    pub(super) place: Place<'a>,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { object, refused, place } = self;
        let row = object.present.len();
        let mut others = Names::default();
        let mut next = 0;
        while let Some(name) = map.next_key_seed(Name { object, next, others: &mut others })? {
            let Named::Member(at) = name else {
                if let (true, Named::Other(name)) = (object.closed, &name) {
                    let message = "the contract is closed and has no such field".to_owned();
                    refuse(refused, Reason::UnknownField, &Place::Field(&place, name), message);
                }
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            next = at + 1;
            let Some((member, column)) = object.members.get_mut(at) else { continue };
            if column.len() > row {
                return Err(A::Error::custom(twice(&member.written)));
            }
            let place = Place::Field(&place, &member.name);
            map.next_value_seed(Slot { column, refused, place })?;
        }
        object.members.iter_mut().filter(|(_, column)| column.len() == row).for_each(|(_, c)| c.append_null());
        object.present.append_non_null();
        Ok(())
    }
}

fn twice(name: &str) -> String {
    format!("an object has the name {name:?} twice")
}

/// A name within an object.
struct Name<'a> {
    object: &'a Object,
    next: usize,
    others: &'a mut Names,
}

enum Named {
    Member(usize),
    /// A name that no column takes; kept only where it is refused.
    Other(String),
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Named;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Named, E> {
        match self.object.member(name, self.next) {
            Some(at) => Ok(Named::Member(at)),
            None if !self.others.add(name) => Err(E::custom(twice(name))),
            None if self.object.closed => Ok(Named::Other(name.to_owned())),
            None => Ok(Named::Other(String::new())),
        }
    }
}

/// The place for one value of a column.
struct Slot<'a> {
    column: &'a mut Column,
    refused: &'a mut Refused,
    place: Place<'a>,
}

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.column {
            Column::Leaf(leaf) if leaf.is_text() => deserializer.deserialize_any(self),
            // Numbers, and what may be written as a number, are read from their text.
            Column::Leaf(leaf) => {
                let raw = <&RawValue>::deserialize(deserializer)?;
                if let Err((reason, message)) = leaf.append(raw.get()) {
                    refuse(self.refused, reason, &self.place, message);
                }
                Ok(())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Slot<'_> {
    fn mismatch<E>(self, found: &str) -> Result<(), E> {
        let message = format!("expected {}, found {found}", self.column.expected());
        refuse(self.refused, Reason::Type, &self.place, message);
        self.column.append_null();
        Ok(())
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column.expected())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.column.append_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.mismatch(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.mismatch(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.mismatch(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.mismatch(&value.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.column {
            Column::Leaf(Leaf::Text(builder)) => {
                builder.append_value(text);
                Ok(())
            }
            _ => self.mismatch("a text"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { column, refused, place } = self;
        let mut length = 0;
        match column {
            Column::List(list) => {
                let place = Place::Element(&place);
                while let Some(()) = items.next_element_seed(Slot { column: &mut list.element, refused, place })? {
                    length += 1;
                }
                list.lengths.push(length);
                list.present.append_non_null();
            }
            Column::Map(entries) if !entries.key_is_text => {
                while let Some(()) = items.next_element_seed(Entry { entries, refused, place })? {
                    length += 1;
                }
                entries.lengths.push(length);
                entries.present.append_non_null();
            }
            _ => {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Self { column, refused, place }.mismatch("an array");
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { column, refused, place } = self;
        match column {
            Column::Object(object) => Row { object, refused, place }.visit_map(map),
            Column::Map(entries) => {
                let mut length = 0;
                let at = Place::Key(&place);
                while let Some(()) = map.next_key_seed(Key { leaf: &mut entries.key, refused, place: at })? {
                    let place = Place::Value(&place);
                    map.next_value_seed(Slot { column: &mut entries.value, refused, place })?;
                    length += 1;
                }
                entries.lengths.push(length);
                entries.present.append_non_null();
                Ok(())
            }
            _ => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Self { column, refused, place }.mismatch("an object")
            }
        }
    }
}

/// A map's key, written as an object's name.
struct Key<'a> {
    leaf: &'a mut Leaf,
    refused: &'a mut Refused,
    place: Place<'a>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        if let Err((reason, message)) = self.leaf.append_written(name) {
            refuse(self.refused, reason, &self.place, message);
        }
        Ok(())
    }
}

/// An entry of a map whose keys are not text: `{"key": …, "value": …}`.
struct Entry<'a> {
    entries: &'a mut Entries,
    refused: &'a mut Refused,
    place: Place<'a>,
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `key` and `value`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { entries, refused, place } = self;
        let row = entries.value.len();
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match name.as_ref() {
                "key" if entries.key.len() == row => {
                    let raw: &RawValue = map.next_value()?;
                    if let Err((reason, message)) = entries.key.append(raw.get()) {
                        refuse(refused, reason, &Place::Key(&place), message);
                    }
                }
                "value" if entries.value.len() == row => {
                    let place = Place::Value(&place);
                    map.next_value_seed(Slot { column: &mut entries.value, refused, place })?;
                }
                "key" | "value" => return Err(A::Error::custom(twice(&name))),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if entries.value.len() == row {
            entries.value.append_null();
        }
        if entries.key.len() == row {
            entries.key.append_null();
        }
        Ok(())
    }
}
