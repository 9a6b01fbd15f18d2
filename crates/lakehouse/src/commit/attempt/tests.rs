//! Swaps whose answer is an error. A trigger in the catalog's own SQLite makes them: `RAISE(FAIL)` reports an error
//! and keeps what the statement did, `RAISE(ABORT)` undoes it; a location turned into a BLOB cannot be read back.

use sqlx::{Connection as _, SqliteConnection};

use crate::offsets::RangeStart::First;
use crate::testing::{Lake, ident, offset_ranges, rows, source};
use crate::{Change, CommitOutcome, LakehouseError, Table};

/// The answer gets lost, the swap stands.
const LOST_ANSWER: &str = "SELECT RAISE(FAIL, 'the answer is lost');";
/// The swap is undone.
const UNDONE: &str = "SELECT RAISE(ABORT, 'the disk is tired');";
/// The swap stands, but nobody can read so until somebody [`heals`].
const SILENCED: &str = "UPDATE iceberg_tables SET metadata_location = CAST(NEW.metadata_location AS BLOB)
     WHERE table_name = NEW.table_name; SELECT RAISE(FAIL, 'the answer is lost');";
const HEAL: &str = "DROP TRIGGER fault; UPDATE iceberg_tables SET metadata_location = CAST(metadata_location AS TEXT)";
/// The catalog comes back without the swap, as from a backup.
const REVERT: &str = "DROP TRIGGER fault; UPDATE iceberg_tables SET metadata_location = previous_metadata_location";

async fn sql(lake: &Lake, text: &str) {
    let uri = lake.catalog.config().uri.replace("sqlite:////", "sqlite:///");
    let mut connection = SqliteConnection::connect(&uri).await.unwrap();
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// After each swap this happens.
async fn arm(lake: &Lake, fault: &str) {
    sql(lake, &format!("CREATE TRIGGER fault AFTER UPDATE ON iceberg_tables BEGIN {fault} END")).await;
}

/// A table, and an append of five rows that moves its source from nothing to 5.
async fn ready(lake: &Lake) -> (Table, Change) {
    let table = lake.table("t").await;
    let append = Change::append(&table, lake.files(&table, rows(0..5)).await).with_offsets(offset_ranges(First(0), 5));
    (table, append)
}

/// The table holds five rows up to offset 5, in this many snapshots, and their file is there.
async fn check_stands_once(lake: &Lake, append: &Change, snapshots: usize) {
    let table = lake.catalog.load(&ident("t")).await.unwrap();
    assert_eq!(lake.count("t").await, 5);
    assert_eq!(table.recorded().await.unwrap().offsets.get(&source(), 0), Some(5));
    assert_eq!(table.metadata().snapshots().len(), snapshots);
    assert!(exists(append), "the file of a commit that stands");
}

fn exists(append: &Change) -> bool {
    crate::store::local_path(append.add[0].file_path()).exists()
}

#[tokio::test]
async fn a_swap_whose_answer_is_lost_stands() {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    arm(&lake, LOST_ANSWER).await;
    let committed = lake.catalog.apply(&table, &append).await.into_result().unwrap();
    assert!(!committed.already);
    assert_eq!(committed.table.current_snapshot().map(|s| s.snapshot_id()), committed.snapshot_id);
    check_stands_once(&lake, &append, 1).await;
}

#[tokio::test]
async fn a_swap_that_was_undone_is_unknown_and_keeps_its_files() {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    arm(&lake, UNDONE).await;
    let outcome = lake.catalog.apply(&table, &append).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(LakehouseError::CommitUnknown { .. })), "{outcome:?}");
    assert_eq!(lake.count("t").await, 0);
    sql(&lake, "DROP TRIGGER fault").await;
    lake.catalog.apply(&table, &append.clone().after_unknown()).await.into_result().unwrap();
    check_stands_once(&lake, &append, 1).await;
}

/// A commit that nobody could look up: `before_again` is what became of it; tried again, the rows are there once.
async fn check_unknown(before_again: &str, already: bool) {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    arm(&lake, SILENCED).await;
    let outcome = lake.catalog.apply(&table, &append).await;
    let CommitOutcome::Unknown(error @ LakehouseError::CommitUnknown { .. }) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains(&append.commit_id.to_string()), "{error}");
    sql(&lake, before_again).await;
    let again = lake.catalog.apply(&table, &append.clone().after_unknown()).await.into_result().unwrap();
    assert_eq!(again.already, already);
    check_stands_once(&lake, &append, 1).await;
}

#[tokio::test]
async fn an_unknown_commit_that_stood_is_found() {
    check_unknown(HEAL, true).await;
}

#[tokio::test]
async fn an_unknown_commit_that_did_not_stand_is_made() {
    check_unknown(REVERT, false).await;
}

#[tokio::test]
async fn an_unknown_commit_that_another_writer_overtook_is_fenced_and_keeps_its_files() {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    arm(&lake, SILENCED).await;
    lake.catalog.apply(&table, &append).await.into_result().unwrap_err();
    sql(&lake, REVERT).await;
    let other = Change::append(&table, lake.files(&table, rows(0..7)).await).with_offsets(offset_ranges(First(0), 7));
    lake.catalog.apply(&table, &other).await.into_result().unwrap();
    let outcome = lake.catalog.apply(&table, &append.clone().after_unknown()).await;
    let CommitOutcome::Unknown(LakehouseError::CommitUnknown { source, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(source.to_string().contains("another writer was here"), "{source}");
    assert!(exists(&append), "a writer that cannot know must not delete");
    assert_eq!(lake.count("t").await, 7);
}

/// The swap failed, and when it is looked up the table is another's who knows nothing of it.
#[tokio::test]
async fn a_swap_that_another_replaced_is_made_again_on_top() {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    let theirs = format!("{}/metadata/theirs.metadata.json", table.metadata().location());
    let json = serde_json::to_vec(table.metadata().as_ref()).unwrap();
    lake.catalog.store().write_new(&theirs, json.into()).await.unwrap();
    let first = format!("NEW.metadata_location LIKE '%/00001-%' AND OLD.metadata_location <> '{theirs}'");
    let fault = format!(
        "CREATE TRIGGER fault AFTER UPDATE ON iceberg_tables WHEN {first} BEGIN
         UPDATE iceberg_tables SET metadata_location = '{theirs}'; {LOST_ANSWER} END"
    );
    sql(&lake, &fault).await;
    let committed = lake.catalog.apply(&table, &append).await.into_result().unwrap();
    assert!(!committed.already);
    let log = committed.table.metadata().metadata_log().last().unwrap();
    assert_eq!(log.metadata_file, theirs, "made on top of theirs");
    check_stands_once(&lake, &append, 1).await;
}

/// Another version is there each time, as among very many writers: a commit gives up in the end, and says so.
#[tokio::test]
async fn a_commit_that_loses_every_race_gives_up_and_leaves_no_metadata() {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    // Whatever is swapped in, the row stays as it is: an update of no row.
    sql(&lake, "CREATE TRIGGER fault BEFORE UPDATE ON iceberg_tables BEGIN SELECT RAISE(IGNORE); END").await;
    let metadata = crate::store::local_path(table.metadata().location()).join("metadata");
    let files = || std::fs::read_dir(&metadata).unwrap().count();
    let before = files();
    let outcome = lake.catalog.apply(&table, &append).await;
    let CommitOutcome::Lost(error @ LakehouseError::Conflict { attempts: 61, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((error.code(), files()), ("MESH-LAKEHOUSE-0014", before));
    assert!(exists(&append), "it may be tried again");
    sql(&lake, "DROP TRIGGER fault").await;
    lake.catalog.apply(&table, &append).await.into_result().unwrap();
    check_stands_once(&lake, &append, 1).await;
}

#[tokio::test]
async fn a_catalog_that_stays_locked_is_told_as_that_and_leaves_no_metadata() {
    let lake = Lake::new().await;
    let (table, append) = ready(&lake).await;
    let metadata = crate::store::local_path(table.metadata().location()).join("metadata");
    let files = || std::fs::read_dir(&metadata).unwrap().count();
    let before = files();
    let uri = lake.catalog.config().uri.replace("sqlite:////", "sqlite:///");
    let mut shell = SqliteConnection::connect(&uri).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut shell).await.unwrap();
    let error = lake.catalog.apply(&table, &append).await.into_result().unwrap_err();
    assert_eq!((error.code(), files()), ("MESH-LAKEHOUSE-0007", before));
    sqlx::raw_sql("ROLLBACK").execute(&mut shell).await.unwrap();
    lake.catalog.apply(&table, &append).await.into_result().unwrap();
    check_stands_once(&lake, &append, 1).await;
}
