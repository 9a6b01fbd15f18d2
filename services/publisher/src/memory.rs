//! What the publisher knows: everything on the topics that it writes, as far as it has read them back.
//!
//! In: records, in the order of their partition. Out: the active world, the registry, the verdicts given lately, what
//! was announced; and, for whoever just wrote, the moment at which their record was read.
//! Must never happen: a lower revision that replaces a higher one. Who sees such a record (a publisher that slept wrote
//! it) writes the higher one anew, since compaction would keep the last.

mod verdicts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_bus::Compacted;
use mesh_bus::compacted::Effect;
use mesh_proto::ProtoError;
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Announced, ContractEvent, Policy, Principal};
use tokio::sync::watch;

use crate::active_state::ActiveState;
use crate::registry::Index;

pub use verdicts::{Verdicts, proposal_id, verdict_id};

/// The topics that are read back, from their first record; but of the verdicts only the newest.
pub const FOLLOWED: [&str; 6] = [
    topics::CONTRACTS,
    topics::POLICIES,
    topics::PRINCIPALS,
    topics::SCHEMAS,
    topics::ANNOUNCED,
    topics::CONTRACT_EVENTS,
];

/// One record of a followed topic.
#[derive(Debug)]
pub struct Seen {
    pub topic: &'static str,
    pub offset: i64,
    pub key: String,
    /// None is a tombstone.
    pub event: Option<Event>,
    /// The revision that a tombstone carries.
    pub erased_at: Option<i64>,
}

/// A record that a lower revision was written over: it must be written again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overwritten {
    pub topic: &'static str,
    pub key: String,
}

#[derive(Debug, Default)]
struct State {
    active_state: Arc<ActiveState>,
    schemas: Index,
    announced: BTreeMap<String, Arc<Announced>>,
    verdicts: Verdicts,
    /// Which revision of each key counts, by topic.
    revisions: BTreeMap<&'static str, Compacted<()>>,
    overwritten: Vec<Overwritten>,
    /// The next offset of each topic.
    next: BTreeMap<&'static str, i64>,
}

/// The memory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    moved: watch::Sender<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { state: Arc::default(), moved: watch::Sender::new(0) }
    }
}

impl Memory {
    /// What is active now.
    pub fn active_state(&self) -> Arc<ActiveState> {
        self.lock().active_state.clone()
    }

    /// Looks into the registry.
    pub fn schemas<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.lock().schemas)
    }

    /// Looks into the newest verdicts.
    pub fn verdicts<T>(&self, look: impl FnOnce(&Verdicts) -> T) -> T {
        look(&self.lock().verdicts)
    }

    /// What was announced, by table uuid.
    pub fn announced(&self) -> BTreeMap<String, Arc<Announced>> {
        self.lock().announced.clone()
    }

    /// The revision at which a key was erased, if it was the last that happened to it.
    pub fn erased(&self, topic: &'static str, key: &str) -> Option<i64> {
        self.lock().revisions.get(topic)?.erased(key)
    }

    /// True if a record must be written anew.
    pub fn has_overwritten(&self) -> bool {
        !self.lock().overwritten.is_empty()
    }

    /// The records to write anew, once.
    pub fn take_overwritten(&self) -> Vec<Overwritten> {
        std::mem::take(&mut self.lock().overwritten)
    }

    /// Resolves whenever something was read.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Waits until the record at this offset was read back.
    pub async fn has_read(&self, topic: &'static str, offset: i64) {
        let mut changes = self.changes();
        while self.lock().next.get(topic).copied().unwrap_or_default() <= offset {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes a record. An error says that it is no message of this mesh; it counts as read.
    pub fn take(&self, seen: Seen) -> Result<(), ProtoError> {
        let taken = {
            let mut state = self.lock();
            state.next.insert(seen.topic, seen.offset + 1);
            state.take(seen)
        };
        self.moved.send_modify(|count| *count += 1);
        taken
    }

    /// Counts a record as read that is no message of this mesh. What it should have said is not known until its key is
    /// written anew, or erased; a principal of that name has no rights meanwhile.
    pub fn unreadable(&self, topic: &'static str, key: String, offset: i64) {
        let mut state = self.lock();
        state.next.insert(topic, offset + 1);
        match topic {
            topics::SCHEMAS => state.schemas.skip(offset),
            topics::CONTRACTS | topics::POLICIES | topics::PRINCIPALS => {
                let active_state = Arc::make_mut(&mut state.active_state);
                if topic == topics::PRINCIPALS {
                    active_state.principals.remove(&key);
                }
                active_state.unreadable.insert((topic, key), offset);
            }
            _ => {}
        }
        drop(state);
        self.moved.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, seen: Seen) -> Result<(), ProtoError> {
        let Seen { topic, offset, key, event, erased_at } = seen;
        match (topic, event) {
            (topics::SCHEMAS, Some(event)) => {
                let schema = event.decode_as(types::SCHEMA)?;
                self.schemas.take(offset, schema);
            }
            (topics::SCHEMAS, None) => self.schemas.skip(offset),
            (topics::CONTRACT_EVENTS, Some(event)) => {
                let verdict: ContractEvent = event.decode()?;
                self.verdicts.take(event.id, verdict);
            }
            (topics::ANNOUNCED, Some(event)) => {
                let announced: Announced = event.decode_as(types::ANNOUNCED)?;
                self.announced.insert(key, Arc::new(announced));
            }
            (topics::ANNOUNCED, None) => {
                self.announced.remove(&key);
            }
            (_, None) => self.erase(topic, key, erased_at),
            (topics::CONTRACTS, Some(event)) => {
                let contract: ActiveContract = event.decode_as(types::ACTIVE_CONTRACT)?;
                if self.is_news(topic, &key, contract.revision) {
                    Arc::make_mut(&mut self.active_state).contracts.insert(key, Arc::new(contract));
                }
            }
            (topics::POLICIES, Some(event)) => {
                let policy: Policy = event.decode_as(types::POLICY)?;
                if self.is_news(topic, &key, policy.revision) {
                    Arc::make_mut(&mut self.active_state).policies.insert(key, Arc::new(policy));
                }
            }
            (_, Some(event)) => {
                let principal: Principal = event.decode_as(types::PRINCIPAL)?;
                if self.is_news(topic, &key, principal.revision) {
                    Arc::make_mut(&mut self.active_state).principals.insert(key, Arc::new(principal));
                }
            }
        }
        Ok(())
    }

    /// False, with a note to write the newer record again, if this one is older than what was there before it.
    fn is_news(&mut self, topic: &'static str, key: &str, revision: i64) -> bool {
        match self.revisions.entry(topic).or_default().set(key.to_owned(), (), revision) {
            Effect::Stale => {
                self.overwritten.push(Overwritten { topic, key: key.to_owned() });
                false
            }
            Effect::Taken { .. } => {
                self.is_known(topic, key);
                true
            }
        }
    }

    /// The key holds something that can be read again.
    fn is_known(&mut self, topic: &'static str, key: &str) {
        let place = (topic, key.to_owned());
        if self.active_state.unreadable.contains_key(&place) {
            Arc::make_mut(&mut self.active_state).unreadable.remove(&place);
        }
    }

    fn erase(&mut self, topic: &'static str, key: String, revision: Option<i64>) {
        if self.revisions.entry(topic).or_default().erase(key.clone(), revision) == Effect::Stale {
            self.overwritten.push(Overwritten { topic, key });
            return;
        }
        let active_state = Arc::make_mut(&mut self.active_state);
        active_state.unreadable.remove(&(topic, key.clone()));
        match topic {
            topics::CONTRACTS => drop(active_state.contracts.remove(&key)),
            topics::POLICIES => drop(active_state.policies.remove(&key)),
            _ => drop(active_state.principals.remove(&key)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn principal(offset: i64, revision: i64, role: &str) -> Seen {
        let principal = Principal { name: "ana".into(), roles: vec![role.into()], revision, ..Principal::default() };
        let event = Event::new(types::PRINCIPAL, "/meshwork/c/publisher", "x", Utc::now(), &principal).unwrap();
        Seen { topic: topics::PRINCIPALS, offset, key: "ana".into(), event: Some(event), erased_at: None }
    }

    fn tombstone(offset: i64, revision: i64) -> Seen {
        Seen { topic: topics::PRINCIPALS, offset, key: "ana".into(), event: None, erased_at: Some(revision) }
    }

    /// What is active after these records, and whether something must be written anew.
    fn check(records: Vec<Seen>, active: Option<&str>, overwritten: bool) {
        let memory = Memory::default();
        for record in records {
            memory.take(record).unwrap();
        }
        let role = memory.active_state().principals.get("ana").map(|principal| principal.roles[0].clone());
        assert_eq!((role.as_deref(), !memory.take_overwritten().is_empty()), (active, overwritten));
    }

    #[test]
    fn a_higher_revision_replaces_a_lower_one() {
        check(vec![principal(0, 3, "a"), principal(1, 5, "b")], Some("b"), false);
    }

    #[test]
    fn a_lower_revision_changes_nothing_and_asks_to_be_overwritten() {
        check(vec![principal(0, 5, "b"), principal(1, 3, "a")], Some("b"), true);
    }

    #[test]
    fn what_was_taken_away_does_not_come_back_by_a_sleeper() {
        check(vec![principal(0, 3, "a"), tombstone(1, 5), principal(2, 4, "a")], None, true);
        check(vec![principal(0, 3, "a"), tombstone(1, 5), principal(2, 6, "c")], Some("c"), false);
    }

    #[test]
    fn a_late_tombstone_takes_nothing_away() {
        check(vec![principal(0, 6, "c"), tombstone(1, 5)], Some("c"), true);
    }

    #[test]
    fn the_same_revision_again_is_no_news_and_no_trouble() {
        check(vec![principal(0, 3, "a"), principal(1, 3, "a")], Some("a"), false);
    }

    #[test]
    fn an_unreadable_record_is_known_to_be_one_until_its_key_is_written_anew() {
        let memory = Memory::default();
        memory.take(principal(0, 3, "a")).unwrap();
        memory.unreadable(topics::PRINCIPALS, "ana".into(), 1);
        let active_state = memory.active_state();
        assert!(active_state.principals.is_empty(), "whose record cannot be read has no rights");
        assert_eq!(active_state.unreadable.get(&(topics::PRINCIPALS, "ana".into())), Some(&1));
        memory.take(principal(2, 4, "b")).unwrap();
        assert!(memory.active_state().unreadable.is_empty());
        memory.unreadable(topics::PRINCIPALS, "ana".into(), 3);
        memory.take(tombstone(4, 5)).unwrap();
        assert!(memory.active_state().unreadable.is_empty());
    }

    #[test]
    fn a_record_is_taken_without_a_copy_of_all_others() {
        let memory = Memory::default();
        memory.take(principal(0, 1, "a")).unwrap();
        let place = || Arc::as_ptr(&memory.active_state());
        let before = place();
        memory.take(principal(1, 2, "b")).unwrap();
        memory.take(tombstone(2, 3)).unwrap();
        assert_eq!(place(), before);
    }

    #[tokio::test]
    async fn a_writer_waits_for_its_own_record() {
        let memory = Memory::default();
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.has_read(topics::PRINCIPALS, 1).await }
        });
        memory.take(principal(0, 1, "a")).unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        memory.take(principal(1, 2, "b")).unwrap();
        waiting.await.unwrap();
    }
}
