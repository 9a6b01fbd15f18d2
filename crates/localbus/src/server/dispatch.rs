//! From a frame to the handler of its request, and back to a frame.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

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
        let (key, version) = (self.key, self.version);
        T::decode(&mut self.body, version).map_err(|e| Malformed::Undecodable { key, version, why: e.to_string() })
    }

    fn encode<T: Encodable + HeaderVersion>(&self, response: &T) -> Result<Option<BytesMut>, Malformed> {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        let encoded = header
            .encode(&mut frame, T::header_version(self.version))
            .and_then(|()| response.encode(&mut frame, self.version));
        let (key, version) = (self.key, self.version);
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
    let (key, version) = (word(0), word(2));
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
    let header = RequestHeader::decode(&mut frame, api.key.request_header_version(version))
        .map_err(|e| Malformed::Undecodable { key, version, why: e.to_string() })?;
    let context = Context {
        broker: Arc::clone(broker),
        version,
        client_id: header.client_id.unwrap_or_else(StrBytes::new),
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
        ApiKey::DescribeCluster => {
            let q = r.decode()?;
            r.encode(&cluster::describe_cluster(context, q))
        }
        ApiKey::FindCoordinator => {
            let q = r.decode()?;
            r.encode(&cluster::find_coordinator(context, q))
        }
        ApiKey::InitProducerId => {
            let q = r.decode()?;
            r.encode(&cluster::init_producer_id(context, q))
        }
        ApiKey::Metadata => {
            let q = r.decode()?;
            r.encode(&api::topics::metadata(context, q))
        }
        ApiKey::DescribeTopicPartitions => {
            let q = r.decode()?;
            r.encode(&api::topics::describe_topic_partitions(context, q))
        }
        ApiKey::CreateTopics => {
            let q = r.decode()?;
            r.encode(&api::topics::create_topics(context, q))
        }
        ApiKey::CreatePartitions => {
            let q = r.decode()?;
            r.encode(&api::topics::create_partitions(context, q))
        }
        ApiKey::DeleteTopics => {
            let q = r.decode()?;
            r.encode(&api::topics::delete_topics(context, q))
        }
        ApiKey::ListOffsets => {
            let q = r.decode()?;
            r.encode(&positions::list_offsets(context, q))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let q = r.decode()?;
            r.encode(&positions::offset_for_leader_epoch(context, q))
        }
        ApiKey::DeleteRecords => {
            let q = r.decode()?;
            r.encode(&positions::delete_records(context, q))
        }
        ApiKey::DescribeConfigs => {
            let q = r.decode()?;
            r.encode(&configs::describe_configs(context, q))
        }
        ApiKey::AlterConfigs => {
            let q = r.decode()?;
            r.encode(&configs::alter_configs(context, q))
        }
        ApiKey::IncrementalAlterConfigs => {
            let q = r.decode()?;
            r.encode(&configs::incremental_alter_configs(context, q))
        }
        ApiKey::Heartbeat => {
            let q = r.decode()?;
            r.encode(&membership::heartbeat(context, q))
        }
        ApiKey::LeaveGroup => {
            let q = r.decode()?;
            r.encode(&membership::leave(context, q))
        }
        ApiKey::OffsetCommit => {
            let q = r.decode()?;
            r.encode(&offsets::commit(context, q))
        }
        ApiKey::OffsetFetch => {
            let q = r.decode()?;
            r.encode(&offsets::fetch(context, q))
        }
        ApiKey::OffsetDelete => {
            let q = r.decode()?;
            r.encode(&offsets::delete(context, q))
        }
        ApiKey::ListGroups => {
            let q = r.decode()?;
            r.encode(&groups::list(context, q))
        }
        ApiKey::DescribeGroups => {
            let q = r.decode()?;
            r.encode(&groups::describe(context, q))
        }
        ApiKey::DeleteGroups => {
            let q = r.decode()?;
            r.encode(&groups::delete(context, q))
        }
        _ => Err(Malformed::Unsupported { key: r.key, version: r.version }),
    }
}
