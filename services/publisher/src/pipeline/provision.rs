//! In: an admitted contract and its revision. Out: topic, registry subject, namespace, table and dead-letter table.
//! Every step finds its own work done, so a replay changes nothing.
//! Never: a table that a lower revision changed (the commit requires a lower one), or one of somebody else taken over.

use mesh_bus::{BusError, TopicSpec};
use mesh_contract::{ProductContract, TableName, ValueFormat};
use mesh_lakehouse::{Catalog, Change, LakehouseError, Table, TableSpec, schema};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Finding, TableRef, TopicRef};
use mesh_runtime::fault;

use super::existing::{Existing, TableFacts};
use super::fit;
use crate::announce::describe::table_ref;
use crate::error::{PublisherError, bus, lakehouse};
use crate::finding::{at, error, page};
use crate::log::Log;
use crate::memory::Memory;
use crate::registry;

/// Makes what contracts promise; cheap to clone.
#[derive(Debug, Clone)]
pub struct Provisioner {
    pub log: Log,
    pub memory: Memory,
    pub catalog: Catalog,
    /// Partitions of a topic that does not exist yet.
    pub partitions: i32,
}

/// What became of it.
#[derive(Debug)]
pub enum Provisioned {
    Ready(Box<Provision>),
    /// There was nothing to make.
    Nothing,
    /// The table is of a higher revision: a later publisher was here.
    Superseded {
        by: i64,
    },
    /// It cannot be made, whenever it is tried: the contract must change.
    Impossible(Box<Finding>),
}

/// Where a product's data goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Provision {
    pub topic: TopicRef,
    pub table: TableRef,
    pub dead_letters: TableRef,
}

/// A step's way out: an error to try again after, or what the whole ends in.
enum Stop {
    Error(PublisherError),
    With(Provisioned),
}

impl From<Box<Finding>> for Stop {
    fn from(finding: Box<Finding>) -> Self {
        Self::With(Provisioned::Impossible(finding))
    }
}

impl From<PublisherError> for Stop {
    fn from(error: PublisherError) -> Self {
        Self::Error(error)
    }
}

impl Provisioner {
    /// What is there of a contract's product now.
    pub async fn existing(&self, contract: &ProductContract) -> Result<Existing, PublisherError> {
        let facts = |table: Option<Table>| table.map(|table| TableFacts::of(&table));
        let dead_letters = facts(self.find(&contract.dead_letter_table()).await?);
        let table = facts(self.find(&contract.table()).await?);
        let described = self.log.bus().describe_topics(&[contract.topic()]).await;
        let has_topic = match described {
            Ok(found) => !found.is_empty(),
            // A name that Kafka refuses is no topic; the step that makes it says so.
            Err(problem) if problem.is_refusal() => false,
            Err(problem) => return Err(bus("describe a product's topic")(problem)),
        };
        Ok(Existing { table, dead_letters, has_topic, next_revision: self.next_revision().await? })
    }

    /// The revision that the next submission gets.
    async fn next_revision(&self) -> Result<i64, PublisherError> {
        let (_, next) =
            self.log.bus().watermarks(topics::SUBMISSIONS, 0).await.map_err(bus("read mesh.submissions"))?;
        Ok(next)
    }

    /// Makes everything that an active contract needs.
    pub async fn provision(&self, contract: &ProductContract, revision: i64) -> Result<Provisioned, PublisherError> {
        match self.steps(contract, revision).await {
            Ok(provision) => Ok(Provisioned::Ready(Box::new(provision))),
            Err(Stop::With(end)) => Ok(end),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    async fn steps(&self, contract: &ProductContract, revision: i64) -> Result<Provision, Stop> {
        let topic = self.topic(contract.topic()).await?;
        fault::point("publisher.provision.topic");
        if contract.value_format() == ValueFormat::Avro {
            self.subject(contract).await?;
            fault::point("publisher.provision.subject");
        }
        let namespace = schema::ident(&contract.table()).namespace().clone();
        let failed = lakehouse(format!("create the namespace `{namespace}`"));
        self.catalog.create_namespace(&namespace).await.map_err(failed)?;
        let active = self.memory.active_state().contract(contract.id().as_str(), contract.major().0).cloned();
        let active = active.as_deref();
        let dead_letters = self.dead_letters(contract, active, revision).await?;
        fault::point("publisher.provision.dead_letters");
        let table = self.table(contract, active, revision).await?;
        fault::point("publisher.provision.table");
        Ok(Provision { topic, table: table_ref(&table), dead_letters: table_ref(&dead_letters) })
    }

    /// A topic that is there already is used as it is.
    async fn topic(&self, name: &str) -> Result<TopicRef, Stop> {
        let failed = bus("provision a product's topic");
        let bus = self.log.bus();
        let found = bus.describe_topics(&[name]).await.map_err(|problem| topic_refused(name, problem))?;
        if found.is_empty() {
            let made = bus.ensure_topics(&[TopicSpec::new(name, self.partitions)]).await;
            made.map_err(|problem| topic_refused(name, problem))?;
        }
        let described = bus.describe_topic(name).await.map_err(&failed)?;
        Ok(TopicRef { name: described.name, topic_id: described.id.to_string() })
    }

    /// The record schema that the contract itself stands for, so that producers find it without registering one.
    async fn subject(&self, contract: &ProductContract) -> Result<(), Stop> {
        let canonical = contract.avro_schema().to_string();
        let (subject, topic) = (contract.schema_subject(), topics::SCHEMAS);
        let known = self
            .memory
            .schemas(|index| index.id_of(&canonical).is_some_and(|id| index.version_of(&subject, id).is_some()));
        if known {
            return Ok(());
        }
        let (key, record) = registry::record(&subject, &canonical);
        let event = self.log.event(topic, types::SCHEMA, &key, &record)?.keyed(&key);
        let written = self.log.publish(topic, &event).await?;
        // A client that learns that the contract is active finds its schema at the registry.
        self.memory.has_read(topic, written.offset).await;
        Ok(())
    }

    async fn dead_letters(
        &self,
        contract: &ProductContract,
        active: Option<&ActiveContract>,
        revision: i64,
    ) -> Result<Table, Stop> {
        let name = contract.dead_letter_table();
        let spec = || fit::dead_letter_spec(contract, revision).map_err(Stop::from);
        match self.find_or_create(&name, spec).await? {
            (table, true) => Ok(table),
            (table, false) => {
                let expected = active.and_then(|active| active.dead_letters.as_ref());
                fit::is_ours(&TableFacts::of(&table), expected, contract, active)?;
                Ok(table)
            }
        }
    }

    async fn table(
        &self,
        contract: &ProductContract,
        active: Option<&ActiveContract>,
        revision: i64,
    ) -> Result<Table, Stop> {
        let spec = || fit::table_spec(contract, revision).map_err(Stop::from);
        let (table, is_new) = self.find_or_create(&contract.table(), spec).await?;
        if is_new {
            return Ok(table);
        }
        let facts = TableFacts::of(&table);
        fit::is_ours(&facts, active.and_then(|active| active.table.as_ref()), contract, active)?;
        let next = fit::next_schema(&facts, contract, active)?;
        let set = fit::settings(contract, &next);
        let schema = Some(next).filter(|next| next.as_struct() != table.schema().as_struct());
        let properties = set.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.evolve(&table, Change { schema, properties, ..Change::revision(revision) }).await
    }

    /// Records the revision with the new schema, if it differs.
    async fn evolve(&self, table: &Table, evolve: Change) -> Result<Table, Stop> {
        let revision = evolve.revision.unwrap_or_default();
        match self.catalog.apply(table, &evolve).await.into_result() {
            Ok(committed) => Ok(committed.table),
            Err(LakehouseError::RevisionNotNewer { have, .. }) => {
                fit::is_of_this_mesh(&TableFacts::of(table), self.next_revision().await?)?;
                Err(Stop::With(Provisioned::Superseded { by: have }))
            }
            Err(problem) if is_final(&problem) => Err(fit::refused(problem).into()),
            Err(problem) => {
                Err(lakehouse(format!("commit revision {revision} to the table {}", table.ident()))(problem).into())
            }
        }
    }

    /// The table, and whether it was made just now.
    async fn find_or_create(
        &self,
        name: &TableName,
        spec: impl FnOnce() -> Result<TableSpec, Stop>,
    ) -> Result<(Table, bool), Stop> {
        if let Some(table) = self.find(name).await? {
            return Ok((table, false));
        }
        match self.catalog.create_table(spec()?).await {
            Ok(table) => Ok((table, true)),
            // Another publisher was first.
            Err(LakehouseError::TableExists { .. }) => {
                let loaded = self.catalog.load(&schema::ident(name)).await;
                Ok((loaded.map_err(lakehouse(format!("load the table {name}")))?, false))
            }
            Err(problem) if is_final(&problem) => Err(fit::refused(problem).into()),
            Err(problem) => Err(lakehouse(format!("create the table {name}"))(problem).into()),
        }
    }

    async fn find(&self, name: &TableName) -> Result<Option<Table>, PublisherError> {
        self.catalog.find(&schema::ident(name)).await.map_err(lakehouse(format!("load the table {name}")))
    }

    /// A retired contract's table stays, marked with the revision, so that no earlier one comes back. Another table under
    /// its name is left alone.
    pub async fn retire(&self, contract: &ProductContract, revision: i64) -> Result<Provisioned, PublisherError> {
        let active = self.memory.active_state().contract(contract.id().as_str(), contract.major().0).cloned();
        let expected = active.as_ref().and_then(|active| active.table.as_ref());
        let Some(table) = self.find(&contract.table()).await? else { return Ok(Provisioned::Nothing) };
        if expected.is_none_or(|expected| fit::is_other(expected, &TableFacts::of(&table))) {
            return Ok(Provisioned::Nothing);
        }
        match self.evolve(&table, Change::revision(revision)).await {
            Ok(_) => Ok(Provisioned::Nothing),
            Err(Stop::With(end)) => Ok(end),
            Err(Stop::Error(error)) => Err(error),
        }
    }
}

/// Whether the lakehouse refuses the change itself, so that every try ends in the same way.
fn is_final(problem: &LakehouseError) -> bool {
    matches!(problem, LakehouseError::Invalid { .. } | LakehouseError::Schema { .. })
}

/// What Kafka refuses is refused until contract, policy or rights are changed: a verdict. A broker that is away or busy
/// comes back: an error, after which the submission is taken again.
fn topic_refused(name: &str, problem: BusError) -> Stop {
    if problem.is_refusal() {
        let message = format!("Kafka refuses the topic `{name}`: {}", mesh_runtime::report::chain(&problem));
        let finding = at("/schema/0/physicalName", error(problem.code(), message, page(problem.code())));
        return Stop::With(Provisioned::Impossible(Box::new(finding)));
    }
    Stop::Error(bus("create a product's topic")(problem))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use mesh_localbus::{LocalBus, LocalBusConfig};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_that_kafka_does_not_take_is_a_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let kafka = LocalBus::start(LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), folder.path())).await.unwrap();
        let bus = mesh_bus::Bus::connect(mesh_bus::BusConfig::new(kafka.bootstrap())).await.unwrap();
        let refused = bus.ensure_topics(&[TopicSpec::new("no/topic", 1)]).await;
        check(refused.unwrap_err(), Some("MESH-BUS-0016"));
        kafka.shutdown().await;
    }

    fn check(problem: BusError, verdict: Option<&str>) {
        let found = match topic_refused("t", problem) {
            Stop::With(Provisioned::Impossible(finding)) => Some(finding.code.clone()),
            Stop::With(other) => panic!("{other:?}"),
            Stop::Error(_) => None,
        };
        assert_eq!(found.as_deref(), verdict);
    }

    #[test]
    fn what_kafka_refuses_is_a_verdict_and_what_may_pass_is_tried_again() {
        let (topic, address, reason) = (|| "t".to_owned(), || "k:9092".to_owned(), || "no".to_owned());
        let refused = BusError::TopicRefused { topic: topic(), address: address(), reason: reason() };
        check(refused, Some("MESH-BUS-0016"));
        check(BusError::TopicDiffers { topic: topic(), difference: reason() }, Some("MESH-BUS-0010"));
        check(BusError::NotAllowed { address: address(), action: "create".to_owned() }, Some("MESH-BUS-0006"));
        check(BusError::Unreachable { address: address(), action: "create".to_owned(), reason: reason() }, None);
    }
}
