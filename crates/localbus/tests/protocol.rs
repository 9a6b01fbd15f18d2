//! The bus as a client meets it on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unreachable_pub, missing_debug_implementations, dead_code)]

mod support;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeTopicPartitionsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, SyncGroupRequest, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::Compression;
use support::{Client, batch, batch_by, fetch_request, frame, name, produce_request, start, values};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

#[tokio::test]
async fn a_newer_client_learns_which_versions_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    // The answer comes in version 0, whatever was requested, so this cannot go through `call`.
    let body = [&18i16.to_be_bytes()[..], &99i16.to_be_bytes(), &7i32.to_be_bytes(), &[0, 0, 0]].concat();
    client.socket.write_all(&frame(body.len() as i32, &body)).await.unwrap();
    let length = client.socket.read_i32().await.unwrap();
    assert_eq!(client.socket.read_i32().await.unwrap(), 7);
    assert_eq!(client.socket.read_i16().await.unwrap(), ResponseError::UnsupportedVersion.code());
    let count = client.socket.read_i32().await.unwrap();
    assert_eq!(length, 4 + 2 + 4 + count * 6);
}

#[tokio::test]
async fn every_version_of_the_common_requests_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    let id = client.create("t", 1, &[]).await;
    for version in 0..=4 {
        let versions = client.call(&ApiVersionsRequest::default(), version).await;
        assert_eq!((versions.error_code, versions.api_keys.is_empty()), (0, false));
        client.call(&ListGroupsRequest::default(), version).await;
        client.call(&InitProducerIdRequest::default(), version).await;
        let keys = vec![StrBytes::from_static_str("g")];
        let find = FindCoordinatorRequest::default();
        let find = if version < 4 { find.with_key(keys[0].clone()) } else { find.with_coordinator_keys(keys) };
        client.call(&find, version).await;
    }
    for version in 0..=12 {
        let wanted = MetadataRequestTopic::default().with_name(Some(name("t")));
        let metadata = client.call(&MetadataRequest::default().with_topics(Some(vec![wanted])), version).await;
        assert_eq!(metadata.topics[0].partitions.len(), 1);
        assert_eq!(metadata.topics[0].topic_id, if version >= 10 { id } else { Uuid::nil() });
    }
    for version in 3..=13 {
        let request = produce_request("t", id, batch(&["x"]));
        let produced = client.call(&request, version).await.responses[0].partition_responses[0].base_offset;
        assert_eq!(produced, i64::from(version) - 3);
    }
    for version in 4..=16 {
        assert_eq!(values(&client.call(&fetch_request("t", id, 10, 0), version).await), ["x"]);
    }
    for version in 1..=7 {
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let response = client.call(&ListOffsetsRequest::default().with_topics(vec![topic]), version).await;
        assert_eq!(response.topics[0].partitions[0].offset, 11);
    }
}

#[tokio::test]
async fn every_version_of_the_administrators_and_groups_requests_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    client.create("t", 1, &[]).await;
    commit(&mut client, "g", "t", 3).await;
    let group = GroupId(StrBytes::from_static_str("g"));
    // Each requests something that is there and something that is not: errors have fields of their own.
    for version in 2..=7 {
        let topics = ["t", "u"].map(|topic| CreatableTopic::default().with_name(name(topic)).with_num_partitions(1));
        let topics = topics.map(|topic| topic.with_replication_factor(1)).to_vec();
        let created =
            client.call(&CreateTopicsRequest::default().with_topics(topics).with_validate_only(true), version).await;
        assert_eq!(created.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [36, 0]);
    }
    for version in 1..=6 {
        client.create("deleted", 1, &[]).await;
        let names = vec![name("deleted"), name("nowhere")];
        let states = names.iter().map(|name| DeleteTopicState::default().with_name(Some(name.clone()))).collect();
        let request = DeleteTopicsRequest::default();
        let request = if version < 6 { request.with_topic_names(names) } else { request.with_topics(states) };
        let deleted = client.call(&request, version).await;
        assert_eq!(deleted.responses.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0, 3]);
    }
    for version in 0..=3 {
        let topics =
            ["t", "nowhere"].map(|topic| CreatePartitionsTopic::default().with_name(name(topic)).with_count(2));
        let request = CreatePartitionsRequest::default().with_topics(topics.to_vec()).with_validate_only(true);
        let grown = client.call(&request, version).await;
        assert_eq!(grown.results.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0, 3]);
    }
    for version in 1..=4 {
        let resource = |name: &'static str| {
            DescribeConfigsResource::default().with_resource_type(2).with_resource_name(StrBytes::from_static_str(name))
        };
        let resources = ["t", "nowhere"].map(|name| resource(name).with_configuration_keys(None)).to_vec();
        let described = client.call(&DescribeConfigsRequest::default().with_resources(resources), version).await;
        assert_eq!(described.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 3]);
    }
    for version in 0..=2 {
        let places = [0, 9].map(|index| DeleteRecordsPartition::default().with_partition_index(index).with_offset(0));
        let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(places.to_vec());
        let deleted = client.call(&DeleteRecordsRequest::default().with_topics(vec![topic]), version).await;
        assert_eq!(deleted.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 3]);
        let unknown = vec![GroupId(StrBytes::from_static_str("stranger"))];
        let deleted = client.call(&DeleteGroupsRequest::default().with_groups_names(unknown), version).await;
        assert_eq!(deleted.results[0].error_code, ResponseError::GroupIdNotFound.code());
    }
    for version in 2..=4 {
        let places = [0, 9].map(|index| OffsetForLeaderPartition::default().with_partition(index));
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(places.to_vec());
        let ends = client.call(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), version).await;
        assert_eq!(ends.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 3]);
    }
    for version in 0..=5 {
        let described = client.call(&DescribeGroupsRequest::default().with_groups(vec![group.clone()]), version).await;
        assert_eq!(described.groups[0].group_state.as_str(), "Empty");
        let left = LeaveGroupRequest::default().with_group_id(group.clone());
        let left = if version < 3 { left } else { left.with_members(vec![MemberIdentity::default()]) };
        let left = client.call(&left, version).await;
        let code = if version < 3 { left.error_code } else { left.members[0].error_code };
        assert_eq!(code, ResponseError::UnknownMemberId.code());
    }
    for version in 1..=9 {
        let wanted = OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(vec![0, 9]);
        let request = OffsetFetchRequest::default();
        let request = if version < 8 {
            request.with_group_id(group.clone()).with_topics(Some(vec![wanted]))
        } else {
            request.with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(None)])
        };
        client.call(&request, version).await;
    }
    for version in 2..=9 {
        let places = [0, 9].map(|index| OffsetCommitRequestPartition::default().with_partition_index(index));
        let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(places.to_vec());
        let request = OffsetCommitRequest::default().with_group_id(group.clone()).with_topics(vec![topic]);
        let done = client.call(&request.with_generation_id_or_member_epoch(-1), version).await;
        assert_eq!(done.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 3]);
    }
    for version in 0..=9 {
        join_and_leave(&mut client, version).await;
    }
}

/// One member joins, is assigned, beats and leaves, each in about this version.
async fn join_and_leave(client: &mut Client, version: i16) {
    let group = GroupId(StrBytes::from_string(format!("of {version}")));
    let range = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    let mut join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![range]);
    if version == 0 {
        join.rebalance_timeout_ms = -1;
    }
    let mut joined = client.call(&join, version).await;
    if version >= 4 {
        assert_eq!(joined.error_code, ResponseError::MemberIdRequired.code());
        join.member_id = joined.member_id;
        joined = client.call(&join, version).await;
    }
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    let own = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![own.with_assignment(bytes::Bytes::from_static(b"all"))]);
    assert_eq!(client.call(&sync, version.min(5)).await.assignment, "all");
    let beat = HeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    assert_eq!(client.call(&beat, version.min(4)).await.error_code, 0);
    let leave = LeaveGroupRequest::default().with_group_id(group).with_member_id(joined.member_id);
    assert_eq!(client.call(&leave, version.min(2)).await.error_code, 0);
}

#[tokio::test]
async fn records_ids_and_offsets_outlive_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    let id = client.create("t", 3, &[("retention.ms", "-1")]).await;
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (at, codec) in codecs.into_iter().enumerate() {
        let response = client.produce("t", batch_by(&["a", "b"], -1, 0, codec)).await;
        assert_eq!((response.error_code, response.base_offset), (0, at as i64 * 2));
    }
    commit(&mut client, "g", "t", 7).await;
    let cluster = bus.cluster_id().to_owned();
    bus.shutdown().await;

    let bus = start(folder.path()).await;
    assert_eq!(bus.cluster_id(), cluster);
    let mut client = Client::connect(bus.addr()).await;
    assert_eq!(client.fetch("t", 0).await.concat(), "ababababab");
    let wanted = TopicRequest::default().with_name(name("t"));
    let described = client.call(&DescribeTopicPartitionsRequest::default().with_topics(vec![wanted]), 0).await;
    assert_eq!((described.topics[0].topic_id, described.topics[0].partitions.len()), (id, 3));
    // Null by the protocol's leave, but not for Java's admin client.
    let replicas = |p: &DescribeTopicPartitionsResponsePartition| {
        (p.eligible_leader_replicas.as_ref().map(Vec::len), p.last_known_elr.as_ref().map(Vec::len))
    };
    assert!(described.topics[0].partitions.iter().all(|p| replicas(p) == (Some(0), Some(0))));
    assert_eq!(committed(&mut client, "g", "t").await, 7);
    assert_eq!(client.call(&DescribeClusterRequest::default(), 1).await.cluster_id.as_str(), cluster);
}

async fn commit(client: &mut Client, group: &str, topic: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = client.call(&request, 9).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// The committed offset of partition 0, requested both ways.
async fn committed(client: &mut Client, group: &str, topic: &str) -> i64 {
    let group_id = GroupId(StrBytes::from_string(group.to_owned()));
    let wanted = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let old = OffsetFetchRequest::default().with_group_id(group_id.clone()).with_topics(Some(vec![wanted]));
    let old = client.call(&old, 7).await.topics[0].partitions[0].committed_offset;
    let all = OffsetFetchRequestGroup::default().with_group_id(group_id).with_topics(None);
    let new = client.call(&OffsetFetchRequest::default().with_groups(vec![all]), 9).await;
    let new = new.groups[0].topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
    assert_eq!(old, new);
    old
}

#[tokio::test]
async fn a_topic_created_again_is_another_topic() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    let first = client.create("t", 1, &[]).await;
    client.produce("t", batch(&["old"])).await;
    commit(&mut client, "g", "t", 1).await;
    let state = DeleteTopicState::default().with_name(None).with_topic_id(first);
    let deleted = client.call(&DeleteTopicsRequest::default().with_topics(vec![state]), 6).await;
    assert_eq!((deleted.responses[0].error_code, deleted.responses[0].name.clone()), (0, Some(name("t"))));
    let second = client.create("t", 1, &[]).await;
    assert_ne!(first, second);
    assert_eq!(client.fetch("t", 0).await, Vec::<String>::new());
    assert_eq!(committed(&mut client, "g", "t").await, -1);
    let stale = client.call(&fetch_request("t", first, 0, 0), 13).await;
    assert_eq!(stale.responses[0].partitions[0].error_code, ResponseError::UnknownTopicId.code());
}

#[tokio::test]
async fn a_fetch_waits_for_the_first_record_but_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut reader = Client::connect(bus.addr()).await;
    let mut writer = Client::connect(bus.addr()).await;
    writer.create("t", 1, &[]).await;
    let began = std::time::Instant::now();
    let empty = reader.call(&fetch_request("t", Uuid::nil(), 0, 200), 12).await;
    assert_eq!(values(&empty).len(), 0);
    assert!(began.elapsed().as_millis() >= 200);
    let hour = 3_600_000;
    let request = fetch_request("t", Uuid::nil(), 0, hour);
    let mut waiting = Box::pin(reader.call(&request, 12));
    let first = tokio::time::timeout(std::time::Duration::from_millis(100), &mut waiting).await;
    assert!(first.is_err(), "nothing is there to answer with");
    writer.produce("t", batch(&["x"])).await;
    assert_eq!(values(&waiting.await), ["x"]);
}

/// The batch with another number of records in its header, and a checksum that holds.
fn recounted(batch: &[u8], count: i32) -> bytes::Bytes {
    let mut batch = batch.to_vec();
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let bus = start(folder.path()).await;
    let mut client = Client::connect(bus.addr()).await;
    client.create("t", 1, &[("max.message.bytes", "200")]).await;
    client.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let mut corrupt = batch(&["x"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let two = [batch(&["x"]), batch(&["y"])].concat();
    let miscounted = recounted(&batch(&["x", "y"]), 3);
    let keyed = batch(&["x"]);
    for (topic, bytes, expected) in [
        ("nowhere", batch(&["x"]), Some(ResponseError::UnknownTopicOrPartition)),
        ("t", corrupt.into(), Some(ResponseError::CorruptMessage)),
        ("t", two.into(), Some(ResponseError::InvalidRecord)),
        ("t", miscounted, Some(ResponseError::InvalidRecord)),
        ("t", bytes::Bytes::new(), Some(ResponseError::CorruptMessage)),
        ("t", batch(&["x".repeat(300).as_str()]), Some(ResponseError::MessageTooLarge)),
        ("compacted", keyed, None),
        ("t", batch(&["x"]), None),
    ] {
        let response = client.produce(topic, bytes).await;
        let code = expected.as_ref().map_or(0, ResponseError::code);
        assert_eq!(response.error_code, code, "{topic}: {:?}", response.error_message);
    }
    let bad_topics = [
        (CreatableTopic::default().with_name(name("a/b")), ResponseError::InvalidTopicException),
        (CreatableTopic::default().with_name(name("t")), ResponseError::TopicAlreadyExists),
        (CreatableTopic::default().with_name(name("u")).with_num_partitions(-5), ResponseError::InvalidPartitions),
        (
            CreatableTopic::default().with_name(name("u")).with_replication_factor(3),
            ResponseError::InvalidReplicationFactor,
        ),
    ];
    for (topic, expected) in bad_topics {
        let partitions = if topic.num_partitions == 0 { 1 } else { topic.num_partitions };
        let factor = topic.replication_factor.max(1);
        let topic = topic.with_num_partitions(partitions).with_replication_factor(factor);
        let response = client.call(&CreateTopicsRequest::default().with_topics(vec![topic]), 7).await;
        assert_eq!(response.topics[0].error_code, expected.code(), "{:?}", response.topics[0].error_message);
    }
    let id = TransactionalId(StrBytes::from_static_str("tx"));
    let response = client.call(&InitProducerIdRequest::default().with_transactional_id(Some(id)), 4).await;
    assert_eq!(response.error_code, ResponseError::TransactionalIdAuthorizationFailed.code());
}
