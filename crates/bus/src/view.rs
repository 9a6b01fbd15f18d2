//! A compacted topic as a live, typed map.
//!
//! In: CloudEvents under UTF-8 keys; the newest of each key counts, a tombstone removes. Out: reads that never wait,
//! and the changes as they come.
//! Must never happen: a lower revision over a higher one (a slow writer's late record), a record that cannot be read and
//! nobody knows ([`View::unreadable`], an error log line, and [`View::loaded`] fails), an answer from a half-loaded map
//! taken for the whole ([`View::loaded`] waits for the end of every partition).

mod follow;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use crate::{Bus, BusError, Result};
use state::{Shared, State};

pub use state::Unreadable;

/// A live map from key to value; cheap to clone, and it follows the topic until the last clone is gone.
#[derive(Debug)]
pub struct View<T> {
    shared: Arc<Shared<T>>,
    _follower: Arc<Follower>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _follower: self._follower.clone() }
    }
}

#[derive(Debug)]
struct Follower(AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What happened to one key.
#[derive(Debug)]
pub enum ViewChange<T> {
    Set {
        key: String,
        value: Arc<T>,
        before: Option<Arc<T>>,
    },
    Removed {
        key: String,
        before: Arc<T>,
    },
    /// More changed than the receiver kept up with: this is everything there is now.
    Resync(BTreeMap<String, Arc<T>>),
}

// Not derived: that would ask for `T: Clone`.
impl<T> Clone for ViewChange<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Set { key, value, before } => {
                Self::Set { key: key.clone(), value: value.clone(), before: before.clone() }
            }
            Self::Removed { key, before } => Self::Removed { key: key.clone(), before: before.clone() },
            Self::Resync(all) => Self::Resync(all.clone()),
        }
    }
}

/// The changes of a view since the snapshot they were handed out with.
#[derive(Debug)]
pub struct Changes<T> {
    shared: Arc<Shared<T>>,
    changes: broadcast::Receiver<ViewChange<T>>,
    _follower: Arc<Follower>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> View<T> {
    pub(crate) async fn open(bus: &Bus, topic: &str, revision: fn(&T) -> i64) -> Result<Self> {
        let description = bus.describe_topic(topic).await?;
        let shared = Arc::new(Shared::new(topic));
        let follower = tokio::spawn(follow::run(bus.clone(), description, shared.clone(), revision));
        Ok(Self { shared, _follower: Arc::new(Follower(follower.abort_handle())) })
    }
}

impl<T> View<T> {
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// Waits until everything that was on the topic when the view was opened is in the map.
    /// An error if a record there cannot be read, or if the topic cannot be followed.
    pub async fn loaded(&self) -> Result<()> {
        let mut status: watch::Receiver<bool> = self.shared.loaded.subscribe();
        if status.wait_for(|loaded| *loaded).await.is_err() {
            let reason = "its task has ended".to_owned();
            return Err(BusError::Stopped { topic: self.shared.topic.clone(), reason });
        }
        match self.unreadable().into_values().next() {
            None => Ok(()),
            Some(record) => Err(record.into_error(&self.shared.topic)),
        }
    }

    /// True once [`loaded`](Self::loaded) would not wait.
    pub fn is_loaded(&self) -> bool {
        *self.shared.loaded.borrow()
    }

    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        self.shared.read().get(key)
    }

    /// Everything there is now.
    pub fn snapshot(&self) -> BTreeMap<String, Arc<T>> {
        self.shared.read().values()
    }

    pub fn len(&self) -> usize {
        self.shared.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys whose newest record cannot be read. Their last readable value stays in the map: whoever must not act on an
    /// outdated one (a policy) asks here first.
    pub fn unreadable(&self) -> BTreeMap<String, Unreadable> {
        self.shared.read().unreadable()
    }

    /// Everything there is now, and every change from here on, none lost in between.
    pub fn follow(&self) -> (BTreeMap<String, Arc<T>>, Changes<T>) {
        let state = self.shared.read();
        // Changes are sent under the write lock, so none falls between the two.
        let changes = self.shared.changes.subscribe();
        let changes = Changes { shared: self.shared.clone(), changes, _follower: self._follower.clone() };
        (state.values(), changes)
    }

    /// A signal that fires after each change; for those who look at the whole map anyway.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }
}

impl<T> Changes<T> {
    /// The next change. Cancellation safe. A receiver that fell behind gets one [`ViewChange::Resync`].
    pub async fn next(&mut self) -> Result<ViewChange<T>> {
        match self.changes.recv().await {
            Ok(change) => Ok(change),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let state = self.shared.read();
                self.changes = self.changes.resubscribe();
                Ok(ViewChange::Resync(state.values()))
            }
            Err(broadcast::error::RecvError::Closed) => {
                let reason = "its task has ended".to_owned();
                Err(BusError::Stopped { topic: self.shared.topic.clone(), reason })
            }
        }
    }
}

/// Locks a view's map for reading; poisoning cannot leave it half changed, since nothing under the lock panics.
type ReadState<'a, T> = std::sync::RwLockReadGuard<'a, State<T>>;
