//! What members ask of their group, and what that changes.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Group, Phase};
use crate::group::member::{Claim, Join, JoinReply, Joined, Member, NotJoined, Sync, SyncReply, Synced};

impl Group {
    /// A request to join; the answer comes through `reply`, now or when the generation is formed.
    pub(crate) fn join(&mut self, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        match self.admit(&join, now) {
            Ok(Admission::New(id)) => self.add(id, join, now, reply),
            Ok(Admission::Known(id)) => self.rejoin(&id, join, now, reply),
            Ok(Admission::Replaces(old)) => self.replace_static(&old, join, now, reply),
            Err(refused) => answer(reply, Err(refused)),
        }
    }

    fn admit(&mut self, join: &Join, now: Instant) -> Result<Admission, NotJoined> {
        let refuse = |error| Err(NotJoined { error, member_id: join.member_id.clone() });
        if self.phase == Phase::Dead {
            return refuse(ResponseError::CoordinatorNotAvailable);
        }
        if !self.speaks(join) {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        let holder = join.instance_id.as_ref().and_then(|instance| self.statics.get(instance)).cloned();
        if join.member_id.is_empty() {
            return match holder {
                Some(old) => Ok(Admission::Replaces(old)),
                None if join.wants_id_first && join.instance_id.is_none() => {
                    let member_id = new_member_id(join);
                    self.reserved.insert(member_id.clone(), now + join.session_timeout);
                    Err(NotJoined { error: ResponseError::MemberIdRequired, member_id })
                }
                None => Ok(Admission::New(new_member_id(join))),
            };
        }
        if self.reserved.remove(&join.member_id).is_some() {
            return Ok(Admission::New(join.member_id.clone()));
        }
        match (&join.instance_id, holder) {
            (Some(_), Some(holder)) if holder != join.member_id => refuse(ResponseError::FencedInstanceId),
            _ if self.members.contains_key(&join.member_id) => Ok(Admission::Known(join.member_id.clone())),
            _ => refuse(ResponseError::UnknownMemberId),
        }
    }

    /// Whether a joining member shares a protocol with all members.
    fn speaks(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let knows = |member: &Member, name: &StrBytes| member.protocols.iter().any(|known| known.name == *name);
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|offer| self.members.values().all(|member| knows(member, &offer.name)))
    }

    fn add(&mut self, id: StrBytes, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.protocol_type = Some(join.protocol_type.clone());
        let mut member = Member::new(join, now);
        member.joining = Some(reply);
        self.members.insert(id.clone(), member);
        self.leader.get_or_insert(id);
        self.rebalance(now);
    }

    fn rejoin(&mut self, id: &StrBytes, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        let is_leader = self.leader.as_ref() == Some(id);
        let Some(member) = self.members.get_mut(id) else { return };
        let changed = member.protocols != join.protocols;
        member.touch(now);
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.protocols = join.protocols;
        let repeated = match self.phase {
            // The reply to its join was lost.
            Phase::CompletingRebalance => !changed,
            // The leader joins again to make everybody do so; a follower perhaps only lost its reply.
            Phase::Stable => !changed && !is_leader,
            _ => false,
        };
        if repeated {
            return answer(reply, Ok(self.joined(id)));
        }
        member.answer_join(Err(NotJoined { error: ResponseError::RebalanceInProgress, member_id: id.clone() }));
        member.joining = Some(reply);
        self.rebalance(now);
    }

    /// A restarted member with an instance id takes the place of its former self.
    fn replace_static(&mut self, old: &StrBytes, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        let id = new_member_id(&join);
        let Some(mut former) = self.members.remove(old) else { return };
        former.answer_join(Err(NotJoined { error: ResponseError::FencedInstanceId, member_id: old.clone() }));
        former.answer_sync(Err(ResponseError::FencedInstanceId));
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        let mut member = Member::new(join, now);
        member.assignment = former.assignment;
        member.synced = former.synced;
        self.members.insert(id.clone(), member);
        let told_leader = self.leader.clone().unwrap_or_default();
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(id.clone());
        }
        if self.phase == Phase::Stable && self.select_protocol() == self.protocol {
            // It gets its old assignment. Naming the former self as leader keeps it from assigning again.
            let joined = Joined { leader: told_leader, members: Vec::new(), ..self.joined(&id) };
            return answer(reply, Ok(joined));
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = Some(reply);
        }
        self.rebalance(now);
    }

    /// A request for an assignment; the answer comes through `reply`, now or when the leader has assigned.
    pub(crate) fn sync(&mut self, sync: Sync, now: Instant, reply: oneshot::Sender<SyncReply>) {
        if let Err(error) = self.check_sync(&sync) {
            let _ = reply.send(Err(error));
            return;
        }
        let id = sync.who.member_id;
        let is_leader = self.leader.as_ref() == Some(&id);
        if let Some(member) = self.members.get_mut(&id) {
            member.touch(now);
            member.synced = true;
            member.syncing = Some(reply);
        }
        if self.phase == Phase::CompletingRebalance && is_leader {
            self.assign(sync.assignments);
        }
        if self.phase == Phase::Stable {
            self.answer_syncs(now);
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        self.check(&sync.who)?;
        let differs = |claimed: &Option<StrBytes>, known: &Option<StrBytes>| claimed.is_some() && claimed != known;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
            Phase::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            Phase::Empty | Phase::Dead => Err(ResponseError::UnknownMemberId),
        }
    }

    fn assign(&mut self, assignments: Vec<(StrBytes, bytes::Bytes)>) {
        self.members.values_mut().for_each(|member| member.assignment.clear());
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
        // Members without a request for their assignment when this passes are not coming.
        if self.members.values().all(|member| member.synced) {
            self.phase_deadline = None;
        }
    }

    fn answer_syncs(&mut self, now: Instant) {
        let protocol_type = self.protocol_type.clone();
        let protocol = self.protocol.clone();
        for member in self.members.values_mut().filter(|member| member.syncing.is_some()) {
            member.touch(now);
            let assignment = member.assignment.clone();
            let synced = Synced { protocol_type: protocol_type.clone(), protocol: protocol.clone(), assignment };
            member.answer_sync(Ok(synced));
        }
        if self.members.values().all(|member| member.synced) {
            self.phase_deadline = None;
        }
    }

    /// Whether the claim is a member of this generation.
    fn check(&self, claim: &Claim) -> Result<(), ResponseError> {
        if self.phase == Phase::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let holder = claim.instance_id.as_ref().and_then(|instance| self.statics.get(instance));
        if holder.is_some_and(|holder| *holder != claim.member_id) {
            return Err(ResponseError::FencedInstanceId);
        }
        if !self.members.contains_key(&claim.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if claim.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    /// A sign of life; the error tells a member to join again.
    pub(crate) fn heartbeat(&mut self, claim: &Claim, now: Instant) -> Result<(), ResponseError> {
        self.check(claim)?;
        if let Some(member) = self.members.get_mut(&claim.member_id) {
            member.touch(now);
        }
        match self.phase {
            Phase::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether the claim may commit offsets: a member of this generation, or, if it has no members, anybody.
    pub(crate) fn may_commit(&mut self, claim: &Claim, now: Instant) -> Result<(), ResponseError> {
        if claim.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check(claim)?;
        if let Some(member) = self.members.get_mut(&claim.member_id) {
            member.touch(now);
        }
        match self.phase {
            Phase::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// A member leaves by its id, or by the instance id that it holds.
    pub(crate) fn leave(
        &mut self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        let id = match instance_id {
            Some(instance) => match self.statics.get(instance) {
                Some(holder) if member_id.is_empty() || member_id == holder => holder.clone(),
                Some(_) => return Err(ResponseError::FencedInstanceId),
                None => return Err(ResponseError::UnknownMemberId),
            },
            None => member_id.clone(),
        };
        if self.reserved.remove(&id).is_some() {
            self.form_if_complete(now);
            return Ok(());
        }
        if !self.members.contains_key(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.forget(&id);
        self.rebalance(now);
        Ok(())
    }
}

/// What a join is.
enum Admission {
    /// Of a new member, with its id.
    New(StrBytes),
    /// Of a member.
    Known(StrBytes),
    /// Of a static member that restarted; the id of its former self.
    Replaces(StrBytes),
}

fn answer(reply: oneshot::Sender<JoinReply>, with: JoinReply) {
    // A client that has left gets no answer; its session ends by itself.
    let _ = reply.send(with);
}

fn new_member_id(join: &Join) -> StrBytes {
    let name = join.instance_id.as_ref().unwrap_or(&join.client_id);
    StrBytes::from_string(format!("{name}-{}", Uuid::new_v4()))
}
