//! The lakehouse from outside: killed processes, and pyiceberg at the same catalog.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "outside/common.rs"]
mod common;
#[path = "outside/crash.rs"]
mod crash;
// Not as a dependency: the testkit is built on this crate.
#[allow(dead_code, unreachable_pub)]
#[path = "../../testkit/src/needs.rs"]
mod needs;
#[path = "outside/pyiceberg.rs"]
mod pyiceberg;
#[path = "outside/transforms.rs"]
mod transforms;
