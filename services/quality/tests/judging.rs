//! Quality as its neighbours see it: contracts and snapshots in, verdicts and incidents out, whatever kills it meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_proto::v1::Outcome;
use world::{Row, World};

const HEAD: &str = r"
apiVersion: v3.1.0
kind: DataContract
id: urn:test:orders
name: Orders
version: 1.0.0
status: active
domain: shop
dataProduct: orders
servers: [{server: mesh, type: kafka, host: 'mesh:9092', format: json}]
";

/// Every metric, an SLA, and checks that nobody can run.
fn contract(latency: &str) -> String {
    format!(
        "{HEAD}
slaProperties: [{{property: latency, value: {latency}}}]
schema:
  - name: orders
    physicalType: topic
    physicalName: shop.orders.v1
    quality:
      - {{id: some, metric: rowCount, mustBeGreaterOrEqualTo: 3, unit: rows}}
      - {{id: share, metric: rowCount, mustBe: 3, unit: percent}}
      - {{id: soda, type: custom, engine: soda, implementation: 'checks'}}
      - {{id: query, type: sql, query: 'SELECT 1', mustBe: 1}}
      - {{id: words, type: text, description: Orders are nice.}}
    properties:
      - {{name: id, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 1}}
      - name: kind
        logicalType: string
        quality:
          - {{id: kinds, metric: invalidValues, arguments: {{validValues: [a, b]}}, mustBe: 0, unit: rows}}
          - {{id: form, metric: invalidValues, arguments: {{pattern: '^[a-z]$'}}, mustBe: 0, unit: rows}}
          - {{id: given, metric: missingValues, arguments: {{missingValues: [null, '?']}}, mustBeLessThan: 50, unit: percent}}
      - name: amount
        logicalType: integer
        quality:
          - {{id: nulls, metric: nullValues, mustBe: 1, unit: rows}}
          - {{id: repeated, metric: duplicateValues, mustBeLessOrEqualTo: 1, unit: rows}}
          - {{id: odd, metric: invalidValues, arguments: {{pattern: '^1'}}, mustBe: 0, unit: rows}}
"
    )
}

const FIRST: &[Row] = &[(1, Some("a"), Some(10)), (2, Some("?"), None)];
const SECOND: &[Row] = &[(3, Some("b"), Some(10)), (3, Some("a"), Some(11)), (4, None, Some(11))];

const AFTER_FIRST: &[(&str, &str)] = &[
    ("form", "fail 1 of 2 rows"),
    ("given", "fail 50 percent (1 of 2 rows)"),
    ("kinds", "fail 1 of 2 rows"),
    ("nulls", "pass 1 of 2 rows"),
    ("odd", "error"),
    ("primaryKey", "pass 0 of 2 rows"),
    ("query", "error"),
    ("repeated", "pass 0 of 2 rows"),
    ("share", "error"),
    ("sla.latency", "pass"),
    ("soda", "error"),
    ("some", "fail 2 rows"),
];

const AFTER_SECOND: &[(&str, &str)] = &[
    ("form", "fail 1 of 5 rows"),
    ("given", "pass 40 percent (2 of 5 rows)"),
    ("kinds", "fail 1 of 5 rows"),
    ("nulls", "pass 1 of 5 rows"),
    ("odd", "error"),
    ("primaryKey", "fail 1 of 5 rows"),
    ("query", "error"),
    ("repeated", "fail 2 of 5 rows"),
    ("share", "error"),
    ("sla.latency", "pass"),
    ("soda", "error"),
    ("some", "pass 5 rows"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_check_is_judged_on_the_whole_table_and_then_there_is_rest() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    let mut quality = world.quality(None);
    world.settles(&unjudged()).await;
    world.commit(&contract, FIRST).await;
    world.settles(AFTER_FIRST).await;
    let last = world.commit(&contract, SECOND).await;
    world.settles(AFTER_SECOND).await;
    world
        .incidents_settle(&[
            ("form", "ongoing"),
            ("given", "resolved"),
            ("kinds", "ongoing"),
            ("odd", "opened"),
            ("primaryKey", "opened"),
            ("query", "opened"),
            ("repeated", "opened"),
            ("share", "opened"),
            ("soda", "opened"),
            ("some", "resolved"),
        ])
        .await;

    let verdicts = world.verdicts().await;
    let counted = verdicts.iter().filter(|(_, verdict)| verdict.to_snapshot_id == Some(last)).count();
    assert_eq!(counted, 8, "one verdict of each check that looks at the table");
    let before = (verdicts.len(), world.incidents().await.len());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((world.verdicts().await.len(), world.incidents().await.len()), before, "AT-REST");
    assert!(quality.is_running());
}

/// What is said of a table without a snapshot.
fn unjudged() -> Vec<(&'static str, &'static str)> {
    let impossible = ["query", "share", "soda"];
    let outcome = |check: &str| if impossible.contains(&check) { "error" } else { "no_data" };
    AFTER_FIRST.iter().map(|(check, _)| (*check, outcome(check))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_alone_makes_a_product_stale_and_a_commit_makes_it_fresh() {
    let world = World::new().await;
    let fresh = |latency: &str| {
        format!(
            "{HEAD}\nslaProperties: [{{property: latency, value: {latency}}}]\nschema:\n  - name: orders\n    properties: [{{name: id, logicalType: integer, required: true}}, {{name: kind, logicalType: string}}, {{name: amount, logicalType: integer}}]\n"
        )
    };
    // So long that a busy machine sees the commit before it is stale.
    let contract = world.admit(&fresh("8, unit: s"), 1).await;
    let _quality = world.quality(None);
    world.settles(&[("sla.latency", "fail")]).await;
    world.incidents_settle(&[("sla.latency", "opened")]).await;
    world.commit(&contract, FIRST).await;
    world.outcomes_follow("sla.latency", &[Outcome::Fail, Outcome::Pass, Outcome::Fail]).await;
    world.incidents_settle(&[("sla.latency", "opened")]).await;
    let told = world.verdicts().await.len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.verdicts().await.len(), told, "the clock speaks only when it has news");

    world.admit(&fresh("1, unit: h"), 2).await;
    world.settles(&[("sla.latency", "pass")]).await;
    world.incidents_settle(&[("sla.latency", "resolved")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_is_said_to_be_and_another_of_its_name_is_judged() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, SECOND).await;
    let mut quality = world.quality(None);
    world.outcomes_follow("/some", &[Outcome::Pass]).await;
    world.drop_table(&contract).await;
    world.outcomes_follow("/some", &[Outcome::Pass, Outcome::Error]).await;
    world.outcomes_follow("/sla.latency", &[Outcome::Pass, Outcome::Error]).await;
    assert!(quality.is_running());
    let gone = world.last().await;
    drop(quality);
    let mut quality = world.quality(None);
    quality.settles_down().await;
    assert_eq!(world.last().await, gone, "who starts anew says the same");
    world.recreate_table(&contract).await;
    world.outcomes_follow("/some", &[Outcome::Error, Outcome::NoData]).await;
    world.outcomes_follow("/sla.latency", &[Outcome::Error, Outcome::NoData]).await;
    world.commit(&contract, FIRST).await;
    world.settles(AFTER_FIRST).await;
    assert!(quality.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_was_retired_while_nobody_judged_leaves_no_open_incident() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, SECOND).await;
    let quality = world.quality(None);
    let failing = ["nulls", "odd", "primaryKey", "query", "share", "soda"];
    world.incidents_settle(&failing.map(|check| (check, "opened"))).await;
    drop(quality);
    world.retire(&contract).await;
    let _quality = world.quality(None);
    world.incidents_settle(&failing.map(|check| (check, "resolved"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_whose_record_cannot_be_read_is_shown_and_holds_up_no_other() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, FIRST).await;
    world.foreign_contract("urn:somebody@1").await;
    let mut quality = world.quality(None);
    world.settles(AFTER_FIRST).await;
    let ready = quality.page("/health/ready");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("urn:somebody@1"), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_has_verdicts_that_say_so() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, FIRST).await;
    let file = world.metadata_file(&contract).await;
    let hidden = file.with_extension("hidden");
    std::fs::rename(&file, &hidden).unwrap();
    let _quality = world.quality(None);
    world.settles(&AFTER_FIRST.iter().map(|(check, _)| (*check, "error")).collect::<Vec<_>>()).await;
    std::fs::rename(&hidden, &file).unwrap();
    world.settles(AFTER_FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_are_tried_again_without_another_commit() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, FIRST).await;
    let file = world.data_file();
    let hidden = file.with_extension("hidden");
    std::fs::rename(&file, &hidden).unwrap();
    let _quality = world.quality(None);
    // What manifests tell is told.
    let unread = ["form", "given", "kinds", "primaryKey", "repeated"];
    let told = AFTER_FIRST.iter().map(|(check, said)| (*check, if unread.contains(check) { "error" } else { *said }));
    world.settles(&told.collect::<Vec<_>>()).await;
    std::fs::rename(&hidden, &file).unwrap();
    world.settles(AFTER_FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_is_not_counted_again() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, FIRST).await;
    let mut quality = world.quality_with(None, "2s");
    world.outcomes_follow("/some", &[Outcome::Fail]).await;
    world.commit(&contract, SECOND).await;
    // The whole table's checks come later, alone.
    world.settles(AFTER_SECOND).await;
    let last = world.commit(&contract, &[(9, Some("b"), Some(9))]).await;
    let begun = std::time::Instant::now();
    while !world.verdicts().await.iter().any(|(_, v)| v.to_snapshot_id == Some(last) && v.metric == "invalidValues") {
        assert!(begun.elapsed() < Duration::from_secs(60), "the third commit is not judged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(quality.metric("mesh_quality_rows_measured_total"), 2 + 3 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_contract_leaves_no_open_incident() {
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, SECOND).await;
    let _quality = world.quality(None);
    let failing = ["nulls", "odd", "primaryKey", "query", "share", "soda"];
    world.incidents_settle(&failing.map(|check| (check, "opened"))).await;
    world.retire(&contract).await;
    world.incidents_settle(&failing.map(|check| (check, "resolved"))).await;
}

/// SIGKILL at every named point, at its first and a later pass, then a restart: the last verdict of every check is that
/// of an undisturbed run, and what was said twice has one id.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_changes_no_verdict() {
    for point in mesh_quality::FAULT_POINTS {
        for at in [1, 2] {
            if *point == "quality.recover.done" && at == 2 {
                continue;
            }
            survives(point, at).await;
        }
    }
}

async fn survives(point: &str, at: u32) {
    eprintln!("{point}@{at}");
    let world = World::new().await;
    let contract = world.admit(&contract("1, unit: h"), 1).await;
    world.commit(&contract, FIRST).await;
    let mut killed = world.quality(Some((point, at)));
    if at == 2 && point != "quality.incidents.after" {
        world.settles(AFTER_FIRST).await;
        world.commit(&contract, SECOND).await;
        killed.dies().await;
    } else {
        killed.dies().await;
        world.commit(&contract, SECOND).await;
    }
    let _quality = world.quality(None);
    world.settles(AFTER_SECOND).await;
    let failing = AFTER_SECOND.iter().filter(|(_, said)| said.starts_with("fail") || *said == "error");
    world.open_incidents_settle(&failing.map(|(check, _)| *check).collect()).await;
    one_id_each(&world).await;
}

async fn one_id_each(world: &World) {
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, verdict) in world.verdicts().await {
        if let Some(snapshot) = verdict.to_snapshot_id {
            ids.entry(format!("{} {snapshot}", verdict.check_id)).or_default().insert(id);
        }
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:#?}");
    let mut opened: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, incident) in world.incidents().await {
        opened.entry(incident.check_id).or_default().insert(incident.incident_id);
    }
    assert!(opened.values().all(|ids| ids.len() == 1), "{opened:#?}");
}
