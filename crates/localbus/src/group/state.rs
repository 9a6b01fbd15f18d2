//! The life of one group: empty → preparing → completing → stable, and back whenever its members change.
//!
//! A pure state machine: requests and the time come in, replies go out through the senders that the requests brought.
//! Never are there two leaders in a generation, and no member gets an assignment of a generation that has passed.

mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::member::{Joined, JoinedMember, Member, NotJoined};

/// A new group waits this long for more members, so that a fleet that starts together rebalances once.
pub(crate) const FIRST_REBALANCE_DELAY: Duration = Duration::from_millis(100);

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No members; offsets may remain.
    Empty,
    /// Members are joining the next generation.
    PreparingRebalance,
    /// The generation is formed, its leader has yet to assign.
    CompletingRebalance,
    /// Everyone has, or can get, an assignment.
    Stable,
    /// Forgotten; a request that still holds it must look it up again.
    Dead,
}

impl Phase {
    /// Kafka's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: BTreeMap<StrBytes, Member>,
    /// Instance id → member id.
    statics: HashMap<StrBytes, StrBytes>,
    /// Ids given out but not yet joined with, and until when they hold.
    reserved: HashMap<StrBytes, Instant>,
    /// When the present phase ends without those who are missing.
    phase_deadline: Option<Instant>,
    /// Until when a new group waits for more members.
    not_before: Option<Instant>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: HashMap::new(),
            reserved: HashMap::new(),
            phase_deadline: None,
            not_before: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn protocol_type(&self) -> Option<&StrBytes> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn protocol(&self) -> Option<&StrBytes> {
        self.protocol.as_ref()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&StrBytes, &Member)> {
        self.members.iter()
    }

    /// Makes an unused group refuse everything, so that it can be forgotten. Answers whether it was unused.
    pub(crate) fn retire(&mut self) -> bool {
        let unused = self.phase == Phase::Empty && self.members.is_empty() && self.reserved.is_empty();
        if unused {
            self.phase = Phase::Dead;
        }
        unused
    }

    /// Starts forming the next generation, or goes on doing so.
    fn rebalance(&mut self, now: Instant) {
        if self.phase != Phase::PreparingRebalance {
            for member in self.members.values_mut() {
                member.answer_sync(Err(ResponseError::RebalanceInProgress));
                member.synced = false;
            }
            self.not_before = (self.phase == Phase::Empty).then(|| now + FIRST_REBALANCE_DELAY);
            self.phase_deadline = Some(now + self.longest_rebalance());
            self.phase = Phase::PreparingRebalance;
        }
        self.form_if_complete(now);
    }

    fn longest_rebalance(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn form_if_complete(&mut self, now: Instant) {
        let all_here = self.reserved.is_empty() && self.members.values().all(|member| member.joining.is_some());
        let may = self.not_before.is_none_or(|not_before| now >= not_before || self.members.is_empty());
        if self.phase == Phase::PreparingRebalance && all_here && may {
            self.form(now);
        }
    }

    /// Forms a generation of those who joined.
    fn form(&mut self, now: Instant) {
        let late = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let evicted: Vec<_> =
            self.members.iter().filter(|(_, member)| late(member)).map(|(id, _)| id.clone()).collect();
        evicted.iter().for_each(|id| self.forget(id));
        self.not_before = None;
        if self.members.values().all(|member| member.joining.is_none()) && !self.members.is_empty() {
            // Only absent static members: their sessions decide.
            self.phase_deadline = Some(now + self.longest_rebalance());
            return;
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.phase_deadline = None;
            self.protocol = None;
            return;
        }
        self.elect();
        self.protocol = self.select_protocol();
        self.phase = Phase::CompletingRebalance;
        self.phase_deadline = Some(now + self.longest_rebalance());
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.touch(now);
                member.synced = false;
                member.answer_join(Ok(joined));
            }
        }
    }

    /// The leader stays if it joined.
    fn elect(&mut self) {
        let here = |id: &StrBytes| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(here) {
            self.leader = self.members.iter().find(|(_, member)| member.joining.is_some()).map(|(id, _)| id.clone());
        }
    }

    /// Of the protocols that all members know, the one that most prefer.
    fn select_protocol(&self) -> Option<StrBytes> {
        let known_to_all =
            |name: &StrBytes| self.members.values().all(|member| member.protocols.iter().any(|p| p.name == *name));
        let mut votes: BTreeMap<StrBytes, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|p| known_to_all(&p.name)) {
                *votes.entry(choice.name.clone()).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
    }

    fn joined(&self, id: &StrBytes) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let described = |(id, member): (&StrBytes, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        };
        let leads = self.leader.as_ref() == Some(id);
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.clone(),
            members: if leads { self.members.iter().map(described).collect() } else { Vec::new() },
        }
    }

    fn forget(&mut self, id: &StrBytes) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.answer_join(Err(NotJoined { error: ResponseError::UnknownMemberId, member_id: id.clone() }));
        member.answer_sync(Err(ResponseError::UnknownMemberId));
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// When time alone changes something next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|member| !member.is_waiting()).map(|member| member.deadline);
        let waits = [self.phase_deadline, self.not_before];
        sessions.chain(self.reserved.values().copied()).chain(waits.into_iter().flatten()).min()
    }

    /// Evicts those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.reserved.retain(|_, until| *until > now);
        let over = |member: &Member| !member.is_waiting() && member.deadline <= now;
        let mut evicted: Vec<_> = self.members.iter().filter(|(_, m)| over(m)).map(|(id, _)| id.clone()).collect();
        let phase_over = self.phase_deadline.is_some_and(|deadline| deadline <= now);
        if phase_over && matches!(self.phase, Phase::CompletingRebalance | Phase::Stable) {
            self.phase_deadline = None;
            evicted.extend(self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone()));
        }
        if !evicted.is_empty() {
            evicted.iter().for_each(|id| self.forget(id));
            self.rebalance(now);
        }
        if phase_over && self.phase == Phase::PreparingRebalance {
            self.form(now);
        }
        if self.not_before.is_some_and(|not_before| not_before <= now) {
            self.not_before = None;
        }
        self.form_if_complete(now);
    }
}
