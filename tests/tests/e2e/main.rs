//! The flow, real clients, faults, upgrades: each test has a mesh of its own, whose services are processes.
//!
//! One program, so that it is linked once and its tests, which wait more than they work, run side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod clients;
mod commands;
mod demo;
mod errors;
mod faults;
mod flow;
mod remedies;
mod rest;
mod support;
mod tasks;
mod upgrade;
mod yardstick;
