//! Requests that wait for a partition to grow. An append wakes them; nothing polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;

/// The fetches that wait on one partition, by their connection.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<u64, Arc<Notify>>>);

impl Waiters {
    pub(crate) fn wake(&self) {
        for waiter in lock(&self.0).values() {
            waiter.notify_one();
        }
    }

    pub(crate) fn add(&self, who: u64, notify: &Arc<Notify>) {
        lock(&self.0).insert(who, Arc::clone(notify));
    }

    pub(crate) fn remove(&self, who: u64) {
        lock(&self.0).remove(&who);
    }
}
