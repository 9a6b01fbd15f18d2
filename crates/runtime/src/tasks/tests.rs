#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::health::Status;

const QUICK: Restart = Restart::Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };

fn broken() -> RuntimeError {
    RuntimeError::Telemetry { message: "broken".into() }
}

fn supervisor(deadline: Duration) -> (Supervisor, Shutdown, Health) {
    let (shutdown, health) = (Shutdown::new(deadline), Health::new());
    (Supervisor::new(shutdown.clone(), health.clone()), shutdown, health)
}

async fn until(mut condition: impl FnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tasks_stop_in_the_order_they_were_added() {
    let (mut tasks, shutdown, _) = supervisor(Duration::from_secs(10));
    let ended = Arc::new(Mutex::new(Vec::new()));
    for (name, work) in [("source", 30), ("sink", 0)] {
        let ended = ended.clone();
        tasks.spawn(name, Restart::Never, move |stop| {
            let ended = ended.clone();
            async move {
                stop.requested().await;
                tokio::time::sleep(Duration::from_millis(work)).await;
                ended.lock().unwrap().push(name);
                Ok::<_, RuntimeError>(())
            }
        });
    }
    shutdown.request();
    tasks.run().await.unwrap();
    assert_eq!(*ended.lock().unwrap(), ["source", "sink"]);
}

#[tokio::test]
async fn a_task_that_keeps_failing_restarts_and_turns_readiness_red() {
    let (mut tasks, _shutdown, health) = supervisor(Duration::from_secs(10));
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    tasks.spawn("flaky", QUICK, move |_| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move { if run.is_multiple_of(2) { Err(broken()) } else { panic!("odd run") } }
    });
    until(|| runs.load(Ordering::SeqCst) > RED_AFTER && !health.is_ready()).await;
    let Status::Down { reason } = &health.checks()["task:flaky"] else { panic!("up") };
    assert!(reason.contains("MESH-RUNTIME-00"), "{reason}");
}

#[tokio::test]
async fn a_task_that_must_not_fail_ends_the_group_with_its_error() {
    let (mut tasks, _shutdown, _) = supervisor(Duration::from_secs(10));
    tasks.spawn("waits", Restart::Never, |stop| async move {
        stop.requested().await;
        Ok::<_, RuntimeError>(())
    });
    tasks.spawn("fails", Restart::Never, |_| async { Err(broken()) });
    let error = tasks.run().await.unwrap_err();
    assert_eq!(error.code(), "MESH-RUNTIME-0008");
    assert!(report::chain(&error).contains("broken"));
}

#[tokio::test]
async fn a_task_that_does_not_stop_is_cut_off_at_the_deadline_and_named() {
    let (mut tasks, shutdown, _) = supervisor(Duration::from_millis(20));
    tasks.spawn("deaf", Restart::Never, |_| std::future::pending::<Result<(), RuntimeError>>());
    shutdown.request();
    let error = tasks.run().await.unwrap_err();
    assert!(matches!(&error, RuntimeError::DrainDeadline { unfinished, .. } if unfinished == "deaf"), "{error}");
}
