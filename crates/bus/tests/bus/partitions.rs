use std::time::Duration;

use mesh_bus::{BusError, Partitions, ReadOptions, Start, TopicPartition};
use mesh_testkit::unique;
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use crate::{Fixture, PATIENCE, admin, fixture, numbers};

fn reader(fixture: &Fixture) -> Partitions {
    fixture.bus.partitions("mesh-test", ReadOptions::default()).unwrap()
}

fn first(fixture: &Fixture) -> TopicPartition {
    TopicPartition::new(&fixture.topic, 0)
}

/// The next `count` values, whatever partitions they come from.
async fn read(reader: &Partitions, count: usize) -> anyhow::Result<Vec<String>> {
    let mut values = Vec::new();
    while values.len() < count {
        let batch = tokio::time::timeout(PATIENCE, reader.next(count - values.len())).await??;
        values.extend(batch.iter().map(|m| String::from_utf8_lossy(m.payload().unwrap()).into_owned()));
    }
    Ok(values)
}

async fn is_quiet(reader: &Partitions) -> bool {
    tokio::time::timeout(Duration::from_millis(300), reader.next(1)).await.is_err()
}

#[tokio::test]
async fn reading_starts_exactly_at_the_offset_asked_for() -> anyhow::Result<()> {
    let fixture = fixture("exact", 1, &[]).await?;
    fixture.write(numbers(0..100)).await?;
    let reader = reader(&fixture);
    reader.add(&[(first(&fixture), Start::At(40))])?;
    assert_eq!(read(&reader, 60).await?, numbers(40..100).collect::<Vec<_>>());
    assert_eq!(reader.positions()[&first(&fixture)], Some(100));
    assert_eq!(reader.watermarks(&first(&fixture)).await?, (0, 100));
    Ok(())
}

#[tokio::test]
async fn a_seek_goes_back_and_a_reader_follows_what_comes() -> anyhow::Result<()> {
    let fixture = fixture("seek", 1, &[]).await?;
    fixture.write(numbers(0..10)).await?;
    let reader = reader(&fixture);
    reader.add(&[(first(&fixture), Start::Beginning)])?;
    read(&reader, 10).await?;
    reader.seek(&first(&fixture), Start::At(8))?;
    fixture.write(numbers(10..12)).await?;
    assert_eq!(read(&reader, 4).await?, ["8", "9", "10", "11"]);
    Ok(())
}

#[tokio::test]
async fn a_paused_partition_is_quiet_and_resumes_where_it_was() -> anyhow::Result<()> {
    let fixture = fixture("pause", 1, &[]).await?;
    fixture.write(numbers(0..10)).await?;
    let reader = reader(&fixture);
    reader.add(&[(first(&fixture), Start::At(0))])?;
    assert_eq!(read(&reader, 3).await?, ["0", "1", "2"]);
    reader.pause(&[first(&fixture)])?;
    assert!(is_quiet(&reader).await);
    reader.resume(&[first(&fixture)])?;
    assert_eq!(read(&reader, 2).await?, ["3", "4"]);
    Ok(())
}

#[tokio::test]
async fn a_pause_ends_with_the_assignment() -> anyhow::Result<()> {
    let fixture = fixture("again", 1, &[]).await?;
    fixture.write(numbers(0..10)).await?;
    let reader = reader(&fixture);
    reader.add(&[(first(&fixture), Start::At(0))])?;
    assert_eq!(read(&reader, 3).await?, ["0", "1", "2"]);
    reader.pause(&[first(&fixture)])?;
    reader.remove(&[first(&fixture)])?;
    reader.add(&[(first(&fixture), Start::At(1))])?;
    assert_eq!(read(&reader, 2).await?, ["1", "2"]);
    // And so does one of a partition that is sought.
    reader.pause(&[first(&fixture)])?;
    reader.seek(&first(&fixture), Start::At(5))?;
    assert_eq!(read(&reader, 2).await?, ["5", "6"]);
    Ok(())
}

#[tokio::test]
async fn partitions_come_and_go_while_others_are_read() -> anyhow::Result<()> {
    let (one, other) = (fixture("one", 1, &[]).await?, fixture("other", 1, &[]).await?);
    let reader = reader(&one);
    one.write(numbers(0..3)).await?;
    reader.add(&[(first(&one), Start::At(0))])?;
    assert_eq!(read(&reader, 3).await?, ["0", "1", "2"]);
    if one.bus.cluster_id() == other.bus.cluster_id() {
        other.write(numbers(7..9)).await?;
        reader.add(&[(first(&other), Start::At(0))])?;
        assert_eq!(read(&reader, 2).await?, ["7", "8"]);
    }
    reader.remove(&[first(&one)])?;
    one.write(numbers(3..4)).await?;
    assert!(is_quiet(&reader).await);
    assert!(!reader.positions().contains_key(&first(&one)));
    Ok(())
}

/// A batch is copied whole by who takes it, so its keys and headers are bounded as its values are.
#[tokio::test]
async fn a_batch_is_bounded_by_all_bytes_of_its_records() -> anyhow::Result<()> {
    let fixture = fixture("heavy", 1, &[]).await?;
    let (heavy, light) = (vec![7; 60_000], [("h", &[7; 60_000][..])]);
    let by_key = mesh_bus::Record { topic: &fixture.topic, key: Some(&heavy), ..Default::default() };
    let by_header = mesh_bus::Record { topic: &fixture.topic, headers: &light, ..Default::default() };
    fixture.producer.send_all((0..40).map(|n| if n < 20 { by_key.clone() } else { by_header.clone() })).await?;
    let options = ReadOptions { prefetch_bytes: 64 << 10, ..ReadOptions::default() };
    let reader = fixture.bus.partitions("mesh-test", options)?;
    reader.add(&[(first(&fixture), Start::At(0))])?;
    let (mut count, mut largest) = (0, 0);
    while count < 40 {
        let batch = tokio::time::timeout(PATIENCE, reader.next(1000)).await??;
        count += batch.len();
        largest = largest.max(batch.len());
    }
    assert!(largest <= 2, "{largest} records of 60 kB at once");
    Ok(())
}

async fn check_out_of_range(fixture: &Fixture, offset: i64, low: i64, high: i64) -> anyhow::Result<()> {
    let reader = reader(fixture);
    reader.add(&[(first(fixture), Start::At(offset))])?;
    let error = tokio::time::timeout(PATIENCE, reader.next(1)).await?.unwrap_err();
    let BusError::OffsetOutOfRange { topic, partition, offset: wanted, low: found_low, high: found_high } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((topic, *partition, *wanted), (&fixture.topic, 0, offset));
    assert_eq!((*found_low, *found_high), (low, high));
    Ok(())
}

#[tokio::test]
async fn an_offset_that_was_truncated_is_an_error_and_never_a_reset() -> anyhow::Result<()> {
    let fixture = fixture("truncated", 1, &[]).await?;
    fixture.write(numbers(0..10)).await?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&fixture.topic, 0, Offset::Offset(6))?;
    admin(&fixture.bus).delete_records(&before, &AdminOptions::new()).await?;
    check_out_of_range(&fixture, 5, 6, 10).await
}

#[tokio::test]
async fn an_offset_beyond_the_log_is_an_error() -> anyhow::Result<()> {
    let fixture = fixture("beyond", 1, &[]).await?;
    fixture.write(numbers(0..10)).await?;
    check_out_of_range(&fixture, 11, 0, 10).await
}

#[tokio::test]
async fn a_reader_that_got_an_error_reads_on_after_a_seek() -> anyhow::Result<()> {
    let fixture = fixture("recovers", 1, &[]).await?;
    fixture.write(numbers(0..10)).await?;
    let reader = reader(&fixture);
    reader.add(&[(first(&fixture), Start::At(50))])?;
    tokio::time::timeout(PATIENCE, reader.next(1)).await?.unwrap_err();
    reader.seek(&first(&fixture), Start::At(9))?;
    assert_eq!(read(&reader, 1).await?, ["9"]);
    Ok(())
}

#[tokio::test]
async fn a_topic_or_partition_that_is_not_there_is_an_error_with_its_name() -> anyhow::Result<()> {
    let fixture = fixture("there", 1, &[]).await?;
    let check = async |place: TopicPartition, code: &str| {
        let reader = reader(&fixture);
        reader.add(&[(place.clone(), Start::At(0))]).unwrap();
        let error = tokio::time::timeout(PATIENCE, reader.next(1)).await.unwrap().unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(&place.topic), "{error}");
    };
    check(TopicPartition::new(unique("nowhere"), 0), "MESH-BUS-0004").await;
    check(TopicPartition::new(&fixture.topic, 5), "MESH-BUS-0005").await;
    Ok(())
}

#[tokio::test]
async fn headers_keys_and_timestamps_arrive_as_they_were_sent() -> anyhow::Result<()> {
    let fixture = fixture("headers", 1, &[]).await?;
    let headers: [(&str, &[u8]); 2] =
        [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("raw", &[0, 255])];
    let record = mesh_bus::Record {
        topic: &fixture.topic,
        key: Some(b"key"),
        headers: &headers,
        timestamp_ms: Some(1_357_016_400_000),
        ..mesh_bus::Record::default()
    };
    let delivered = fixture.producer.send(&record).await?;
    let reader = reader(&fixture);
    reader.add(&[(first(&fixture), Start::At(delivered.offset))])?;
    let batch = tokio::time::timeout(PATIENCE, reader.next(10)).await??;
    let [message] = &batch[..] else { panic!("{}", batch.len()) };
    assert_eq!((message.key(), message.payload()), (Some(&b"key"[..]), None));
    assert_eq!(message.timestamp_ms(), Some(1_357_016_400_000));
    assert_eq!(message.headers().collect::<Vec<_>>(), headers.map(|(key, value)| (key, Some(value))));
    assert_eq!(message.trace().unwrap().span_id_hex(), "b7ad6b7169203331");
    Ok(())
}
