//! Fencing: a writer's moves against the offsets that a base records.

use std::collections::BTreeMap;

use super::{SourceOffsets, TopicSource};
use crate::error::{LakehouseError, Result};

/// Where a writer started in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeStart {
    /// At the offset that the table had recorded.
    Recorded(i64),
    /// The table had nothing recorded for this partition; reading began at this offset.
    First(i64),
}

impl RangeStart {
    /// The offset itself.
    pub fn offset(self) -> i64 {
        match self {
            Self::Recorded(offset) | Self::First(offset) => offset,
        }
    }

    /// What the base must record for this start to stand.
    fn expected(self) -> Option<i64> {
        match self {
            Self::Recorded(offset) => Some(offset),
            Self::First(_) => None,
        }
    }
}

/// One partition's move: the records of `[start, next)` are in this commit, as rows or as dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// Where the writer started.
    pub start: RangeStart,
    /// The next offset after this commit; never below the start.
    pub next: i64,
}

/// The moves that one commit carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetRanges {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Partitions go on from where they were.
    Advance(BTreeMap<(TopicSource, i32), OffsetRange>),
    /// The table starts anew at these offsets, whatever was recorded before.
    Rebase { seen: Option<SourceOffsets>, offsets: SourceOffsets },
}

impl Default for Kind {
    fn default() -> Self {
        Self::Advance(BTreeMap::new())
    }
}

impl OffsetRanges {
    /// A new start: these offsets replace all that the table records. `seen` is what it recorded when somebody decided
    /// so; `None` says that it could not be told (`LakehouseError::OffsetsLost`).
    pub fn rebase(seen: Option<SourceOffsets>, offsets: SourceOffsets) -> Self {
        Self { kind: Kind::Rebase { seen, offsets } }
    }

    /// Adds a partition's move; `LakehouseError::BackwardMove` if it goes backwards. To a new start it adds the partition's.
    pub fn add(&mut self, source: &TopicSource, partition: i32, start: RangeStart, next: i64) -> Result<()> {
        if next < start.offset() {
            let partition = format!("partition {partition} of {source}");
            return Err(LakehouseError::BackwardMove { partition, from: start.offset(), to: next });
        }
        match &mut self.kind {
            Kind::Advance(offset_ranges) => {
                drop(offset_ranges.insert((source.clone(), partition), OffsetRange { start, next }))
            }
            Kind::Rebase { offsets, .. } => offsets.set(source, partition, next),
        }
        Ok(())
    }

    /// All moves, in order; a new start is none.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicSource, i32, OffsetRange)> {
        let offset_ranges = if let Kind::Advance(offset_ranges) = &self.kind { Some(offset_ranges) } else { None };
        offset_ranges.into_iter().flatten().map(|((source, partition), m)| (source, *partition, *m))
    }

    /// No partition carried, and no new start.
    pub fn is_empty(&self) -> bool {
        matches!(&self.kind, Kind::Advance(offset_ranges) if offset_ranges.is_empty())
    }

    /// A new start for a table whose offsets cannot be told.
    pub(crate) fn recover(&self) -> bool {
        matches!(&self.kind, Kind::Rebase { seen: None, .. })
    }

    /// The base's offsets with these moves made.
    pub fn applied_to(&self, base: &SourceOffsets) -> SourceOffsets {
        if let Kind::Rebase { offsets, .. } = &self.kind {
            return offsets.clone();
        }
        let mut offsets = base.clone();
        for (source, partition, m) in self.iter() {
            offsets.set(source, partition, m.next);
        }
        offsets
    }

    /// The starts on record with those of partitions that are new.
    pub fn starts(&self, base: &SourceOffsets) -> SourceOffsets {
        if let Kind::Rebase { offsets, .. } = &self.kind {
            return offsets.clone();
        }
        let mut starts = base.clone();
        for (source, partition, m) in self.iter() {
            if let RangeStart::First(offset) = m.start {
                starts.set(source, partition, offset);
            }
        }
        starts
    }

    /// The moves as text for `mesh.ranges`: `[[cluster, topic, partition, from, next], …]`.
    pub fn ranges(&self) -> String {
        let ranges: Vec<_> = self.iter().map(|(s, p, m)| (&s.cluster, &s.topic, p, m.start.offset(), m.next)).collect();
        // Strings and integers always serialise.
        serde_json::to_string(&ranges).unwrap_or_default()
    }
}

/// What a base says to a writer's moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The base records my start: commit.
    Commit,
    /// The base records my end: it was mine, done already.
    AlreadyMine,
    /// Anything else: another writer was here, give up.
    Fenced {
        /// The first partition that differs.
        partition: String,
        /// Where the writer started.
        mine: String,
        /// What the base records.
        found: String,
    },
}

impl Fence {
    /// Decides from the base's offsets. A partition that does not move says nothing about whether the commit was
    /// made, but its start must stand like any other's.
    pub fn decide(base: &SourceOffsets, mine: &OffsetRanges) -> Self {
        if let Kind::Rebase { seen, offsets } = &mine.kind {
            return Self::anew(base, seen.as_ref(), offsets);
        }
        let at_start = |(source, partition, m): &(&TopicSource, i32, OffsetRange)| {
            base.get(source, *partition) == m.start.expected()
        };
        let at_end =
            |(source, partition, m): &(&TopicSource, i32, OffsetRange)| base.get(source, *partition) == Some(m.next);
        if mine.iter().all(|m| at_start(&m)) {
            return Self::Commit;
        }
        if mine.iter().all(|m| at_end(&m)) {
            return Self::AlreadyMine;
        }
        let differing = mine.iter().find(|m| !at_start(m));
        let (source, partition, m) = match differing {
            Some(found) => found,
            None => return Self::Commit,
        };
        let shown = |offset: Option<i64>| offset.map_or_else(|| "nothing".to_owned(), |o| format!("offset {o}"));
        Self::Fenced {
            partition: format!("partition {partition} of {source}"),
            mine: shown(m.start.expected()),
            found: shown(base.get(source, partition)),
        }
    }
}

impl Fence {
    /// A new start was decided on what the base recorded then: all of it must stand.
    fn anew(base: &SourceOffsets, seen: Option<&SourceOffsets>, offsets: &SourceOffsets) -> Self {
        match seen {
            Some(seen) if seen == base => Self::Commit,
            _ if offsets == base => Self::AlreadyMine,
            _ => Self::Fenced {
                partition: "all partitions".to_owned(),
                mine: seen.map_or_else(|| "offsets that could not be told".to_owned(), SourceOffsets::encode),
                found: base.encode(),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source() -> TopicSource {
        TopicSource { cluster: "c".into(), topic: "t".into() }
    }

    fn base(recorded: &[(i32, i64)]) -> SourceOffsets {
        let mut offsets = SourceOffsets::default();
        recorded.iter().for_each(|(p, o)| offsets.set(&source(), *p, *o));
        offsets
    }

    fn offset_ranges(mine: &[(i32, RangeStart, i64)]) -> OffsetRanges {
        let mut offset_ranges = OffsetRanges::default();
        mine.iter().for_each(|(p, start, next)| offset_ranges.add(&source(), *p, *start, *next).unwrap());
        offset_ranges
    }

    #[derive(Debug, PartialEq)]
    enum Verdict {
        Commit,
        Mine,
        Fenced,
    }

    fn check(recorded: &[(i32, i64)], mine: &[(i32, RangeStart, i64)], expected: Verdict) {
        let verdict = match Fence::decide(&base(recorded), &offset_ranges(mine)) {
            Fence::Commit => Verdict::Commit,
            Fence::AlreadyMine => Verdict::Mine,
            Fence::Fenced { .. } => Verdict::Fenced,
        };
        assert_eq!(verdict, expected, "recorded {recorded:?}, mine {mine:?}");
    }

    #[test]
    fn a_base_at_my_start_takes_the_commit() {
        use RangeStart::{First, Recorded};
        check(&[], &[(0, First(0), 5)], Verdict::Commit);
        check(&[(0, 5)], &[(0, Recorded(5), 9)], Verdict::Commit);
        check(&[(0, 5), (1, 7)], &[(0, Recorded(5), 9)], Verdict::Commit);
        check(&[(0, 5)], &[(0, Recorded(5), 9), (1, First(0), 3)], Verdict::Commit);
    }

    #[test]
    fn a_base_at_my_end_was_mine() {
        use RangeStart::{First, Recorded};
        check(&[(0, 9)], &[(0, Recorded(5), 9)], Verdict::Mine);
        check(&[(0, 5)], &[(0, First(0), 5)], Verdict::Mine);
        check(&[(0, 9), (1, 3)], &[(0, Recorded(5), 9), (1, First(0), 3)], Verdict::Mine);
        // Partition 1 did not move: its start is its end.
        check(&[(0, 9), (1, 3)], &[(0, Recorded(5), 9), (1, Recorded(3), 3)], Verdict::Mine);
    }

    #[test]
    fn anything_else_is_fenced() {
        use RangeStart::{First, Recorded};
        check(&[(0, 7)], &[(0, Recorded(5), 9)], Verdict::Fenced);
        check(&[(0, 12)], &[(0, Recorded(5), 9)], Verdict::Fenced);
        check(&[(0, 3)], &[(0, Recorded(5), 9)], Verdict::Fenced);
        check(&[], &[(0, Recorded(5), 9)], Verdict::Fenced);
        check(&[(0, 2)], &[(0, First(0), 5)], Verdict::Fenced);
        // One partition at its end, the other at its start: no commit of mine looks like that.
        check(&[(0, 9), (1, 3)], &[(0, Recorded(5), 9), (1, Recorded(3), 4)], Verdict::Fenced);
        // The topic was recreated: another id has nothing recorded.
        let mut other = OffsetRanges::default();
        other.add(&TopicSource { cluster: "c".into(), topic: "new".into() }, 0, Recorded(5), 9).unwrap();
        assert!(matches!(Fence::decide(&base(&[(0, 5)]), &other), Fence::Fenced { .. }));
    }

    #[test]
    fn a_first_move_of_nothing_is_recorded_and_then_mine() {
        check(&[], &[(0, RangeStart::First(0), 0)], Verdict::Commit);
        check(&[(0, 0)], &[(0, RangeStart::First(0), 0)], Verdict::Mine);
    }

    #[test]
    fn a_new_start_stands_on_all_that_was_seen() {
        let anew = |seen: Option<&[(i32, i64)]>, to: &[(i32, i64)]| OffsetRanges::rebase(seen.map(base), base(to));
        let check = |recorded: &[(i32, i64)], mine: OffsetRanges, expected: Fence| {
            let found = Fence::decide(&base(recorded), &mine);
            assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&expected), "{recorded:?} {mine:?}");
        };
        let fenced = || Fence::Fenced { partition: String::new(), mine: String::new(), found: String::new() };
        check(&[(0, 9)], anew(Some(&[(0, 9)]), &[(0, 3), (1, 4)]), Fence::Commit);
        check(&[], anew(Some(&[]), &[(0, 3)]), Fence::Commit);
        check(&[(0, 3)], anew(Some(&[(0, 9)]), &[(0, 3)]), Fence::AlreadyMine);
        check(&[(0, 9), (1, 1)], anew(Some(&[(0, 9)]), &[(0, 3)]), fenced());
        check(&[(0, 9)], anew(None, &[(0, 3)]), fenced());
        // And who read on from before is fenced by it, though its offsets are greater.
        check(&[(0, 3)], offset_ranges(&[(0, RangeStart::Recorded(9), 12)]), fenced());
        let after = anew(None, &[(0, 3)]).applied_to(&base(&[(0, 9), (7, 1)]));
        assert_eq!(after, base(&[(0, 3)]), "nothing of before is left");
    }

    #[test]
    fn a_move_backwards_is_refused() {
        assert!(matches!(
            OffsetRanges::default().add(&source(), 0, RangeStart::Recorded(5), 4),
            Err(LakehouseError::BackwardMove { from: 5, to: 4, .. })
        ));
    }

    proptest! {
        /// After a commit of moves the same moves are never committed again, and a writer that starts there may go on.
        #[test]
        fn no_move_is_made_twice(starts in prop::collection::btree_map(0..8i32, (0..100i64, 1..50i64), 1..8)) {
            let recorded: Vec<_> = starts.iter().map(|(p, (start, _))| (*p, *start)).collect();
            let mine: Vec<_> = starts.iter().map(|(p, (start, n))| (*p, RangeStart::Recorded(*start), start + n)).collect();
            let after = offset_ranges(&mine).applied_to(&base(&recorded));
            prop_assert_eq!(Fence::decide(&base(&recorded), &offset_ranges(&mine)), Fence::Commit);
            prop_assert_eq!(Fence::decide(&after, &offset_ranges(&mine)), Fence::AlreadyMine);
        }

        /// Of two writers with the same start at most one commits, unless both end alike.
        #[test]
        fn two_writers_never_both_commit(start in 0..100i64, a in 1..50i64, b in 1..50i64) {
            let writer = |n: i64| offset_ranges(&[(0, RangeStart::Recorded(start), start + n)]);
            let after = writer(a).applied_to(&base(&[(0, start)]));
            let verdict = Fence::decide(&after, &writer(b));
            prop_assert_eq!(verdict == Fence::AlreadyMine, a == b);
            prop_assert!(verdict != Fence::Commit);
        }
    }
}
