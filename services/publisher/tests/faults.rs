//! SIGKILL at each named stage, then a restart: the same topics, tables, verdicts and announcements as undisturbed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code, unreachable_pub)]

mod mesh;

use std::collections::BTreeSet;

use mesh::{Mesh, NARROW, OPS_KEY, Publisher, WIDE, flights, until};
use pretty_assertions::assert_eq;
use rand::seq::IndexedRandom as _;

/// How many faults a run of this test tries, of all there are.
const FAULTS: usize = 4;
/// How many run side by side, each on a mesh of its own: they wait more than they work.
const AT_ONCE: usize = 4;
const TABLE: &str = "operations.flights_v1";

/// What a run leaves behind.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// State and subject of each document's verdict, in the order of submission.
    verdicts: Vec<(String, String)>,
    contracts: Vec<(String, i64)>,
    columns: Vec<String>,
    topic: i32,
    subjects: usize,
    announced: usize,
}

/// Asks for each thing until it is done; a publisher that dies is started again without a fault.
async fn run(fault: Option<&str>) -> Outcome {
    let mesh = Mesh::start().await;
    // The principals come in undisturbed; the fault waits for the contract.
    mesh.publisher(None).await.with_ops().await.stop().await;
    let mut publisher = mesh.publisher(fault).await;
    let mut killed = false;
    for document in [flights("avro", "1.0.0", NARROW), flights("avro", "1.1.0", WIDE)] {
        let before = mesh.events(mesh_proto::topics::SUBMISSIONS).await.len();
        if publisher.try_post(Some(OPS_KEY), "file=f.yaml", &document).await.is_err() {
            publisher = again(&mesh, publisher, fault).await;
            killed = true;
            // Where the door died before it wrote anything down, its client asks again.
            if mesh.events(mesh_proto::topics::SUBMISSIONS).await.len() == before {
                publisher.post(Some(OPS_KEY), "file=f.yaml", &document).await;
            }
        }
        settle(&mesh).await;
    }
    for column in ["flight", "carrier"] {
        if register(&publisher, column).await.is_err() {
            publisher = again(&mesh, publisher, fault).await;
            killed = true;
            register(&publisher, column).await.unwrap();
        }
    }
    let mut committed = Vec::new();
    for watermark in 0..3 {
        committed.push(mesh.snapshot(TABLE, watermark).await);
        if !announces(&mesh, &mut publisher, &committed).await {
            publisher = again(&mesh, publisher, fault).await;
            killed = true;
            assert!(announces(&mesh, &mut publisher, &committed).await, "it died without a fault");
        }
    }
    assert_eq!(killed, fault.is_some(), "{fault:?} was never passed");
    let outcome = outcome(&mesh).await;
    publisher.stop().await;
    outcome
}

async fn again(mesh: &Mesh, mut dead: Publisher, fault: Option<&str>) -> Publisher {
    assert!(fault.is_some(), "nobody killed it");
    dead.child.wait().await.unwrap();
    mesh.publisher(None).await
}

/// Waits until all of these are announced and remembered; false if the publisher dies before that.
async fn announces(mesh: &Mesh, publisher: &mut Publisher, committed: &[i64]) -> bool {
    let began = std::time::Instant::now();
    loop {
        // Dead first: one that dies after its last word is dead all the same.
        let dead = publisher.child.try_wait().unwrap().is_some();
        if dead || (distinct(mesh).await == committed && remembered(mesh).await == committed.last().copied()) {
            return !dead;
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "waited in vain for {committed:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The snapshot that `mesh.announced` names.
async fn remembered(mesh: &Mesh) -> Option<i64> {
    let last = mesh.events(mesh_proto::topics::ANNOUNCED).await.pop()?;
    last.decode::<mesh_proto::v1::Announced>().unwrap().snapshot_id
}

async fn register(publisher: &Publisher, column: &str) -> reqwest::Result<reqwest::StatusCode> {
    let of = if column == "flight" { "long" } else { "string" };
    let field = serde_json::json!({ "name": column, "type": ["null", of], "default": null });
    let schema = serde_json::json!({ "type": "record", "name": "f", "fields": [field] }).to_string();
    let url = format!("{}/subjects/operations.flights.v1-value/versions", publisher.url);
    let response = reqwest::Client::new()
        .post(url)
        .bearer_auth(OPS_KEY)
        .json(&serde_json::json!({ "schema": schema }))
        .send()
        .await?;
    assert_eq!(response.status(), 200);
    Ok(response.status())
}

/// Every submission has its verdict.
async fn settle(mesh: &Mesh) {
    until("every submission is judged", || async {
        let submitted = mesh.events(mesh_proto::topics::SUBMISSIONS).await.len();
        (mesh.verdicts().await.len() == submitted).then_some(())
    })
    .await;
}

/// The announced snapshots; the same one again is dropped, as subscribers do.
async fn distinct(mesh: &Mesh) -> Vec<i64> {
    let mut seen = BTreeSet::new();
    mesh.announced().await.into_iter().filter(|id| seen.insert(*id)).collect()
}

async fn outcome(mesh: &Mesh) -> Outcome {
    let table = mesh.table(TABLE).await.unwrap();
    let contracts = mesh.events(mesh_proto::topics::CONTRACTS).await;
    let contracts: BTreeSet<(String, i64)> = contracts
        .into_iter()
        .map(|event| event.decode::<mesh_proto::v1::ActiveContract>().unwrap())
        .map(|active| (active.contract_id, active.revision))
        .collect();
    let mut by_offset: Vec<_> = mesh.verdicts().await.into_iter().collect();
    by_offset.sort_by_key(|(id, _)| id.split('.').next().unwrap().parse::<i64>().unwrap());
    let subjects: BTreeSet<String> = mesh
        .events(mesh_proto::topics::SCHEMAS)
        .await
        .into_iter()
        .map(|event| event.decode::<mesh_proto::v1::RegisteredSchema>().unwrap().fingerprint)
        .collect();
    assert!(mesh.table("operations.flights_v1_dead_letters").await.is_some());
    Outcome {
        verdicts: by_offset.into_iter().map(|(_, verdict)| verdict).collect(),
        contracts: contracts.into_iter().collect(),
        columns: table.schema().as_struct().fields().iter().map(|field| field.name.clone()).collect(),
        topic: mesh.bus.describe_topic("operations.flights.v1").await.unwrap().partitions,
        subjects: subjects.len(),
        announced: mesh.announced().await.into_iter().collect::<BTreeSet<_>>().len(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_stage_changes_nothing_that_lasts() {
    let undisturbed = run(None).await;
    assert_eq!(undisturbed.contracts, [("urn:flights".to_owned(), 1), ("urn:flights".to_owned(), 2)]);
    for some in chosen().chunks(AT_ONCE) {
        eprintln!("{}", some.join(" "));
        let mut runs = tokio::task::JoinSet::new();
        for fault in some.iter().cloned() {
            runs.spawn(async move { (run(Some(&fault)).await, fault) });
        }
        while let Some(ended) = runs.join_next().await {
            let (outcome, fault) = ended.unwrap();
            assert_eq!(outcome, undisturbed, "{fault}");
        }
    }
}

/// A few faults by the seed; with `MESH_FAULTS=all` every one.
fn chosen() -> Vec<String> {
    let faults = mesh_publisher::FAULT_POINTS.iter().flat_map(|point| [1, 2].map(|pass| format!("{point}@{pass}")));
    let faults: Vec<String> = faults.collect();
    if std::env::var("MESH_FAULTS").is_ok_and(|which| which == "all") {
        return faults;
    }
    let mut rng = mesh_testkit::Seed::from_env_or_random().unwrap().rng();
    faults.choose_multiple(&mut rng, FAULTS).cloned().collect()
}
