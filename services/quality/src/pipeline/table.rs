//! What is kept of each table between two judgements, and when the next is due. Pure.
//! Never: a table that moved and is forgotten.

use std::collections::BTreeMap;
use std::time::Instant;

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
    pub(crate) not_before: Instant,
    /// Checks of the whole table that wait for their interval to end.
    pub(crate) wide_next: BTreeMap<String, Instant>,
    pub(crate) tally: Option<Tally>,
    /// Sequence number of the head that was judged last.
    pub(crate) judged_sequence: Option<i64>,
    /// When rows were last committed; meaningful once `loaded`.
    pub(crate) last_commit: Option<DateTime<Utc>>,
    pub(crate) loaded: bool,
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
            wide_next: BTreeMap::new(),
            tally: None,
            judged_sequence: None,
            last_commit: None,
            loaded: false,
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

    /// Whether there is something to do.
    pub(crate) fn is_due(&self, at: Instant, now: DateTime<Utc>) -> bool {
        let moved = self.dirty && at >= self.not_before;
        let wide = self.loaded && self.wide_next.values().any(|next| at >= *next);
        moved || wide || (self.loaded && self.freshness(now).is_some())
    }

    /// The check of freshness and what the clock says of it, if that differs from the last verdict.
    pub(crate) fn freshness(&self, now: DateTime<Utc>) -> Option<(&Check, Finding)> {
        let (check, latency) = self.subject.latency()?;
        let finding = freshness::judge(latency, self.last_commit, self.subject.admitted_at, now);
        let last = self.memory.verdicts.get(&check.id);
        let same = last
            .is_some_and(|said| said.verdict.outcome() == finding.outcome && said.verdict.expected == check.expected);
        (!same).then_some((check, finding))
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

    /// Checks that look at the table and have not said this under this revision: for a table that cannot be looked at.
    pub(crate) fn not_told(&self, finding: &Finding) -> Vec<Check> {
        let told = |check: &Check| {
            self.memory.verdicts.get(&check.id).is_some_and(|said| {
                let verdict = &said.verdict;
                (verdict.outcome(), &verdict.detail, verdict.contract_revision)
                    == (finding.outcome, &finding.detail, self.subject.revision)
            })
        };
        self.looks_at_table().filter(|check| !told(check)).cloned().collect()
    }

    fn looks_at_table(&self) -> impl Iterator<Item = &Check> {
        let platform = self.subject.is_platform;
        self.subject
            .checks
            .iter()
            .filter(move |check| !platform && !matches!(check.kind, CheckKind::Latency(_) | CheckKind::Impossible(_)))
    }
}
