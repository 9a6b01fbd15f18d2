//! What a commit promises: one winner, nothing lost, stale writers fenced, unknown outcomes found out.

use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use iceberg::spec::{
    ManifestContentType, NestedField, PrimitiveType, Transform, Type, UnboundPartitionField, UnboundPartitionSpec,
};

use crate::offsets::RangeStart::{First, Recorded};
use crate::testing::{Lake, ident, offset_ranges, rows, schema, source};
use crate::{Catalog, Change, CommitOutcome, LakehouseError, Table, TableSpec, summary};

/// A summary entry of the current snapshot.
fn entry<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.current_snapshot().unwrap().summary().additional_properties.get(key).map(String::as_str)
}

fn revision(revision: i64) -> Change {
    Change::revision(revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_with_one_start_exactly_one_wins() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let mut writers = Vec::new();
    for writer in 1..=8 {
        let files = lake.files(&table, rows(0..writer)).await;
        writers.push(Change::append(&table, files).with_offsets(offset_ranges(First(0), writer)));
    }
    let outcomes = join_all(writers.iter().map(|change| lake.catalog.apply(&table, change))).await;
    let winners: Vec<_> = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Stands(_))).collect();
    let fenced = outcomes.iter().filter(|o| matches!(o, CommitOutcome::Lost(LakehouseError::Fenced { .. }))).count();
    assert_eq!((winners.len(), fenced), (1, 7));
    let recorded = lake.catalog.load(&ident("t")).await.unwrap().recorded().await.unwrap();
    assert_eq!(recorded.offsets.get(&source(), 0), Some(i64::try_from(lake.count("t").await).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_append_is_lost_among_writers_of_several_catalogs() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let writer = |id: i64| {
        let (config, table) = (lake.catalog.config().clone(), table.clone());
        let lake = &lake;
        async move {
            // A catalog of its own, as another process has.
            let catalog = Catalog::open(config).await.unwrap();
            for n in 0..5 {
                let start = (id * 5 + n) * 10;
                let files = lake.files(&table, rows(start..start + 10)).await;
                catalog.apply(&table, &Change::append(&table, files)).await.into_result().unwrap();
            }
        }
    };
    join_all((0..6).map(writer)).await;
    assert_eq!(lake.count("t").await, 300);
    let table = lake.catalog.load(&ident("t")).await.unwrap();
    let numbers: Vec<i64> = table.ancestors().map(|s| s.sequence_number()).collect();
    assert_eq!(numbers, (1..=30).rev().collect::<Vec<_>>(), "one line of snapshots");
    assert_eq!(entry(&table, "total-records"), Some("300"));
}

#[tokio::test]
async fn a_stale_writer_gives_up_and_its_files_are_its_own() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let stale = lake.files(&table, rows(0..3)).await;
    let place = crate::store::local_path(stale[0].file_path());
    let first = Change::append(&table, lake.files(&table, rows(0..5)).await).with_offsets(offset_ranges(First(0), 5));
    lake.catalog.apply(&table, &first).await.into_result().unwrap();
    let stale = Change::append(&table, stale).with_offsets(offset_ranges(First(0), 3));
    let outcome = lake.catalog.apply(&table, &stale).await;
    assert!(outcome.is_lost(), "its writer may delete them: {outcome:?}");
    let error = outcome.into_result().unwrap_err();
    assert_eq!(error.code(), "MESH-LAKEHOUSE-0013");
    assert!(error.to_string().contains("records offset 5 for partition 0"), "{error}");
    assert!(place.exists());
    assert_eq!(lake.count("t").await, 5);
}

#[tokio::test]
async fn a_commit_done_before_is_recognised_by_its_end() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let first = Change::append(&table, lake.files(&table, rows(0..5)).await).with_offsets(offset_ranges(First(0), 5));
    let done = lake.catalog.apply(&table, &first).await.into_result().unwrap();
    // The same range written again, as after a crash that lost the answer.
    let again = Change::append(&table, lake.files(&table, rows(0..5)).await).with_offsets(offset_ranges(First(0), 5));
    let found = lake.catalog.apply(&table, &again).await.into_result().unwrap();
    assert!(found.already && !done.already);
    assert_eq!(found.snapshot_id, done.snapshot_id);
    assert_eq!(lake.count("t").await, 5);
}

#[tokio::test]
async fn a_commit_without_source_is_recognised_by_its_id() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let append = Change::append(&table, lake.files(&table, rows(0..5)).await);
    let done = lake.catalog.apply(&table, &append).await.into_result().unwrap();
    lake.append(&done.table, rows(5..6)).await;
    let found = lake.catalog.apply(&table, &append.after_unknown()).await.into_result().unwrap();
    assert_eq!((found.already, found.snapshot_id), (true, done.snapshot_id));
    assert_eq!(lake.count("t").await, 6);
}

#[tokio::test]
async fn offsets_move_without_rows_too() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let table = lake
        .catalog
        .apply(&table, &Change::append(&table, vec![]).with_offsets(offset_ranges(First(7), 9)))
        .await
        .into_result()
        .unwrap()
        .table;
    let recorded = table.recorded().await.unwrap();
    assert_eq!((recorded.offsets.get(&source(), 0), recorded.start.get(&source(), 0)), (Some(9), Some(7)));
    assert_eq!(entry(&table, summary::RANGES), Some(r#"[["cluster","topic",0,7,9]]"#));
    assert_eq!(entry(&table, "total-records"), Some("0"));
}

#[tokio::test]
async fn pending_dead_letters_last_until_the_next_move() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let first = Change::append(&table, vec![])
        .with_offsets(offset_ranges(First(0), 2))
        .with(summary::DEAD_LETTERS_PENDING, "[\"x\"]");
    let table = lake.catalog.apply(&table, &first).await.into_result().unwrap().table;
    let table = lake.append(&table, rows(0..1)).await;
    let pending = |recorded: crate::offsets::Recorded| recorded.summary.get(summary::DEAD_LETTERS_PENDING).cloned();
    assert_eq!(pending(table.recorded().await.unwrap()).as_deref(), Some("[\"x\"]"));
    let settled = offset_ranges(Recorded(2), 3).with_settled(Some("[\"x\"]".to_owned()));
    let next = Change::append(&table, vec![]).with_offsets(settled);
    let table = lake.catalog.apply(&table, &next).await.into_result().unwrap().table;
    assert_eq!(pending(table.recorded().await.unwrap()), None);
}

#[tokio::test]
async fn a_schema_change_refuses_files_of_the_old_schema() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let files = lake.files(&table, rows(0..3)).await;
    let mut fields = table.schema().as_struct().fields().to_vec();
    fields.push(NestedField::optional(102, "new", Type::Primitive(PrimitiveType::Date)).into());
    let schema = iceberg::spec::Schema::builder().with_fields(fields).build().unwrap();
    let change = revision(4).with_schema(schema).with_property("k", "v");
    let evolved = lake.catalog.apply(&table, &change).await.into_result().unwrap();
    assert_eq!((evolved.snapshot_id, evolved.table.property("k")), (None, Some("v")));
    let error = lake
        .catalog
        .apply(&table, &Change::append(&table, files).with_offsets(offset_ranges(First(0), 3)))
        .await
        .into_result()
        .unwrap_err();
    assert!(matches!(error, LakehouseError::SchemaChanged { what: "schema", from: 1, to: 2, .. }), "{error}");
    assert_eq!(lake.count("t").await, 0);
}

/// As pyiceberg's `update_spec`: as wide as before, and the values mean something else.
#[tokio::test]
async fn a_new_partition_spec_refuses_files_of_the_old_one() {
    let lake = Lake::new().await;
    let by = |transform| {
        let field = UnboundPartitionField { source_id: 100, field_id: None, name: "part".into(), transform };
        UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build()
    };
    let spec = TableSpec {
        ident: ident("t"),
        schema: schema(),
        partition_spec: Some(by(Transform::Truncate(10))),
        properties: BTreeMap::new(),
    };
    let table = lake.catalog.create_table(spec).await.unwrap();
    let append =
        Change::append(&table, lake.files(&table, rows(0..30)).await).with_offsets(offset_ranges(First(0), 30));
    lake.rewritten(&table, |json| {
        let mut spec = json["partition-specs"][0].clone();
        spec["spec-id"] = 7.into();
        spec["fields"][0]["transform"] = "truncate[100]".into();
        json["partition-specs"].as_array_mut().unwrap().push(spec);
        json["default-spec-id"] = 7.into();
    })
    .await;
    let error = lake.catalog.apply(&table, &append).await.into_result().unwrap_err();
    assert!(matches!(error, LakehouseError::SchemaChanged { what: "partition spec", to: 7, .. }), "{error}");
    assert_eq!(lake.count("t").await, 0);
    // Offsets alone have no partition.
    let offsets = Change::append(&table, vec![]).with_offsets(offset_ranges(First(0), 30));
    lake.catalog.apply(&table, &offsets).await.into_result().unwrap();
}

#[tokio::test]
async fn a_table_created_again_under_its_name_takes_nothing_meant_for_the_old_one() {
    let lake = Lake::new().await;
    let old = lake.table("t").await;
    let append = Change::append(&old, lake.files(&old, rows(0..3)).await).with_offsets(offset_ranges(First(0), 3));
    lake.catalog.drop_table(&old).await.unwrap();
    lake.table("t").await;
    let outcome = lake.catalog.apply(&old, &append).await;
    assert!(matches!(outcome, CommitOutcome::Lost(LakehouseError::OtherTable { .. })), "{outcome:?}");
    // An earlier try may have been made before the drop.
    let outcome = lake.catalog.apply(&old, &append.after_unknown()).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(LakehouseError::CommitUnknown { .. })), "{outcome:?}");
    assert_eq!(lake.count("t").await, 0);
}

#[tokio::test]
async fn a_contract_revision_only_goes_up() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let five = lake.catalog.apply(&table, &revision(5)).await.into_result().unwrap();
    assert!(!five.already);
    assert!(
        lake.catalog.apply(&table, &revision(5)).await.into_result().unwrap().already,
        "a publisher that died may try again"
    );
    let late = lake.catalog.apply(&table, &revision(4)).await.into_result().unwrap_err();
    assert!(matches!(late, LakehouseError::RevisionNotNewer { have: 5, offered: 4, .. }), "{late}");
}

#[tokio::test]
async fn a_hundred_small_manifests_become_one() {
    let lake = Lake::new().await;
    let mut table = lake.table("t").await;
    let mut counts = Vec::new();
    for n in 0..102 {
        table = lake.append(&table, rows(n..n + 1)).await;
        counts.push(table.manifests(table.current_snapshot().unwrap()).await.unwrap().len());
    }
    assert_eq!(counts[97..], [98, 99, 1, 2, 3]);
    assert_eq!(lake.count("t").await, 102);
    let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap();
    let merged = manifests.iter().find(|m| m.existing_files_count == Some(99)).unwrap();
    assert_eq!((merged.content, merged.min_sequence_number), (ManifestContentType::Data, 1));
    let entries = table.store().manifest(merged).await.unwrap();
    let snapshots: HashSet<_> = entries.entries().iter().map(|e| e.snapshot_id()).collect();
    assert_eq!(snapshots.len(), 100, "every file still says which snapshot added it");
}

#[tokio::test]
async fn metadata_files_beyond_five_are_handed_out() {
    let lake = Lake::new().await;
    let mut table = lake.table("t").await;
    let mut retired = Vec::new();
    let first = table.metadata_location().to_owned();
    for n in 1..=6 {
        let evolved = lake.catalog.apply(&table, &revision(n)).await.into_result().unwrap();
        table = evolved.table;
        retired.extend(evolved.retired_metadata);
    }
    assert_eq!(retired, [first]);
    crate::maintenance::delete_files(table.store(), &retired).await.unwrap();
    assert!(!crate::store::local_path(&retired[0]).exists());
}

#[tokio::test]
async fn a_table_of_the_version_before_keeps_five_from_its_next_commit_on() {
    let lake = Lake::new().await;
    let table = lake.append(&lake.table("t").await, rows(0..1)).await;
    let before = table.metadata_location().to_owned();
    let table = lake
        .rewritten(&table, |json| {
            json["properties"].as_object_mut().unwrap().remove(summary::METADATA_VERSIONS);
            let entry = serde_json::json!({"metadata-file": before, "timestamp-ms": json["last-updated-ms"]});
            json["metadata-log"] = vec![entry; 99].into();
        })
        .await;
    let after = lake.catalog.apply(&table, &Change::append(&table, vec![])).await.into_result().unwrap();
    assert_eq!((after.table.metadata().metadata_log().len(), after.retired_metadata.len()), (5, 95));
}

#[tokio::test]
async fn a_clock_that_went_back_does_not_stop_commits() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    // The last committer's clock was an hour ahead.
    let table = lake
        .rewritten(&table, |json| {
            json["last-updated-ms"] = (json["last-updated-ms"].as_i64().unwrap() + 3_600_000).into()
        })
        .await;
    let after = lake.append(&table, rows(0..1)).await;
    assert_eq!(after.current_snapshot().unwrap().timestamp_ms(), table.metadata().last_updated_ms());
}

#[tokio::test]
async fn the_retention_of_main_is_kept() {
    let lake = Lake::new().await;
    let table = lake.append(&lake.table("t").await, rows(0..1)).await;
    let table = lake.rewritten(&table, |json| json["refs"]["main"]["min-snapshots-to-keep"] = 7.into()).await;
    let after = lake.append(&table, rows(1..2)).await;
    let json = serde_json::to_value(after.metadata().as_ref()).unwrap();
    assert_eq!(json["refs"]["main"]["min-snapshots-to-keep"], 7);
}

#[tokio::test]
async fn totals_that_a_foreign_engine_left_out_are_counted() {
    let lake = Lake::new().await;
    let table = lake.append(&lake.table("t").await, rows(0..4)).await;
    let table = lake
        .rewritten(&table, |json| {
            let summary = json["snapshots"][0]["summary"].as_object_mut().unwrap();
            summary.retain(|key, _| key == "operation");
        })
        .await;
    let after = lake.append(&table, rows(4..6)).await;
    assert_eq!((entry(&after, "total-records"), entry(&after, "total-data-files")), (Some("6"), Some("2")));
    assert_eq!(entry(&after, "total-files-size"), None, "not guessed");
}

#[tokio::test]
async fn a_commit_that_cannot_write_leaves_the_table_as_it_was() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let files = lake.files(&table, rows(0..1)).await;
    // Root may write anywhere, so a file where the folder must be stands for a missing right.
    let metadata = crate::store::local_path(table.metadata().location()).join("metadata");
    std::fs::rename(&metadata, metadata.with_extension("away")).unwrap();
    std::fs::write(&metadata, b"").unwrap();
    let error = lake.catalog.apply(&table, &Change::append(&table, files)).await.into_result().unwrap_err();
    assert!(matches!(error, LakehouseError::File { .. }), "{error:?}");
    assert_eq!(
        lake.catalog.load(&ident("t")).await.map(|t| t.metadata_location().to_owned()).unwrap(),
        table.metadata_location()
    );
}
