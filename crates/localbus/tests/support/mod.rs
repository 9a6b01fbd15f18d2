//! A Kafka client of a few lines, and buses to talk to.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use mesh_localbus::{LocalBus, LocalBusConfig, RunningBus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn config(data: &Path) -> LocalBusConfig {
    LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), data)
}

pub async fn start(data: &Path) -> RunningBus {
    LocalBus::start(config(data)).await.unwrap()
}

pub fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub socket: TcpStream,
    correlation: i32,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(addr).await.unwrap(), correlation: 0 }
    }

    pub async fn call<R: Request + HeaderVersion>(&mut self, request: &R, version: i16) -> R::Response {
        self.try_call(request, version).await.unwrap()
    }

    /// An error if the bus closes the connection.
    pub async fn try_call<R: Request + HeaderVersion>(
        &mut self,
        request: &R,
        version: i16,
    ) -> std::io::Result<R::Response> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(request, version));
        answer.await.unwrap_or_else(|_| panic!("no answer to api {} version {version}", R::KEY))
    }

    async fn exchange<R: Request + HeaderVersion>(
        &mut self,
        request: &R,
        version: i16,
    ) -> std::io::Result<R::Response> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.socket.write_i32(frame.len() as i32).await?;
        self.socket.write_all(&frame).await?;
        let length = self.socket.read_i32().await?;
        let mut answer = vec![0; length as usize];
        self.socket.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation);
        let response = R::Response::decode(&mut answer, version).unwrap();
        assert!(!answer.has_remaining(), "bytes after the answer to api {} version {version}", R::KEY);
        Ok(response)
    }

    /// Creates a topic; answers its id.
    pub async fn create(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let own = |text: &str| StrBytes::from_string(text.to_owned());
        let configs = configs.iter();
        let configs = configs
            .map(|(name, value)| CreatableTopicConfig::default().with_name(own(name)).with_value(Some(own(value))));
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let response = self.call(&CreateTopicsRequest::default().with_topics(vec![topic]), 7).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        response.topics[0].topic_id
    }

    pub async fn produce(&mut self, topic: &str, batch: Bytes) -> PartitionProduceResponse {
        self.try_produce(topic, batch).await.unwrap()
    }

    pub async fn try_produce(&mut self, topic: &str, batch: Bytes) -> std::io::Result<PartitionProduceResponse> {
        let request = produce_request(topic, Uuid::nil(), batch);
        let mut response = self.try_call(&request, 9).await?;
        Ok(response.responses.remove(0).partition_responses.remove(0))
    }

    /// The values from `offset` on.
    pub async fn fetch(&mut self, topic: &str, offset: i64) -> Vec<String> {
        values(&self.call(&fetch_request(topic, Uuid::nil(), offset, 0), 12).await)
    }
}

pub fn produce_request(topic: &str, id: Uuid, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let data =
        TopicProduceData::default().with_name(name(topic)).with_topic_id(id).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![data])
}

pub fn fetch_request(topic: &str, id: Uuid, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_topic_id(id).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub fn values(response: &FetchResponse) -> Vec<String> {
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let mut bytes = partition.records.clone().unwrap_or_default();
    let sets = RecordBatchDecoder::decode_all(&mut bytes).unwrap();
    let records = sets.into_iter().flat_map(|set| set.records);
    records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

/// A batch of one record per value.
pub fn batch(values: &[&str]) -> Bytes {
    batch_by(values, -1, 0, Compression::None)
}

pub fn batch_by(values: &[&str], producer_id: i64, sequence: i32, compression: Compression) -> Bytes {
    let record = |(at, value): (usize, &&str)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id,
        producer_epoch: if producer_id < 0 { -1 } else { 0 },
        timestamp_type: TimestampType::Creation,
        offset: at as i64,
        sequence: sequence + at as i32,
        timestamp: 1000 + at as i64,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Default::default(),
    };
    let records: Vec<_> = values.iter().enumerate().map(record).collect();
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    out.freeze()
}

/// A frame that promises `promised` bytes and holds `body`.
pub fn frame(promised: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(promised);
    out.extend_from_slice(body);
    out
}
