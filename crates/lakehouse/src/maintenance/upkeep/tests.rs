//! A model of a table under upkeep: whatever is done to it in whatever order, nothing that counts is lost, and at rest
//! its metadata folder holds what it names and nothing else.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{TableUpkeep, UpkeepRound};
use crate::maintenance::{AnnouncedUpTo, ExpirePolicy, expire};
use crate::offsets::RangeStart;
use crate::testing::{Lake, ident, is_long, offset_ranges, rows, runner, source};
use crate::{Catalog, Change, CommitOutcome, Table, summary};

const KEEP: usize = 7;

/// What may happen to a table.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Our writer's commit of one row and one offset.
    Append,
    /// Our writer's commit without a row.
    Offsets,
    /// An engine that knows nothing of offsets appends.
    Foreign,
    /// `main` goes back by so many snapshots.
    RollBack(usize),
    /// A tag on the snapshot so far back.
    Tag(usize),
    /// The contract changes a property.
    Property,
    /// The publisher announces up to so many snapshots before the head.
    Announce(usize),
    /// A round of upkeep.
    Round,
    /// The process ends, and another one begins without memory.
    Restart,
    /// A crash leaves files behind, and another process begins.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        2 => Just(Step::Offsets),
        2 => Just(Step::Foreign),
        1 => (1..4usize).prop_map(Step::RollBack),
        1 => (0..9usize).prop_map(Step::Tag),
        1 => Just(Step::Property),
        4 => (0..4usize).prop_map(Step::Announce),
        4 => Just(Step::Round),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

struct Model {
    lake: Lake,
    upkeep: TableUpkeep,
    announced: AnnouncedUpTo,
    tagged: BTreeSet<i64>,
    /// Of the snapshots of `main`, by id: rows and next offset.
    main: Vec<(i64, u64, Option<i64>)>,
    rows: i64,
    revision: i64,
}

fn upkeep() -> TableUpkeep {
    TableUpkeep::new(ExpirePolicy { delete_after: Duration::ZERO, ..ExpirePolicy::default() })
}

impl Model {
    async fn new() -> Self {
        let lake = Lake::new().await;
        let table = lake.table("t").await;
        let keep = Change::revision(0).with_property(summary::KEPT_SNAPSHOTS, KEEP.to_string());
        lake.catalog.apply(&table, &keep).await.into_result().unwrap();
        let (announced, tagged, main) = (AnnouncedUpTo::Nothing, BTreeSet::new(), Vec::new());
        Self { lake, upkeep: upkeep(), announced, tagged, main, rows: 0, revision: 0 }
    }

    async fn table(&self) -> Table {
        self.lake.catalog.load(&ident("t")).await.unwrap()
    }

    async fn step(&mut self, step: Step) {
        let table = self.table().await;
        match step {
            Step::Append => {
                let files = self.lake.files(&table, rows(self.rows..self.rows + 1)).await;
                self.commit(&table, Change::append(&table, files), true).await;
            }
            Step::Offsets => self.commit(&table, Change::append(&table, vec![]), true).await,
            Step::Foreign => {
                let files = self.lake.files(&table, rows(self.rows..self.rows + 1)).await;
                self.commit(&table, Change::append(&table, files), false).await;
            }
            Step::RollBack(by) => self.roll_back(&table, by).await,
            Step::Tag(back) => self.tag(&table, back).await,
            Step::Property => {
                self.revision += 1;
                let change = Change::revision(self.revision).with_property("k", self.revision.to_string());
                self.lake.catalog.apply(&table, &change).await.into_result().unwrap();
            }
            Step::Announce(before_head) => {
                if let Some(at) = self.main.len().checked_sub(1 + before_head) {
                    let id = self.main[at].0;
                    let sequence_number = table.metadata().snapshot_by_id(id).map_or(0, |s| s.sequence_number());
                    self.announced = AnnouncedUpTo::Snapshot { id, sequence_number };
                }
            }
            Step::Round => {
                self.round().await;
            }
            Step::Restart => {
                self.upkeep = upkeep();
                // Nothing is cached either.
                self.lake.catalog = Catalog::open(self.lake.catalog.config().clone()).await.unwrap();
            }
            Step::Crash => {
                let base = format!("{}/metadata", table.metadata().location());
                let (commit, id) = (uuid::Uuid::now_v7(), 4711);
                for name in [format!("{commit}-{id}-m0.avro"), format!("snap-{id}-0-{commit}.avro")] {
                    table.store().write_new(&format!("{base}/{name}"), "torn".into()).await.unwrap();
                }
                self.upkeep = upkeep();
            }
        }
    }

    /// Commits, with the offset that comes next if it is our writer's.
    async fn commit(&mut self, table: &Table, change: Change, ours: bool) {
        let before = self.main.last().copied();
        let offset = before.and_then(|(_, _, offset)| offset);
        let added = change.add.len() as u64;
        let change = match ours {
            true => {
                let start = offset.map_or(RangeStart::First(0), RangeStart::Recorded);
                change.with_offsets(offset_ranges(start, offset.unwrap_or(0) + 1))
            }
            false => change,
        };
        let committed = self.lake.catalog.apply(table, &change).await.into_result().unwrap();
        self.rows += 1;
        let next = if ours { Some(offset.unwrap_or(0) + 1) } else { offset };
        self.main.push((committed.snapshot_id.unwrap(), before.map_or(0, |(_, rows, _)| rows) + added, next));
    }

    /// As an engine does that logs the metadata file before its own.
    async fn rewrite(&self, table: &Table, edit: impl FnOnce(&mut serde_json::Value)) {
        let entry = serde_json::json!({
            "metadata-file": table.metadata_location(), "timestamp-ms": table.metadata().last_updated_ms()
        });
        let logged = |json: &mut serde_json::Value| {
            json["metadata-log"].as_array_mut().unwrap().push(entry);
            edit(json);
        };
        self.lake.rewritten(table, logged).await;
    }

    /// Only to a snapshot that is there; as after pyiceberg's, an announcement follows.
    async fn roll_back(&mut self, table: &Table, by: usize) {
        let Some(at) = self.main.len().checked_sub(1 + by) else { return };
        let (to, _, offset) = self.main[at];
        // Further back than offsets are known is a table that stops, which is told elsewhere.
        if table.metadata().snapshot_by_id(to).is_none() || offset.is_none() {
            return;
        }
        self.rewrite(table, |json| {
            json["current-snapshot-id"] = to.into();
            json["refs"]["main"]["snapshot-id"] = to.into();
            let now = json["last-updated-ms"].clone();
            let entry = serde_json::json!({"snapshot-id": to, "timestamp-ms": now});
            json["snapshot-log"].as_array_mut().unwrap().push(entry);
        })
        .await;
        self.main.truncate(at + 1);
        let sequence_number = table.metadata().snapshot_by_id(to).unwrap().sequence_number();
        self.announced = AnnouncedUpTo::Snapshot { id: to, sequence_number };
    }

    async fn tag(&mut self, table: &Table, back: usize) {
        let Some(at) = self.main.len().checked_sub(1 + back) else { return };
        let id = self.main[at].0;
        if table.metadata().snapshot_by_id(id).is_some() {
            let tag = serde_json::json!({"snapshot-id": id, "type": "tag"});
            self.rewrite(table, |json| json["refs"][format!("tag{id}")] = tag).await;
            self.tagged.insert(id);
        }
    }

    async fn round(&mut self) -> UpkeepRound {
        let table = self.table().await;
        let before: HashSet<i64> = table.metadata().snapshots().map(|s| s.snapshot_id()).collect();
        let round = self.upkeep.round(&self.lake.catalog, &table, self.announced).await.unwrap();
        let after = self.table().await;
        let there = |id: &i64| after.metadata().snapshot_by_id(*id).is_some();
        let announced = match self.announced {
            AnnouncedUpTo::Snapshot { id, .. } => self.main.iter().position(|(other, ..)| *other == id),
            _ => None,
        };
        // The last announced one, those after it and the newest ones.
        let kept = announced.unwrap_or(0).min(self.main.len().saturating_sub(KEEP));
        for (id, ..) in &self.main[kept..] {
            assert!(there(id) || !before.contains(id), "{id} is expired: {announced:?} of {:?}", self.main);
        }
        assert!(self.tagged.iter().all(there), "a tagged snapshot is expired");
        if let Some(announced) = announced {
            let most = KEEP.max(self.main.len() - announced) + self.tagged.len() + 1;
            let on_main = self.main.iter().filter(|(id, ..)| there(id)).count();
            assert!(on_main <= most, "{on_main} snapshots of main, {most} may be");
        }
        round
    }

    /// What counts of a table, seen by a process that has nothing cached.
    async fn check(&self) {
        let lake = Lake {
            catalog: Catalog::open(self.lake.catalog.config().clone()).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        let table = lake.catalog.load(&ident("t")).await.unwrap();
        let (_, rows, offset) = self.main.last().copied().unwrap_or_default();
        assert_eq!(lake.count("t").await, rows);
        assert_eq!(table.recorded().await.unwrap().offsets.get(&source(), 0), offset);
        for snapshot in table.metadata().snapshots() {
            for manifest in table.manifests(snapshot).await.unwrap().iter() {
                for entry in table.store().manifest(manifest).await.unwrap().entries() {
                    table.store().read(entry.file_path()).await.unwrap();
                }
            }
        }
    }

    /// Everything announced and tidied: the folder holds what the table names.
    async fn rest(&mut self) {
        self.step(Step::Offsets).await;
        self.step(Step::Announce(0)).await;
        self.round().await;
        // Crashed attempts are given up once the table has moved on.
        self.step(Step::Offsets).await;
        self.step(Step::Announce(0)).await;
        self.round().await;
        self.round().await;
        let table = self.table().await;
        let named = super::named(&table, false).await.unwrap();
        let folder = format!("{}/metadata", table.metadata().location());
        let there: HashSet<_> = table.store().list(&folder).await.unwrap().into_iter().map(|file| file.path).collect();
        let unnamed: Vec<_> = there.difference(&named).collect();
        assert_eq!(unnamed, [] as [&object_store::path::Path; 0], "left in the folder");
        let missing: Vec<_> = named.difference(&there).collect();
        assert_eq!(missing, [] as [&object_store::path::Path; 0], "deleted though named");
        assert!(table.metadata().metadata_log().len() <= 5);
    }
}

#[test]
fn upkeep_loses_nothing_and_leaves_nothing() {
    let mut runner = runner(24, 1000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let steps = prop::collection::vec(step(), 1..60);
    let result = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in steps {
                model.step(step).await;
            }
            model.check().await;
            model.rest().await;
            model.check().await;
        });
        Ok(())
    });
    result.unwrap();
}

/// Expiry computed on one version while appends, contract revisions and tags change the table under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expiry_that_races_with_other_commits_drops_none_of_them() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let catalog = || Catalog::open(lake.catalog.config().clone());
    let appends = async {
        let catalog = catalog().await.unwrap();
        for n in 0..60_i64 {
            let table = catalog.load(&ident("t")).await.unwrap();
            let start = if n == 0 { RangeStart::First(0) } else { RangeStart::Recorded(n) };
            let files = lake.files(&table, rows(n..n + 1)).await;
            let change = Change::append(&table, files).with_offsets(offset_ranges(start, n + 1));
            let outcome = catalog.apply(&table, &change).await;
            assert!(matches!(outcome, CommitOutcome::Stands(_)), "{outcome:?}");
        }
    };
    let revisions = async {
        let catalog = catalog().await.unwrap();
        for n in 1..30 {
            let table = catalog.load(&ident("t")).await.unwrap();
            let outcome = catalog.apply(&table, &Change::revision(n).with_property("k", n.to_string())).await;
            assert!(matches!(outcome, CommitOutcome::Stands(_)), "{outcome:?}");
        }
    };
    let expiries = async {
        let catalog = catalog().await.unwrap();
        let policy = ExpirePolicy { keep: 2, delete_after: Duration::ZERO };
        for _ in 0..30 {
            // An old version on purpose: the appends go on meanwhile.
            let stale = catalog.load(&ident("t")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let expired = expire(&catalog, &stale, &policy, AnnouncedUpTo::NotAnnounced).await.unwrap();
            let head = expired.table.current_snapshot().map(|s| s.sequence_number());
            assert!(head >= stale.current_snapshot().map(|s| s.sequence_number()));
        }
    };
    tokio::join!(appends, revisions, expiries);
    let after = lake.catalog.load(&ident("t")).await.unwrap();
    assert_eq!(lake.count("t").await, 60);
    assert_eq!(after.recorded().await.unwrap().offsets.get(&source(), 0), Some(60));
    assert_eq!((after.property("k"), after.uuid()), (Some("29"), table.uuid()));
}

/// Thousands of commits of a few rows: every size stays within its bound, whatever the number of commits. CI makes
/// fewer; the long form makes 20,000 and has the sizes of the issue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_does_not_grow_with_the_number_of_commits() {
    let (commits, keep): (i64, usize) = if is_long() { (20_000, 600) } else { (700, 30) };
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let kept = Change::revision(1).with_property(summary::KEPT_SNAPSHOTS, keep.to_string());
    let mut table = lake.catalog.apply(&table, &kept).await.into_result().unwrap().table;
    let mut upkeep = upkeep();
    for n in 0..commits {
        let files = lake.files(&table, rows(n * 20..n * 20 + 20)).await;
        let start = if n == 0 { RangeStart::First(0) } else { RangeStart::Recorded(n * 20) };
        let change = Change::append(&table, files).with_offsets(offset_ranges(start, n * 20 + 20));
        table = lake.catalog.apply(&table, &change).await.into_result().unwrap().table;
        if n % 20 == 19 || n + 1 == commits {
            let head = table.current_snapshot().unwrap();
            let announced = AnnouncedUpTo::Snapshot { id: head.snapshot_id(), sequence_number: head.sequence_number() };
            upkeep.round(&lake.catalog, &table, announced).await.unwrap();
            table = lake.catalog.load(&ident("t")).await.unwrap();
        }
    }
    assert_eq!(table.metadata().snapshots().len(), keep);
    assert_eq!((table.metadata().history().len(), table.metadata().metadata_log().len()), (keep, 5));
    let metadata = crate::store::local_path(table.metadata_location()).metadata().unwrap().len();
    assert!(metadata < 1_600 * keep as u64 + 16_384, "metadata.json has {metadata} bytes");
    let folder = crate::store::local_path(table.metadata().location()).join("metadata");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap()).collect();
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap().len();
    assert!(manifests <= 110, "{manifests} manifests");
    // Lists and metadata files are few; manifests are those that kept snapshots name.
    assert!(files.len() < 2 * keep + 150, "{} files", files.len());
    let bound = if is_long() { 30 << 20 } else { 2 << 20 };
    assert!(bytes < bound, "{bytes} bytes in the folder");
    println!(
        "{commits} commits: metadata.json {metadata}, folder {bytes} bytes in {} files, {manifests} manifests",
        files.len()
    );
    let fresh = Catalog::open(lake.catalog.config().clone()).await.unwrap();
    let lake = Lake { catalog: fresh, folder: lake.folder };
    assert_eq!(lake.count("t").await, commits as u64 * 20);
    assert_eq!(table.recorded().await.unwrap().offsets.get(&source(), 0), Some(commits * 20));
}
