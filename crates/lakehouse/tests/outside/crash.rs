//! EXACTLY-ONCE through SIGKILL at each step of a commit: this test starts itself as the process that dies.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use mesh_lakehouse::FAULT_POINTS;

use super::common::{create, ids, ingest, open, source};

const FOLDER: &str = "MESH_TEST_CRASH_FOLDER";

/// Not a test: the process that dies. It ingests offsets 10 to 20.
#[tokio::test]
#[ignore = "the test of this file runs it as a process"]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let catalog = open(folder.as_ref()).await;
    let table = catalog.load(&super::common::ident()).await.unwrap();
    ingest(&catalog, &table, 20).await.unwrap();
}

async fn check(point: &str) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let table = create(&catalog).await;
    ingest(&catalog, &table, 10).await.unwrap();

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--ignored", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env("MESH_FAULT", format!("{point}@1"))
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&child.stderr));

    // Its successor reads what the table records and goes on to 30.
    let table = catalog.load(&super::common::ident()).await.unwrap();
    let recorded = table.recorded().await.unwrap().offsets.get(&source(), 0);
    let expected = if point.ends_with("after_cas") { 20 } else { 10 };
    assert_eq!(recorded, Some(expected), "{point}");
    let table = ingest(&catalog, &table, 30).await.unwrap().table;
    assert_eq!(ids(&table).await, (0..30).collect::<Vec<_>>(), "{point}: each once");
}

#[tokio::test]
async fn a_kill_at_any_step_neither_loses_nor_doubles_rows() {
    for point in FAULT_POINTS {
        check(point).await;
    }
}
