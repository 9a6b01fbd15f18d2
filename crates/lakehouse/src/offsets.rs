//! What a table remembers of its source: cluster, topic id, partition → next offset.
//!
//! In: a table's metadata. Out: the recorded offsets, and whether a writer may commit on them.
//! The authority is the nearest ancestor of `main` that carries `mesh.offsets` ([`authority`]).

pub mod authority;
mod fence;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#[path = "offsets/tests.rs"]
mod travel_tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use authority::Recorded;
pub use fence::{Fence, OffsetRange, OffsetRanges, RangeStart};

/// A Kafka topic, safe against recreation: the cluster's id and the topic's id (not its name).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicSource {
    /// Kafka's cluster id.
    pub cluster: String,
    /// The topic's uuid, as the broker prints it.
    pub topic: String,
}

impl fmt::Display for TopicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} of cluster {}", self.topic, self.cluster)
    }
}

/// Per source and partition an offset (the next one to read, unless named otherwise).
/// Its text is JSON: `{"<cluster>":{"<topic>":{"<partition>":<offset>}}}`, keys in order, so equal offsets have equal texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceOffsets {
    clusters: BTreeMap<String, BTreeMap<String, BTreeMap<i32, i64>>>,
}

impl SourceOffsets {
    /// The offset of a partition, if it was ever recorded.
    pub fn get(&self, source: &TopicSource, partition: i32) -> Option<i64> {
        self.clusters.get(&source.cluster)?.get(&source.topic)?.get(&partition).copied()
    }

    /// Records an offset.
    pub fn set(&mut self, source: &TopicSource, partition: i32, offset: i64) {
        let topics = self.clusters.entry(source.cluster.clone()).or_default();
        topics.entry(source.topic.clone()).or_default().insert(partition, offset);
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TopicSource, i32, i64)> + '_ {
        self.clusters.iter().flat_map(|(cluster, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                let source = TopicSource { cluster: cluster.clone(), topic: topic.clone() };
                partitions.iter().map(move |(partition, offset)| (source.clone(), *partition, *offset))
            })
        })
    }

    /// Nothing recorded.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// As summaries and properties hold it.
    pub fn encode(&self) -> String {
        // Maps of strings and integers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From a summary's or property's text.
    pub fn decode(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offsets() -> impl Strategy<Value = SourceOffsets> {
        let entry = ("[a-zA-Z0-9_\"\\\\-]{0,12}", "\\PC{0,12}", any::<i32>(), any::<i64>());
        prop::collection::vec(entry, 0..12).prop_map(|entries| {
            let mut offsets = SourceOffsets::default();
            for (cluster, topic, partition, offset) in entries {
                offsets.set(&TopicSource { cluster, topic }, partition, offset);
            }
            offsets
        })
    }

    proptest! {
        #[test]
        fn offsets_survive_their_text(offsets in offsets()) {
            prop_assert_eq!(SourceOffsets::decode(&offsets.encode()).unwrap(), offsets);
        }

        #[test]
        fn equal_offsets_have_equal_texts(offsets in offsets()) {
            let mut again = SourceOffsets::default();
            let entries: Vec<_> = offsets.iter().collect();
            for (source, partition, offset) in entries.into_iter().rev() {
                again.set(&source, partition, offset);
            }
            prop_assert_eq!(again.encode(), offsets.encode());
        }
    }

    #[test]
    fn what_is_no_offsets_is_an_error() {
        for text in ["", "[]", "{\"c\":3}", "{\"c\":{\"t\":{\"zero\":1}}}", "{\"c\":{\"t\":{\"0\":1.5}}}"] {
            assert!(SourceOffsets::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_text_is_what_other_tools_may_rely_on() {
        let mut offsets = SourceOffsets::default();
        offsets.set(&TopicSource { cluster: "c1".into(), topic: "t1".into() }, 10, 7);
        offsets.set(&TopicSource { cluster: "c1".into(), topic: "t1".into() }, 2, 5);
        assert_eq!(offsets.encode(), r#"{"c1":{"t1":{"2":5,"10":7}}}"#);
    }
}
