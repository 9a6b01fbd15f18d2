//! JSON: one object per value, strictly as RFC 8259 has it.
//!
//! In: values and the contract's columns. Out: batches in the contract's types; a refusal for every value that is not one
//! object, and for every row with a value that its column does not hold.
//!
//! One pass of serde_json over the text, from tokens straight into Arrow builders ([`column`]). arrow-json 58.4.0 is not
//! used: it joins surrogate pairs with `|` where a carry must be added (every character from U+20000 on becomes another,
//! `src/reader/tape.rs`, `char_from_surrogate_pair`), accepts trailing commas, leading zeros and bare control characters,
//! takes numbers through a double or cuts them, and lets the last of two equal names win.
//!
//! Must never happen: a value in the table that the text does not have; a record that takes more time or stack than its
//! length and the contract's depth account for.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use mesh_contract::model::Column;
use mesh_contract::types::{self, Type};
use serde::de::DeserializeSeed as _;

use crate::pipeline::decode::{Decoded, DecodedRows, RowDecoder, Value, decode_all};
use crate::pipeline::refusal::{Reason, Refusal, Refusals};

mod column;
mod leaf;
mod strict;

use column::{Object, Place, Row};

/// What JSON values are decoded into.
#[derive(Debug, Clone)]
pub struct Wire {
    shape: Arc<Vec<Member>>,
    closed: bool,
}

/// A field of an object.
#[derive(Debug, Clone)]
struct Member {
    /// As records name it.
    written: String,
    /// As the table names it.
    name: String,
    shape: Shape,
}

/// A column's type, with the names that records use.
#[derive(Debug, Clone)]
enum Shape {
    Plain(Type),
    Object(Vec<Member>),
    List(Box<Shape>),
    Map(Type, Box<Shape>),
}

impl Wire {
    /// The contract's columns, by the names that records use. A closed contract refuses other names.
    pub fn new(columns: &[Column], closed: bool) -> Self {
        Self { shape: Arc::new(columns.iter().map(member).collect()), closed }
    }
}

fn member(column: &Column) -> Member {
    Member { written: column.original.clone(), name: column.name.clone(), shape: shape(&column.ty, &column.children) }
}

fn shape(ty: &Type, children: &[Column]) -> Shape {
    let child = |at: usize, field: &types::Field| match children.get(at) {
        Some(column) => shape(&column.ty, &column.children),
        None => shape(&field.ty, &[]),
    };
    match ty {
        Type::Struct(fields) => Shape::Object(match children {
            [] => fields
                .iter()
                .map(|field| Member {
                    written: field.name.clone(),
                    name: field.name.clone(),
                    shape: shape(&field.ty, &[]),
                })
                .collect(),
            children => children.iter().map(member).collect(),
        }),
        Type::List(element) => Shape::List(Box::new(child(0, element))),
        Type::Map(key, value) => Shape::Map(key.ty.clone(), Box::new(child(1, value))),
        plain => Shape::Plain(plain.clone()),
    }
}

/// Decodes values.
pub fn decode(values: &[Value<'_>], wire: &Wire, refusals: &mut Refusals) -> Vec<DecodedRows> {
    let mut rows = Vec::new();
    decode_all(values, &|_| Ok(Records::new(wire)), &mut rows, refusals);
    rows
}

/// The columns of the records so far.
struct Records {
    object: Object,
    rows: usize,
    bad: Vec<(usize, Refusal)>,
}

impl Records {
    fn new(wire: &Wire) -> Self {
        Self { object: Object::new(&wire.shape, wire.closed), rows: 0, bad: Vec::new() }
    }
}

impl RowDecoder for Records {
    fn push(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let text = std::str::from_utf8(value).map_err(|error| undecodable(error.to_string()))?;
        strict::depth(text)?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut refused = None;
        let row = Row { object: &mut self.object, refused: &mut refused, place: Place::Record };
        row.deserialize(&mut deserializer).map_err(|error| undecodable(error.to_string()))?;
        deserializer.end().map_err(|_| undecodable("the value holds more than one object".into()))?;
        if let Some(refusal) = refused {
            self.bad.push((self.rows, refusal));
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(self) -> Result<Decoded, Refusal> {
        let columns = self.object.finish().map_err(|error| undecodable(error.to_string()))?;
        let (fields, columns): (Vec<Field>, Vec<_>) = columns.into_iter().unzip();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
        Ok(Decoded { batch: batch.map_err(|error| undecodable(error.to_string()))?, bad: self.bad })
    }
}

fn undecodable(message: String) -> Refusal {
    Refusal::whole(Reason::Undecodable, message)
}

#[cfg(test)]
mod oracle;
