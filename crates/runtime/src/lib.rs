//! What every Meshwork service needs around its pipeline, and nothing about events.
//!
//! In: command line, environment, a TOML file, signals. Out: a built service, logs on stderr, spans to a collector
//! or to the exporter that the service hands in, an admin port (`/health/live`, `/health/ready`, `/metrics`), an exit code.
//!
//! - [`service`]: the one shape of a service and its `main`.
//! - [`config`]: flags, then environment, then file; an unknown key is an error.
//! - [`telemetry`]: logs, spans, W3C trace context.
//! - [`health`], [`part`], [`metrics`], [`admin`]: what an operator sees.
//! - [`http`], [`credentials`], [`body`]: what a listener takes in, and whose it is.
//! - [`shutdown`], [`tasks`]: supervised work that stops in order.
//! - [`limits`]: what the operating system allows.
//! - [`fault`]: named points at which a debug build can be killed.
//! - [`report`]: how an error reaches a person.
//!
//! Never: a configuration key that is ignored, a task that dies unseen, an exit that skips the drain.

pub mod admin;
pub mod body;
pub mod config;
pub mod credentials;
mod error;
pub mod fault;
pub mod health;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod part;
pub mod report;
pub mod service;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

pub use credentials::Credentials;
pub use error::{AnyError, Coded, RuntimeError};
pub use health::{Check, Health};
pub use metrics::Metrics;
pub use report::report;
pub use service::{Context, Service};
pub use shutdown::Shutdown;
pub use tasks::{Restart, Supervisor, Tasks};
