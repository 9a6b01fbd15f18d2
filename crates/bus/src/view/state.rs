//! The map behind a view, and the rules by which a record changes it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use mesh_proto::ProtoError;
use mesh_runtime::Check;
use tokio::sync::{broadcast, watch};

use super::{ReadState, ViewChange};
use crate::BusError;
use crate::compacted::{Compacted, Effect, Slot};
use crate::error::UnreadableCause;

/// How many changes a slow receiver may be behind before it is resynchronised.
const BEHIND: usize = 1024;

/// What the follower writes and the views read.
#[derive(Debug)]
pub(super) struct Shared<T> {
    pub(super) topic: String,
    state: RwLock<State<T>>,
    pub(super) load: watch::Sender<Load>,
    pub(super) version: watch::Sender<u64>,
    pub(super) changes: broadcast::Sender<ViewChange<T>>,
    /// `view:TOPIC` in readiness.
    check: Check,
}

/// How much of the topic is in the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Its beginning is being read for the first time.
    Loading,
    /// All of it, and what comes is added.
    Loaded,
    /// What it was when this happened; it is read again.
    Failed(Arc<str>),
}

impl<T> Shared<T> {
    pub(super) fn new(topic: &str, check: Check) -> Self {
        Self {
            topic: topic.to_owned(),
            state: RwLock::new(State::default()),
            load: watch::Sender::new(Load::Loading),
            version: watch::Sender::new(0),
            changes: broadcast::Sender::new(BEHIND),
            check,
        }
    }

    pub(super) fn read(&self) -> ReadState<'_, T> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies one record to the live map and notifies the followers.
    pub(super) fn apply(&self, record: Read<T>) {
        let mut state = self.write();
        let readable = state.unreadable.is_empty();
        if let Some(change) = state.apply(record) {
            self.announce(change);
        }
        if !readable || !state.unreadable.is_empty() {
            self.show(&state);
        }
    }

    /// Replaces the map by one that was read from the beginning, and notifies the followers of what differs.
    pub(super) fn replace(&self, fresh: State<T>) {
        let mut state = self.write();
        let changes = state.differences(&fresh);
        *state = fresh;
        for change in changes {
            self.announce(change);
        }
        self.load.send_replace(Load::Loaded);
        self.show(&state);
    }

    /// The map is not followed any more, for now or for good.
    pub(super) fn fail(&self, reason: &str) {
        let state = self.read();
        self.load.send_replace(Load::Failed(reason.into()));
        self.show(&state);
    }

    /// Keeps the check true. Called under the lock, so that an older state does not overwrite a newer one.
    fn show(&self, state: &State<T>) {
        match (&*self.load.borrow(), state.unreadable.values().next()) {
            (Load::Loading, _) => self.check.down("loading"),
            (Load::Failed(reason), _) => self.check.down(&**reason),
            (Load::Loaded, None) => self.check.up(),
            (Load::Loaded, Some(record)) => {
                let error = record.clone().into_error(&self.topic);
                self.check.down(format!("[{}] {}", error.code(), mesh_runtime::report::chain(&error)));
            }
        }
    }

    /// Called under the write lock, so that a snapshot and the changes after it fit together.
    fn announce(&self, change: ViewChange<T>) {
        // There may be no receiver.
        let _ = self.changes.send(change);
        self.version.send_modify(|version| *version += 1);
    }
}

/// One record of the topic, as far as it could be read.
#[derive(Debug)]
pub(super) enum Read<T> {
    Value { key: String, value: T, revision: i64, place: Place },
    Tombstone { key: String, revision: Option<i64> },
    Unreadable { key: String, record: Unreadable },
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// A record that could not be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub key: String,
    pub partition: i32,
    pub offset: i64,
    /// `None`: the key itself is not UTF-8.
    pub cause: Option<Arc<ProtoError>>,
}

impl Unreadable {
    pub(super) fn into_error(self, topic: &str) -> BusError {
        let source = match self.cause {
            None => UnreadableCause::Key,
            Some(cause) => UnreadableCause::Event(cause),
        };
        let partition = self.partition;
        let offset = self.offset;
        let key = self.key;
        BusError::Unreadable { topic: topic.to_owned(), partition, offset, key, source }
    }
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    place: Place,
}

/// The map of one moment.
#[derive(Debug)]
pub(super) struct State<T> {
    entries: Compacted<Entry<T>>,
    unreadable: BTreeMap<String, Unreadable>,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { entries: Compacted::default(), unreadable: BTreeMap::new() }
    }
}

impl<T> State<T> {
    pub(super) fn get(&self, key: &str) -> Option<Arc<T>> {
        self.entries.get(key).map(|entry| entry.value.clone())
    }

    pub(super) fn values(&self) -> BTreeMap<String, Arc<T>> {
        self.entries.iter().map(|(key, entry, _)| (key.clone(), entry.value.clone())).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn unreadable(&self) -> BTreeMap<String, Unreadable> {
        self.unreadable.clone()
    }

    /// Applies a record; the change it made, if it made one.
    pub(super) fn apply(&mut self, record: Read<T>) -> Option<ViewChange<T>> {
        match record {
            Read::Value { key, value, revision, place } => {
                self.unreadable.remove(&key);
                let value = Arc::new(value);
                match self.entries.set(key.clone(), Entry { value: value.clone(), place }, revision) {
                    Effect::Taken { before } => {
                        Some(ViewChange::Set { key, value, before: before.map(|entry| entry.value) })
                    }
                    Effect::Stale => None,
                }
            }
            Read::Tombstone { key, revision } => {
                self.unreadable.remove(&key);
                match self.entries.erase(key.clone(), revision) {
                    Effect::Taken { before: Some(entry) } => Some(ViewChange::Removed { key, before: entry.value }),
                    Effect::Taken { before: None } | Effect::Stale => None,
                }
            }
            Read::Unreadable { key, record } => {
                self.unreadable.insert(key, record);
                None
            }
        }
    }

    /// What changes when `fresh` takes this map's place. The same record in the same place is no change.
    fn differences(&self, fresh: &Self) -> Vec<ViewChange<T>> {
        let mut changes = Vec::new();
        for (key, entry, revision) in fresh.entries.iter() {
            let known = self.entries.slot(key).map(Slot::revision);
            let before = self.entries.get(key);
            if before.is_none_or(|before| before.place != entry.place) || known != Some(revision) {
                let before = before.map(|before| before.value.clone());
                changes.push(ViewChange::Set { key: key.clone(), value: entry.value.clone(), before });
            }
        }
        for (key, entry, _) in self.entries.iter() {
            if fresh.entries.get(key).is_none() {
                changes.push(ViewChange::Removed { key: key.clone(), before: entry.value.clone() });
            }
        }
        changes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn value(key: &str, value: i32, revision: i64, offset: i64) -> Read<i32> {
        Read::Value { key: key.into(), value, revision, place: Place { partition: 0, offset } }
    }

    fn check(records: impl IntoIterator<Item = Read<i32>>, expected: &[(&str, i32)]) {
        let mut state = State::default();
        for record in records {
            state.apply(record);
        }
        let values: Vec<(String, i32)> = state.values().into_iter().map(|(key, value)| (key, *value)).collect();
        assert_eq!(values, expected.iter().map(|(key, value)| (key.to_string(), *value)).collect::<Vec<_>>());
    }

    #[test]
    fn the_newest_record_of_a_key_counts() {
        check([value("a", 1, 1, 0), value("b", 2, 1, 1), value("a", 3, 1, 2)], &[("a", 3), ("b", 2)]);
    }

    #[test]
    fn a_lower_revision_is_ignored() {
        check([value("a", 1, 7, 0), value("a", 2, 6, 1)], &[("a", 1)]);
    }

    #[test]
    fn a_tombstone_removes() {
        check([value("a", 1, 7, 0), Read::Tombstone { key: "a".into(), revision: None }], &[]);
    }

    #[test]
    fn what_was_erased_does_not_come_back_by_a_late_record() {
        let erased = || Read::Tombstone { key: "a".into(), revision: Some(8) };
        check([value("a", 1, 7, 0), erased(), value("a", 1, 7, 2)], &[]);
        check([erased(), value("a", 1, 7, 1)], &[]);
        check([value("a", 1, 9, 0), erased()], &[("a", 1)]);
        check([value("a", 1, 7, 0), erased(), value("a", 2, 9, 2)], &[("a", 2)]);
    }

    #[test]
    fn the_check_names_what_is_wrong_with_the_view() {
        let health = mesh_runtime::Health::new();
        let shared = Shared::new("t", health.check("view:t"));
        let reason = || match health.checks().remove("view:t") {
            Some(mesh_runtime::health::Status::Down { reason }) => reason,
            _ => String::new(),
        };
        assert_eq!(reason(), "starting");
        let mut fresh = State::default();
        fresh.apply(value("a", 1, 1, 0));
        shared.replace(fresh);
        assert!(health.is_ready());
        let record = Unreadable { key: "a".into(), partition: 0, offset: 1, cause: None };
        shared.apply(Read::Unreadable { key: "a".into(), record });
        assert!(reason().starts_with("[MESH-BUS-0012]"), "{}", reason());
        shared.apply(value("a", 2, 2, 2));
        assert!(health.is_ready());
        shared.fail("its follower ended");
        assert_eq!(reason(), "its follower ended");
        shared.apply(value("a", 3, 3, 3));
        assert_eq!(reason(), "its follower ended");
        shared.replace(State::default());
        assert!(health.is_ready());
    }

    #[test]
    fn an_unreadable_record_keeps_the_value_and_is_known_until_it_is_replaced() {
        let mut state = State::default();
        state.apply(value("a", 1, 1, 0));
        let record = Unreadable { key: "a".into(), partition: 0, offset: 1, cause: None };
        state.apply(Read::Unreadable { key: "a".into(), record });
        assert_eq!((state.get("a").as_deref(), state.unreadable().len()), (Some(&1), 1));
        state.apply(value("a", 2, 2, 2));
        assert_eq!((state.get("a").as_deref(), state.unreadable().len()), (Some(&2), 0));
    }

    #[test]
    fn a_map_that_was_read_again_announces_only_what_differs() {
        let shared = Shared::new("t", mesh_runtime::Health::new().check("view:t"));
        for record in [value("same", 1, 1, 0), value("old", 2, 1, 1), value("erased", 3, 1, 2)] {
            shared.apply(record);
        }
        let mut changes = shared.changes.subscribe();
        let mut fresh = State::default();
        for record in [value("same", 1, 1, 0), value("old", 4, 2, 3)] {
            fresh.apply(record);
        }
        shared.replace(fresh);
        assert!(matches!(changes.try_recv().unwrap(), ViewChange::Set { key, before: Some(_), .. } if key == "old"));
        assert!(matches!(changes.try_recv().unwrap(), ViewChange::Removed { key, .. } if key == "erased"));
        assert!(changes.try_recv().is_err());
    }
}
