//! What tests share: a broker, unique names, waiting without sleeping, randomness that can be replayed, and what must
//! be there for a test to mean something.
//!
//! A test owns what it starts: folders, ports and processes go when the values here are dropped.
//! Errors are `anyhow`: a test returns `anyhow::Result<()>` and uses `?`.

mod broker;
mod mesh;
mod needs;
mod process;
mod seed;
mod wait;

pub use broker::{Broker, broker, local_broker};
pub use mesh::{TestMesh, reference};
pub use needs::{is_long, python, shared};
pub use process::{ServiceCommand, ServiceProcess};
pub use seed::Seed;
pub use wait::eventually;

/// `prefix` with something random behind it, fit for topics, groups, tables and folders.
pub fn unique(prefix: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}_{}", &random[..12])
}

/// A folder that goes with the value.
pub fn folder() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("mesh-test-").tempdir()?)
}
