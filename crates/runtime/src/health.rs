//! Named readiness checks: each part of a service owns one and reports whether it works.
//!
//! In: verdicts of the parts. Out: ready only if every check is up. A new check is down until its owner reports.
//! Never: an owner that hides another. Two owners of one name are one check, down while either is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;

/// The checks of one process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By name, then by owner.
    checks: BTreeMap<String, BTreeMap<u64, Status>>,
    owners: u64,
}

/// What a check last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    Up,
    Down { reason: String },
}

/// One owner's handle on a check. When the last clone is dropped, the owner's report goes, and with the last owner the
/// check.
#[derive(Clone, Debug)]
pub struct Check {
    inner: Arc<CheckInner>,
}

#[derive(Debug)]
struct CheckInner {
    health: Health,
    name: String,
    owner: u64,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an owner of a check, down as `starting` until it reports. A name may have several owners.
    pub fn check(&self, name: impl Into<String>) -> Check {
        let name = name.into();
        let owner = {
            let mut state = self.lock();
            state.owners += 1;
            state.owners
        };
        let check = Check { inner: Arc::new(CheckInner { health: self.clone(), name, owner }) };
        check.down("starting");
        check
    }

    /// All checks by name.
    pub fn checks(&self) -> BTreeMap<String, Status> {
        self.lock().checks.iter().map(|(name, owners)| (name.clone(), together(owners))).collect()
    }

    /// True if no check is down.
    pub fn is_ready(&self) -> bool {
        self.lock().checks.values().flat_map(BTreeMap::values).all(|status| *status == Status::Up)
    }

    // A poisoned map is still a map of strings: a panic elsewhere must not take the health page with it.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Down while any owner is, with every reason once.
fn together(owners: &BTreeMap<u64, Status>) -> Status {
    let mut reasons: Vec<&str> = Vec::new();
    for status in owners.values() {
        if let Status::Down { reason } = status
            && !reasons.contains(&reason.as_str())
        {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() { Status::Up } else { Status::Down { reason: reasons.join("; ") } }
}

impl Check {
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn up(&self) {
        self.set(Status::Up);
    }

    pub fn down(&self, reason: impl Into<String>) {
        self.set(Status::Down { reason: reason.into() });
    }

    fn set(&self, status: Status) {
        let CheckInner { health, name, owner } = &*self.inner;
        health.lock().checks.entry(name.clone()).or_default().insert(*owner, status);
    }
}

impl Drop for CheckInner {
    fn drop(&mut self) {
        let mut state = self.health.lock();
        if let Some(owners) = state.checks.get_mut(&self.name) {
            owners.remove(&self.owner);
            if owners.is_empty() {
                state.checks.remove(&self.name);
            }
        }
    }
}

/// `mesh_up{part}`: 1 while a check is up, 0 while it is down. Read at each scrape, so it cannot freeze.
impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0i64);
        let help = "Whether a part of the service works, by the names that readiness uses";
        let mut family = encoder.encode_descriptor("up", help, None, gauge.metric_type())?;
        for (part, status) in self.checks() {
            let up = ConstGauge::new(i64::from(status == Status::Up));
            up.encode(family.encode_family(&[("part", part)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
