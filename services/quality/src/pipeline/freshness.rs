//! Stage 4. In: the last commit and the clock. Out: whether the product is as fresh as promised. Pure.
//! The age counts from the commit, not from the events' own times: a table that was committed to is fresh.
//! Never: a verdict where nothing changed (AT-REST); the caller compares with the last one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mesh_proto::v1::Outcome;

use super::judge::Finding;

/// The verdict on freshness. A table without a commit has until its contract's admission plus the promise.
pub(crate) fn judge(
    latency: Duration,
    last_commit: Option<DateTime<Utc>>,
    admitted_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Finding {
    let since = last_commit.unwrap_or(admitted_at);
    // A clock behind the writer's: the commit is as fresh as can be.
    let age = (now - since).to_std().unwrap_or_default();
    let (outcome, actual) = match (age > latency, last_commit) {
        (false, None) => return Finding::no_data("nothing was committed yet"),
        (true, None) => (Outcome::Fail, "nothing was committed since the contract was admitted".to_owned()),
        (false, Some(_)) => (Outcome::Pass, format!("committed {} before", seconds(age))),
        (true, Some(at)) => {
            (Outcome::Fail, format!("no commit since {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)))
        }
    };
    Finding::found(outcome, actual)
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
        let finding = judge(Duration::from_secs(60), last_commit.map(at), at(1_000), at(now));
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
}
