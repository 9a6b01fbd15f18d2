//! A group's members: join, sync, heartbeat, leave.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, code};
use crate::group::member::{Claim, Join, JoinReply, NotJoined, Protocol, Sync};

/// From this version on, a member without an id is given one to join with.
const ID_FIRST: i16 = 4;
/// From this version on, a missing protocol is null rather than empty.
const NULL_PROTOCOL: i16 = 7;

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

pub(crate) async fn join(context: &Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let refuse = |error| Err(NotJoined { error, member_id: request.member_id.clone() });
    let reply = if request.group_id.is_empty() {
        refuse(ResponseError::InvalidGroupId)
    } else if request.session_timeout_ms <= 0 {
        refuse(ResponseError::InvalidSessionTimeout)
    } else {
        let rebalance_ms = if context.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        let protocols = request.protocols.into_iter();
        let join = Join {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            client_id: context.client_id.clone(),
            client_host: StrBytes::from_string(format!("/{}", context.peer)),
            session_timeout: millis(request.session_timeout_ms),
            rebalance_timeout: millis(rebalance_ms),
            protocol_type: request.protocol_type,
            protocols: protocols.map(|known| Protocol { name: known.name, metadata: known.metadata }).collect(),
            wants_id_first: context.version >= ID_FIRST,
        };
        context.broker.groups.join(&request.group_id, join).await
    };
    joined(context, reply)
}

fn joined(context: &Context, reply: JoinReply) -> JoinGroupResponse {
    let empty = || (context.version < NULL_PROTOCOL).then(StrBytes::new);
    match reply {
        Err(refused) => JoinGroupResponse::default()
            .with_error_code(refused.error.code())
            .with_generation_id(-1)
            .with_protocol_name(empty())
            .with_member_id(refused.member_id),
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(member.member_id)
                    .with_group_instance_id(member.instance_id)
                    .with_metadata(member.metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(joined.protocol_type)
                .with_protocol_name(joined.protocol.or_else(empty))
                .with_leader(joined.leader)
                .with_member_id(joined.member_id)
                .with_members(members.collect())
        }
    }
}

pub(crate) async fn sync(context: &Context, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter();
    let sync = Sync {
        who: Claim {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|of| (of.member_id, of.assignment)).collect(),
    };
    match context.broker.groups.sync(&request.group_id, sync).await {
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(synced.protocol_type)
            .with_protocol_name(synced.protocol)
            .with_assignment(synced.assignment),
    }
}

pub(crate) fn heartbeat(context: &Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let claim = Claim {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    HeartbeatResponse::default().with_error_code(code(&context.broker.groups.heartbeat(&request.group_id, &claim)))
}

pub(crate) fn leave(context: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let groups = &context.broker.groups;
    if context.version < 3 {
        let left = groups.leave(&request.group_id, &request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code(&left));
    }
    let members = request.members.into_iter().map(|member| {
        let left = groups.leave(&request.group_id, &member.member_id, member.group_instance_id.as_ref());
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(&left))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
