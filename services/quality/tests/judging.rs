//! Quality as its neighbours see it: contracts and snapshots in, verdicts and incidents out, whatever kills it meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod mesh;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh::{Row, TestMesh};
use mesh_proto::v1::Outcome;

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
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    let mut quality = mesh.quality(None).await;
    mesh.settles(&unjudged()).await;
    mesh.commit(&contract, FIRST).await;
    mesh.settles(AFTER_FIRST).await;
    let last = mesh.commit(&contract, SECOND).await;
    mesh.settles(AFTER_SECOND).await;
    mesh.incidents_settle(&[
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

    let verdicts = mesh.verdicts().await;
    let counted = verdicts.iter().filter(|(_, verdict)| verdict.to_snapshot_id == Some(last)).count();
    assert_eq!(counted, 8, "one verdict of each check that looks at the table");
    let before = (verdicts.len(), mesh.incidents().await.len());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((mesh.verdicts().await.len(), mesh.incidents().await.len()), before, "AT-REST");
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
    let mesh = TestMesh::new().await;
    let fresh = |latency: &str| {
        format!(
            "{HEAD}\nslaProperties: [{{property: latency, value: {latency}}}]\nschema:\n  - name: orders\n    properties: [{{name: id, logicalType: integer, required: true}}, {{name: kind, logicalType: string}}, {{name: amount, logicalType: integer}}]\n"
        )
    };
    // So long that a busy machine sees the commit before it is stale.
    let contract = mesh.admit(&fresh("8, unit: s"), 1).await;
    let _quality = mesh.quality(None).await;
    mesh.settles(&[("sla.latency", "fail")]).await;
    mesh.incidents_settle(&[("sla.latency", "opened")]).await;
    mesh.commit(&contract, FIRST).await;
    mesh.outcomes_follow("sla.latency", &[Outcome::Fail, Outcome::Pass, Outcome::Fail]).await;
    mesh.incidents_settle(&[("sla.latency", "opened")]).await;
    let told = mesh.verdicts().await.len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mesh.verdicts().await.len(), told, "the clock speaks only when it has news");

    mesh.admit(&fresh("1, unit: h"), 2).await;
    mesh.settles(&[("sla.latency", "pass")]).await;
    mesh.incidents_settle(&[("sla.latency", "resolved")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_is_an_error_and_so_is_another_of_its_name_until_the_contract_is_applied_again() {
    let mesh = TestMesh::new().await;
    let document = contract("1, unit: h");
    let contract = mesh.admit(&document, 1).await;
    mesh.commit(&contract, SECOND).await;
    let mut quality = mesh.quality(None).await;
    mesh.outcomes_follow("/some", &[Outcome::Pass]).await;
    mesh.drop_table(&contract).await;
    mesh.outcomes_follow("/some", &[Outcome::Pass, Outcome::Error]).await;
    mesh.outcomes_follow("/sla.latency", &[Outcome::Pass, Outcome::Error]).await;
    assert!(quality.is_running());
    let gone = mesh.last().await;
    drop(quality);
    let mut quality = mesh.quality(None).await;
    quality.settles_down().await;
    assert_eq!(mesh.last().await, gone, "who starts anew says the same");
    mesh.recreate_table(&contract).await;
    mesh.commit(&contract, FIRST).await;
    mesh.detail_follows("/some", "MESH-LAKEHOUSE-0023").await;
    mesh.detail_follows("/sla.latency", "MESH-LAKEHOUSE-0023").await;
    mesh.admit(&document, 2).await;
    mesh.outcomes_follow("/some", &[Outcome::Error, Outcome::Fail]).await;
    mesh.outcomes_follow("/sla.latency", &[Outcome::Error, Outcome::Pass]).await;
    mesh.settles(AFTER_FIRST).await;
    assert!(quality.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_was_retired_while_nobody_judged_leaves_no_open_incident() {
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, SECOND).await;
    let quality = mesh.quality(None).await;
    let failing = ["nulls", "odd", "primaryKey", "query", "share", "soda"];
    mesh.incidents_settle(&failing.map(|check| (check, "opened"))).await;
    drop(quality);
    mesh.retire(&contract).await;
    let _quality = mesh.quality(None).await;
    mesh.incidents_settle(&failing.map(|check| (check, "resolved"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_whose_record_cannot_be_read_is_shown_and_holds_up_no_other() {
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, FIRST).await;
    mesh.foreign_contract("urn:somebody@1").await;
    let quality = mesh.quality(None).await;
    mesh.settles(AFTER_FIRST).await;
    let (status, page) = quality.readiness().await;
    assert!(status == 503 && page.contains("urn:somebody@1"), "{status}: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_has_verdicts_that_say_so() {
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, FIRST).await;
    let file = mesh.metadata_file(&contract).await;
    let hidden = file.with_extension("hidden");
    std::fs::rename(&file, &hidden).unwrap();
    let _quality = mesh.quality(None).await;
    mesh.settles(&AFTER_FIRST.iter().map(|(check, _)| (*check, "error")).collect::<Vec<_>>()).await;
    std::fs::rename(&hidden, &file).unwrap();
    mesh.settles(AFTER_FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_are_tried_again_without_another_commit() {
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, FIRST).await;
    let file = mesh.data_file();
    let hidden = file.with_extension("hidden");
    std::fs::rename(&file, &hidden).unwrap();
    let _quality = mesh.quality(None).await;
    // What manifests tell is told.
    let unread = ["form", "given", "kinds", "primaryKey", "repeated"];
    let told = AFTER_FIRST.iter().map(|(check, said)| (*check, if unread.contains(check) { "error" } else { *said }));
    mesh.settles(&told.collect::<Vec<_>>()).await;
    std::fs::rename(&hidden, &file).unwrap();
    mesh.settles(AFTER_FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_is_not_counted_again() {
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, FIRST).await;
    let quality = mesh.quality_with(None, "2s").await;
    mesh.outcomes_follow("/some", &[Outcome::Fail]).await;
    mesh.commit(&contract, SECOND).await;
    // The whole table's checks come later, alone.
    mesh.settles(AFTER_SECOND).await;
    let last = mesh.commit(&contract, &[(9, Some("b"), Some(9))]).await;
    let begun = std::time::Instant::now();
    while !mesh.verdicts().await.iter().any(|(_, v)| v.to_snapshot_id == Some(last) && v.metric == "invalidValues") {
        assert!(begun.elapsed() < Duration::from_secs(60), "the third commit is not judged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(quality.metric("mesh_quality_rows_measured_total").await, 2 + 3 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_contract_leaves_no_open_incident() {
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, SECOND).await;
    let _quality = mesh.quality(None).await;
    let failing = ["nulls", "odd", "primaryKey", "query", "share", "soda"];
    mesh.incidents_settle(&failing.map(|check| (check, "opened"))).await;
    mesh.retire(&contract).await;
    mesh.incidents_settle(&failing.map(|check| (check, "resolved"))).await;
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
    let mesh = TestMesh::new().await;
    let contract = mesh.admit(&contract("1, unit: h"), 1).await;
    mesh.commit(&contract, FIRST).await;
    let mut killed = mesh.quality(Some((point, at))).await;
    if at == 2 && point != "quality.incidents.after" {
        mesh.settles(AFTER_FIRST).await;
        mesh.commit(&contract, SECOND).await;
        killed.dies().await;
    } else {
        killed.dies().await;
        mesh.commit(&contract, SECOND).await;
    }
    let _quality = mesh.quality(None).await;
    mesh.settles(AFTER_SECOND).await;
    let failing = AFTER_SECOND.iter().filter(|(_, said)| said.starts_with("fail") || *said == "error");
    mesh.open_incidents_settle(&failing.map(|(check, _)| *check).collect()).await;
    one_id_each(&mesh).await;
}

async fn one_id_each(mesh: &TestMesh) {
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, verdict) in mesh.verdicts().await {
        if let Some(snapshot) = verdict.to_snapshot_id {
            ids.entry(format!("{} {snapshot}", verdict.check_id)).or_default().insert(id);
        }
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:#?}");
    let mut opened: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, incident) in mesh.incidents().await {
        opened.entry(incident.check_id).or_default().insert(incident.incident_id);
    }
    assert!(opened.values().all(|ids| ids.len() == 1), "{opened:#?}");
}
