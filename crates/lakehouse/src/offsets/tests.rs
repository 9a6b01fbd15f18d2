//! OFFSETS-TRAVEL: where a table's offsets are found after others worked on it, and when they are lost.

use serde_json::Value;

use super::{Recorded, SourceOffsets};
use crate::offsets::RangeStart::{First, Recorded as At};
use crate::testing::{Lake, offset_ranges, rows, source};
use crate::{Change, LakehouseError, OffsetRanges, Result, Table, summary};

/// What partition 0 records.
fn next(recorded: Result<Recorded>) -> Option<i64> {
    recorded.unwrap().offsets.get(&source(), 0)
}

async fn moved(lake: &Lake, table: &Table, start: crate::RangeStart, to: i64) -> Table {
    lake.catalog
        .apply(table, &Change::append(table, vec![]).with_offsets(offset_ranges(start, to)))
        .await
        .into_result()
        .unwrap()
        .table
}

/// As an engine that knows nothing of Meshwork appends: no `mesh.*` in the summary.
async fn foreign(lake: &Lake, table: &Table) -> Table {
    let mirror = table.property(summary::OFFSETS_MIRROR).map(str::to_owned);
    let table = lake.append(table, rows(0..1)).await;
    let head = table.current_snapshot().unwrap().snapshot_id();
    lake.rewritten(&table, |json| {
        let snapshot = snapshots(json).iter_mut().find(|s| s["snapshot-id"] == head).unwrap();
        snapshot["summary"].as_object_mut().unwrap().retain(|key, _| !key.starts_with("mesh."));
        if let Some(mirror) = mirror {
            json["properties"][summary::OFFSETS_MIRROR] = mirror.into();
        }
    })
    .await
}

fn snapshots(json: &mut Value) -> &mut Vec<Value> {
    json["snapshots"].as_array_mut().unwrap()
}

/// Drops all snapshots but the current one from the metadata, as a foreign expiry does.
async fn expire_all_but_head(lake: &Lake, table: &Table) -> Table {
    let head = table.current_snapshot().unwrap().snapshot_id();
    lake.rewritten(table, |json| {
        snapshots(json).retain(|s| s["snapshot-id"] == head);
        json["snapshot-log"].as_array_mut().unwrap().retain(|s| s["snapshot-id"] == head);
    })
    .await
}

/// Points main at an older snapshot, as a rollback does.
async fn roll_back(lake: &Lake, table: &Table, to: i64) -> Table {
    lake.rewritten(table, |json| {
        json["current-snapshot-id"] = to.into();
        json["refs"]["main"]["snapshot-id"] = to.into();
        let now = json["last-updated-ms"].clone();
        json["snapshot-log"].as_array_mut().unwrap().push(serde_json::json!({"snapshot-id": to, "timestamp-ms": now}));
    })
    .await
}

/// Forgets the metadata log, as an engine that keeps no old metadata does.
async fn forget_log(lake: &Lake, table: &Table) -> Table {
    lake.rewritten(table, |json| json["metadata-log"] = Value::Array(vec![])).await
}

#[tokio::test]
async fn a_new_table_records_nothing() {
    let lake = Lake::new().await;
    assert_eq!(lake.table("t").await.recorded().await.unwrap(), Recorded::default());
    let foreign = foreign(&lake, &lake.catalog.load(&crate::testing::ident("t")).await.unwrap()).await;
    assert_eq!(foreign.recorded().await.unwrap(), Recorded::default(), "rows of another engine have no offsets");
}

#[tokio::test]
async fn the_nearest_ancestor_that_has_offsets_counts() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 5).await;
    let table = moved(&lake, &table, At(5), 9).await;
    assert_eq!(next(table.recorded().await), Some(9));
    let table = foreign(&lake, &foreign(&lake, &table).await).await;
    assert_eq!(next(table.recorded().await), Some(9));
}

#[tokio::test]
async fn a_rollback_rolls_the_offsets_back() {
    let lake = Lake::new().await;
    let five = moved(&lake, &lake.table("t").await, First(0), 5).await;
    let nine = moved(&lake, &five, At(5), 9).await;
    let back = roll_back(&lake, &nine, five.current_snapshot().unwrap().snapshot_id()).await;
    assert_eq!(next(back.recorded().await), Some(5));
    // The writer that went on from 9 is stale now.
    let stale = lake
        .catalog
        .apply(&nine, &Change::append(&nine, vec![]).with_offsets(offset_ranges(At(9), 12)))
        .await
        .into_result();
    assert!(matches!(stale, Err(LakehouseError::Fenced { .. })), "{stale:?}");
}

#[tokio::test]
async fn the_mirror_counts_where_its_snapshot_is_the_one_that_expired() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(3), 9).await;
    let table = expire_all_but_head(&lake, &foreign(&lake, &table).await).await;
    let table = forget_log(&lake, &table).await;
    let recorded = table.recorded().await.unwrap();
    assert_eq!((recorded.offsets.get(&source(), 0), recorded.start.get(&source(), 0)), (Some(9), Some(3)));
    // And a commit goes on from there.
    assert_eq!(next(moved(&lake, &table, At(9), 11).await.recorded().await), Some(11));
}

#[tokio::test]
async fn older_metadata_files_bridge_expired_snapshots() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    let table = foreign(&lake, &foreign(&lake, &table).await).await;
    let with_log = expire_all_but_head(&lake, &lake.append_log(&table).await).await;
    assert_eq!(next(with_log.recorded().await), Some(9));
}

#[tokio::test]
async fn a_parent_that_an_expiry_took_away_is_found_in_older_metadata() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    let table = lake.append_log(&foreign(&lake, &table).await).await;
    // As pyiceberg expires: the head's link to the expired snapshot goes too.
    let table = expire_all_but_head(&lake, &table).await;
    let table = lake
        .rewritten(&table, |json| drop(snapshots(json)[0].as_object_mut().unwrap().remove("parent-snapshot-id")))
        .await;
    assert_eq!(next(table.recorded().await), Some(9));
}

#[tokio::test]
async fn a_rollback_before_the_expiry_is_seen_in_older_metadata() {
    let lake = Lake::new().await;
    let five = moved(&lake, &lake.table("t").await, First(0), 5).await;
    let nine = moved(&lake, &five, At(5), 9).await;
    let back = roll_back(&lake, &nine, five.current_snapshot().unwrap().snapshot_id()).await;
    let table = foreign(&lake, &foreign(&lake, &back).await).await;
    let table = expire_all_but_head(&lake, &lake.append_log(&table).await).await;
    assert_eq!(next(table.recorded().await), Some(5), "the mirror says 9, but main never came from there");
}

#[tokio::test]
async fn a_table_whose_offsets_cannot_be_told_stops() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    // Two foreign commits: the head's parent is not the mirror's snapshot, and nothing tells what was between.
    let table = foreign(&lake, &foreign(&lake, &table).await).await;
    let lost = forget_log(&lake, &expire_all_but_head(&lake, &table).await).await;
    let error = lost.recorded().await.unwrap_err();
    assert_eq!(error.code(), "MESH-LAKEHOUSE-0016");
    let commit = lake
        .catalog
        .apply(&lost, &Change::append(&lost, vec![]).with_offsets(offset_ranges(At(9), 12)))
        .await
        .into_result();
    assert!(matches!(commit, Err(LakehouseError::OffsetsLost { .. })), "{commit:?}");
}

/// The table starts over at `to`, whatever it recorded: `seen` is what it recorded when that was decided.
async fn start_over(lake: &Lake, table: &Table, seen: Option<&[(i32, i64)]>, to: &[(i32, i64)]) -> Result<Table> {
    let offsets = |of: &[(i32, i64)]| {
        let mut offsets = SourceOffsets::default();
        of.iter().for_each(|(partition, next)| offsets.set(&source(), *partition, *next));
        offsets
    };
    let append = Change::append(table, vec![]).with_offsets(OffsetRanges::rebase(seen.map(offsets), offsets(to)));
    lake.catalog.apply(table, &append.with(summary::REBASE, "{}")).await.into_result().map(|committed| committed.table)
}

#[tokio::test]
async fn a_new_start_replaces_what_was_recorded_and_fences_who_read_on() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    let table = start_over(&lake, &table, Some(&[(0, 9)]), &[(0, 3), (1, 7)]).await.unwrap();
    let recorded = table.recorded().await.unwrap();
    let of = |offsets: &SourceOffsets| offsets.iter().map(|(_, p, next)| (p, next)).collect::<Vec<_>>();
    assert_eq!((of(&recorded.offsets), of(&recorded.start)), (vec![(0, 3), (1, 7)], vec![(0, 3), (1, 7)]));
    assert_eq!(recorded.summary.get(summary::REBASE).map(String::as_str), Some("{}"));
    let stale = lake
        .catalog
        .apply(&table, &Change::append(&table, vec![]).with_offsets(offset_ranges(At(9), 12)))
        .await
        .into_result();
    assert!(matches!(stale, Err(LakehouseError::Fenced { .. })), "{stale:?}");
    let table = moved(&lake, &table, At(3), 5).await;
    let late = start_over(&lake, &table, Some(&[(0, 3), (1, 7)]), &[(0, 0)]).await;
    assert!(matches!(late, Err(LakehouseError::Fenced { .. })), "decided on what stands no longer: {late:?}");
    // The mark is of its snapshot alone.
    assert_eq!(table.recorded().await.unwrap().summary.get(summary::REBASE), None);
}

#[tokio::test]
async fn a_new_start_heals_a_table_whose_offsets_are_lost() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    let table = foreign(&lake, &foreign(&lake, &table).await).await;
    let lost = forget_log(&lake, &expire_all_but_head(&lake, &table).await).await;
    assert!(matches!(lost.recorded().await, Err(LakehouseError::OffsetsLost { .. })));
    assert!(start_over(&lake, &lost, Some(&[(0, 9)]), &[(0, 9)]).await.is_err(), "no offsets were recorded to be seen");
    let healed = start_over(&lake, &lost, None, &[(0, 9)]).await.unwrap();
    assert_eq!(next(healed.recorded().await), Some(9));
    assert_eq!(next(moved(&lake, &healed, At(9), 11).await.recorded().await), Some(11));
    let again = start_over(&lake, &healed, None, &[(0, 4)]).await;
    assert!(matches!(again, Err(LakehouseError::Fenced { .. })), "it is not lost any more: {again:?}");
}

#[tokio::test]
async fn a_replaced_history_stops_the_table() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    let table = foreign(&lake, &table).await;
    let head = table.current_snapshot().unwrap().snapshot_id();
    // As CREATE OR REPLACE TABLE: a head of its own, without parent.
    let replaced = lake
        .rewritten(&table, |json| {
            let id = head ^ 1;
            let snapshot = snapshots(json).iter_mut().find(|s| s["snapshot-id"] == head).unwrap();
            snapshot["snapshot-id"] = id.into();
            snapshot.as_object_mut().unwrap().remove("parent-snapshot-id");
            json["current-snapshot-id"] = id.into();
            json["refs"]["main"]["snapshot-id"] = id.into();
            json["snapshot-log"].as_array_mut().unwrap().last_mut().unwrap()["snapshot-id"] = id.into();
        })
        .await;
    assert!(matches!(replaced.recorded().await, Err(LakehouseError::OffsetsLost { .. })));
}

#[tokio::test]
async fn broken_offsets_stop_the_table() {
    let lake = Lake::new().await;
    let table = moved(&lake, &lake.table("t").await, First(0), 9).await;
    let broken =
        lake.rewritten(&table, |json| snapshots(json)[0]["summary"]["mesh.offsets"] = "{\"c\":9}".into()).await;
    assert!(matches!(broken.recorded().await, Err(LakehouseError::OffsetsLost { .. })));
}
