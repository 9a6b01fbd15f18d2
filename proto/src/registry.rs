//! Schema ids, and the framing by which a value names the schema that it was written with. Pure.
//!
//! In: records of `mesh.schemas` with their offsets; values. Out: ids.
//! Never: one id for two texts, or two ids for one. An id is the offset after the first record of its canonical text, so
//! the log alone decides it, whichever publisher wrote.

use std::collections::HashMap;
use std::sync::Arc;

/// A schema's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

impl std::fmt::Display for SchemaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The first byte of a framed value.
const MAGIC: u8 = 0;
/// The length of the frame: the magic byte, and the id in four bytes, big endian.
pub const FRAME: usize = 5;

impl SchemaId {
    /// The id that a record at this offset of `mesh.schemas` gives its text, if it is the first with that text.
    pub fn at_offset(offset: i64) -> Option<Self> {
        offset.checked_add(1).and_then(|id| u32::try_from(id).ok()).map(Self)
    }

    /// The offset of the record that gave this id.
    pub fn offset(self) -> i64 {
        i64::from(self.0) - 1
    }

    /// The frame of a value that was written with this schema.
    pub fn frame(self) -> [u8; FRAME] {
        let [a, b, c, d] = self.0.to_be_bytes();
        [MAGIC, a, b, c, d]
    }
}

/// The id that a value names, if it has the framing.
pub fn schema_id(value: &[u8]) -> Option<SchemaId> {
    match value {
        [MAGIC, a, b, c, d, ..] => Some(SchemaId(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

/// Texts and ids, as the log decides them.
#[derive(Clone, Debug, Default)]
pub struct SchemaIds {
    by_id: HashMap<SchemaId, Arc<str>>,
    by_text: HashMap<Arc<str>, SchemaId>,
}

impl SchemaIds {
    /// Takes the record at this offset; the id of its text, which a text that was registered before keeps. `None` if the
    /// log is longer than there are ids.
    pub fn take(&mut self, offset: i64, text: &Arc<str>) -> Option<SchemaId> {
        if let Some(id) = self.by_text.get(text) {
            return Some(*id);
        }
        let id = SchemaId::at_offset(offset)?;
        self.by_text.insert(text.clone(), id);
        self.by_id.insert(id, text.clone());
        Some(id)
    }

    pub fn text(&self, id: SchemaId) -> Option<&Arc<str>> {
        self.by_id.get(&id)
    }

    pub fn id(&self, text: &str) -> Option<SchemaId> {
        self.by_text.get(text).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_names_its_schema_and_nothing_else_does() {
        for id in [0, 1, 255, 256, 65_536, u32::MAX] {
            let framed = [&SchemaId(id).frame()[..], b"value"].concat();
            assert_eq!(schema_id(&framed), Some(SchemaId(id)));
            assert_eq!(schema_id(&framed[..FRAME]), Some(SchemaId(id)), "an empty value is framed too");
            for end in 0..FRAME {
                assert_eq!(schema_id(&framed[..end]), None);
            }
        }
        assert_eq!(schema_id(b"{\"a\":1}"), None);
    }

    /// Any log of few texts: ids are those of a search for the first record of each text.
    #[test]
    fn an_id_is_the_offset_after_the_first_record_of_its_text() {
        for sequence in 0..3u32.pow(7) {
            let texts: Vec<Arc<str>> =
                (0..7).map(|at| ["a", "b", "c"][(sequence / 3u32.pow(at) % 3) as usize].into()).collect();
            let mut ids = SchemaIds::default();
            for (offset, text) in (0..).zip(&texts) {
                let first = texts.iter().position(|other| other == text).unwrap();
                let expected = SchemaId(u32::try_from(first).unwrap() + 1);
                assert_eq!(ids.take(offset, text), Some(expected));
                assert_eq!((ids.id(text), ids.text(expected)), (Some(expected), Some(text)));
                assert_eq!(expected.offset(), i64::try_from(first).unwrap());
            }
        }
    }

    #[test]
    fn a_log_that_outgrows_the_ids_gives_none() {
        let most = i64::from(u32::MAX) - 1;
        assert_eq!(SchemaId::at_offset(most), Some(SchemaId(u32::MAX)));
        for offset in [most + 1, i64::MAX, -2] {
            assert_eq!(SchemaId::at_offset(offset), None);
        }
    }
}
