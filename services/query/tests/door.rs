//! The door, on a local bus, a SQLite catalog and a warehouse of its own.
#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "door/evolutions.rs"]
mod evolutions;
#[path = "door/kills.rs"]
mod kills;
#[path = "door/limits.rs"]
mod limits;
#[path = "door/mesh.rs"]
mod mesh;
#[path = "door/openlineage.rs"]
mod openlineage;
#[path = "door/reading.rs"]
mod reading;
