//! A model of writers whose catalog fails in every way that a network and a disk know: each offset is in the table once,
//! and no file that the table names was deleted by a writer that took an outcome for what it was not.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::catalog::SwapFault;
use crate::offsets::RangeStart;
use crate::testing::{Lake, ident, offset_ranges, rows, runner, source};
use crate::{Change, CommitOutcome, LakehouseError, Table};

/// What a writer does about one offset.
#[derive(Clone, Debug)]
struct Turn {
    /// What its swaps come to.
    faults: Vec<SwapFault>,
    /// After an unknown outcome it tries the same change again, as many times, before it loads the table again.
    again: usize,
    /// It works on the version before the newest.
    stale: bool,
    /// Another engine appends first.
    foreign: bool,
}

fn fault() -> impl Strategy<Value = SwapFault> {
    prop_oneof![
        3 => Just(SwapFault::None),
        2 => Just(SwapFault::AnswerLost),
        2 => Just(SwapFault::Undone),
        3 => (1..12usize).prop_map(SwapFault::Queued),
        2 => (1..40usize).prop_map(SwapFault::Blind),
        1 => Just(SwapFault::Locked),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    (prop::collection::vec(fault(), 0..6), 0..3usize, any::<bool>(), any::<bool>())
        .prop_map(|(faults, again, stale, foreign)| Turn { faults, again, stale, foreign })
}

struct Model {
    lake: Lake,
    before: Table,
    /// The rows that a file of ours holds: the offset. `None`: of another engine.
    files: HashMap<String, Option<i64>>,
}

impl Model {
    async fn load(&self) -> Table {
        loop {
            match self.lake.catalog.load(&ident("t")).await {
                Ok(table) => return table,
                // A look that fails is made again, as a session does.
                Err(LakehouseError::Catalog { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// As a session of ingest: reads on from what the table records, commits, and deletes files only when surely lost.
    async fn turn(&mut self, turn: Turn) {
        let now = self.load().await;
        if turn.foreign {
            let files = self.lake.files(&now, rows(0..1)).await;
            self.files.insert(files[0].file_path().to_owned(), None);
            // With what faults are left: what its engine does about those is not our matter.
            let _ = self.lake.catalog.apply(&now, &Change::append(&now, files)).await;
        }
        let table = if turn.stale { self.before.clone() } else { self.load().await };
        self.before = self.load().await;
        let offset = table.recorded().await.unwrap().offsets.get(&source(), 0);
        let start = offset.map_or(RangeStart::First(0), RangeStart::Recorded);
        let offset = offset.unwrap_or(0);
        let files = self.lake.files(&table, rows(offset..offset + 1)).await;
        self.files.insert(files[0].file_path().to_owned(), Some(offset));
        let mut change = Change::append(&table, files).with_offsets(offset_ranges(start, offset + 1));
        self.lake.catalog.faults().add(turn.faults);
        for _ in 0..=turn.again {
            match self.lake.catalog.apply(&table, &change).await {
                CommitOutcome::Stands(_) => return,
                CommitOutcome::Lost(_) => {
                    self.lake.catalog.store().discard(&[change.add[0].file_path().to_owned()]).await;
                    return;
                }
                CommitOutcome::Unknown(_) => change = change.after_unknown(),
            }
        }
    }

    async fn check(&self) -> Result<(), TestCaseError> {
        // What is queued arrives, if it can.
        for _ in 0..100 {
            let _ = self.lake.catalog.load(&ident("t")).await;
        }
        let table = self.load().await;
        let recorded = table.recorded().await.unwrap().offsets.get(&source(), 0).unwrap_or(0);
        let mut offsets = Vec::new();
        if let Some(snapshot) = table.current_snapshot() {
            for manifest in table.manifests(snapshot).await.unwrap().iter() {
                for entry in table.store().manifest(manifest).await.unwrap().entries() {
                    let read = table.store().read(entry.file_path()).await;
                    prop_assert!(read.is_ok(), "a live file was deleted: {read:?}");
                    offsets.extend(self.files[entry.file_path()]);
                }
            }
        }
        offsets.sort_unstable();
        prop_assert_eq!(offsets, (0..recorded).collect::<Vec<_>>());
        for snapshot in table.metadata().snapshots() {
            prop_assert!(table.manifests(snapshot).await.is_ok(), "a manifest list was deleted");
        }
        Ok(())
    }
}

#[test]
fn whatever_the_catalog_answers_each_offset_is_there_once() {
    let mut runner = runner(48, 2000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runner.run(&prop::collection::vec(turn(), 1..12), |turns| {
        runtime.block_on(async {
            let lake = Lake::new().await;
            let before = lake.table("t").await;
            let mut model = Model { lake, before, files: HashMap::new() };
            for turn in turns {
                model.turn(turn).await;
            }
            model.check().await
        })
    });
    result.unwrap();
}
