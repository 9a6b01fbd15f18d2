//! A mesh without services: a bus, a catalog, a warehouse, and what the services under test find there.
//!
//! In: contracts, principals, policies, tables. Out: the topics and tables as the other services would leave them.
//! Must never happen: two tests on one mesh; a key, a topic or a table that a service would have made otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::Utc;
use mesh_bus::{Bus, Producer, ProducerOptions, Start};
use mesh_contract::ProductContract;
use mesh_lakehouse::{Catalog, CatalogConfig, Table, TableSpec, schema};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Policy, Principal, TableRef};
use serde::Serialize;
use tempfile::TempDir;

use crate::{Broker, local_broker};

/// A broker and a catalog of one test's own. Services are started on it with [`config`](Self::config).
#[derive(Debug)]
pub struct TestMesh {
    pub broker: Broker,
    pub bus: Bus,
    pub producer: Producer,
    pub catalog: Catalog,
    folder: TempDir,
}

impl TestMesh {
    /// On a local bus of its own, with every control topic.
    pub async fn start() -> anyhow::Result<Self> {
        Self::on(local_broker().await?).await
    }

    pub async fn on(broker: Broker) -> anyhow::Result<Self> {
        let folder = crate::folder()?;
        let bus = broker.connect().await?;
        bus.ensure_control_topics().await?;
        let producer = bus.producer(ProducerOptions::default())?;
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await?;
        Ok(Self { broker, bus, producer, catalog, folder })
    }

    /// Where catalog, warehouse and configurations lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a service's configuration: the bus, the catalog, and the service's own sections.
    pub fn config(&self, service: &str, sections: &str) -> anyhow::Result<PathBuf> {
        let catalog = self.catalog.config();
        let text = format!(
            "[bus]\nbootstrap = \"{}\"\n[catalog]\nuri = \"{}\"\nwarehouse = \"{}\"\nname = \"{}\"\n{sections}",
            self.broker.bootstrap(),
            catalog.uri,
            catalog.warehouse,
            catalog.name,
        );
        let file = self.folder().join(format!("{service}.toml"));
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Publishes a message under a key.
    pub async fn publish<M: Serialize>(&self, topic: &str, kind: &str, key: &str, message: &M) -> anyhow::Result<()> {
        let event = Event::new(kind, "/test", uuid::Uuid::now_v7().to_string(), Utc::now(), message)?;
        self.producer.publish(topic, &event.keyed(key)).await?;
        Ok(())
    }

    /// A policy as the publisher admits it.
    pub async fn policy(&self, id: &str, rego: &str) -> anyhow::Result<()> {
        let policy = Policy { id: id.into(), rego: rego.into(), revision: 1, principal: "admin".into() };
        self.publish(topics::POLICIES, types::POLICY, id, &policy).await
    }

    /// A principal whose key is `key of <name>`.
    pub async fn principal(&self, name: &str, roles: &[&str], admin_of: &[&str]) -> anyhow::Result<()> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let principal = Principal {
            name: name.into(),
            key_sha256: mesh_runtime::credentials::key_sha256(&format!("key of {name}")),
            roles: own(roles),
            admin_of: own(admin_of),
            ..Principal::default()
        };
        self.publish(topics::PRINCIPALS, types::PRINCIPAL, name, &principal).await
    }

    /// The contract's table, made if it is not there.
    pub async fn table(&self, contract: &ProductContract) -> anyhow::Result<Table> {
        let ident = schema::ident(&contract.table());
        if let Some(table) = self.catalog.find(&ident).await? {
            return Ok(table);
        }
        self.catalog.create_namespace(ident.namespace()).await?;
        let columns = schema::table_schema(&contract.iceberg_schema(None))?;
        let partition_spec = schema::partition_spec(contract.partition_spec(), &columns)?;
        let spec = TableSpec { ident, schema: columns, partition_spec, properties: BTreeMap::new() };
        Ok(self.catalog.create_table(spec).await?)
    }

    /// The contract of a document, as the publisher activates it on this table.
    pub async fn activate(&self, document: &str, revision: i64, table: &Table) -> anyhow::Result<ProductContract> {
        let contract = ProductContract::parse("test.odcs.yaml", document)?;
        let dead_letters = contract.dead_letter_table();
        let active = ActiveContract {
            contract_id: contract.id().to_string(),
            major: contract.major().0,
            revision,
            product: contract.product().to_string(),
            version: contract.contract().document["version"].as_str().unwrap_or_default().to_owned(),
            status: "active".into(),
            document: document.to_owned(),
            table: Some(reference(table)),
            dead_letters: Some(TableRef {
                namespace: dead_letters.namespace,
                name: dead_letters.table,
                uuid: String::new(),
            }),
            admitted_at: Some(mesh_proto::timestamp(Utc::now())),
            ..ActiveContract::default()
        };
        let key = topics::contract_key(&active.contract_id, active.major);
        self.publish(topics::CONTRACTS, types::ACTIVE_CONTRACT, &key, &active).await?;
        Ok(contract)
    }

    /// Every event that a topic holds now, partition by partition in order. What is no event is left out.
    pub async fn events(&self, topic: &str) -> anyhow::Result<Vec<Event>> {
        let mut reader = self.bus.read_topic(topic, Start::Beginning).await?;
        let mut events = Vec::new();
        while let Some(received) = reader.next_until_caught_up().await? {
            events.extend(received.event.ok());
        }
        Ok(events)
    }
}

/// A table as messages name it.
pub fn reference(table: &Table) -> TableRef {
    TableRef {
        namespace: table.ident().namespace().join("."),
        name: table.ident().name().to_owned(),
        uuid: table.uuid().to_string(),
    }
}
