//! Who is there: versions, nodes, coordinators.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Explained, SUPPORTED, no_transactions};
use crate::broker::NODE_ID;

/// All versions; `known` is false when the client's own version of this request is unknown.
pub(crate) fn api_versions(known: bool) -> ApiVersionsResponse {
    let keys = SUPPORTED.iter().map(|api| {
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(api.min).with_max_version(api.max)
    });
    let error = if known { 0 } else { ResponseError::UnsupportedVersion.code() };
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys.collect())
}

pub(crate) fn describe_cluster(context: &Context, _: DescribeClusterRequest) -> DescribeClusterResponse {
    let advertised = &context.broker.advertised;
    let node = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(advertised.host.clone()))
        .with_port(i32::from(advertised.port));
    DescribeClusterResponse::default()
        .with_cluster_id(context.broker.cluster_id.clone())
        .with_controller_id(BrokerId(NODE_ID))
        .with_endpoint_type(1)
        .with_brokers(vec![node])
}

const KEY_TYPE_GROUP: i8 = 0;

pub(crate) fn find_coordinator(context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let advertised = &context.broker.advertised;
    let host = StrBytes::from_string(advertised.host.clone());
    let port = i32::from(advertised.port);
    let found = if request.key_type == KEY_TYPE_GROUP { Ok(()) } else { Err(no_transactions()) };
    let (error, message) = Explained::parts(&found);
    if context.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(message)
            .with_node_id(BrokerId(NODE_ID))
            .with_host(host)
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(error)
            .with_error_message(message.clone())
            .with_node_id(BrokerId(NODE_ID))
            .with_host(host.clone())
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

pub(crate) fn init_producer_id(context: &Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    if request.transactional_id.is_some() {
        return response.with_error_code(no_transactions().error.code()).with_producer_id((-1).into());
    }
    match context.broker.next_producer_id() {
        Ok(id) => response.with_producer_id(id.into()).with_producer_epoch(0),
        Err(error) => {
            context.broker.note_storage::<()>(Err(&error));
            response.with_error_code(ResponseError::CoordinatorNotAvailable.code()).with_producer_id((-1).into())
        }
    }
}
