//! The registry's contents: `mesh.schemas` from its first record, in memory. Pure.
//!
//! In: records with their offsets, in order. Out: ids, subjects, versions.
//! Never: one id for two texts, or two ids for one. An id is the offset + 1 of the first record of that
//! text, so the log alone decides it, for every writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::registry::SchemaIds;
use mesh_proto::v1::RegisteredSchema;
use sha2::{Digest as _, Sha256};

/// A registered text under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub id: i64,
    pub text: Arc<str>,
    pub schema_type: String,
}

/// Everything registered up to some offset.
#[derive(Debug, Clone, Default)]
pub struct Index {
    schemas: BTreeMap<i64, Schema>,
    ids: SchemaIds,
    /// The ids of a subject in the order of their versions, which begin at 1.
    subjects: BTreeMap<String, Vec<i64>>,
    /// The next offset of `mesh.schemas`.
    next: i64,
}

impl Index {
    /// Takes the next record of the topic.
    pub fn take(&mut self, offset: i64, record: RegisteredSchema) {
        self.next = offset + 1;
        let text: Arc<str> = record.schema.into();
        // A log that is longer than there are ids would be a defect: its records are known, without a schema.
        let Some(id) = self.ids.take(offset, &text).map(|id| i64::from(id.0)) else { return };
        let schema = Schema { id, text, schema_type: record.schema_type };
        self.schemas.entry(id).or_insert(schema);
        let versions = self.subjects.entry(record.subject).or_default();
        if !versions.contains(&id) {
            versions.push(id);
        }
    }

    /// Takes note that a record which is no schema was read.
    pub fn skip(&mut self, offset: i64) {
        self.next = offset + 1;
    }

    /// The next offset of the topic.
    pub fn next(&self) -> i64 {
        self.next
    }

    pub fn schema(&self, id: i64) -> Option<&Schema> {
        self.schemas.get(&id)
    }

    /// The id of a canonical text.
    pub fn id_of(&self, text: &str) -> Option<i64> {
        self.ids.id(text).map(|id| i64::from(id.0))
    }

    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subjects.keys().map(String::as_str)
    }

    /// The subject's ids by version; none if there is no such subject.
    pub fn versions(&self, subject: &str) -> Option<&[i64]> {
        self.subjects.get(subject).map(Vec::as_slice)
    }

    /// The version under which a subject has this id.
    pub fn version_of(&self, subject: &str, id: i64) -> Option<usize> {
        Some(self.versions(subject)?.iter().position(|known| *known == id)? + 1)
    }

    /// The subjects and versions that have this id.
    pub fn uses(&self, id: i64) -> impl Iterator<Item = (&str, usize)> {
        self.subjects.keys().filter_map(move |subject| Some((subject.as_str(), self.version_of(subject, id)?)))
    }
}

/// The text under which a schema is known: its JSON without the author's spaces, names and attributes in their order.
/// (Avro's parsing canonical form would drop defaults and logical types, which readers need.)
pub fn canonical(schema: &str) -> Result<String, serde_json::Error> {
    let value: serde_json::Value = serde_json::from_str(schema)?;
    Ok(value.to_string())
}

/// Hex SHA-256 of a canonical text.
pub fn fingerprint(canonical: &str) -> String {
    hex::encode(Sha256::digest(canonical.as_bytes()))
}

/// The record of a text under a subject, and its key.
pub fn record(subject: &str, canonical: &str) -> (String, RegisteredSchema) {
    let fingerprint = fingerprint(canonical);
    let key = format!("{subject}:{fingerprint}");
    let schema_type = "AVRO".to_owned();
    (key, RegisteredSchema { subject: subject.to_owned(), fingerprint, schema_type, schema: canonical.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(records: &[(&str, &str)]) -> Index {
        let mut index = Index::default();
        for (offset, (subject, text)) in records.iter().enumerate() {
            index.take(offset as i64, record(subject, text).1);
        }
        index
    }

    #[test]
    fn an_id_is_the_offset_after_the_first_record_of_the_text() {
        let index = index(&[("a-value", "1"), ("b-value", "2"), ("b-value", "1"), ("a-value", "2"), ("a-value", "1")]);
        assert_eq!((index.id_of("1"), index.id_of("2")), (Some(1), Some(2)));
        assert_eq!(
            (index.versions("a-value").unwrap(), index.versions("b-value").unwrap()),
            (&[1, 2][..], &[2, 1][..])
        );
        assert_eq!(index.uses(1).collect::<Vec<_>>(), [("a-value", 1), ("b-value", 2)]);
        assert_eq!(index.next(), 5);
    }

    #[test]
    fn spaces_do_not_make_another_schema_but_order_and_defaults_do() {
        let same = |a: &str, b: &str| canonical(a).unwrap() == canonical(b).unwrap();
        assert!(same(r#"{"type": "record", "name":"r"}"#, "{\"type\":\"record\",\n\"name\":\"r\"}"));
        assert!(!same(r#"{"name":"f","default":null}"#, r#"{"name":"f"}"#));
    }

    proptest! {
        #[test]
        fn texts_and_ids_are_one_to_one(records in proptest::collection::vec((0u8..4, 0u8..6), 0..40)) {
            let records: Vec<(String, String)> = records.iter().map(|(s, t)| (format!("s{s}"), format!("{t}"))).collect();
            let pairs: Vec<(&str, &str)> = records.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect();
            let index = index(&pairs);
            for (subject, text) in &pairs {
                let id = index.id_of(text).unwrap();
                prop_assert_eq!(index.schema(id).unwrap().text.as_ref(), *text);
                prop_assert!(index.version_of(subject, id).is_some());
            }
        }
    }
}
