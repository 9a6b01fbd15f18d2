//! Every long task of every service is made to panic and to return, and each time an operator sees it: readiness and
//! `mesh_up` name the task within seconds, or the process ends with an error that does.
//!
//! The services are the real ones, in this process, on a local bus and a catalog; the tasks are those that each
//! service's supervisor lists.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_bus::{Bus, ProducerOptions};
use mesh_lakehouse::CatalogConfig;
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{DocumentKind, Submission};
use mesh_runtime::credentials::key_sha256;
use mesh_runtime::fault::TaskFault;
use mesh_runtime::health::Status;
use mesh_runtime::{Context, Service, report};
use mesh_testkit::{Broker, eventually, local_broker};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// As long as a loaded machine may take to start something.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a task that went away must be seen.
const SEEN: Duration = Duration::from_secs(10);

const CONTRACT: &str = "apiVersion: v3.1.0\nkind: DataContract\nid: urn:test:shop:things\nname: things\nversion: 1.0.0\n\
    status: active\ndomain: shop\ndataProduct: things\nservers:\n  - server: mesh\n    type: kafka\n    host: mesh:9092\n    \
    format: json\nschema:\n  - name: things\n    physicalType: topic\n    physicalName: shop.things.v1\n    properties:\n      \
    - name: id\n        logicalType: integer\n        required: true\n";

/// What all four services share.
struct Ground {
    folder: TempDir,
    broker: Broker,
}

impl Ground {
    /// The configuration of a service, with sections of its own.
    fn config(&self, sections: Value) -> Value {
        let mut config =
            json!({ "bus": self.broker.config(), "catalog": CatalogConfig::in_folder(self.folder.path()) });
        config.as_object_mut().unwrap().extend(sections.as_object().unwrap().clone());
        config
    }
}

/// A service that runs in this process.
struct Running {
    context: Context,
    run: JoinHandle<Result<(), String>>,
}

impl Running {
    async fn start<S: Service>(config: &Value) -> Self {
        let context = Context::detached();
        let config: S::Config = serde_json::from_value(config.clone()).unwrap();
        let service = S::build(config, context.clone()).await.unwrap();
        let shutdown = context.shutdown.clone();
        let run = tokio::spawn(async move { service.run(shutdown).await.map_err(|error| report::chain(&error)) });
        Self { context, run }
    }

    fn has(&self, task: &str) -> bool {
        self.context.tasks.names().iter().any(|name| name == task)
    }

    async fn stop(self) {
        self.context.shutdown.request();
        self.run.await.unwrap().unwrap();
    }
}

/// How the end of a task was seen.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Readiness was down under the task's name.
    NotReady,
    /// The service ended with an error that names the task.
    ServiceEnded,
}

/// Takes every task of the service away in both ways.
async fn each_end_is_seen<S: Service>(config: Value, tasks: &[&str]) {
    let expected: BTreeSet<String> = tasks.iter().map(ToString::to_string).collect();
    let mut running = Running::start::<S>(&config).await;
    eventually("all tasks", PATIENCE, || async {
        let names: BTreeSet<String> = running.context.tasks.names().into_iter().collect();
        (names == expected && running.context.health.is_ready()).then_some(())
    })
    .await
    .unwrap_or_else(|_| {
        panic!("{}: {:?}, {:?}", S::NAME, running.context.tasks.names(), running.context.health.checks())
    });
    for task in tasks {
        for fault in [TaskFault::Panic, TaskFault::Return] {
            eventually(task, PATIENCE, || async { running.has(task).then_some(()) }).await.unwrap();
            running.context.tasks.arm(task, fault);
            let seen = tokio::time::timeout(SEEN, seen(&mut running, task, fault)).await;
            let outcome = seen.unwrap_or_else(|_| {
                panic!(
                    "{}: `{task}` went away by {fault:?} and nothing shows it: {:?}",
                    S::NAME,
                    running.context.health.checks()
                )
            });
            if outcome == Outcome::ServiceEnded {
                running = Running::start::<S>(&config).await;
            }
        }
    }
    running.stop().await;
}

async fn seen(running: &mut Running, task: &str, fault: TaskFault) -> Outcome {
    let code = if fault == TaskFault::Panic { "MESH-RUNTIME-0007" } else { "MESH-RUNTIME-0012" };
    loop {
        if running.run.is_finished() {
            let error = (&mut running.run).await.unwrap().unwrap_err();
            assert!(error.contains(&format!("`{task}`")), "{error}");
            return Outcome::ServiceEnded;
        }
        let status = running.context.health.checks().remove(task);
        let is_fatal = matches!(&status, Some(Status::Down { reason }) if reason.contains("is not restarted"));
        if matches!(&status, Some(Status::Down { reason }) if reason.contains(code)) && !is_fatal {
            let metrics = running.context.metrics.render();
            assert!(metrics.contains(&format!("mesh_up{{part=\"{task}\"}} 0\n")), "{metrics}");
            return Outcome::NotReady;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Submits the contract as the publisher's listener does.
async fn submit(bus: &Bus) {
    let submission = Submission {
        submission_id: "s1".into(),
        principal: "admin".into(),
        kind: DocumentKind::Contract.into(),
        document: CONTRACT.into(),
        file_name: "things.odcs.yaml".into(),
        submitted_at: Some(mesh_proto::timestamp(chrono::Utc::now())),
    };
    let event =
        Event::new(types::SUBMITTED, "/meshwork/test/publisher", "s1", chrono::Utc::now(), &submission).unwrap();
    let producer = bus.producer(ProducerOptions::default()).unwrap();
    producer.publish(topics::SUBMISSIONS, &event.keyed("shop.things")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_goes_away_is_seen_in_every_service() {
    let ground = Ground { folder: tempfile::tempdir().unwrap(), broker: local_broker().await.unwrap() };
    let publisher = ground.config(json!({ "bootstrap": { "admin_key_sha256": key_sha256("a key") } }));

    // The contract makes a table, whose task is one of ingest's.
    let running = Running::start::<mesh_publisher::Publisher>(&publisher).await;
    let bus = ground.broker.connect().await.unwrap();
    submit(&bus).await;
    let contracts =
        bus.view::<mesh_proto::v1::ActiveContract>(topics::CONTRACTS, |contract| contract.revision).await.unwrap();
    eventually("the contract", PATIENCE, || async { (contracts.len() == 1).then_some(()) }).await.unwrap();
    running.stop().await;

    // Those whose end is the service's come last: the others need no new start.
    let tasks = ["bus", "task:pipeline", "task:announcer", "task:memory", "listener"];
    each_end_is_seen::<mesh_publisher::Publisher>(publisher, &tasks).await;
    let tasks = [
        "table:shop.things_v1",
        "bus",
        "view:mesh.contracts",
        "view:mesh.principals",
        "view:mesh.announced",
        "view:mesh.schemas",
        "task:lag",
        "task:upkeep",
        "task:reader",
        "listener",
        "task:assign",
    ];
    each_end_is_seen::<mesh_ingest::Ingest>(ground.config(json!({})), &tasks).await;
    let tasks = ["bus", "view:mesh.contracts", "task:judge"];
    each_end_is_seen::<mesh_quality::Quality>(ground.config(json!({})), &tasks).await;
    let key_file = ground.folder.path().join("mask.key");
    std::fs::write(&key_file, "ab".repeat(32)).unwrap();
    let tasks = ["bus", "view:mesh.contracts", "view:mesh.principals", "view:mesh.policies", "listener"];
    each_end_is_seen::<mesh_query::Query>(ground.config(json!({ "masking": { "key_file": key_file } })), &tasks).await;
}
