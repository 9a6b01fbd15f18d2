//! The connection everything else is made from.
//!
//! In: a configuration. Out: a [`Bus`] that knows the cluster's id; errors with the reason.
//! librdkafka's calls here block, so they run on tokio's blocking threads.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use backon::{BlockingRetryable as _, ConstantBuilder};
use mesh_proto::topics::CONTROL_TOPICS;
use mesh_runtime::tasks::TaskHandle;
use mesh_runtime::{Check, Restart, Tasks, part};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::de::DeserializeOwned;

use crate::callbacks::Callbacks;
use crate::error::Attempt;
use crate::topics::{self, TopicDescription, TopicPartition, TopicSpec};
use crate::{
    BusConfig, BusError, Partitions, Producer, ProducerOptions, ReadOptions, Result, ShardOptions, Shards, Start,
    TopicReader, View, ffi,
};

/// How long a broker may take to answer the first time.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);
/// How long a partition may be without a leader: one that was just created, or whose broker just went.
const ELECTION: ConstantBuilder = ConstantBuilder::new().with_delay(Duration::from_millis(100)).with_max_times(100);
/// How often the events of the metadata client are looked at.
const EVENTS: Duration = Duration::from_secs(1);
/// How often a service asks whether the brokers answer.
const WATCH: Duration = Duration::from_secs(5);

fn without_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition, UnknownTopicOrPartition};
    // A broker that does not know of a topic yet answers that it is unknown; ours are known to exist.
    matches!(error.rdkafka_error_code(), Some(NotLeaderForPartition | LeaderNotAvailable | UnknownTopicOrPartition))
}

/// A connection to a Kafka cluster that has answered; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: BusConfig,
    cluster_id: String,
    callbacks: Callbacks,
    metadata: BaseConsumer<Callbacks>,
    tasks: Tasks,
    /// Serves the events of the metadata client, for as long as this lives.
    events: OnceLock<TaskHandle>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("address", &self.address()).field("cluster_id", &self.cluster_id()).finish()
    }
}

impl Bus {
    /// Connects, and waits up to five seconds for a broker to report which cluster it belongs to.
    pub async fn connect(config: BusConfig) -> Result<Self> {
        Self::open(config, Tasks::detached(), false).await
    }

    /// [`connect`](Self::connect) for a service: readiness shows as `bus` whether the brokers answer, and as
    /// `view:TOPIC` whether each view is whole and followed.
    pub async fn connect_for(config: BusConfig, tasks: &Tasks) -> Result<Self> {
        Self::open(config, tasks.clone(), true).await
    }

    async fn open(config: BusConfig, tasks: Tasks, is_shown: bool) -> Result<Self> {
        let callbacks = Callbacks::of(&config.bootstrap);
        let metadata: BaseConsumer<Callbacks> = create(&config, &config.client(), callbacks.clone())?;
        let address = config.bootstrap.clone();
        let inner = blocking(&address, move || {
            let cluster_id = first_contact(&config, &metadata, &callbacks)?;
            Ok((config, cluster_id, callbacks, metadata))
        });
        let (config, cluster_id, callbacks, metadata) = inner.await?;
        let events = OnceLock::new();
        let bus = Self { inner: Arc::new(Inner { config, cluster_id, callbacks, metadata, tasks, events }) };
        bus.start_events(is_shown);
        Ok(bus)
    }

    fn start_events(&self, is_shown: bool) {
        let tasks = &self.inner.tasks;
        let check = is_shown.then(|| tasks.health().check(part::BUS));
        // Weak, since the task must end with the bus, which owns it.
        let bus = Arc::downgrade(&self.inner);
        let events = tasks.start(part::BUS, Restart::default(), move |_| serve_events(bus.clone(), check.clone()));
        let _ = self.inner.events.set(events);
    }

    /// The tasks of the service that this bus belongs to.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// `host:port` as configured.
    pub fn address(&self) -> &str {
        &self.inner.config.bootstrap
    }

    pub fn config(&self) -> &BusConfig {
        &self.inner.config
    }

    /// The cluster's id, which Kafka keeps for ever.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// `ce_source` of what a service of this mesh publishes: `/meshwork/<cluster id>/<service>`.
    pub fn source(&self, service: &str) -> String {
        format!("/meshwork/{}/{service}", self.cluster_id())
    }

    /// Creates the topics that are absent and verifies those that are there. Safe to call from several services at once.
    pub async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<()> {
        topics::ensure(self, specs).await
    }

    /// [`ensure_topics`](Self::ensure_topics) for every `mesh.*` topic, so that services start in any order.
    pub async fn ensure_control_topics(&self) -> Result<()> {
        let specs: Vec<TopicSpec> = CONTROL_TOPICS.iter().map(TopicSpec::from).collect();
        self.ensure_topics(&specs).await
    }

    /// Ids and partition counts of those of the topics that exist, in the order given.
    pub async fn describe_topics(&self, names: &[&str]) -> Result<Vec<TopicDescription>> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let action = format!("describe {}", names.join(", "));
        self.call(action, None, move |metadata| ffi::describe_topics(metadata.client(), &names, REQUEST)).await
    }

    /// The topic's description; an error if it does not exist.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let mut found = self.describe_topics(&[name]).await?;
        found.pop().ok_or_else(|| BusError::TopicMissing { topic: name.to_owned(), address: self.address().to_owned() })
    }

    /// The first offset in the log and the one after the last.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let action = format!("give the offsets of topic `{topic}` partition {partition}");
        let place = Some(TopicPartition::new(topic, partition));
        let topic = topic.to_owned();
        let ask = move |metadata: &BaseConsumer<Callbacks>| {
            let once = || metadata.fetch_watermarks(&topic, partition, REQUEST);
            once.retry(ELECTION).when(without_leader).call()
        };
        self.call(action, place, ask).await
    }

    /// What the logs of many partitions hold, as [`Bus::watermarks`] tells it of one, with two requests to each broker.
    pub async fn log_bounds(&self, places: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, (i64, i64)>> {
        let low = self.log_offsets(places, Offset::Beginning).await?;
        let high = self.log_offsets(places, Offset::End).await?;
        let bounds = low.into_iter().filter_map(|(place, low)| {
            let high = *high.get(&place)?;
            Some((place, (low, high)))
        });
        let mut bounds: BTreeMap<_, _> = bounds.collect();
        self.bound_singly(places, &mut bounds).await?;
        Ok(bounds)
    }

    /// The ends of many logs, with one request to each broker.
    pub async fn log_ends(&self, places: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        let high = self.log_offsets(places, Offset::End).await?;
        let mut bounds: BTreeMap<_, _> = high.into_iter().map(|(place, high)| (place, (0, high))).collect();
        self.bound_singly(places, &mut bounds).await?;
        Ok(bounds.into_iter().map(|(place, (_, high))| (place, high)).collect())
    }

    /// Partitions without an answer: one that has no leader yet is waited for, another gets an error that names it.
    async fn bound_singly(
        &self,
        places: &[TopicPartition],
        bounds: &mut BTreeMap<TopicPartition, (i64, i64)>,
    ) -> Result<()> {
        for place in places {
            if !bounds.contains_key(place) {
                bounds.insert(place.clone(), self.watermarks(&place.topic, place.partition).await?);
            }
        }
        Ok(())
    }

    /// Offsets of one end of these logs; partitions with an error are left out.
    async fn log_offsets(&self, places: &[TopicPartition], end: Offset) -> Result<BTreeMap<TopicPartition, i64>> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let places = places.to_vec();
        let list = move |metadata: &BaseConsumer<Callbacks>| {
            let mut list = TopicPartitionList::with_capacity(places.len());
            for place in &places {
                // In place of a timestamp, librdkafka takes the protocol's own -1 and -2: latest and earliest.
                list.add_partition_offset(&place.topic, place.partition, end)?;
            }
            let found = metadata.offsets_for_times(list, REQUEST)?;
            let offset = |element: &TopicPartitionListElem<'_>| match (element.error(), element.offset()) {
                (Ok(()), Offset::Offset(offset)) => {
                    Some((TopicPartition::new(element.topic(), element.partition()), offset))
                }
                _ => None,
            };
            Ok(found.elements().iter().filter_map(offset).collect())
        };
        self.call("tell what logs hold".into(), None, list).await
    }

    /// Writes a consumer group's offsets from outside the group, for lag monitors: nothing here ever reads them.
    pub async fn commit_lag(&self, group: &str, next: &[(TopicPartition, i64)]) -> Result<()> {
        let action = format!("commit offsets of group `{group}`");
        let group = group.to_owned();
        let next = next.to_vec();
        self.call(action, None, move |metadata| ffi::alter_group_offsets(metadata.client(), &group, &next, REQUEST))
            .await
    }

    /// An idempotent producer.
    pub fn producer(&self, options: ProducerOptions) -> Result<Producer> {
        Producer::new(self.config(), options)
    }

    /// A reader of explicit partitions and offsets. `group` is a name for ACLs and monitors, never joined.
    pub fn partitions(&self, group: &str, options: ReadOptions) -> Result<Partitions> {
        Partitions::new(self, group, options)
    }

    /// A compacted topic as a live map. `revision` orders values of one key: a lower one than is known is ignored.
    pub async fn view<T>(&self, topic: &str, revision: fn(&T) -> i64) -> Result<View<T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        View::open(self, topic, revision).await
    }

    /// Reads a topic of CloudEvents: to the end of now, or as they come.
    pub async fn read_topic(&self, topic: &str, start: Start) -> Result<TopicReader> {
        TopicReader::open(self, topic, start).await
    }

    /// Joins the group that hands out the work of `topic`'s partitions.
    pub fn shards(&self, options: ShardOptions) -> Result<Shards> {
        Shards::join(self, options)
    }

    /// Whether a broker answers now.
    pub async fn reachable(&self) -> Result<()> {
        let probe =
            |metadata: &BaseConsumer<Callbacks>| metadata.client().fetch_metadata(Some("mesh.contracts"), CONNECT);
        self.call("answer".into(), None, move |metadata| probe(metadata).map(|_| ())).await
    }

    /// A blocking call to the metadata client, its failure explained by what the callbacks heard meanwhile.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        action: String,
        place: Option<TopicPartition>,
        call: impl FnOnce(&BaseConsumer<Callbacks>) -> std::result::Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        blocking(self.address(), move || {
            let result = call(&inner.metadata);
            inner.take_events();
            if result.is_ok() {
                inner.callbacks.succeeded();
            }
            let attempt = Attempt {
                action,
                topic: place.as_ref().map(|place| place.topic.as_str()),
                partition: place.as_ref().map(|place| place.partition),
                address: &inner.config.bootstrap,
                heard: inner.callbacks.heard(),
            };
            let result = result.map_err(|error| attempt.failed(error));
            if let Err(BusError::Unreachable { reason, .. }) = &result {
                inner.callbacks.unreachable(reason);
            }
            result
        })
        .await
    }
}

impl Inner {
    /// Lets librdkafka call the callbacks; errors come out of the queue as well, but they hold less than the callbacks got.
    fn take_events(&self) {
        take_events(&self.metadata);
    }
}

fn take_events(client: &BaseConsumer<Callbacks>) {
    for _ in 0..100 {
        if client.poll(Duration::ZERO).is_none() {
            return;
        }
    }
}

/// Without this, librdkafka's events would pile up in memory between calls. With a check, it also shows whether the
/// brokers answer, and why not.
async fn serve_events(bus: Weak<Inner>, check: Option<Check>) {
    let mut probed: Option<Instant> = None;
    while let Some(inner) = bus.upgrade() {
        inner.take_events();
        if let Some(check) = &check
            && probed.is_none_or(|probed| probed.elapsed() >= WATCH)
        {
            match (Bus { inner }).reachable().await {
                Ok(()) => check.up(),
                Err(error) => check.down(format!("[{}] {error}", error.code())),
            }
            probed = Some(Instant::now());
        } else {
            drop(inner);
        }
        tokio::time::sleep(EVENTS).await;
    }
    // The bus is being dropped, and this task with it.
    std::future::pending::<()>().await;
}

/// Polls until the cluster's id is known. A refused password or certificate ends it at once: waiting would not help.
fn first_contact(config: &BusConfig, metadata: &BaseConsumer<Callbacks>, callbacks: &Callbacks) -> Result<String> {
    let started = Instant::now();
    loop {
        if let Some(id) = metadata.client().fetch_cluster_id(Duration::from_millis(200)) {
            callbacks.succeeded();
            return Ok(id);
        }
        take_events(metadata);
        let heard = callbacks.heard();
        let is_final = matches!(heard, Some((RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL, _)));
        if is_final || started.elapsed() > CONNECT {
            let heard = heard.map(hung_up);
            let attempt =
                Attempt { action: "connect".into(), topic: None, partition: None, address: &config.bootstrap, heard };
            return Err(attempt.failed(KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure)));
        }
    }
}

/// librdkafka keeps to itself that a connection was taken and closed again. Refused ones it reports.
fn hung_up((code, reason): (RDKafkaErrorCode, String)) -> (RDKafkaErrorCode, String) {
    let silent = code == RDKafkaErrorCode::AllBrokersDown;
    let why = "it hangs up; if it expects TLS or SASL, set security.protocol under [bus.properties]";
    (code, if silent { why.to_owned() } else { reason })
}

/// Creates a client; what librdkafka refuses is the configuration's fault, and the error names the property.
pub(crate) fn create<C, T>(config: &BusConfig, client: &ClientConfig, context: C) -> Result<T>
where
    C: rdkafka::ClientContext,
    T: FromClientConfigAndContext<C>,
{
    if let Some(property) = config.refused_property() {
        let message = "the mesh's guarantees rest on its value".to_owned();
        return Err(BusError::Property { property: property.to_owned(), message });
    }
    let mut client = client.clone();
    for (property, value) in &config.properties {
        client.set(property, value);
    }
    client.create_with_context(context).map_err(|error| match error {
        // Without the value: some are secrets.
        KafkaError::ClientConfig(_, message, property, _) => BusError::Property { property, message },
        // Properties that do not go together: the first that the message names.
        KafkaError::ClientCreation(message) => {
            let property = message.split('`').nth(1).unwrap_or("bootstrap.servers").to_owned();
            BusError::Property { property, message }
        }
        source => BusError::Kafka {
            address: config.bootstrap.clone(),
            action: "create a client".into(),
            source: Box::new(source),
        },
    })
}

/// Runs librdkafka's blocking calls on threads where they block no task.
pub(crate) async fn blocking<T: Send + 'static>(
    address: &str,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(call).await;
    joined.unwrap_or_else(|error| Err(BusError::Stopped { topic: address.to_owned(), reason: error.to_string() }))
}
