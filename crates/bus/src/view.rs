//! A compacted topic as a live, typed map.
//!
//! In: CloudEvents under UTF-8 keys; the newest of each key counts, a tombstone removes. Out: reads that never wait,
//! and the changes as they come.
//! Never: a lower revision over a higher one (a slow writer's late record); a record that cannot be read, unseen
//! ([`View::unreadable`], an error log line, and [`View::loaded`] fails); an answer from a half-loaded map taken for the
//! whole ([`View::loaded`] waits for the end of every partition); a map that is not followed any more taken for a live
//! one ([`View::failure`], and the check `view:TOPIC`).

mod follow;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_runtime::tasks::TaskHandle;
use mesh_runtime::{Restart, part};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};

use crate::{Bus, BusError, Result};
use state::{Load, Shared, State};

pub use state::Unreadable;

/// A live map from key to value; cheap to clone, and it follows the topic until the last clone is dropped.
#[derive(Debug)]
pub struct View<T> {
    shared: Arc<Shared<T>>,
    _follower: Arc<TaskHandle>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _follower: self._follower.clone() }
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
    _follower: Arc<TaskHandle>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> View<T> {
    pub(crate) async fn open(bus: &Bus, topic: &str, revision: fn(&T) -> i64) -> Result<Self> {
        let description = bus.describe_topic(topic).await?;
        let tasks = bus.tasks();
        let name = part::view(topic);
        let shared = Arc::new(Shared::new(topic, tasks.health().check(&name)));
        let follower = tasks.start(name, Restart::default(), {
            let bus = bus.clone();
            let shared = shared.clone();
            move |_| follow::run(bus.clone(), description.clone(), shared.clone(), revision)
        });
        Ok(Self { shared, _follower: Arc::new(follower) })
    }
}

impl<T> View<T> {
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// Waits until everything that was on the topic when the view was opened is in the map.
    /// An error if a record there cannot be read, or if the topic is not followed any more.
    pub async fn loaded(&self) -> Result<()> {
        let mut load: watch::Receiver<Load> = self.shared.load.subscribe();
        // The sender lives as long as this view, so the wait cannot fail.
        let _ = load.wait_for(|load| *load != Load::Loading).await;
        if let Some(reason) = self.failure() {
            return Err(BusError::Stopped { topic: self.shared.topic.clone(), reason });
        }
        match self.unreadable().into_values().next() {
            None => Ok(()),
            Some(record) => Err(record.into_error(&self.shared.topic)),
        }
    }

    /// True while the map holds the whole topic and is followed.
    pub fn is_loaded(&self) -> bool {
        *self.shared.load.borrow() == Load::Loaded
    }

    /// Why the map is not followed any more; it is read again as soon as that is possible.
    pub fn failure(&self) -> Option<String> {
        match &*self.shared.load.borrow() {
            Load::Failed(reason) => Some(reason.to_string()),
            Load::Loading | Load::Loaded => None,
        }
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

    /// Keys whose newest record cannot be read. Their last readable value stays in the map: callers that must not act on
    /// an outdated one (a policy) look here first.
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

    /// A signal that fires after each change, for callers that look at the whole map.
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
                let reason = "its follower ended".to_owned();
                Err(BusError::Stopped { topic: self.shared.topic.clone(), reason })
            }
        }
    }
}

/// Locks a view's map for reading; poisoning cannot leave it half changed, since nothing under the lock panics.
type ReadState<'a, T> = std::sync::RwLockReadGuard<'a, State<T>>;
