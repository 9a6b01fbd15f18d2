//! Which record of a compacted topic counts for a key: the one with the highest revision, whenever it arrives. Pure.
//!
//! In: values and tombstones with their revisions, in the order of their partition. Out: what each changed.
//! Never: a lower revision over a higher one. A tombstone's revision is kept, so that a value which a slow writer
//! publishes late does not bring back what was erased.

use std::collections::BTreeMap;

/// The header under which a tombstone carries the revision that erased.
pub const ERASED_AT: &str = "ce_sequence";

/// What counts for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot<V> {
    Value { value: V, revision: i64 },
    Erased { revision: i64 },
}

impl<V> Slot<V> {
    pub fn revision(&self) -> i64 {
        match self {
            Self::Value { revision, .. } | Self::Erased { revision } => *revision,
        }
    }

    fn into_value(self) -> Option<V> {
        match self {
            Self::Value { value, .. } => Some(value),
            Self::Erased { .. } => None,
        }
    }
}

/// What a record changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<V> {
    /// It counts now; the value before it, if there was one.
    Taken { before: Option<V> },
    /// A higher revision counts. Compaction would keep this record, which is the last: the topic's owner publishes the
    /// higher one again.
    Stale,
}

/// The state of a compacted topic.
#[derive(Clone, Debug)]
pub struct Compacted<V> {
    slots: BTreeMap<String, Slot<V>>,
    values: usize,
}

impl<V> Default for Compacted<V> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), values: 0 }
    }
}

impl<V> Compacted<V> {
    /// A value. Of equal revisions the later record counts.
    pub fn set(&mut self, key: String, value: V, revision: i64) -> Effect<V> {
        self.take(key, Slot::Value { value, revision })
    }

    /// A tombstone. One without a revision is a person's: it erases what counts now, at the revision of that.
    pub fn erase(&mut self, key: String, revision: Option<i64>) -> Effect<V> {
        let known = self.slots.get(&key).map(Slot::revision);
        self.take(key, Slot::Erased { revision: revision.or(known).unwrap_or(-1) })
    }

    fn take(&mut self, key: String, slot: Slot<V>) -> Effect<V> {
        if self.slots.get(&key).is_some_and(|known| known.revision() > slot.revision()) {
            return Effect::Stale;
        }
        self.values += usize::from(matches!(slot, Slot::Value { .. }));
        let before = self.slots.insert(key, slot).and_then(Slot::into_value);
        self.values -= usize::from(before.is_some());
        Effect::Taken { before }
    }

    pub fn get(&self, key: &str) -> Option<&V> {
        match self.slots.get(key)? {
            Slot::Value { value, .. } => Some(value),
            Slot::Erased { .. } => None,
        }
    }

    /// What counts for a key; `None` if nothing was ever published under it.
    pub fn slot(&self, key: &str) -> Option<&Slot<V>> {
        self.slots.get(key)
    }

    /// The revision at which a key was erased, if that is what counts.
    pub fn erased(&self, key: &str) -> Option<i64> {
        match self.slots.get(key)? {
            Slot::Value { .. } => None,
            Slot::Erased { revision } => Some(*revision),
        }
    }

    /// All values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &V, i64)> {
        self.slots.iter().filter_map(|(key, slot)| match slot {
            Slot::Value { value, revision } => Some((key, value, *revision)),
            Slot::Erased { .. } => None,
        })
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.values
    }

    pub fn is_empty(&self) -> bool {
        self.values == 0
    }
}

#[cfg(test)]
mod tests;
