//! Expiry: what goes, what stays, and that readers of what stays lose nothing.

use std::time::Duration;

use super::{AnnouncedUpTo, ExpirePolicy, delete_files, expire};
use crate::offsets::RangeStart::First;
use crate::testing::{Lake, ident, offset_ranges, rows, source};
use crate::{Change, Table};

/// A table with one snapshot per append of one row, and the snapshots' ids, oldest first.
async fn grown(lake: &Lake, snapshots: i64) -> (Table, Vec<i64>) {
    let mut table = lake.table("t").await;
    let mut ids = Vec::new();
    for n in 0..snapshots {
        table = lake.append(&table, rows(n..n + 1)).await;
        ids.push(table.current_snapshot().unwrap().snapshot_id());
    }
    (table, ids)
}

fn keep(keep: usize) -> ExpirePolicy {
    ExpirePolicy { keep, delete_after: Duration::ZERO }
}

fn up_to(id: i64) -> AnnouncedUpTo {
    AnnouncedUpTo::Snapshot { id, sequence_number: 0 }
}

/// `announced`: index of the last announced snapshot of ten; `expiring`: how many of the oldest expire.
async fn check(keep_newest: usize, announced: Option<usize>, expiring: usize) {
    let lake = Lake::new().await;
    let (table, ids) = grown(&lake, 10).await;
    let expired =
        expire(&lake.catalog, &table, &keep(keep_newest), announced.map_or(AnnouncedUpTo::Nothing, |n| up_to(ids[n])))
            .await
            .unwrap();
    let mut snapshots = expired.snapshots.clone();
    snapshots.sort_unstable();
    let mut expected = ids[..expiring].to_vec();
    expected.sort_unstable();
    assert_eq!(snapshots, expected, "keep {keep_newest}, announced {announced:?}");
    assert_eq!(expired.table.metadata().snapshots().len(), 10 - expiring);
}

#[tokio::test]
async fn only_announced_snapshots_beyond_the_kept_ones_go() {
    check(3, Some(9), 7).await;
    check(3, Some(4), 4).await;
    check(100, Some(9), 0).await;
    check(0, Some(9), 9).await;
    check(3, None, 0).await;
    check(3, Some(0), 0).await;
}

#[tokio::test]
async fn a_head_that_does_not_descend_from_the_announced_one_keeps_all() {
    let lake = Lake::new().await;
    let (table, _) = grown(&lake, 5).await;
    assert_eq!(expire(&lake.catalog, &table, &keep(1), up_to(42)).await.unwrap().snapshots, [0i64; 0]);
}

#[tokio::test]
async fn the_snapshot_whose_offsets_count_and_tagged_ones_stay() {
    let lake = Lake::new().await;
    let (table, ids) = grown(&lake, 3).await;
    let moved = Change::append(&table, vec![]).with_offsets(offset_ranges(First(0), 4));
    let table = lake.catalog.apply(&table, &moved).await.into_result().unwrap().table;
    let table = lake
        .rewritten(&table, |json| {
            json["refs"]["hourly"] = serde_json::json!({"snapshot-id": ids[1], "type": "tag"});
        })
        .await;
    let head = table.current_snapshot().unwrap().snapshot_id();
    let after = expire(&lake.catalog, &table, &keep(1), up_to(head)).await.unwrap();
    let mut left: Vec<_> = after.table.metadata().snapshots().map(|s| s.snapshot_id()).collect();
    let mut expected = vec![ids[1], head];
    left.sort_unstable();
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert_eq!(after.table.recorded().await.unwrap().offsets.get(&source(), 0), Some(4));
}

#[tokio::test]
async fn files_that_only_expired_snapshots_named_are_handed_out_and_no_others() {
    let lake = Lake::new().await;
    // At the hundredth append the small manifests were merged: the old ones are named by old snapshots only.
    let (table, ids) = grown(&lake, 101).await;
    let expired = expire(&lake.catalog, &table, &keep(1), up_to(ids[100])).await.unwrap();
    assert_eq!(expired.snapshots.len(), 100);
    let (lists, others): (Vec<_>, Vec<_>) = expired.unreferenced.iter().partition(|f| f.contains("/snap-"));
    assert_eq!((lists.len(), others.len()), (100, 99), "lists, and manifests that were merged; no data file");
    assert!(others.iter().all(|f| f.ends_with("-m0.avro")));
    delete_files(lake.catalog.store(), &expired.unreferenced).await.unwrap();
    // A catalog without caches reads everything from what is left.
    let fresh = crate::Catalog::open(lake.catalog.config().clone()).await.unwrap();
    let lake = Lake { catalog: fresh, folder: lake.folder };
    assert_eq!(lake.count("t").await, 101);
    assert!(lake.append(&lake.catalog.load(&ident("t")).await.unwrap(), rows(0..1)).await.current_snapshot().is_some());
}
