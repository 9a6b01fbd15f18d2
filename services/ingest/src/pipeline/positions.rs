//! Where a session stands in each partition of its topic.
//!
//! In: what the table recorded when the session was opened, and what the session committed since. Out: the offset ranges
//! of a commit, and whether the table still records what the session believes.
//! Must never happen: a start that is taken from the table again after the session was opened. The table may have been
//! rolled back or fed by another writer, while the records in hand are those that follow the session's own positions.

use std::collections::BTreeMap;

use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{OffsetRanges, RangeStart, SourceOffsets};

use crate::error::IngestError;

/// The start of the next range in every subscribed partition.
#[derive(Debug, Clone)]
pub struct Positions {
    source: TopicSource,
    starts: BTreeMap<i32, RangeStart>,
}

impl Positions {
    /// From what a table records, for partitions 0 to `count`. A partition without an offset is read from 0.
    pub fn new(source: TopicSource, recorded: &SourceOffsets, count: i32) -> Self {
        let start = |partition| recorded.get(&source, partition).map_or(RangeStart::First(0), RangeStart::Recorded);
        let starts = (0..count).map(|partition| (partition, start(partition))).collect();
        Self { source, starts }
    }

    /// Cluster and topic.
    pub fn source(&self) -> &TopicSource {
        &self.source
    }

    /// How many partitions are read.
    pub fn partitions(&self) -> i32 {
        i32::try_from(self.starts.len()).unwrap_or(i32::MAX)
    }

    /// What comes next in each partition.
    pub fn next(&self) -> BTreeMap<i32, i64> {
        self.starts.iter().map(|(partition, start)| (*partition, start.offset())).collect()
    }

    /// The partitions of which the table records nothing.
    pub fn unrecorded(&self) -> impl Iterator<Item = i32> {
        self.starts.iter().filter(|(_, start)| matches!(start, RangeStart::First(_))).map(|(partition, _)| *partition)
    }

    /// Partitions of which the table records nothing are read from these offsets.
    pub fn start_at(&mut self, first: &BTreeMap<i32, i64>) {
        for (partition, offset) in first {
            if let Some(start @ RangeStart::First(_)) = self.starts.get_mut(partition) {
                *start = RangeStart::First(*offset);
            }
        }
    }

    /// The ranges from here to these next offsets.
    pub fn ranges(&self, next: &BTreeMap<i32, i64>) -> Result<OffsetRanges, IngestError> {
        let mut ranges = OffsetRanges::default();
        for (partition, next) in next {
            let start = self.starts.get(partition).copied().unwrap_or(RangeStart::First(0));
            ranges.add(&self.source, *partition, start, *next)?;
        }
        Ok(ranges)
    }

    /// The ranges to these next offsets stand.
    pub fn committed(&mut self, next: &BTreeMap<i32, i64>) {
        self.starts.extend(next.iter().map(|(partition, next)| (*partition, RangeStart::Recorded(*next))));
    }

    /// The first partition of which the table records another offset than this session believes.
    pub fn differing(&self, recorded: &SourceOffsets) -> Option<i32> {
        let differs = |(partition, start): &(&i32, &RangeStart)| {
            let believed = match start {
                RangeStart::Recorded(offset) => Some(*offset),
                RangeStart::First(_) => None,
            };
            recorded.get(&self.source, **partition) != believed
        };
        self.starts.iter().find(differs).map(|(partition, _)| *partition)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source() -> TopicSource {
        TopicSource { cluster: "c".into(), topic: "t".into() }
    }

    fn recorded(of: &[(i32, i64)]) -> SourceOffsets {
        let mut offsets = SourceOffsets::default();
        of.iter().for_each(|(partition, next)| offsets.set(&source(), *partition, *next));
        offsets
    }

    #[test]
    fn positions_move_by_commits_only() {
        let mut positions = Positions::new(source(), &recorded(&[(0, 5)]), 2);
        assert_eq!(positions.next(), BTreeMap::from([(0, 5), (1, 0)]));
        positions.start_at(&BTreeMap::from([(0, 9), (1, 7)]));
        assert_eq!(positions.next(), BTreeMap::from([(0, 5), (1, 7)]), "a recorded offset is not skipped");
        positions.committed(&BTreeMap::from([(1, 8)]));
        assert_eq!(positions.differing(&recorded(&[(0, 5), (1, 8)])), None);
        assert_eq!(positions.differing(&recorded(&[(0, 4), (1, 8)])), Some(0), "rolled back");
        assert_eq!(positions.differing(&recorded(&[(0, 5), (1, 9)])), Some(1), "another writer");
        assert_eq!(positions.differing(&recorded(&[(0, 5)])), Some(1));
        assert!(positions.ranges(&BTreeMap::from([(0, 4)])).is_err(), "never backwards");
    }
}
