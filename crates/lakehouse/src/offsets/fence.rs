//! Fencing: a writer's offset ranges against what a base records.
//!
//! In: the ranges of a commit, the base's recorded offsets and pending dead letters. Out: commit, done already, or
//! fenced; the summary entries of the snapshot.
//! Must never happen: a range committed on a base that does not record its start; pending dead letters of another
//! writer overwritten.

use std::collections::BTreeMap;

use super::{Recorded, SourceOffsets, TopicSource};
use crate::error::{LakehouseError, Result};
use crate::summary;

/// Where a writer started in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeStart {
    /// At the offset that the table recorded.
    Recorded(i64),
    /// The table recorded nothing for this partition; reading began at this offset.
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

/// One partition's range: the records of `[start, next)` are in this commit, as rows or as dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// Where the writer started.
    pub start: RangeStart,
    /// The next offset after this commit; never below the start.
    pub next: i64,
}

/// The offset ranges that one commit carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetRanges {
    kind: Kind,
    /// The pending dead letters of which the writer knows that the dead-letter table has them, as the summary holds them.
    settled: Option<String>,
    /// Some of the records are dead letters.
    dead_letters: bool,
    /// Up to where the dead-letter table has dead letters of these ranges already.
    stored_dead_letters: SourceOffsets,
    /// A new start does not require the dead letters that came before it.
    forgets_dead_letters: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Partitions go on from where they were.
    Advance(BTreeMap<(TopicSource, i32), OffsetRange>),
    /// The table starts over at these offsets, whatever was recorded before.
    Rebase { seen: Option<SourceOffsets>, offsets: SourceOffsets },
}

impl Default for Kind {
    fn default() -> Self {
        Self::Advance(BTreeMap::new())
    }
}

impl OffsetRanges {
    /// A new start: these offsets replace all that the table records. `seen` is what it recorded when the new start was
    /// decided; `None` says that it was unknown (`LakehouseError::OffsetsLost`).
    pub fn rebase(seen: Option<SourceOffsets>, offsets: SourceOffsets) -> Self {
        Self { kind: Kind::Rebase { seen, offsets }, ..Self::default() }
    }

    /// Names the pending dead letters that this writer has settled, as the summary holds them. A base with other ones
    /// fences the commit: it would overwrite them, and nothing else refers to their files.
    #[must_use]
    pub fn with_settled(mut self, pending: Option<String>) -> Self {
        self.settled = pending;
        self
    }

    /// Some of the records are dead letters: this snapshot and later ones record how far the dead-letter table must be.
    #[must_use]
    pub fn with_dead_letters(mut self) -> Self {
        self.dead_letters = true;
        self
    }

    /// The dead-letter table has those before these offsets already, from before a rollback of its table: this snapshot
    /// and later ones record that it must.
    #[must_use]
    pub fn with_stored_dead_letters(mut self, offsets: SourceOffsets) -> Self {
        self.stored_dead_letters = offsets;
        self
    }

    /// A new start that accepts the loss of dead letters that came before it.
    #[must_use]
    pub fn forgetting_dead_letters(mut self) -> Self {
        self.forgets_dead_letters = true;
        self
    }

    /// Adds a partition's range; `LakehouseError::BackwardMove` if it goes backwards. To a new start it adds the partition's.
    pub fn add(&mut self, source: &TopicSource, partition: i32, start: RangeStart, next: i64) -> Result<()> {
        if next < start.offset() {
            let partition = format!("partition {partition} of {source}");
            return Err(LakehouseError::BackwardMove { partition, from: start.offset(), to: next });
        }
        match &mut self.kind {
            Kind::Advance(ranges) => {
                ranges.insert((source.clone(), partition), OffsetRange { start, next });
            }
            Kind::Rebase { offsets, .. } => offsets.set(source, partition, next),
        }
        Ok(())
    }

    /// All ranges, in order; a new start is none.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicSource, i32, OffsetRange)> {
        let offset_ranges = if let Kind::Advance(offset_ranges) = &self.kind { Some(offset_ranges) } else { None };
        offset_ranges.into_iter().flatten().map(|((source, partition), m)| (source, *partition, *m))
    }

    /// No partition carried, and no new start.
    pub fn is_empty(&self) -> bool {
        matches!(&self.kind, Kind::Advance(offset_ranges) if offset_ranges.is_empty())
    }

    /// A new start for a table whose offsets are lost.
    pub(crate) fn recover(&self) -> bool {
        matches!(&self.kind, Kind::Rebase { seen: None, .. })
    }

    /// The base's offsets after these ranges.
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

    /// The ranges as text for `mesh.ranges`: `[[cluster, topic, partition, from, next], …]`.
    pub fn ranges(&self) -> String {
        let ranges: Vec<_> = self.iter().map(|(s, p, m)| (&s.cluster, &s.topic, p, m.start.offset(), m.next)).collect();
        // Strings and integers always serialise.
        serde_json::to_string(&ranges).unwrap_or_default()
    }

    /// The summary entries of the snapshot that carries these ranges.
    pub(crate) fn entries(&self, base: &Recorded) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::from([
            (summary::OFFSETS.to_owned(), self.applied_to(&base.offsets).encode()),
            (summary::RANGES.to_owned(), self.ranges()),
        ]);
        if let Some(text) = self.dead_letter_offsets(base) {
            entries.insert(summary::DEAD_LETTER_OFFSETS.to_owned(), text);
        }
        entries
    }

    /// Up to where the dead-letter table must have the dead letters, after this snapshot. Where a new start goes back, those
    /// from there on are required again once they are committed.
    fn dead_letter_offsets(&self, base: &Recorded) -> Option<String> {
        let known = base.summary.get(summary::DEAD_LETTER_OFFSETS);
        // A text that cannot be read stays: its reader reports it.
        let offsets = match known.map(|text| SourceOffsets::decode(text)) {
            None => SourceOffsets::default(),
            Some(Ok(offsets)) => offsets,
            Some(Err(_)) => return known.cloned(),
        };
        match &self.kind {
            Kind::Rebase { .. } if self.forgets_dead_letters => None,
            Kind::Rebase { offsets: start, .. } => {
                let mut lowered = SourceOffsets::default();
                for (source, partition, offset) in offsets.iter() {
                    let start = start.get(&source, partition).unwrap_or(offset);
                    lowered.set(&source, partition, offset.min(start));
                }
                known.map(|_| lowered.encode())
            }
            Kind::Advance(_) if self.dead_letters => Some(self.applied_to(&offsets).encode()),
            Kind::Advance(_) if self.stored_dead_letters.iter().next().is_some() => {
                let mut raised = offsets;
                for (source, partition, stored) in self.stored_dead_letters.iter() {
                    let before = raised.get(&source, partition).unwrap_or(stored);
                    raised.set(&source, partition, before.max(stored));
                }
                Some(raised.encode())
            }
            Kind::Advance(_) => known.cloned(),
        }
    }
}

/// What a base says to a writer's ranges.
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
    /// Decides from what the base records. A partition whose range is empty does not tell whether the commit was made,
    /// but its start must stand like any other's.
    pub fn decide(base: &Recorded, mine: &OffsetRanges) -> Self {
        let decided = match &mine.kind {
            Kind::Advance(ranges) => Self::advance(&base.offsets, ranges),
            Kind::Rebase { seen, offsets } => Self::rebase(&base.offsets, seen.as_ref(), offsets),
        };
        match (decided, base.summary.get(summary::DEAD_LETTERS_PENDING)) {
            (Self::Commit, pending @ Some(_)) if pending != mine.settled.as_ref() => Self::Fenced {
                partition: "its dead letters".to_owned(),
                mine: "none pending".to_owned(),
                found: "pending ones of another commit".to_owned(),
            },
            (decided, _) => decided,
        }
    }

    fn advance(base: &SourceOffsets, ranges: &BTreeMap<(TopicSource, i32), OffsetRange>) -> Self {
        let recorded = |(source, partition): &(TopicSource, i32)| base.get(source, *partition);
        let Some((place, range)) = ranges.iter().find(|(place, range)| recorded(place) != range.start.expected())
        else {
            return Self::Commit;
        };
        if ranges.iter().all(|(place, range)| recorded(place) == Some(range.next)) {
            return Self::AlreadyMine;
        }
        let shown = |offset: Option<i64>| offset.map_or_else(|| "nothing".to_owned(), |o| format!("offset {o}"));
        Self::Fenced {
            partition: format!("partition {} of {}", place.1, place.0),
            mine: shown(range.start.expected()),
            found: shown(recorded(place)),
        }
    }

    /// A new start was decided on what the base recorded then: all of it must stand.
    fn rebase(base: &SourceOffsets, seen: Option<&SourceOffsets>, offsets: &SourceOffsets) -> Self {
        match seen {
            Some(seen) if seen == base => Self::Commit,
            _ if offsets == base => Self::AlreadyMine,
            _ => Self::Fenced {
                partition: "all partitions".to_owned(),
                mine: seen.map_or_else(|| "offsets that were lost".to_owned(), SourceOffsets::encode),
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

    fn offsets(recorded: &[(i32, i64)]) -> SourceOffsets {
        let mut offsets = SourceOffsets::default();
        recorded.iter().for_each(|(p, o)| offsets.set(&source(), *p, *o));
        offsets
    }

    fn base(recorded: &[(i32, i64)]) -> Recorded {
        Recorded { offsets: offsets(recorded), ..Recorded::default() }
    }

    fn pending(recorded: &[(i32, i64)], text: &str) -> Recorded {
        let summary = BTreeMap::from([(summary::DEAD_LETTERS_PENDING.to_owned(), text.to_owned())]);
        Recorded { summary, ..base(recorded) }
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
    fn pending_dead_letters_of_another_commit_fence() {
        let mine = |settled: Option<&str>| {
            offset_ranges(&[(0, RangeStart::Recorded(5), 9)]).with_settled(settled.map(str::to_owned))
        };
        let fenced = |base: &Recorded, mine: &OffsetRanges| matches!(Fence::decide(base, mine), Fence::Fenced { .. });
        assert!(fenced(&pending(&[(0, 5)], "theirs"), &mine(None)));
        assert!(fenced(&pending(&[(0, 5)], "theirs"), &mine(Some("mine"))));
        assert_eq!(Fence::decide(&pending(&[(0, 5)], "mine"), &mine(Some("mine"))), Fence::Commit);
        assert_eq!(Fence::decide(&base(&[(0, 5)]), &mine(Some("mine"))), Fence::Commit, "nothing would be overwritten");
        assert_eq!(Fence::decide(&pending(&[(0, 9)], "theirs"), &mine(None)), Fence::AlreadyMine);
        let start = OffsetRanges::rebase(Some(offsets(&[(0, 5)])), offsets(&[(0, 7)]));
        assert!(fenced(&pending(&[(0, 5)], "theirs"), &start), "a new start drops them as well");
    }

    #[test]
    fn how_far_the_dead_letters_must_be_outlives_commits_without_any() {
        let text = |ranges: &OffsetRanges, base: &Recorded| ranges.entries(base).remove(summary::DEAD_LETTER_OFFSETS);
        let with = offset_ranges(&[(0, RangeStart::Recorded(5), 9)]).with_dead_letters();
        assert_eq!(text(&with, &base(&[(0, 5)])), Some(offsets(&[(0, 9)]).encode()));
        let mut after = base(&[(0, 9)]);
        after.summary.insert(summary::DEAD_LETTER_OFFSETS.to_owned(), offsets(&[(0, 9), (1, 3)]).encode());
        let without = offset_ranges(&[(0, RangeStart::Recorded(9), 12)]);
        assert_eq!(text(&without, &after), Some(offsets(&[(0, 9), (1, 3)]).encode()));
        assert_eq!(text(&without.with_dead_letters(), &after), Some(offsets(&[(0, 12), (1, 3)]).encode()));
        let start = || OffsetRanges::rebase(None, offsets(&[(0, 1)]));
        assert_eq!(text(&start(), &after), Some(offsets(&[(0, 1), (1, 3)]).encode()), "what is read again comes again");
        assert_eq!(text(&start().forgetting_dead_letters(), &after), None);
    }

    #[test]
    fn a_new_start_stands_on_all_that_was_seen() {
        let start_over =
            |seen: Option<&[(i32, i64)]>, to: &[(i32, i64)]| OffsetRanges::rebase(seen.map(offsets), offsets(to));
        let check = |recorded: &[(i32, i64)], mine: OffsetRanges, expected: Fence| {
            let found = Fence::decide(&base(recorded), &mine);
            assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&expected), "{recorded:?} {mine:?}");
        };
        let fenced = || Fence::Fenced { partition: String::new(), mine: String::new(), found: String::new() };
        check(&[(0, 9)], start_over(Some(&[(0, 9)]), &[(0, 3), (1, 4)]), Fence::Commit);
        check(&[], start_over(Some(&[]), &[(0, 3)]), Fence::Commit);
        check(&[(0, 3)], start_over(Some(&[(0, 9)]), &[(0, 3)]), Fence::AlreadyMine);
        check(&[(0, 9), (1, 1)], start_over(Some(&[(0, 9)]), &[(0, 3)]), fenced());
        check(&[(0, 9)], start_over(None, &[(0, 3)]), fenced());
        // And who read on from before is fenced by it, though its offsets are greater.
        check(&[(0, 3)], offset_ranges(&[(0, RangeStart::Recorded(9), 12)]), fenced());
        let after = start_over(None, &[(0, 3)]).applied_to(&offsets(&[(0, 9), (7, 1)]));
        assert_eq!(after, offsets(&[(0, 3)]), "nothing of before is left");
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
            let after = offset_ranges(&mine).applied_to(&offsets(&recorded));
            let after = Recorded { offsets: after, ..Recorded::default() };
            prop_assert_eq!(Fence::decide(&base(&recorded), &offset_ranges(&mine)), Fence::Commit);
            prop_assert_eq!(Fence::decide(&after, &offset_ranges(&mine)), Fence::AlreadyMine);
        }

        /// Of two writers with the same start at most one commits, unless both end alike.
        #[test]
        fn two_writers_never_both_commit(start in 0..100i64, a in 1..50i64, b in 1..50i64) {
            let writer = |n: i64| offset_ranges(&[(0, RangeStart::Recorded(start), start + n)]);
            let after = writer(a).applied_to(&offsets(&[(0, start)]));
            let after = Recorded { offsets: after, ..Recorded::default() };
            let verdict = Fence::decide(&after, &writer(b));
            prop_assert_eq!(verdict == Fence::AlreadyMine, a == b);
            prop_assert!(verdict != Fence::Commit);
        }
    }
}
