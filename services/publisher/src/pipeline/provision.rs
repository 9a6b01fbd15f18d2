//! In: an admitted contract and its revision. Out: topic, registry subject, namespace, table and dead-letter table.
//! Every step finds its own work done, so a replay changes nothing.
//! Must never happen: a table that a lower revision changed (the commit requires a lower one), or one of somebody else
//! taken over.

mod kept;

use std::collections::BTreeMap;

use mesh_bus::{BusError, TopicSpec};
use mesh_contract::{ProductContract, TableName, ValueFormat};
use mesh_lakehouse::{Catalog, Change, LakehouseError, RecordedColumns, Table, TableSpec, schema, summary};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Finding, TableRef, TopicRef};
use mesh_runtime::fault;

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

impl From<PublisherError> for Stop {
    fn from(error: PublisherError) -> Self {
        Self::Error(error)
    }
}

impl Provisioner {
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
        let dead_letters = self.dead_letters(contract, revision).await?;
        fault::point("publisher.provision.dead_letters");
        let table = self.table(contract, revision).await?;
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
        // Who is told that the contract is active finds its schema at the registry's door.
        self.memory.has_read(topic, written.offset).await;
        Ok(())
    }

    async fn dead_letters(&self, contract: &ProductContract, revision: i64) -> Result<Table, Stop> {
        let name = contract.dead_letter_table();
        let spec = || {
            let schema = schema::dead_letter_schema().map_err(lakehouse("make the dead-letter schema"))?;
            let properties = properties(contract, revision, true);
            Ok(TableSpec { ident: schema::ident(&name), schema, partition_spec: None, properties })
        };
        self.find_or_create(&name, contract, spec).await.map(|(table, _)| table)
    }

    async fn table(&self, contract: &ProductContract, revision: i64) -> Result<Table, Stop> {
        let spec = || table_spec(contract, revision);
        let (table, created) = self.find_or_create(&contract.table(), contract, spec).await?;
        if created {
            return Ok(table);
        }
        let next = next_schema(&table, contract)?;
        let set = columns_property(&next, contract);
        let schema = Some(next).filter(|next| next.as_struct() != table.schema().as_struct());
        let properties = set.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.evolve(&table, Change { schema, properties, ..Change::revision(revision) }).await
    }

    /// Why the contract could not be provisioned, as far as what is there tells. Makes nothing.
    pub async fn preview(&self, contract: &ProductContract) -> Result<Option<Finding>, PublisherError> {
        match self.fits(contract).await {
            Err(Stop::With(Provisioned::Impossible(finding))) => Ok(Some(*finding)),
            Err(Stop::Error(error)) => Err(error),
            Ok(()) | Err(Stop::With(_)) => Ok(None),
        }
    }

    async fn fits(&self, contract: &ProductContract) -> Result<(), Stop> {
        table_spec(contract, 0)?;
        if let Some(table) = self.find(&contract.dead_letter_table()).await? {
            owned(&table, contract)?;
        }
        let Some(table) = self.find(&contract.table()).await? else { return Ok(()) };
        owned(&table, contract)?;
        next_schema(&table, contract)?;
        match table.property(summary::CONTRACT_REVISION).and_then(|text| text.parse().ok()) {
            Some(revision) => Err(Stop::With(self.superseded(&table, revision).await?)),
            None => Ok(()),
        }
    }

    /// Records the revision with the new schema, if it differs.
    async fn evolve(&self, table: &Table, evolve: Change) -> Result<Table, Stop> {
        let revision = evolve.revision.unwrap_or_default();
        match self.catalog.apply(table, &evolve).await.into_result() {
            Ok(committed) => Ok(committed.table),
            Err(LakehouseError::RevisionNotNewer { have, .. }) => Err(Stop::With(self.superseded(table, have).await?)),
            Err(problem @ (LakehouseError::Invalid { .. } | LakehouseError::Schema { .. })) => {
                Err(Stop::With(Provisioned::Impossible(Box::new(finding(&problem)))))
            }
            Err(problem) => {
                Err(lakehouse(format!("commit revision {revision} to the table {}", table.ident()))(problem).into())
            }
        }
    }

    /// A table has a higher revision: a later publisher's, unless no submission of this mesh has that number yet.
    async fn superseded(&self, table: &Table, by: i64) -> Result<Provisioned, PublisherError> {
        let topic = topics::SUBMISSIONS;
        let (_, next) = self.log.bus().watermarks(topic, 0).await.map_err(bus("read mesh.submissions"))?;
        if by < next {
            return Ok(Provisioned::Superseded { by });
        }
        let message = format!(
            "the table {} is of contract revision {by}, and {topic} has given {next} so far: another Kafka's mesh made it",
            table.ident()
        );
        let remedy =
            "start the mesh on the Kafka that the table was fed from, or drop the table, or use another catalog";
        Ok(Provisioned::Impossible(Box::new(error("MESH-PUBLISHER-0024", message, remedy))))
    }

    /// Why what an active contract promises is not there any more; nothing where it is, or cannot be told now.
    pub async fn is_gone(&self, active: &ActiveContract) -> Option<String> {
        for table in [&active.table, &active.dead_letters].into_iter().flatten() {
            let name = TableName::new(&table.namespace, &table.name);
            match self.find(&name).await {
                Ok(Some(found)) if found.uuid().to_string() == table.uuid => {}
                Ok(Some(_)) => return Some(format!("another table is there under the name {name}")),
                Ok(None) => return Some(format!("the table {name} is gone")),
                Err(problem) => {
                    let error = mesh_runtime::report::chain(&problem);
                    tracing::warn!(code = problem.code(), error, "cannot see whether the table is there");
                }
            }
        }
        let topic = active.topic.as_ref()?;
        match self.log.bus().describe_topics(&[&topic.name]).await {
            Ok(found) if found.is_empty() => Some(format!("the topic {} is gone", topic.name)),
            _ => None,
        }
    }

    /// The table, and whether it was made just now. One that is not this product's is left alone.
    async fn find_or_create(
        &self,
        name: &TableName,
        contract: &ProductContract,
        spec: impl FnOnce() -> Result<TableSpec, Stop>,
    ) -> Result<(Table, bool), Stop> {
        if self.find(name).await?.is_none() {
            match self.catalog.create_table(spec()?).await {
                Ok(table) => return Ok((table, true)),
                Err(LakehouseError::TableExists { .. }) => {}
                Err(problem @ (LakehouseError::Invalid { .. } | LakehouseError::Schema { .. })) => {
                    return Err(Stop::With(Provisioned::Impossible(Box::new(finding(&problem)))));
                }
                Err(problem) => return Err(lakehouse(format!("create the table {name}"))(problem).into()),
            }
        }
        let loaded = self.catalog.load(&schema::ident(name)).await;
        let table = loaded.map_err(lakehouse(format!("load the table {name}")))?;
        owned(&table, contract)?;
        Ok((table, false))
    }

    async fn find(&self, name: &TableName) -> Result<Option<Table>, PublisherError> {
        self.catalog.find(&schema::ident(name)).await.map_err(lakehouse(format!("load the table {name}")))
    }

    /// A retired contract's table stays, marked with the revision, so that no earlier one comes back.
    pub async fn retire(&self, contract: &ProductContract, revision: i64) -> Result<Provisioned, PublisherError> {
        let Some(table) = self.find(&contract.table()).await? else { return Ok(Provisioned::Nothing) };
        match self.evolve(&table, Change::revision(revision)).await {
            Ok(_) => Ok(Provisioned::Nothing),
            Err(Stop::With(end)) => Ok(end),
            Err(Stop::Error(error)) => Err(error),
        }
    }
}

fn table_spec(contract: &ProductContract, revision: i64) -> Result<TableSpec, Stop> {
    let schema = schema::table_schema(&contract.iceberg_schema(None)).map_err(table_refused)?;
    let partition_spec = schema::partition_spec(contract.partition_spec(), &schema).map_err(table_refused)?;
    let mut properties = properties(contract, revision, false);
    properties.extend(columns_property(&schema, contract));
    Ok(TableSpec { ident: schema::ident(&contract.table()), schema, partition_spec, properties })
}

/// The schema that a table that is there would have by the contract, if that keeps what it has.
fn next_schema(table: &Table, contract: &ProductContract) -> Result<iceberg::spec::Schema, Stop> {
    let next = schema::evolve(table, &contract.iceberg_schema(None)).map_err(table_refused)?;
    let wanted = schema::partition_spec(contract.partition_spec(), &next).map_err(table_refused)?;
    match kept::difference(table, &next, wanted.as_ref()) {
        Some(difference) => {
            let finding = other_shape(&contract.table(), contract, &difference);
            Err(Stop::With(Provisioned::Impossible(Box::new(finding))))
        }
        None => Ok(next),
    }
}

/// A table that is not this product's is left alone.
fn owned(table: &Table, contract: &ProductContract) -> Result<(), Stop> {
    let owner = table.property(summary::PRODUCT);
    if owner == Some(contract.product().to_string().as_str()) {
        return Ok(());
    }
    let whose = owner.map_or("nobody of this mesh".to_owned(), |owner| format!("product {owner}"));
    let name = table_ref(table);
    let message = format!("the table {}.{} exists already and belongs to {whose}", name.namespace, name.name);
    let remedy = "drop or rename that table, or give the schema object another name";
    Err(Stop::With(Provisioned::Impossible(Box::new(error("MESH-PUBLISHER-0023", message, remedy)))))
}

/// The contract's columns by field id, so that a column that another engine renames stays what it is.
fn columns_property(schema: &iceberg::spec::Schema, contract: &ProductContract) -> BTreeMap<String, String> {
    let columns = RecordedColumns::of(schema, &contract.iceberg_schema(None));
    BTreeMap::from([(summary::CONTRACT_COLUMNS.to_owned(), columns.to_property())])
}

fn properties(contract: &ProductContract, revision: i64, dead_letters: bool) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::from([
        (summary::PRODUCT.to_owned(), contract.product().to_string()),
        (summary::CONTRACT_REVISION.to_owned(), revision.to_string()),
    ]);
    if dead_letters {
        properties.insert(DEAD_LETTERS_OF.to_owned(), contract.table().to_string());
    }
    properties
}

/// Table property of a dead-letter table: the product's table.
const DEAD_LETTERS_OF: &str = "mesh.dead-letters-of";

fn finding(problem: &LakehouseError) -> Finding {
    error(problem.code(), mesh_runtime::report::chain(problem), page(problem.code()))
}

fn other_shape(name: &TableName, contract: &ProductContract, difference: &str) -> Finding {
    let message = format!("the table {name} is there with other columns: {difference}");
    let remedy = format!(
        "apply it as version {}.0.0, which has a table of its own; a table keeps its columns, also of a retired contract",
        contract.major().0 + 1
    );
    at("/schema/0", error("MESH-PUBLISHER-0017", message, remedy))
}

fn table_refused(problem: LakehouseError) -> Stop {
    Stop::With(Provisioned::Impossible(Box::new(finding(&problem))))
}

/// What Kafka refuses is refused until somebody changes contract, policy or rights: a verdict. A broker that is gone
/// or busy comes back: an error, after which the submission is taken anew.
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
