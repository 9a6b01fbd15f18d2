//! What is kept of each table between two judgements, and when the next is due. Pure.
//! Never: a table that moved and is forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mesh_proto::v1::Outcome;

use super::checks::{Check, CheckKind, Subject};
use super::freshness::{self, LastCommit};
use super::judge::Finding;
use super::memory::Memory;
use super::totals::Totals;

/// Counts of row checks up to a snapshot, so that the next judgement reads only what was added since.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tally {
    pub(crate) revision: i64,
    pub(crate) snapshot_id: i64,
    pub(crate) counts: BTreeMap<String, u64>,
}

/// How often in a row a table may fail to load before its verdicts are errors: a lock passes.
const OUT_OF_SIGHT: u32 = 3;
/// The first pause after a failure; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// What is to be done with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It was judged as it is: something must happen to it first.
    Judged,
    /// It changed, may have changed, or could not be judged.
    Due,
    /// Its contract is retired: open incidents are to be withdrawn.
    Retired,
    /// That was done.
    Closed,
}

/// What is known of the table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Nothing yet.
    Unloaded,
    /// It is the contract's table.
    Loaded,
    /// The catalog has no such table, or another one of that name.
    Missing,
}

/// One table of an active contract.
#[derive(Debug)]
pub(crate) struct TableState {
    pub(crate) subject: Subject,
    pub(crate) memory: Memory,
    stage: Stage,
    sight: Sight,
    /// No look before this.
    pub(crate) not_before: Instant,
    /// How often in a row it could not be loaded.
    unloaded: u32,
    /// How often in a row some of it could not be read.
    unread: u32,
    /// Checks of the whole table that wait for their interval to end.
    pub(crate) wide_next: BTreeMap<String, Instant>,
    pub(crate) tally: Option<Tally>,
    pub(crate) totals: Option<Totals>,
    /// Sequence number of the head that was judged last.
    pub(crate) judged_sequence: Option<i64>,
    /// The last commit of rows; meaningful once the table was loaded.
    pub(crate) last_commit: Option<LastCommit>,
}

impl TableState {
    pub(crate) fn new(subject: Subject, memory: Memory, now: Instant) -> Self {
        Self {
            subject,
            memory,
            stage: Stage::Due,
            sight: Sight::Unloaded,
            not_before: now,
            unloaded: 0,
            unread: 0,
            wide_next: BTreeMap::new(),
            tally: None,
            totals: None,
            judged_sequence: None,
            last_commit: None,
        }
    }

    /// What is to be done.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// The contract has another revision: everything is judged again.
    pub(crate) fn replace(&mut self, subject: Subject, now: Instant) {
        if subject.table.uuid != self.subject.table.uuid {
            self.without_head();
            self.last_commit = None;
        }
        self.subject = subject;
        self.stage = Stage::Due;
        self.not_before = now;
        self.tally = None;
        self.totals = None;
        self.wide_next.clear();
    }

    /// The contract is retired: nothing is checked any more.
    pub(crate) fn retire(&mut self) {
        self.stage = Stage::Retired;
        self.subject.checks.clear();
        self.wide_next.clear();
    }

    /// A round has ended. What was retired before it is closed.
    pub(crate) fn end_round(&mut self) {
        if self.stage == Stage::Retired {
            self.stage = Stage::Closed;
        }
    }

    /// Takes note of a change; one that was judged already is no news.
    pub(crate) fn notice(&mut self, sequence: Option<i64>, committed_at: Option<DateTime<Utc>>) {
        if self.subject.is_platform {
            let noticed = committed_at.map(|claimed| LastCommit::noticed(claimed, Utc::now()));
            self.last_commit = self.last_commit.max(noticed);
            return;
        }
        let known = matches!((sequence, self.judged_sequence), (Some(sequence), Some(judged)) if sequence <= judged);
        if !known && self.stage == Stage::Judged {
            self.stage = Stage::Due;
        }
    }

    /// The table was loaded, and is the contract's.
    pub(crate) fn loaded(&mut self, not_before: Instant) {
        self.looked(Sight::Loaded, not_before);
    }

    /// The catalog has no table of the name, or another than the contract's.
    pub(crate) fn missing(&mut self, not_before: Instant) {
        self.looked(Sight::Missing, not_before);
        self.without_head();
        self.last_commit = None;
    }

    fn looked(&mut self, sight: Sight, not_before: Instant) {
        self.sight = sight;
        self.stage = Stage::Judged;
        self.unloaded = 0;
        self.not_before = not_before;
    }

    /// There is no snapshot to look at: what was known of one is none of the next one's.
    pub(crate) fn without_head(&mut self) {
        self.judged_sequence = None;
        self.tally = None;
        self.totals = None;
        self.wide_next.clear();
    }

    /// It could not be loaded; true once verdicts are to say so.
    pub(crate) fn not_loaded(&mut self, now: Instant) -> bool {
        self.unloaded += 1;
        self.try_again(now + pause(self.unloaded));
        self.is_out_of_sight()
    }

    fn try_again(&mut self, not_before: Instant) {
        self.stage = Stage::Due;
        self.not_before = not_before;
    }

    fn is_out_of_sight(&self) -> bool {
        self.unloaded >= OUT_OF_SIGHT
    }

    /// It was read for all checks that were due, or not: then it is looked at again, later each time.
    pub(crate) fn read(&mut self, all: bool, now: Instant) {
        self.unread = if all { 0 } else { self.unread + 1 };
        if !all {
            self.try_again(now + pause(self.unread));
        }
    }

    /// Whether there is something to do.
    pub(crate) fn is_due(&self, at: Instant, now: DateTime<Utc>) -> bool {
        let wide = self.sight != Sight::Unloaded && self.wide_next.values().any(|next| at >= *next);
        let look = match self.stage {
            Stage::Retired => true,
            Stage::Due => at >= self.not_before,
            Stage::Judged => at >= self.not_before && wide,
            Stage::Closed => false,
        };
        look || self.freshness(now).is_some()
    }

    /// The check of freshness and what the clock says of it, if that differs from the last verdict. Of a table that
    /// is missing, or cannot be loaded, the clock knows nothing.
    pub(crate) fn freshness(&self, now: DateTime<Utc>) -> Option<(&Check, Finding)> {
        if self.sight != Sight::Loaded || self.is_out_of_sight() {
            return None;
        }
        let (check, latency) = self.subject.latency()?;
        let finding = freshness::judge(latency, self.last_commit.as_ref(), self.subject.admitted_at, now);
        let last = self.memory.verdicts.get(&check.id).map(|last| &last.verdict);
        let news = last.is_none_or(|last| last.outcome() != finding.outcome || last.expected != check.expected);
        news.then_some((check, finding))
    }

    /// Checks that look at the table and have no verdict on this snapshot under this revision.
    pub(crate) fn unjudged(&self, snapshot_id: i64) -> Vec<Check> {
        let judged = |check: &Check| {
            self.memory.verdicts.get(&check.id).is_some_and(|last| {
                last.verdict.to_snapshot_id == Some(snapshot_id)
                    && last.verdict.contract_revision == self.subject.revision
            })
        };
        self.looks_at_table().filter(|check| !judged(check)).cloned().collect()
    }

    /// Checks that cannot be run whatever the table holds, and have no verdict that says so under this revision.
    pub(crate) fn impossible_checks(&self) -> Vec<(Check, String)> {
        let is_reported = |check: &Check, why: &String| {
            self.memory.verdicts.get(&check.id).is_some_and(|last| {
                let verdict = &last.verdict;
                verdict.outcome() == Outcome::Error
                    && verdict.contract_revision == self.subject.revision
                    && verdict.detail == *why
            })
        };
        let impossible = self.subject.checks.iter().filter_map(|check| match &check.kind {
            CheckKind::Impossible(why) if !is_reported(check, why) => Some((check.clone(), why.clone())),
            _ => None,
        });
        impossible.collect()
    }

    /// Whether the check's last verdict says this already, under this revision.
    pub(crate) fn says(&self, check: &Check, finding: &Finding) -> bool {
        self.memory.verdicts.get(&check.id).is_some_and(|last| {
            let verdict = &last.verdict;
            (verdict.outcome(), &verdict.detail, verdict.contract_revision)
                == (finding.outcome, &finding.detail, self.subject.revision)
        })
    }

    /// Checks that cannot be judged without the table: those that look at its rows, and freshness.
    pub(crate) fn about_the_table(&self) -> impl Iterator<Item = &Check> {
        self.looks_at_table().chain(self.subject.latency().map(|(check, _)| check))
    }

    /// Checks that look at the table's rows.
    pub(crate) fn looks_at_table(&self) -> impl Iterator<Item = &Check> {
        let platform = self.subject.is_platform;
        self.subject
            .checks
            .iter()
            .filter(move |check| !platform && !matches!(check.kind, CheckKind::Latency(_) | CheckKind::Impossible(_)))
    }
}

fn pause(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mesh_proto::v1::{ActiveContract, TableRef};

    /// A table with a duplicates check whose interval was over at `now`.
    fn overdue(now: Instant) -> TableState {
        let active = ActiveContract { product: "t.t".into(), major: 1, ..ActiveContract::default() };
        let mut state = TableState::new(Subject::of(&active), Memory::default(), now);
        state.wide_next.insert("t.t/v1/unique.a".to_owned(), now);
        state.sight = Sight::Loaded;
        state
    }

    fn due(state: &TableState, at: Instant) -> bool {
        state.is_due(at, Utc::now())
    }

    #[test]
    fn a_missing_table_is_looked_at_once() {
        let now = Instant::now();
        let mut state = overdue(now);
        assert!(due(&state, now));
        state.missing(now + Duration::from_secs(1));
        assert!(!due(&state, now + Duration::from_secs(60)));
    }

    #[test]
    fn the_next_contracts_table_is_judged_from_its_start() {
        let now = Instant::now();
        let mut state = overdue(now);
        state.wide_next.clear();
        state.loaded(now);
        state.judged_sequence = Some(9);
        state.notice(Some(9), None);
        assert!(!due(&state, now), "what was judged already is no news");
        let table = Some(TableRef { uuid: "another".into(), ..TableRef::default() });
        let active = ActiveContract { product: "t.t".into(), major: 1, table, ..ActiveContract::default() };
        state.replace(Subject::of(&active), now);
        state.loaded(now);
        state.notice(Some(1), None);
        assert!(due(&state, now), "the first snapshot of the second table is");
    }

    #[test]
    fn what_fails_is_tried_again_later_each_time_and_reported_in_the_end() {
        let now = Instant::now();
        let mut state = overdue(now);
        let reported: Vec<bool> = (0..3).map(|_| state.not_loaded(now)).collect();
        assert_eq!(reported, [false, false, true]);
        assert_eq!(
            (due(&state, now + FIRST * 4 - Duration::from_secs(1)), due(&state, now + FIRST * 4)),
            (false, true)
        );
        (0..40).for_each(|_| _ = state.not_loaded(now));
        assert!(due(&state, now + LONGEST));
        state.loaded(now);
        assert!(!state.not_loaded(now), "one success forgets the failures");
    }

    #[test]
    fn what_could_not_be_read_is_looked_at_again() {
        let now = Instant::now();
        let mut state = overdue(now);
        state.loaded(now);
        state.wide_next.clear();
        assert!(!due(&state, now + LONGEST));
        state.read(false, now);
        assert_eq!((due(&state, now), due(&state, now + FIRST)), (false, true));
        state.loaded(now);
        state.read(true, now);
        assert!(!due(&state, now + LONGEST));
    }
}
