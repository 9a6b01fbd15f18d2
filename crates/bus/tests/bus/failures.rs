use std::time::Duration;

use anyhow::Context as _;
use mesh_bus::{
    Bus, BusConfig, BusError, ProducerOptions, ReadOptions, Record, ShardOptions, Start, TopicPartition, TopicSpec,
};
use mesh_runtime::Context;
use mesh_runtime::health::Status;
use mesh_testkit::{broker, eventually, local_broker, unique};

use tracing_subscriber::fmt::MakeWriter;

use crate::PATIENCE;

/// An address at which nothing listens.
async fn nowhere() -> anyhow::Result<String> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}

#[tokio::test]
async fn a_wrong_address_is_an_error_that_names_it_and_the_reason() -> anyhow::Result<()> {
    let address = nowhere().await?;
    let error = Bus::connect(BusConfig::new(&address)).await.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0001");
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("Connection refused"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_producer_that_never_connects_says_where_it_tried() -> anyhow::Result<()> {
    let address = nowhere().await?;
    let producer = mesh_bus::Producer::new(&BusConfig::new(&address), ProducerOptions::default())?;
    let error = producer.send(&Record { topic: "any", ..Record::default() }).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains(&address), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_host_that_does_not_resolve_is_an_error_that_names_it() {
    let error = Bus::connect(BusConfig::new("no-such-host.invalid:9092")).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn tls_against_a_plain_listener_is_a_tls_error() -> anyhow::Result<()> {
    let broker = broker().await?;
    let config = broker.config().with("security.protocol", "SSL");
    let error = Bus::connect(config).await.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0003", "{error}");
    assert!(error.to_string().contains(broker.bootstrap()), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_property_that_is_unknown_or_the_meshs_own_is_refused_by_name() {
    let check = async |property: &str, value: &str| {
        let error = Bus::connect(BusConfig::new("127.0.0.1:1").with(property, value)).await.unwrap_err();
        assert!(matches!(&error, BusError::Property { property: named, .. } if named == property), "{error}");
    };
    check("security.protocl", "SSL").await;
    check("socket.timeout.ms", "soon").await;
    check("acks", "1").await;
}

#[tokio::test]
async fn a_broker_that_vanishes_turns_readiness_red_fails_writes_and_reads_and_comes_back() -> anyhow::Result<()> {
    let mut broker = local_broker().await?;
    let log = Log::start();
    let context = Context::detached();
    let bus = Bus::connect_for(broker.config(), &context.tasks).await?;
    let topic = unique("vanishes");
    bus.ensure_topics(&[TopicSpec::new(&topic, 1)]).await?;
    let producer = bus.producer(ProducerOptions { delivery_timeout: Duration::from_secs(2), ..Default::default() })?;
    let value = Record { topic: &topic, payload: Some(b"x"), ..Record::default() };
    producer.send(&value).await?;
    let reader =
        bus.partitions("mesh-test", ReadOptions { patience: Some(Duration::from_secs(1)), ..Default::default() })?;
    reader.add(&[(TopicPartition::new(&topic, 0), Start::At(0))])?;
    tokio::time::timeout(PATIENCE, reader.next(1)).await??;

    let health = context.health;
    eventually("readiness", PATIENCE, || async { health.is_ready().then_some(()) }).await?;

    broker.stop().await?;
    let written = producer.send(&value).await.unwrap_err();
    assert!(written.is_unreachable() && written.to_string().contains(broker.bootstrap()), "{written}");
    let read = tokio::time::timeout(PATIENCE, reader.next(1)).await?.unwrap_err();
    assert!(read.is_unreachable() && read.to_string().contains(broker.bootstrap()), "{read}");
    let red = || async {
        match health.checks().remove("bus") {
            Some(Status::Down { reason }) if reason.contains("MESH-BUS-0001") => Some(()),
            _ => None,
        }
    };
    eventually("readiness to turn red", PATIENCE, red).await?;

    broker.start().await?;
    eventually("readiness again", PATIENCE, || async { health.is_ready().then_some(()) }).await?;
    eventually("a write again", PATIENCE, || async { producer.send(&value).await.ok() }).await?;
    tokio::time::timeout(PATIENCE, reader.next(1)).await??;
    // Four clients reconnected many times a second, and there is one line for each event.
    let lines = log.lines_with("kafka ", broker.bootstrap());
    assert!(lines.len() == 2 && lines[0].contains("kafka lost") && lines[1].contains("kafka back"), "{lines:#?}");
    Ok(())
}

/// What the process logs, warnings and information alike.
struct Log(&'static std::sync::Mutex<Vec<u8>>);

impl Log {
    /// For the whole process: librdkafka's threads log too, and there is one such test.
    fn start() -> Self {
        let written: &'static std::sync::Mutex<Vec<u8>> = Box::leak(Box::default());
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| MakeWriter::make_writer(written)).init();
        Self(written)
    }

    fn lines_with(&self, text: &str, address: &str) -> Vec<String> {
        let written = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        written.lines().filter(|line| line.contains(text) && line.contains(address)).map(str::to_owned).collect()
    }
}

/// The user's word counts: what the mesh only prefers does not win over it.
#[tokio::test]
async fn a_property_reaches_every_client() -> anyhow::Result<()> {
    let broker = broker().await?;
    let topic = unique("sized");
    let bus = broker.connect().await?;
    bus.ensure_topics(&[TopicSpec::new(&topic, 1)]).await?;
    let config = broker.config().with("message.max.bytes", "2000");
    let bus = Bus::connect(config).await?;
    let record = Record { topic: &topic, payload: Some(&[b'x'; 3000]), ..Record::default() };
    let error = bus.producer(ProducerOptions::default())?.send(&record).await.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0007", "{error}");
    // Readers prefer a fetch.max.bytes of 16 MiB, which librdkafka refuses beside a larger message.max.bytes.
    let config = broker.config().with("message.max.bytes", "20000000");
    let bus = Bus::connect(config.clone()).await?;
    let error = bus.partitions("mesh-test", ReadOptions::default()).map(|_| ()).unwrap_err();
    assert!(matches!(&error, BusError::Property { property, .. } if property == "fetch.max.bytes"), "{error}");
    let bus = Bus::connect(config.with("fetch.max.bytes", "30000000")).await?;
    bus.partitions("mesh-test", ReadOptions::default())?;
    Ok(())
}

/// The listener with SCRAM-SHA-256 of `deploy/kafka/kafka.sh`, whose address CI puts into `MESH_TEST_KAFKA_SASL`; the
/// local bus has none, so the tests that need it are ignored by default.
fn alice(password: &str) -> anyhow::Result<BusConfig> {
    let address = std::env::var("MESH_TEST_KAFKA_SASL").context("MESH_TEST_KAFKA_SASL names no broker")?;
    let config = BusConfig::new(address).with("security.protocol", "SASL_PLAINTEXT");
    let config = config.with("sasl.mechanism", "SCRAM-SHA-256").with("sasl.username", "alice");
    Ok(config.with("sasl.password", password))
}

#[tokio::test]
#[ignore = "needs a Kafka with SASL, which MESH_TEST_KAFKA_SASL names: .ci/run has one"]
async fn a_wrong_password_is_an_error_with_the_brokers_reason() -> anyhow::Result<()> {
    let config = alice("wrong")?;
    let error = Bus::connect(config.clone()).await.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0002", "{error}");
    let text = error.to_string();
    assert!(text.contains(&config.bootstrap) && text.contains("invalid credentials"), "{text}");
    assert!(text.contains("sasl.password") && !text.contains("wrong"), "{text}");
    // A producer connects by itself, in the background.
    let producer = mesh_bus::Producer::new(&config, ProducerOptions::default())?;
    let error = producer.send(&Record { topic: "any", ..Record::default() }).await.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0002", "{error}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a Kafka with SASL, which MESH_TEST_KAFKA_SASL names: .ci/run has one"]
async fn a_protocol_that_the_listener_does_not_speak_is_an_error_in_time() -> anyhow::Result<()> {
    let config = alice("alice-secret")?;
    let plain = Bus::connect(BusConfig::new(&config.bootstrap)).await.unwrap_err();
    assert!(plain.is_unreachable() && plain.to_string().contains("security.protocol"), "{plain}");
    let other = Bus::connect(config.with("sasl.mechanism", "SCRAM-SHA-512")).await.unwrap_err();
    assert_eq!(other.code(), "MESH-BUS-0002", "{other}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a Kafka with SASL, which MESH_TEST_KAFKA_SASL names: .ci/run has one"]
async fn with_the_right_password_every_client_works() -> anyhow::Result<()> {
    let config = alice("alice-secret")?;
    let bus = Bus::connect(config).await?;
    let topic = unique("sasl");
    bus.ensure_topics(&[TopicSpec::new(&topic, 1).with("cleanup.policy", "compact")]).await?;
    let record = Record { topic: &topic, key: Some(b"k"), payload: Some(b"x"), ..Record::default() };
    bus.producer(ProducerOptions::default())?.send(&record).await?;
    let reader = bus.partitions("mesh-test", ReadOptions::default())?;
    reader.add(&[(TopicPartition::new(&topic, 0), Start::At(0))])?;
    assert_eq!(tokio::time::timeout(PATIENCE, reader.next(1)).await??.len(), 1);
    let mut events = bus.read_topic(&topic, Start::Beginning).await?;
    assert!(tokio::time::timeout(PATIENCE, events.next_until_caught_up()).await??.is_some());
    bus.commit_lag("mesh-test", &[(TopicPartition::new(&topic, 0), 1)]).await?;
    let shards = bus.shards(ShardOptions { topic, group: unique("mesh-test"), ..ShardOptions::default() })?;
    let mut owned = shards.owned();
    tokio::time::timeout(PATIENCE, owned.wait_for(|owned| !owned.shards.is_empty())).await??;
    shards.leave().await;
    Ok(())
}
