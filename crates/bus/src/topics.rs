//! Topics: created if absent, verified if there.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use mesh_proto::topics::ControlTopic;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use uuid::Uuid;

use crate::bus::{REQUEST, create};
use crate::callbacks::Callbacks;
use crate::error::Attempt;
use crate::{Bus, BusError, Result};

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// A topic as the cluster describes it. The id changes when the topic is deleted and created again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    pub id: Uuid,
    pub partitions: i32,
}

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    /// Kafka's topic configuration; only the keys given here are verified.
    pub config: BTreeMap<String, String>,
}

impl TopicSpec {
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, config: BTreeMap::new() }
    }

    /// Sets one key of the topic's configuration.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }
}

impl From<&ControlTopic> for TopicSpec {
    fn from(topic: &ControlTopic) -> Self {
        let config = topic.config().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { name: topic.name.to_owned(), partitions: topic.partitions, config }
    }
}

pub(crate) async fn ensure(bus: &Bus, specs: &[TopicSpec]) -> Result<()> {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let found = by_name(bus.describe_topics(&names).await?);
    let (there, absent): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| found.contains_key(&spec.name));
    if !absent.is_empty() {
        create_absent(bus, &absent).await?;
    }
    for spec in &there {
        verify_partitions(spec, found[&spec.name].partitions)?;
    }
    verify_configs(bus, &there).await
}

fn by_name(found: Vec<TopicDescription>) -> HashMap<String, TopicDescription> {
    found.into_iter().map(|topic| (topic.name.clone(), topic)).collect()
}

fn admin(bus: &Bus) -> Result<(AdminClient<Callbacks>, Callbacks, AdminOptions)> {
    let callbacks = Callbacks::of(bus.address());
    let admin = create(bus.config(), &bus.config().client(), callbacks.clone())?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
    Ok((admin, callbacks, options))
}

fn attempt<'a>(bus: &'a Bus, action: String, topic: Option<&'a str>, callbacks: &Callbacks) -> Attempt<'a> {
    Attempt { action, topic, partition: None, address: bus.address(), heard: callbacks.heard() }
}

async fn create_absent(bus: &Bus, absent: &[&TopicSpec]) -> Result<()> {
    let (admin, callbacks, options) = admin(bus)?;
    let topics: Vec<NewTopic<'_>> = absent
        .iter()
        .map(|spec| {
            // -1: the broker's own default, so that one setting serves a laptop and a cluster of three.
            let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(-1));
            spec.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let created = admin.create_topics(&topics, &options).await;
    let created = created.map_err(|error| attempt(bus, "create topics".into(), None, &callbacks).failed(error))?;
    for result in created {
        match result {
            // Another service was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                let attempt = attempt(bus, format!("create topic `{topic}`"), Some(&topic), &callbacks);
                return Err(attempt.failed(KafkaError::AdminOp(code)));
            }
        }
    }
    await_visible(bus, absent).await
}

/// A created topic takes a moment to be known everywhere.
async fn await_visible(bus: &Bus, absent: &[&TopicSpec]) -> Result<()> {
    let names: Vec<&str> = absent.iter().map(|spec| spec.name.as_str()).collect();
    let until = Instant::now() + REQUEST;
    loop {
        let found = by_name(bus.describe_topics(&names).await?);
        let Some(missing) = names.iter().find(|name| !found.contains_key(**name)) else {
            return absent.iter().try_for_each(|spec| verify_partitions(spec, found[&spec.name].partitions));
        };
        if Instant::now() > until {
            return Err(BusError::TopicMissing { topic: (*missing).to_owned(), address: bus.address().to_owned() });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn verify_partitions(spec: &TopicSpec, partitions: i32) -> Result<()> {
    match partitions == spec.partitions {
        true => Ok(()),
        false => {
            let difference = format!("it has {partitions} partitions, {} are wanted", spec.partitions);
            Err(BusError::TopicDiffers { topic: spec.name.clone(), difference })
        }
    }
}

async fn verify_configs(bus: &Bus, specs: &[&TopicSpec]) -> Result<()> {
    let specs: Vec<&&TopicSpec> = specs.iter().filter(|spec| !spec.config.is_empty()).collect();
    if specs.is_empty() {
        return Ok(());
    }
    let (admin, callbacks, options) = admin(bus)?;
    let resources: Vec<ResourceSpecifier<'_>> = specs.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let described = admin.describe_configs(&resources, &options).await;
    let failed = |error, topic| attempt(bus, "describe topic configurations".into(), topic, &callbacks).failed(error);
    let described = described.map_err(|error| failed(error, None))?;
    for (spec, resource) in specs.iter().zip(described) {
        let resource = resource.map_err(|code| failed(KafkaError::AdminOp(code), Some(spec.name.as_str())))?;
        for (key, wanted) in &spec.config {
            let entry = resource.entries.iter().find(|entry| &entry.name == key);
            let found = entry.and_then(|entry| entry.value.as_deref()).unwrap_or("nothing");
            if found != wanted {
                let difference = format!("its {key} is {found}, {wanted} is wanted");
                return Err(BusError::TopicDiffers { topic: spec.name.clone(), difference });
            }
        }
    }
    Ok(())
}
