#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::runner::RED_AFTER;
use super::*;
use crate::fault::TaskFault;
use crate::health::Status;
use crate::report;

const QUICK: Restart = Restart::Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2) };

fn broken() -> RuntimeError {
    RuntimeError::Telemetry { message: "broken".into() }
}

fn supervisor(deadline: Duration) -> (Supervisor, Shutdown, Health) {
    let context = crate::Context::new(Metrics::new(), Shutdown::new(deadline));
    (Supervisor::new(context.shutdown.clone(), context.tasks), context.shutdown, context.health)
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
    let Status::Down { reason } = &health.checks()["flaky"] else { panic!("up") };
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

/// Both ways in which a task may go away without a word, for both kinds of restart.
#[tokio::test]
async fn a_task_that_goes_away_is_seen_at_once() {
    for fault in [TaskFault::Panic, TaskFault::Return] {
        for (kind, restart) in [("again", QUICK), ("ends", Restart::Never)] {
            let name = format!("task:{kind}-{fault:?}");
            let context = crate::Context::detached();
            let runs = Arc::new(AtomicU32::new(0));
            let counted = runs.clone();
            let handle = context.tasks.start(&name, restart, move |stop| {
                counted.fetch_add(1, Ordering::SeqCst);
                async move { stop.requested().await }
            });
            until(|| context.health.is_ready() && runs.load(Ordering::SeqCst) == 1).await;
            assert_eq!(context.tasks.names(), std::slice::from_ref(&name));
            context.tasks.arm(&name, fault);
            until(|| !context.health.is_ready()).await;
            let Status::Down { reason } = &context.health.checks()[&name] else { panic!("up") };
            let code = if fault == TaskFault::Panic { "MESH-RUNTIME-0007" } else { "MESH-RUNTIME-0012" };
            assert!(reason.contains(code), "{reason}");
            let metrics = context.metrics.render();
            assert!(metrics.contains(&format!("mesh_up{{part=\"{name}\"}} 0\n")), "{metrics}");
            assert!(metrics.contains(&format!("mesh_task_failures_total{{task=\"{name}\"}} 1\n")), "{metrics}");
            let expected = if kind == "again" { 2 } else { 1 };
            until(|| runs.load(Ordering::SeqCst) == expected).await;
            drop(handle);
            until(|| context.tasks.names().is_empty() && context.health.checks().is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_task_that_ends_when_it_is_stopped_has_not_failed() {
    let context = crate::Context::detached();
    let mut handle = context.tasks.start("quiet", QUICK, |stop| async move { stop.requested().await });
    until(|| context.health.is_ready()).await;
    handle.request_stop();
    handle.ended().await;
    assert!(handle.is_finished() && context.health.checks().is_empty());
    let metrics = context.metrics.render();
    assert!(metrics.contains("mesh_task_failures_total{task=\"quiet\"} 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_task_that_returns_ends_a_group_that_cannot_do_without_it() {
    let (mut tasks, _shutdown, _) = supervisor(Duration::from_secs(10));
    tasks.spawn_once("reader", |_| async {});
    let error = tasks.run().await.unwrap_err();
    assert_eq!(error.code(), "MESH-RUNTIME-0008");
    assert!(report::chain(&error).contains("`reader` ended though nothing stopped it"), "{}", report::chain(&error));
}

#[tokio::test]
async fn short_work_goes_on_without_its_handle_and_its_panic_is_an_error() {
    let (sender, done) = tokio::sync::oneshot::channel();
    drop(detach("work", async move { sender.send(7) }));
    assert_eq!(done.await.unwrap(), 7);
    assert_eq!(detach("work", async { 1 }).await.unwrap(), 1);
    let error = detach("work", async {
        if true {
            panic!("odd")
        }
    })
    .await
    .unwrap_err();
    assert!(matches!(&error, RuntimeError::TaskPanicked { message, .. } if message == "odd"), "{error}");
}
