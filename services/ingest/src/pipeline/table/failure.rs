//! An error that stops a table: logged once, shown by readiness and metrics until it is over, tried ever more rarely.
//!
//! In: errors, and that a table is fed. Out: how long to wait.

use std::time::Duration;

use mesh_proto::v1::ActiveContract;
use mesh_runtime::{Check, part, report};
use tokio::time::Instant;

use super::Shared;
use crate::error::IngestError;
use crate::pipeline::plan::table_name;
use crate::telemetry::{IngestMetrics, OfTable};

const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// An error that did not come for so long is news again.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// An error that lasts, or comes again and again: logged once until it is another one, shown while it lasts.
pub(super) struct TableFailure {
    of: OfTable,
    telemetry: IngestMetrics,
    check: Check,
    last: Option<Noted>,
    /// The last log line of this table is that it stopped.
    logged: bool,
}

/// The last error.
struct Noted {
    /// What it is known by.
    mark: String,
    at: Instant,
    /// How long to wait before the next try.
    pause: Duration,
}

impl TableFailure {
    pub(super) fn new(shared: &Shared, active: &ActiveContract) -> Self {
        let table = table_name(active.table.as_ref()).to_string();
        let check = shared.tasks.health().check(part::table(&table));
        check.up();
        let of = OfTable { product: active.product.clone(), table };
        Self { of, telemetry: shared.telemetry.clone(), check, last: None, logged: false }
    }

    pub(super) fn note(&mut self, error: &IngestError) -> Duration {
        let text = report::chain(error);
        self.check.down(format!("[{}] {text}", error.code()));
        self.telemetry.stopped.get_or_create(&self.of).set(1);
        // The same again, though something went well in between: a record that always fails comes after good ones.
        let mark = mark(&text);
        let again = self.last.take().filter(|last| last.mark == mark && last.at.elapsed() < FORGOTTEN);
        if again.is_none() {
            tracing::error!(table = self.of.table, code = error.code(), error = text, "table stopped");
            self.logged = true;
        }
        let pause = again.map_or(PAUSE, |last| (last.pause * 2).min(LONGEST_PAUSE));
        self.last = Some(Noted { mark, at: Instant::now(), pause });
        pause
    }

    pub(super) fn over(&mut self) {
        if std::mem::take(&mut self.logged) {
            tracing::info!(table = self.of.table, "table resumed");
        }
        self.check.up();
        self.telemetry.stopped.get_or_create(&self.of).set(0);
    }
}

/// An error's text without the names of files, which are new with each try; their folders tell tables apart.
fn mark(text: &str) -> String {
    let folder = |word: &str| word.rsplit_once('/').map_or(word, |(folder, _)| folder).to_owned();
    text.split(' ').map(folder).collect::<Vec<_>>().join(" ")
}

impl Drop for TableFailure {
    /// The table goes to another process, or is no more: what stopped it is not stopped here.
    fn drop(&mut self) {
        self.telemetry.stopped.get_or_create(&self.of).set(0);
    }
}

#[cfg(test)]
mod tests {
    use mesh_runtime::{Health, Metrics};

    use super::*;

    #[test]
    fn a_stopped_major_is_shown_while_the_other_is_fed() {
        let (metrics, health) = (Metrics::new(), Health::new());
        let telemetry = IngestMetrics::register(&metrics);
        let of = |table: &str| OfTable { product: "d.p".into(), table: table.into() };
        let failure = |table: &str| TableFailure {
            of: of(table),
            telemetry: telemetry.clone(),
            check: health.check(format!("table:{table}")),
            last: None,
            logged: false,
        };
        let (mut one, mut two) = (failure("d.p_v1"), failure("d.p_v2"));
        one.note(&IngestError::Stopped { what: "it" });
        two.over();
        let stopped = ["d.p_v1", "d.p_v2"].map(|table| telemetry.stopped.get_or_create(&of(table)).get());
        assert_eq!(stopped, [1, 0]);
    }

    #[test]
    fn an_error_that_comes_again_is_told_once_and_tried_ever_more_rarely() {
        let (metrics, health) = (Metrics::new(), Health::new());
        let mut failure = TableFailure {
            of: OfTable { product: "d.p".into(), table: "d.t".into() },
            telemetry: IngestMetrics::register(&metrics),
            check: health.check("table:d.t"),
            last: None,
            logged: false,
        };
        let error = |what| IngestError::Stopped { what };
        assert_eq!(failure.note(&error("one")), PAUSE);
        assert!(failure.logged && !health.is_ready());
        // A commit went well, then the same record comes again.
        failure.over();
        assert!(health.is_ready());
        assert_eq!(failure.note(&error("one")), PAUSE * 2);
        assert!(!failure.logged && !health.is_ready(), "shown, not logged again");
        let pauses: Vec<Duration> = (0..10).map(|_| failure.note(&error("one"))).collect();
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(failure.note(&error("another")), PAUSE);
        assert!(failure.logged);
        failure.over();
        // Each try has files of its own.
        assert_eq!(failure.note(&error("the writing of file:///w/d/t/data/1.parquet")), PAUSE);
        assert_eq!(failure.note(&error("the writing of file:///w/d/t/data/2.parquet")), PAUSE * 2);
        assert_eq!(failure.note(&error("the writing of file:///w/d/t/metadata/3.avro")), PAUSE);
    }
}
