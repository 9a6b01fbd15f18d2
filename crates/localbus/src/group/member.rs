//! One member of a group, and the requests and replies that it waits with.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

/// A way of dividing partitions that a member knows, with what it tells the leader about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: StrBytes,
    pub(crate) metadata: Bytes,
}

/// A request to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Empty for a member that has no id yet.
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: StrBytes,
    pub(crate) protocols: Vec<Protocol>,
    /// Newer clients are given an id first and join with it, so that a lost reply leaves no ghost member.
    pub(crate) wants_id_first: bool,
}

/// The generation a member is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<StrBytes>,
    pub(crate) protocol: Option<StrBytes>,
    pub(crate) leader: StrBytes,
    pub(crate) member_id: StrBytes,
    /// Only for the leader.
    pub(crate) members: Vec<JoinedMember>,
}

/// What the leader learns of each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) metadata: Bytes,
}

/// Why a join failed, and the id to join with, if one was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NotJoined {
    pub(crate) error: ResponseError,
    pub(crate) member_id: StrBytes,
}

pub(crate) type JoinReply = Result<Joined, NotJoined>;

/// A request for an assignment; the leader's carries everyone's.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    pub(crate) who: Claim,
    pub(crate) protocol_type: Option<StrBytes>,
    pub(crate) protocol: Option<StrBytes>,
    pub(crate) assignments: Vec<(StrBytes, Bytes)>,
}

/// A member's assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<StrBytes>,
    pub(crate) protocol: Option<StrBytes>,
    pub(crate) assignment: Bytes,
}

pub(crate) type SyncReply = Result<Synced, ResponseError>;

/// Who a request says it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) member_id: StrBytes,
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) generation: i32,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// When its session ends, unless it is waiting for a reply.
    pub(crate) deadline: Instant,
    pub(crate) joining: Option<oneshot::Sender<JoinReply>>,
    pub(crate) syncing: Option<oneshot::Sender<SyncReply>>,
    /// Whether it requested its assignment in this generation.
    pub(crate) synced: bool,
}

impl Member {
    pub(crate) fn new(join: Join, now: Instant) -> Self {
        Self {
            deadline: now + join.session_timeout,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            synced: false,
        }
    }

    pub(crate) fn touch(&mut self, now: Instant) {
        self.deadline = now + self.session_timeout;
    }

    /// A member that waits for a reply cannot heartbeat.
    pub(crate) fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(crate) fn metadata(&self, protocol: &StrBytes) -> Bytes {
        let known = self.protocols.iter().find(|known| known.name == *protocol);
        known.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    // A client that has left gets no answer; its session ends by itself.
    pub(crate) fn answer_join(&mut self, reply: JoinReply) {
        if let Some(waiting) = self.joining.take() {
            let _ = waiting.send(reply);
        }
    }

    pub(crate) fn answer_sync(&mut self, reply: SyncReply) {
        if let Some(waiting) = self.syncing.take() {
            let _ = waiting.send(reply);
        }
    }
}
