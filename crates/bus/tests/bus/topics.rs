use mesh_bus::{BusError, TopicPartition, TopicSpec};
use mesh_testkit::{broker, eventually, unique};
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::{PATIENCE, admin, fixture};

#[tokio::test]
async fn control_topics_are_created_once_by_any_number_of_services() -> anyhow::Result<()> {
    let broker = broker().await?;
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let (first, second) = tokio::join!(one.ensure_control_topics(), other.ensure_control_topics());
    first.and(second)?;
    one.ensure_control_topics().await?;
    assert_eq!(one.describe_topic("mesh.ingest-shards").await?.partitions, 256);
    Ok(())
}

#[tokio::test]
async fn a_topic_that_differs_is_an_error_that_says_how() -> anyhow::Result<()> {
    let fixture = fixture("differs", 2, &[("cleanup.policy", "compact")]).await?;
    let check = async |spec: TopicSpec, expected: &str| {
        let error = fixture.bus.ensure_topics(&[spec]).await.unwrap_err();
        assert_eq!(error.code(), "MESH-BUS-0010");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(TopicSpec::new(&fixture.topic, 3), "it has 2 partitions, 3 are wanted").await;
    let delete = TopicSpec::new(&fixture.topic, 2).with("cleanup.policy", "delete");
    check(delete, "its cleanup.policy is compact, delete is wanted").await;
    Ok(())
}

#[tokio::test]
async fn a_topic_that_is_created_again_has_another_id() -> anyhow::Result<()> {
    let fixture = fixture("again", 1, &[]).await?;
    let before = fixture.bus.describe_topic(&fixture.topic).await?;
    assert!(!before.id.is_nil());
    admin(&fixture.bus).delete_topics(&[&fixture.topic], &AdminOptions::new()).await?;
    let deleted = || async { fixture.bus.describe_topics(&[&fixture.topic]).await.unwrap().is_empty().then_some(()) };
    eventually("the topic to be deleted", PATIENCE, deleted).await?;
    fixture.bus.ensure_topics(&[TopicSpec::new(&fixture.topic, 1)]).await?;
    let after = fixture.bus.describe_topic(&fixture.topic).await?;
    assert_ne!(before.id, after.id);
    Ok(())
}

#[tokio::test]
async fn an_unknown_topic_is_an_error_with_its_name_and_is_not_created() -> anyhow::Result<()> {
    let broker = broker().await?;
    let bus = broker.connect().await?;
    let topic = unique("nowhere");
    let error = bus.describe_topic(&topic).await.unwrap_err();
    assert!(matches!(&error, BusError::TopicMissing { topic: named, .. } if *named == topic), "{error}");
    assert!(bus.describe_topics(&[&topic]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn lag_offsets_are_written_from_outside_the_group() -> anyhow::Result<()> {
    let fixture = fixture("lag", 2, &[]).await?;
    let group = unique("mesh-ingest.test");
    let next = [(TopicPartition::new(&fixture.topic, 0), 7), (TopicPartition::new(&fixture.topic, 1), 9)];
    fixture.bus.commit_lag(&group, &next).await?;

    let monitor: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", fixture.bus.address())
        .set("group.id", &group)
        .create()?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(&fixture.topic, 0, 1);
    let committed = monitor.committed_offsets(wanted, PATIENCE)?;
    let offsets: Vec<Offset> = committed.elements().iter().map(|element| element.offset()).collect();
    assert_eq!(offsets, [Offset::Offset(7), Offset::Offset(9)]);
    Ok(())
}
