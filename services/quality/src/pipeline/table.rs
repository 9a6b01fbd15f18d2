//! What is kept of each table between two judgements, and when the next is due. Pure.
//! Never: a table that moved and is forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mesh_proto::v1::Outcome;

use super::checks::{Check, CheckKind, Subject};
use super::freshness;
use super::judge::Finding;
use super::memory::Memory;

/// Counts of row checks up to a snapshot, so that the next judgement reads only what was added since.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tally {
    pub(crate) revision: i64,
    pub(crate) snapshot_id: i64,
    pub(crate) counts: BTreeMap<String, u64>,
}

/// How often in a row a table may fail to load before its checks say so: a lock passes.
const OUT_OF_SIGHT: u32 = 3;
/// The first pause after a failure; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// One table of an active contract.
#[derive(Debug)]
pub(crate) struct TableState {
    pub(crate) subject: Subject,
    pub(crate) memory: Memory,
    /// It moved (or may have) since it was last loaded.
    pub(crate) dirty: bool,
    /// The contract is gone: what is open is to be closed, and then this.
    pub(crate) retired: bool,
    /// That was done.
    pub(crate) closed: bool,
    /// No look before this.
    pub(crate) not_before: Instant,
    /// How often in a row it could not be loaded.
    unloaded: u32,
    /// How often in a row some of it could not be read.
    unread: u32,
    /// Checks of the whole table that wait for their interval to end.
    pub(crate) wide_next: BTreeMap<String, Instant>,
    pub(crate) tally: Option<Tally>,
    /// Sequence number of the head that was judged last.
    pub(crate) judged_sequence: Option<i64>,
    /// When rows were last committed; meaningful once `loaded`.
    pub(crate) last_commit: Option<DateTime<Utc>>,
    pub(crate) loaded: bool,
    /// The catalog does not have it.
    gone: bool,
}

impl TableState {
    pub(crate) fn new(subject: Subject, memory: Memory, now: Instant) -> Self {
        Self {
            subject,
            memory,
            dirty: true,
            retired: false,
            closed: false,
            not_before: now,
            unloaded: 0,
            unread: 0,
            wide_next: BTreeMap::new(),
            tally: None,
            judged_sequence: None,
            last_commit: None,
            loaded: false,
            gone: false,
        }
    }

    /// The contract has another revision: everything is judged anew.
    pub(crate) fn replace(&mut self, subject: Subject, now: Instant) {
        (self.subject, self.dirty, self.not_before, self.tally) = (subject, true, now, None);
        (self.retired, self.closed) = (false, false);
        self.wide_next.clear();
    }

    /// The contract is gone: nothing is asked any more.
    pub(crate) fn retire(&mut self) {
        (self.retired, self.closed, self.dirty) = (true, false, true);
        self.subject.checks.clear();
        self.wide_next.clear();
    }

    /// Takes note of a change; one that was judged already is no news.
    pub(crate) fn notice(&mut self, sequence: Option<i64>, committed_at: Option<DateTime<Utc>>) {
        if self.subject.is_platform {
            self.last_commit = self.last_commit.max(committed_at);
            return;
        }
        let known = matches!((sequence, self.judged_sequence), (Some(sequence), Some(judged)) if sequence <= judged);
        self.dirty |= !known;
    }

    /// It was loaded, as this table.
    pub(crate) fn seen(&mut self, uuid: Option<String>, not_before: Instant) {
        (self.dirty, self.loaded, self.unloaded, self.not_before) = (false, true, 0, not_before);
        self.gone = uuid.is_none();
        if uuid.as_ref() != Some(&self.subject.table.uuid) {
            self.without_head();
            self.last_commit = None;
        }
        self.subject.table.uuid = uuid.unwrap_or_default();
    }

    /// There is no snapshot to look at: what was known of one is none of the next one's.
    pub(crate) fn without_head(&mut self) {
        (self.judged_sequence, self.tally) = (None, None);
        self.wide_next.clear();
    }

    /// It could not be loaded; true once that is to be said.
    pub(crate) fn not_seen(&mut self, now: Instant) -> bool {
        self.unloaded += 1;
        (self.dirty, self.not_before) = (true, now + pause(self.unloaded));
        self.is_out_of_sight()
    }

    fn is_out_of_sight(&self) -> bool {
        self.unloaded >= OUT_OF_SIGHT
    }

    /// It was read for all checks that were due, or not: then it is looked at again, later each time.
    pub(crate) fn read(&mut self, all: bool, now: Instant) {
        self.unread = if all { 0 } else { self.unread + 1 };
        if !all {
            (self.dirty, self.not_before) = (true, now + pause(self.unread));
        }
    }

    /// Whether there is something to do.
    pub(crate) fn is_due(&self, at: Instant, now: DateTime<Utc>) -> bool {
        let wide = self.loaded && self.wide_next.values().any(|next| at >= *next);
        (at >= self.not_before && (self.dirty || wide)) || self.freshness(now).is_some()
    }

    /// The check of freshness and what the clock says of it, if that differs from the last verdict. Of a table that
    /// is gone, or that nobody sees, the clock knows nothing.
    pub(crate) fn freshness(&self, now: DateTime<Utc>) -> Option<(&Check, Finding)> {
        if !self.loaded || self.gone || self.is_out_of_sight() {
            return None;
        }
        let (check, latency) = self.subject.latency()?;
        let finding = freshness::judge(latency, self.last_commit, self.subject.admitted_at, now);
        let last = self.memory.verdicts.get(&check.id).map(|said| &said.verdict);
        let news = last.is_none_or(|last| last.outcome() != finding.outcome || last.expected != check.expected);
        news.then_some((check, finding))
    }

    /// Checks that look at the table and have no verdict on this snapshot under this revision.
    pub(crate) fn unjudged(&self, snapshot_id: i64) -> Vec<Check> {
        let judged = |check: &Check| {
            self.memory.verdicts.get(&check.id).is_some_and(|said| {
                said.verdict.to_snapshot_id == Some(snapshot_id)
                    && said.verdict.contract_revision == self.subject.revision
            })
        };
        self.looks_at_table().filter(|check| !judged(check)).cloned().collect()
    }

    /// Checks that cannot be run whatever the table holds, and have not said so under this revision.
    pub(crate) fn unsaid(&self) -> Vec<(Check, String)> {
        let said = |check: &Check, why: &String| {
            self.memory.verdicts.get(&check.id).is_some_and(|said| {
                let verdict = &said.verdict;
                verdict.outcome() == Outcome::Error
                    && verdict.contract_revision == self.subject.revision
                    && verdict.detail == *why
            })
        };
        let impossible = self.subject.checks.iter().filter_map(|check| match &check.kind {
            CheckKind::Impossible(why) if !said(check, why) => Some((check.clone(), why.clone())),
            _ => None,
        });
        impossible.collect()
    }

    /// Whether the check's last verdict says this already, under this revision.
    pub(crate) fn says(&self, check: &Check, finding: &Finding) -> bool {
        self.memory.verdicts.get(&check.id).is_some_and(|said| {
            let verdict = &said.verdict;
            (verdict.outcome(), &verdict.detail, verdict.contract_revision)
                == (finding.outcome, &finding.detail, self.subject.revision)
        })
    }

    /// Checks that nothing can be said of without the table: those that look at its rows, and freshness.
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
    use mesh_proto::v1::ActiveContract;

    /// A table with a duplicates check whose interval was over at `now`.
    fn overdue(now: Instant) -> TableState {
        let active = ActiveContract { product: "t.t".into(), major: 1, ..ActiveContract::default() };
        let mut state = TableState::new(Subject::of(&active), Memory::default(), now);
        state.wide_next.insert("t.t/v1/unique.a".to_owned(), now);
        state.loaded = true;
        state
    }

    fn due(state: &TableState, at: Instant) -> bool {
        state.is_due(at, Utc::now())
    }

    #[test]
    fn a_table_that_is_gone_is_not_looked_at_again_and_again() {
        let now = Instant::now();
        let mut state = overdue(now);
        assert!(due(&state, now));
        state.seen(None, now + Duration::from_secs(1));
        assert!(!due(&state, now + Duration::from_secs(60)));
    }

    #[test]
    fn another_table_of_the_name_begins_anew() {
        let now = Instant::now();
        let mut state = overdue(now);
        state.seen(Some("one".into()), now);
        state.judged_sequence = Some(9);
        state.notice(Some(9), None);
        assert!(!due(&state, now), "what was judged already is no news");
        state.seen(Some("two".into()), now);
        state.notice(Some(1), None);
        assert!(due(&state, now), "the first snapshot of the second table is");
    }

    #[test]
    fn what_fails_is_tried_again_later_each_time_and_said_in_the_end() {
        let now = Instant::now();
        let mut state = overdue(now);
        let told: Vec<bool> = (0..3).map(|_| state.not_seen(now)).collect();
        assert_eq!(told, [false, false, true]);
        assert_eq!(
            (due(&state, now + FIRST * 4 - Duration::from_secs(1)), due(&state, now + FIRST * 4)),
            (false, true)
        );
        (0..40).for_each(|_| _ = state.not_seen(now));
        assert!(due(&state, now + LONGEST));
        state.seen(Some("u".into()), now);
        assert!(!state.not_seen(now), "one success forgets the failures");
    }

    #[test]
    fn what_could_not_be_read_is_looked_at_again() {
        let now = Instant::now();
        let mut state = overdue(now);
        state.seen(Some("u".into()), now);
        state.wide_next.clear();
        assert!(!due(&state, now + LONGEST));
        state.read(false, now);
        assert_eq!((due(&state, now), due(&state, now + FIRST)), (false, true));
        state.seen(Some("u".into()), now);
        state.read(true, now);
        assert!(!due(&state, now + LONGEST));
    }
}
