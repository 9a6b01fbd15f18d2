//! What keeps a bus from starting, and with which code it says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use mesh_localbus::{LocalBus, LocalBusConfig, LocalBusError};

fn at(listen: &str, data: &Path) -> LocalBusConfig {
    LocalBusConfig::new(listen.parse().unwrap(), data)
}

async fn check(config: LocalBusConfig, code: &str, says: &str) {
    let error: LocalBusError = LocalBus::start(config).await.expect_err(code);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn a_taken_port() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = LocalBus::start(at("127.0.0.1:0", one.path())).await.unwrap();
    let taken = bus.addr().to_string();
    check(at(&taken, two.path()), "MESH-LOCALBUS-0001", &taken).await;
}

#[tokio::test]
async fn an_address_beyond_loopback_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    check(at("0.0.0.0:0", folder.path()), "MESH-LOCALBUS-0002", "0.0.0.0:0").await;
    let allowed = LocalBusConfig { allow_remote: true, ..at("0.0.0.0:0", folder.path()) };
    LocalBus::start(allowed).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    check(at("127.0.0.1:0", &folder.path().join("file/data")), "MESH-LOCALBUS-0003", "file/data").await;
}

#[tokio::test]
async fn a_folder_that_another_bus_has_until_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::start(at("127.0.0.1:0", folder.path())).await.unwrap();
    check(at("127.0.0.1:0", folder.path()), "MESH-LOCALBUS-0004", "in use").await;
    drop(bus);
    LocalBus::start(at("127.0.0.1:0", folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_description_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bus.json"), "{").unwrap();
    check(at("127.0.0.1:0", folder.path()), "MESH-LOCALBUS-0006", "bus.json").await;
}
