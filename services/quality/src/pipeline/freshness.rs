//! Stage 4. In: the last commit and the clock. Out: whether the product is as fresh as promised. Pure.
//! The age counts from the commit, not from the events' own times: a table that was committed to is fresh. A commit time
//! in the future proves nothing: then the time counts at which the snapshot's files were written.
//! Never: a verdict where nothing changed (AT-REST); the caller compares with the last one.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use mesh_proto::v1::Outcome;

use super::judge::Finding;

/// How far a writer's clock may be ahead of ours.
const SKEW: TimeDelta = TimeDelta::minutes(1);

/// When rows were last committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LastCommit {
    /// From when its age counts.
    at: DateTime<Utc>,
    /// The snapshot's own time, where it cannot be true.
    claimed: Option<DateTime<Utc>>,
}

impl LastCommit {
    /// A commit whose snapshot has the time `claimed`, noticed at `now`.
    pub(crate) fn noticed(claimed: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        match is_future(claimed, now) {
            true => Self { at: now, claimed: Some(claimed) },
            false => Self { at: claimed, claimed: None },
        }
    }

    /// The same where the time at which its files were written can be looked up.
    pub(crate) fn written(self, at: DateTime<Utc>) -> Self {
        if self.claimed.is_some() { Self { at: at.min(self.at), ..self } } else { self }
    }

    /// Whether the snapshot's own time lies in the future, so that it proves nothing.
    pub(crate) fn is_from_the_future(&self) -> bool {
        self.claimed.is_some()
    }

    /// What a verdict adds about a time that cannot be true.
    fn note(&self) -> String {
        self.claimed.map_or_else(String::new, |claimed| {
            format!(
                " (the snapshot's own time, {}, lies in the future; the time its files were written counts)",
                show(claimed)
            )
        })
    }
}

fn is_future(claimed: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    claimed > now + SKEW
}

/// The verdict on freshness. A table without a commit has until its contract's admission plus the promise.
pub(crate) fn judge(
    latency: Duration,
    last_commit: Option<&LastCommit>,
    admitted_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Finding {
    let since = last_commit.map_or(admitted_at, |commit| commit.at);
    // A clock behind the writer's: the commit is as fresh as can be.
    let age = (now - since).to_std().unwrap_or_default();
    let (outcome, actual) = match (age > latency, last_commit) {
        (false, None) => return Finding::no_data("nothing was committed yet"),
        (true, None) => (Outcome::Fail, "nothing was committed since the contract was admitted".to_owned()),
        (false, Some(commit)) => (Outcome::Pass, format!("committed {} before{}", seconds(age), commit.note())),
        (true, Some(commit)) => (Outcome::Fail, format!("no commit since {}{}", show(commit.at), commit.note())),
    };
    Finding::found(outcome, actual)
}

fn show(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn seconds(age: Duration) -> String {
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(last_commit: Option<i64>, now: i64, outcome: Outcome, actual: &str) {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let commit = last_commit.map(|claimed| LastCommit::noticed(at(claimed), at(claimed)));
        let finding = judge(Duration::from_secs(60), commit.as_ref(), at(1_000), at(now));
        assert_eq!((finding.outcome, finding.actual.as_str()), (outcome, actual));
    }

    #[test]
    fn a_product_is_fresh_for_as_long_as_it_promises() {
        check(Some(2_000), 2_000, Outcome::Pass, "committed 0s before");
        check(Some(2_000), 2_060, Outcome::Pass, "committed 1m before");
        check(Some(2_000), 2_061, Outcome::Fail, "no commit since 1970-01-01T00:33:20Z");
        check(Some(2_000), 1_990, Outcome::Pass, "committed 0s before");
    }

    #[test]
    fn a_product_without_a_commit_has_until_its_promise_ends() {
        check(None, 1_060, Outcome::NoData, "");
        check(None, 1_061, Outcome::Fail, "nothing was committed since the contract was admitted");
    }

    /// Whatever time a snapshot claims, the product goes stale.
    #[test]
    fn a_commit_from_the_future_is_fresh_for_as_long_as_any_other() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let seen = 2_000;
        for ahead in [-3_600, -1, 0, 1, 59, 60, 61, 3_600, 86_400, 10_000_000_000] {
            for written in [1_000, 1_990, 2_000, 2_500] {
                let commit = LastCommit::noticed(at(seen + ahead), at(seen)).written(at(written));
                let judged = |now| judge(Duration::from_secs(300), Some(&commit), at(0), at(now));
                let end = seen + 300 + 60;
                assert_eq!(judged(end + 1).outcome, Outcome::Fail, "{ahead} ahead, written at {written}");
                assert_eq!(judged(end + 1).actual.contains("future"), ahead > 60, "{ahead}");
                if (-1..=60).contains(&ahead) || written >= 1_990 && ahead > 60 {
                    assert_eq!(judged(seen + 100).outcome, Outcome::Pass, "{ahead} ahead, written at {written}");
                }
            }
        }
    }
}
