use std::time::Duration;

use mesh_bus::{BusError, Delivered, ProducerOptions, Record, TopicSpec};
use mesh_testkit::{local_broker, unique};

use crate::{PATIENCE, fixture};

#[tokio::test]
async fn records_keep_their_order_with_little_room_in_flight() -> anyhow::Result<()> {
    let fixture = fixture("order", 1, &[]).await?;
    let options = ProducerOptions { max_in_flight_bytes: 64 << 10, ..ProducerOptions::default() };
    let producer = fixture.bus.producer(options)?;
    let payload = vec![b'x'; 1000];
    let record = || Record { topic: &fixture.topic, partition: Some(0), payload: Some(&payload), ..Record::default() };
    let delivered = producer.send_all((0..2000).map(|_| record())).await?;
    let expected: Vec<Delivered> = (0..2000).map(|offset| Delivered { partition: 0, offset }).collect();
    assert_eq!(delivered, expected);
    Ok(())
}

#[tokio::test]
async fn a_key_chooses_the_partition_as_kafkas_own_clients_do() -> anyhow::Result<()> {
    let fixture = fixture("keys", 16, &[]).await?;
    // Hashes from the tests of Kafka's own client, made positive, modulo 16.
    for (key, partition) in [("21", 12), ("foobar", 14), ("a-little-bit-long-string", 0)] {
        let record = Record { topic: &fixture.topic, key: Some(key.as_bytes()), ..Record::default() };
        assert_eq!(fixture.producer.send(&record).await?.partition, partition, "{key}");
    }
    Ok(())
}

#[tokio::test]
async fn a_record_that_is_too_large_is_an_error_that_says_so() -> anyhow::Result<()> {
    let fixture = fixture("large", 1, &[]).await?;
    let payload = vec![0; 2_000_000];
    let record = Record { topic: &fixture.topic, payload: Some(&payload), ..Record::default() };
    let error = fixture.producer.send(&record).await.unwrap_err();
    assert!(matches!(&error, BusError::TooLarge { bytes: 2_000_000, .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_typo_in_a_topic_is_an_error_and_creates_nothing() -> anyhow::Result<()> {
    let fixture = fixture("typo", 1, &[]).await?;
    let topic = unique("tpyo");
    let record = Record { topic: &topic, payload: Some(b"x"), ..Record::default() };
    let error = fixture.producer.send(&record).await.unwrap_err();
    assert!(matches!(&error, BusError::TopicMissing { topic: named, .. } if *named == topic), "{error}");
    assert!(fixture.bus.describe_topics(&[&topic]).await?.is_empty());
    Ok(())
}

/// The broker goes away twice while records are on their way: none is lost, none comes twice, order stands.
#[tokio::test(flavor = "multi_thread")]
async fn idempotent_writing_survives_restarts_of_the_broker() -> anyhow::Result<()> {
    let mut broker = local_broker().await?;
    let bus = broker.connect().await?;
    let topic = unique("restart");
    bus.ensure_topics(&[TopicSpec::new(&topic, 1)]).await?;
    let producer = bus.producer(ProducerOptions { delivery_timeout: PATIENCE, ..ProducerOptions::default() })?;
    let writing = tokio::spawn({
        let topic = topic.clone();
        async move {
            let mut pending = Vec::new();
            for i in 0..3000 {
                let value = i.to_string();
                let record = Record { topic: &topic, payload: Some(value.as_bytes()), ..Record::default() };
                pending.push(producer.queue(&record).await?);
                if i % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            let mut delivered = Vec::new();
            for delivery in pending {
                delivered.push(delivery.await?.offset);
            }
            anyhow::Ok(delivered)
        }
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        broker.stop().await?;
        broker.start().await?;
    }
    assert_eq!(writing.await??, (0..3000).collect::<Vec<i64>>());
    assert_eq!(bus.watermarks(&topic, 0).await?, (0, 3000));
    Ok(())
}
