//! The loop around the catalog: build on a base, commit, and find out what happened.
//!
//! An attempt whose outcome is unknown stays possible until the table has moved past it: its snapshot takes the sequence
//! number after its base's, which no catalog takes once a later one is there. Until then its files stay and the whole
//! change is unknown.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod outcomes;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use mesh_runtime::fault;

use super::metadata::{self, Built};
use super::{Change, Committed};
use crate::catalog::Catalog;
use crate::error::{LakehouseError, Result};
use crate::outcome::CommitOutcome;
use crate::summary;
use crate::table::Table;

/// Conflicts in a row before a commit gives up.
const ATTEMPTS: usize = 60;
/// Further tries while the outcome is unknown, and how long the first pause before one is; it doubles.
const UNKNOWN_TRIES: u32 = 4;
const UNKNOWN_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 200 });

/// An attempt whose outcome is unknown.
struct Pending {
    /// The base's sequence number; `None` for a try of an earlier call, of which only the caller knows.
    sequence_number: Option<i64>,
    /// What it wrote, to be deleted once it is lost.
    written: Vec<String>,
}

/// One change on its way into a table.
struct Applying<'a> {
    catalog: &'a Catalog,
    change: &'a Change,
    pending: Vec<Pending>,
}

/// What one attempt came to.
enum Attempt {
    Stands(Box<Committed>),
    /// Lost to another commit: try on the table as it is now.
    Retry(LakehouseError),
    /// Not to be tried again.
    Fails(LakehouseError),
    /// Unknown; worth another look.
    Unknown(LakehouseError),
}

impl Catalog {
    /// Applies a change to the newest version of a table: fenced by its offsets, rebased over foreign commits.
    ///
    /// Errors that decide what a caller does: `Fenced` and `OtherTable` (give up, load again), `SchemaChanged` (write
    /// the rows again), `Conflict` (too many losses in a row: try again later), `RevisionNotNewer`.
    pub async fn apply(&self, table: &Table, change: &Change) -> CommitOutcome {
        let earlier = change.tried_before.then(|| Pending { sequence_number: None, written: Vec::new() });
        let mut applying = Applying { catalog: self, change, pending: earlier.into_iter().collect() };
        applying.run(table).await
    }
}

impl Applying<'_> {
    async fn run(&mut self, table: &Table) -> CommitOutcome {
        let mut base = table.clone();
        let mut delays = delays(ATTEMPTS);
        let mut attempts = 0;
        let mut unknowns = 0;
        loop {
            attempts += 1;
            let error = match self.attempt(&base).await {
                Attempt::Stands(committed) => return CommitOutcome::Stands(*committed),
                Attempt::Fails(error) => return self.failed(&base, error).await,
                Attempt::Retry(error) => {
                    let Some(delay) = delays.next() else {
                        let error = LakehouseError::Conflict { table: base.ident().clone(), attempts };
                        return self.failed(&base, error).await;
                    };
                    tokio::time::sleep(delay).await;
                    error
                }
                Attempt::Unknown(error) => error,
            };
            if !matches!(error, LakehouseError::Conflict { .. }) {
                if unknowns == UNKNOWN_TRIES {
                    return self.failed(&base, error).await;
                }
                tracing::warn!(table = %base.ident(), code = error.code(), %error, "commit outcome unknown");
                tokio::time::sleep(UNKNOWN_PAUSE * 2_u32.pow(unknowns)).await;
                unknowns += 1;
            }
            match self.reload(table).await {
                Ok(now) => base = now,
                Err(error) => return self.failed(&base, error).await,
            }
        }
    }

    /// Tries on one version of the table.
    async fn attempt(&mut self, base: &Table) -> Attempt {
        if let Some(snapshot_id) = committed_as(base, self.change) {
            return Attempt::Stands(Box::new(already(base.clone(), Some(snapshot_id))));
        }
        self.forget_lost(base).await;
        let mut written = Vec::new();
        fault::point("lakehouse.commit.before_manifests");
        let built = match metadata::build(base, self.change, &mut written).await {
            Ok(Built::New(built)) => *built,
            Ok(Built::Already(snapshot_id)) => return Attempt::Stands(Box::new(already(base.clone(), snapshot_id))),
            Err(error) => {
                base.store().discard(&written).await;
                return Attempt::Fails(error);
            }
        };
        match self.catalog.commit(base.ident(), &built.requirements, built.updates).await {
            CommitOutcome::Stands(taken) => {
                self.forget_all(base).await;
                Attempt::Stands(Box::new(Committed {
                    table: taken.table,
                    snapshot_id: built.snapshot_id,
                    already: false,
                    retired_metadata: taken.retired_metadata,
                }))
            }
            CommitOutcome::Lost(error) => {
                base.store().discard(&written).await;
                match error {
                    LakehouseError::Conflict { .. } => Attempt::Retry(error),
                    error if self.pending.is_empty() => Attempt::Fails(error),
                    error => Attempt::Unknown(error),
                }
            }
            CommitOutcome::Unknown(error) => {
                let sequence_number = Some(base.metadata().last_sequence_number());
                self.pending.push(Pending { sequence_number, written });
                Attempt::Unknown(error)
            }
        }
    }

    /// Unknown attempts that this version of the table has passed without them are lost: the catalog requires the head
    /// that they were built on, and a sequence number above the table's. One that was committed and then rolled back
    /// is still in the table, and so not lost.
    async fn forget_lost(&mut self, now: &Table) {
        if made(now.metadata().snapshots(), self.change).is_some() {
            return;
        }
        let passed = |pending: &mut Pending| {
            pending.sequence_number.is_some_and(|number| number < now.metadata().last_sequence_number())
        };
        for lost in self.pending.extract_if(.., passed) {
            now.store().discard(&lost.written).await;
        }
    }

    /// This attempt stands, on the head of the unknown ones or on a later one: they are lost.
    async fn forget_all(&mut self, now: &Table) {
        for lost in self.pending.drain(..) {
            now.store().discard(&lost.written).await;
        }
    }

    /// The newest version of this very table: one that was created again under its name takes no commit meant for it.
    /// While an attempt is unknown, a catalog that does not answer is given some time.
    async fn reload(&self, table: &Table) -> Result<Table> {
        let tries = if self.pending.is_empty() { 0 } else { UNKNOWN_TRIES };
        for retry in 0..tries {
            match self.catalog.load_table(table.ident(), table.uuid()).await {
                Err(error) if !matches!(error, LakehouseError::OtherTable { .. }) => {
                    tracing::warn!(table = %table.ident(), code = error.code(), %error, "commit lookup failed");
                    tokio::time::sleep(UNKNOWN_PAUSE * 2_u32.pow(retry)).await;
                }
                answer => return answer,
            }
        }
        self.catalog.load_table(table.ident(), table.uuid()).await
    }

    /// The end without a commit: unknown as long as an attempt may still appear.
    async fn failed(&mut self, base: &Table, error: LakehouseError) -> CommitOutcome {
        if self.pending.is_empty() {
            return CommitOutcome::Lost(error);
        }
        CommitOutcome::Unknown(LakehouseError::CommitUnknown {
            table: base.ident().clone(),
            commit: self.change.id(),
            source: Box::new(error),
        })
    }
}

impl Change {
    fn id(&self) -> String {
        match (self.revision, self.expire.len()) {
            (Some(revision), _) => format!("of contract revision {revision}"),
            (None, 0) => self.commit_id.to_string(),
            (None, snapshots) => format!("that expires {snapshots} snapshots"),
        }
    }
}

fn already(table: Table, snapshot_id: Option<i64>) -> Committed {
    Committed { table, snapshot_id, already: true, retired_metadata: Vec::new() }
}

/// The snapshot of `main` that this very change made. It is sought in every base, not only after an unknown outcome:
/// the files of a change carry its id in their names, so none of them gets into a table twice.
fn committed_as(base: &Table, change: &Change) -> Option<i64> {
    made(base.ancestors(), change)
}

fn made<'a>(mut snapshots: impl Iterator<Item = &'a iceberg::spec::SnapshotRef>, change: &Change) -> Option<i64> {
    change.operation.as_ref()?;
    let id = change.commit_id.to_string();
    let same = |s: &&iceberg::spec::SnapshotRef| s.summary().additional_properties.get(summary::COMMIT_ID) == Some(&id);
    snapshots.find(same).map(|s| s.snapshot_id())
}

fn delays(times: usize) -> impl Iterator<Item = Duration> {
    let (first, longest) = if cfg!(test) { (1, 10) } else { (5, 400) };
    let backoff = ExponentialBuilder::default().with_jitter().with_factor(1.5).with_max_times(times);
    backoff.with_min_delay(Duration::from_millis(first)).with_max_delay(Duration::from_millis(longest)).build()
}
