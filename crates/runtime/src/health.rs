//! Named readiness checks: each part of a service owns one and says whether it works.
//!
//! In: verdicts of the parts. Out: ready only if every check is up. A new check is down until its owner says otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// The checks of one process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Status>>>,
}

/// What a check last said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    Up,
    Down { reason: String },
}

/// One part's handle on its check. When the last handle is dropped, the check goes.
#[derive(Clone, Debug)]
pub struct Check {
    inner: Arc<CheckInner>,
}

#[derive(Debug)]
struct CheckInner {
    health: Health,
    name: String,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a check, down as `starting` until its owner says otherwise. A name registered again starts anew.
    pub fn check(&self, name: impl Into<String>) -> Check {
        let name = name.into();
        self.set(&name, Status::Down { reason: "starting".into() });
        Check { inner: Arc::new(CheckInner { health: self.clone(), name }) }
    }

    /// All checks by name.
    pub fn checks(&self) -> BTreeMap<String, Status> {
        self.lock().clone()
    }

    /// True if no check is down.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|status| *status == Status::Up)
    }

    fn set(&self, name: &str, status: Status) {
        self.lock().insert(name.to_owned(), status);
    }

    // A poisoned map is still a map of strings: a panic elsewhere must not take the health page with it.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Status>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    pub fn up(&self) {
        self.inner.health.set(&self.inner.name, Status::Up);
    }

    pub fn down(&self, reason: impl Into<String>) {
        self.inner.health.set(&self.inner.name, Status::Down { reason: reason.into() });
    }
}

impl Drop for CheckInner {
    fn drop(&mut self) {
        self.health.lock().remove(&self.name);
    }
}
