//! From a frame to the handler of its request, and back to a frame.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::guard;
use crate::api::{self, Context, SUPPORTED, cluster, configs, fetch, groups, membership, offsets, positions, produce};
use crate::broker::Broker;

/// Why a frame was not understood. Nothing after it can be, so the connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a request of {0} bytes has no header")]
    Short(usize),
    #[error("request type {key} version {version} is not one the local bus answers")]
    Unsupported { key: i16, version: i16 },
    #[error("a request of type {key} version {version} cannot be decoded: {why}")]
    Undecodable { key: i16, version: i16, why: String },
    #[error("the answer to a request of type {key} version {version} cannot be encoded: {why}")]
    Unencodable { key: i16, version: i16, why: String },
}

/// One decoded header and the rest of its frame.
struct Request {
    key: i16,
    version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Request {
    fn decode<T: Decodable>(&mut self) -> Result<T, Malformed> {
        let key = self.key;
        let version = self.version;
        guard::decode(&mut self.body, version).map_err(|why| Malformed::Undecodable { key, version, why })
    }

    fn answer<Q: Decodable, R: Encodable + HeaderVersion>(
        mut self,
        context: &Context,
        handler: impl FnOnce(&Context, Q) -> R,
    ) -> Result<Option<BytesMut>, Malformed> {
        let request = self.decode()?;
        self.encode(&handler(context, request))
    }

    fn encode<T: Encodable + HeaderVersion>(&self, response: &T) -> Result<Option<BytesMut>, Malformed> {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        let encoded = header
            .encode(&mut frame, T::header_version(self.version))
            .and_then(|()| response.encode(&mut frame, self.version));
        let key = self.key;
        let version = self.version;
        encoded.map_err(|e| Malformed::Unencodable { key, version, why: e.to_string() })?;
        let too_long = |_| Malformed::Unencodable { key, version, why: "too long".to_owned() };
        let length = i32::try_from(frame.len() - 4).map_err(too_long)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Some(frame))
    }
}

/// Answers one frame; `None` if its client wants no answer.
pub(super) async fn answer(
    broker: &Arc<Broker>,
    mut frame: Bytes,
    peer: SocketAddr,
    connection: u64,
) -> Result<Option<BytesMut>, Malformed> {
    if frame.len() < 8 {
        return Err(Malformed::Short(frame.len()));
    }
    let word = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
    let key = word(0);
    let version = word(2);
    let known = ApiKey::try_from(key).ok().and_then(|key| SUPPORTED.iter().find(|api| api.key == key));
    let Some(api) = known else { return Err(Malformed::Unsupported { key, version }) };
    if !(api.min..=api.max).contains(&version) {
        if api.key != ApiKey::ApiVersions {
            return Err(Malformed::Unsupported { key, version });
        }
        // A newer client finds out what is spoken here from an answer in the oldest version.
        let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let oldest = Request { key, version: 0, correlation_id, body: Bytes::new() };
        return oldest.encode(&cluster::api_versions(false));
    }
    let header: RequestHeader = guard::decode(&mut frame, api.key.request_header_version(version))
        .map_err(|why| Malformed::Undecodable { key, version, why })?;
    let context = Context {
        broker: Arc::clone(broker),
        version,
        client_id: header.client_id.unwrap_or_default(),
        peer: peer.ip(),
        connection,
    };
    let request = Request { key, version, correlation_id: header.correlation_id, body: frame };
    handle(&context, api.key, request).await
}

async fn handle(context: &Context, key: ApiKey, mut r: Request) -> Result<Option<BytesMut>, Malformed> {
    match key {
        ApiKey::Produce => match produce::handle(context, r.decode()?) {
            Some(response) => r.encode(&response),
            None => Ok(None),
        },
        ApiKey::Fetch => {
            let response = fetch::handle(context, r.decode()?).await;
            r.encode(&response)
        }
        ApiKey::JoinGroup => {
            let response = membership::join(context, r.decode()?).await;
            r.encode(&response)
        }
        ApiKey::SyncGroup => {
            let response = membership::sync(context, r.decode()?).await;
            r.encode(&response)
        }
        ApiKey::ApiVersions => r.encode(&cluster::api_versions(true)),
        ApiKey::DescribeCluster => r.answer(context, cluster::describe_cluster),
        ApiKey::FindCoordinator => r.answer(context, cluster::find_coordinator),
        ApiKey::InitProducerId => r.answer(context, cluster::init_producer_id),
        ApiKey::Metadata => r.answer(context, api::topics::metadata),
        ApiKey::DescribeTopicPartitions => r.answer(context, api::topics::describe_topic_partitions),
        ApiKey::CreateTopics => r.answer(context, api::topics::create_topics),
        ApiKey::CreatePartitions => r.answer(context, api::topics::create_partitions),
        ApiKey::DeleteTopics => r.answer(context, api::topics::delete_topics),
        ApiKey::ListOffsets => r.answer(context, positions::list_offsets),
        ApiKey::OffsetForLeaderEpoch => r.answer(context, positions::offset_for_leader_epoch),
        ApiKey::DeleteRecords => r.answer(context, positions::delete_records),
        ApiKey::DescribeConfigs => r.answer(context, configs::describe_configs),
        ApiKey::AlterConfigs => r.answer(context, configs::alter_configs),
        ApiKey::IncrementalAlterConfigs => r.answer(context, configs::incremental_alter_configs),
        ApiKey::Heartbeat => r.answer(context, membership::heartbeat),
        ApiKey::LeaveGroup => r.answer(context, membership::leave),
        ApiKey::OffsetCommit => r.answer(context, offsets::commit),
        ApiKey::OffsetFetch => r.answer(context, offsets::fetch),
        ApiKey::OffsetDelete => r.answer(context, offsets::delete),
        ApiKey::ListGroups => r.answer(context, groups::list),
        ApiKey::DescribeGroups => r.answer(context, groups::describe),
        ApiKey::DeleteGroups => r.answer(context, groups::delete),
        _ => Err(Malformed::Unsupported { key: r.key, version: r.version }),
    }
}
