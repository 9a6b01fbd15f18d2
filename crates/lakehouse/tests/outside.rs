//! The lakehouse from outside: killed processes, and pyiceberg at the same catalog.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "outside/common.rs"]
mod common;
#[path = "outside/crash.rs"]
mod crash;
#[path = "outside/pyiceberg.rs"]
mod pyiceberg;
