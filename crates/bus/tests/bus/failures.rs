use std::time::Duration;

use mesh_bus::{Bus, BusConfig, BusError, ProducerOptions, ReadOptions, Record, Start, TopicPartition, TopicSpec};
use mesh_runtime::health::Status;
use mesh_runtime::{Health, Shutdown};
use mesh_testkit::{broker, eventually, local_broker, unique};

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
    let bus = broker.connect().await?;
    let topic = unique("vanishes");
    bus.ensure_topics(&[TopicSpec::new(&topic, 1)]).await?;
    let producer = bus.producer(ProducerOptions { delivery_timeout: Duration::from_secs(2), ..Default::default() })?;
    let value = Record { topic: &topic, payload: Some(b"x"), ..Record::default() };
    producer.send(&value).await?;
    let reader =
        bus.partitions("mesh-test", ReadOptions { patience: Some(Duration::from_secs(1)), ..Default::default() })?;
    reader.add(&[(TopicPartition::new(&topic, 0), Start::At(0))])?;
    tokio::time::timeout(PATIENCE, reader.next(1)).await??;

    let health = Health::new();
    let shutdown = Shutdown::new(PATIENCE);
    let watch = tokio::spawn({
        let (bus, check, shutdown) = (bus.clone(), health.check("bus"), shutdown.clone());
        async move { bus.watch(check, shutdown).await }
    });
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
    shutdown.request();
    watch.await?;
    Ok(())
}

/// Runs only where `MESH_TEST_KAFKA_SASL=host:port` names a broker with SASL_PLAINTEXT and SCRAM-SHA-256.
#[tokio::test]
async fn a_wrong_password_is_an_error_with_the_brokers_reason() -> anyhow::Result<()> {
    let Ok(address) = std::env::var("MESH_TEST_KAFKA_SASL") else {
        eprintln!("skipped: MESH_TEST_KAFKA_SASL names no broker");
        return Ok(());
    };
    let config = BusConfig::new(&address)
        .with("security.protocol", "SASL_PLAINTEXT")
        .with("sasl.mechanism", "SCRAM-SHA-256")
        .with("sasl.username", "alice")
        .with("sasl.password", "wrong");
    let error = Bus::connect(config).await.unwrap_err();
    assert_eq!(error.code(), "MESH-BUS-0002", "{error}");
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("invalid credentials"), "{text}");
    Ok(())
}
