//! When a table's next round is due. In: time, what is announced, what rounds found. Out: yes or no. No I/O.

use std::time::Duration;

use mesh_lakehouse::maintenance::UpkeepRound;
use tokio::time::Instant;

/// A table at rest gets a round this often: foreign engines commit too.
const AT_REST: Duration = Duration::from_secs(10 * 60);

/// The rounds of one table.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    /// No round before this.
    earliest: Instant,
    /// A round then, whatever happens.
    next: Instant,
    /// The snapshot that was announced last when the last round began.
    announced: Option<i64>,
    failures: u32,
}

impl Schedule {
    /// The first round soon after the table came to this process.
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self { interval, earliest: now + interval, next: now + interval, announced: None, failures: 0 }
    }

    pub(super) fn is_due(&self, now: Instant, announced: Option<i64>) -> bool {
        now >= self.earliest && (now >= self.next || announced != self.announced)
    }

    /// A round went well.
    pub(super) fn done(&mut self, now: Instant, announced: Option<i64>, round: &UpkeepRound) {
        self.failures = 0;
        self.announced = announced;
        self.earliest = now + self.interval;
        let wait = round.next.unwrap_or(AT_REST).min(AT_REST);
        self.next = now + if round.waits { self.interval } else { wait.max(self.interval) };
    }

    /// A round failed: again, ever more rarely.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = self.interval * 2_u32.pow(self.failures.min(6));
        self.failures += 1;
        self.earliest = now + pause.min(AT_REST);
        self.next = self.earliest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_table_at_rest_gets_a_round_every_ten_minutes() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, 5 * SECOND);
        assert!(!schedule.is_due(now, Some(1)) && schedule.is_due(now + 5 * SECOND, Some(1)));
        schedule.done(now, Some(1), &UpkeepRound::default());
        assert!(!schedule.is_due(now + 599 * SECOND, Some(1)) && schedule.is_due(now + 600 * SECOND, Some(1)));
    }

    #[tokio::test]
    async fn a_round_follows_an_announcement_a_due_file_and_what_waits() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, 5 * SECOND);
        schedule.done(now, Some(1), &UpkeepRound::default());
        assert!(!schedule.is_due(now + 4 * SECOND, Some(2)) && schedule.is_due(now + 5 * SECOND, Some(2)));
        schedule.done(now, Some(1), &UpkeepRound { next: Some(60 * SECOND), ..UpkeepRound::default() });
        assert!(!schedule.is_due(now + 59 * SECOND, Some(1)) && schedule.is_due(now + 60 * SECOND, Some(1)));
        schedule.done(now, Some(1), &UpkeepRound { waits: true, ..UpkeepRound::default() });
        assert!(schedule.is_due(now + 5 * SECOND, Some(1)));
    }

    #[tokio::test]
    async fn a_failing_round_is_tried_ever_more_rarely() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, 5 * SECOND);
        schedule.failed(now);
        schedule.failed(now);
        assert!(!schedule.is_due(now + 9 * SECOND, Some(2)) && schedule.is_due(now + 10 * SECOND, Some(2)));
    }
}
