//! All groups, and the timers that evict silent members. A group without members has no timer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use mesh_runtime::tasks::{caught, detach};
use tokio::sync::{Notify, oneshot};

use super::member::{Claim, Join, JoinReply, NotJoined, Sync, SyncReply};
use super::offsets::Offsets;
use super::state::{Group, Phase};
use crate::LocalBusError;
use crate::log::lock;

const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The groups of a bus.
#[derive(Debug)]
pub(crate) struct Coordinator {
    groups: Mutex<HashMap<String, Arc<Handle>>>,
    pub(crate) offsets: Offsets,
}

/// A group and its timer.
#[derive(Debug)]
struct Handle {
    group: Mutex<Timed>,
    /// The next deadline may have come nearer.
    sooner: Notify,
}

#[derive(Debug)]
struct Timed {
    group: Group,
    has_timer: bool,
}

/// What an administrator sees of a group.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) phase: Phase,
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocol: StrBytes,
    pub(crate) members: Vec<MemberDescription>,
}

/// What an administrator sees of a member.
#[derive(Debug, Clone)]
pub(crate) struct MemberDescription {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) metadata: bytes::Bytes,
    pub(crate) assignment: bytes::Bytes,
}

impl Coordinator {
    pub(crate) fn open(offsets: PathBuf) -> Result<Self, LocalBusError> {
        Ok(Self { groups: Mutex::new(HashMap::new()), offsets: Offsets::open(offsets)? })
    }

    fn find(&self, group: &str) -> Option<Arc<Handle>> {
        lock(&self.groups).get(group).cloned()
    }

    fn find_or_create(&self, group: &str) -> Arc<Handle> {
        let fresh = || {
            let group = Mutex::new(Timed { group: Group::new(), has_timer: false });
            Arc::new(Handle { group, sooner: Notify::new() })
        };
        Arc::clone(lock(&self.groups).entry(group.to_owned()).or_insert_with(fresh))
    }

    pub(crate) async fn join(self: &Arc<Self>, group: &str, join: Join) -> JoinReply {
        let handle = self.find_or_create(group);
        let (reply, answer) = oneshot::channel();
        let member_id = join.member_id.clone();
        self.change(group, &handle, |group| group.join(join, Instant::now(), reply));
        answer.await.unwrap_or(Err(NotJoined { error: ResponseError::CoordinatorNotAvailable, member_id }))
    }

    pub(crate) async fn sync(self: &Arc<Self>, group: &str, sync: Sync) -> SyncReply {
        let handle = self.find(group).ok_or(ResponseError::UnknownMemberId)?;
        let (reply, answer) = oneshot::channel();
        self.change(group, &handle, |group| group.sync(sync, Instant::now(), reply));
        answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    pub(crate) fn heartbeat(&self, group: &str, claim: &Claim) -> Result<(), ResponseError> {
        let handle = self.find(group).ok_or(ResponseError::UnknownMemberId)?;
        // A heartbeat only moves a deadline away, which the timer finds out when it fires.
        lock(&handle.group).group.heartbeat(claim, Instant::now())
    }

    pub(crate) fn leave(
        self: &Arc<Self>,
        group: &str,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), ResponseError> {
        let handle = self.find(group).ok_or(ResponseError::UnknownMemberId)?;
        self.change(group, &handle, |group| group.leave(member_id, instance_id, Instant::now()))
    }

    /// Whether the claim may commit offsets for the group.
    pub(crate) fn may_commit(&self, group: &str, claim: &Claim) -> Result<(), ResponseError> {
        match self.find(group) {
            Some(handle) => lock(&handle.group).group.may_commit(claim, Instant::now()),
            None if claim.generation < 0 => Ok(()),
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    fn change<T>(self: &Arc<Self>, name: &str, handle: &Arc<Handle>, change: impl FnOnce(&mut Group) -> T) -> T {
        let mut timed = lock(&handle.group);
        let out = change(&mut timed.group);
        if timed.has_timer {
            handle.sooner.notify_one();
        } else {
            timed.has_timer = true;
            drop(detach("group timer", Arc::clone(self).keep_timer(name.to_owned(), Arc::clone(handle))));
        }
        out
    }

    /// Runs the timer until nothing depends on it. After a panic it goes on: else a silent member would stay for ever.
    async fn keep_timer(self: Arc<Self>, name: String, handle: Arc<Handle>) {
        while caught("group timer", Arc::clone(&self).run_timer(name.clone(), Arc::clone(&handle))).await.is_err() {
            tokio::time::sleep(AFTER_PANIC).await;
        }
    }

    /// Evicts silent members, until nothing in the group depends on time; then forgets the group if it is unused.
    async fn run_timer(self: Arc<Self>, name: String, handle: Arc<Handle>) {
        loop {
            let Some(deadline) = self.next_deadline(&name, &handle) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => lock(&handle.group).group.expire(Instant::now()),
                () = handle.sooner.notified() => {}
            }
        }
    }

    fn next_deadline(&self, name: &str, handle: &Arc<Handle>) -> Option<Instant> {
        // Both locks, in this order, so that no request finds a group that is about to be forgotten.
        let mut groups = lock(&self.groups);
        let mut timed = lock(&handle.group);
        let deadline = timed.group.next_deadline();
        if deadline.is_none() {
            timed.has_timer = false;
            if timed.group.retire() {
                groups.remove(name);
            }
        }
        deadline
    }

    /// All groups: those with members and those with only offsets.
    pub(crate) fn list(&self) -> Vec<(String, Description)> {
        let mut names = self.offsets.group_ids();
        names.extend(lock(&self.groups).keys().cloned());
        names.into_iter().filter_map(|name| self.describe(&name).map(|found| (name, found))).collect()
    }

    /// What is known of a group, if there is one.
    pub(crate) fn describe(&self, group: &str) -> Option<Description> {
        match self.find(group) {
            Some(handle) => Some(describe(&lock(&handle.group).group)),
            None => self.offsets.has_group(group).then(|| Description {
                phase: Phase::Empty,
                protocol_type: StrBytes::from_static_str("consumer"),
                protocol: StrBytes::new(),
                members: Vec::new(),
            }),
        }
    }

    /// Deletes a group without members.
    pub(crate) fn delete(&self, group: &str) -> Result<(), ResponseError> {
        match self.describe(group) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(found) if found.phase != Phase::Empty => Err(ResponseError::NonEmptyGroup),
            Some(_) => self.offsets.forget(Some(group), None).map_err(|_| ResponseError::KafkaStorageError),
        }
    }
}

fn describe(group: &Group) -> Description {
    let protocol = group.protocol().cloned().unwrap_or_default();
    let member = |(id, member): (&StrBytes, &super::member::Member)| MemberDescription {
        member_id: id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: member.metadata(&protocol),
        assignment: member.assignment.clone(),
    };
    Description {
        phase: group.phase(),
        protocol_type: group.protocol_type().cloned().unwrap_or_default(),
        members: group.members().map(member).collect(),
        protocol,
    }
}
