//! Groups as administrators see them: list, describe, delete.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, code};
use crate::group::coordinator::MemberDescription;
use crate::group::state::Phase;

/// The only kind of group there is.
const CLASSIC: &str = "classic";

pub(crate) fn list(context: &Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let groups = context.broker.groups.list().into_iter();
    let groups = groups.filter(|(_, group)| {
        wanted(&request.states_filter, group.phase.name()) && wanted(&request.types_filter, CLASSIC)
    });
    let groups = groups.map(|(id, group)| {
        ListedGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(id)))
            .with_protocol_type(group.protocol_type)
            .with_group_state(StrBytes::from_static_str(group.phase.name()))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn describe(context: &Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let described = DescribedGroup::default().with_group_id(id.clone());
        let Some(group) = context.broker.groups.describe(&id) else {
            return described.with_group_state(StrBytes::from_static_str(Phase::Dead.name()));
        };
        described
            .with_group_state(StrBytes::from_static_str(group.phase.name()))
            .with_protocol_type(group.protocol_type)
            .with_protocol_data(group.protocol)
            .with_members(group.members.into_iter().map(member).collect())
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(member.member_id)
        .with_group_instance_id(member.instance_id)
        .with_client_id(member.client_id)
        .with_client_host(member.client_host)
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

pub(crate) fn delete(context: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let deleted = context.broker.groups.delete(&id);
        DeletableGroupResult::default().with_group_id(id).with_error_code(code(&deleted))
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
