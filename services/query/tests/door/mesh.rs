//! A bus, a catalog, a warehouse and a query service of one test's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use iceberg::NamespaceIdent;
use mesh_bus::{Bus, BusConfig, ProducerOptions, Start};
use mesh_contract::ProductContract;
use mesh_lakehouse::{Append, Catalog, CatalogConfig, TableSpec, TableWriter, WriterOptions, schema, summary};
use mesh_localbus::{LocalBus, LocalBusConfig, RunningBus};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Policy, Principal, TableRef};
use mesh_query::{Query, QueryConfig};
use mesh_runtime::{Context, Service, Shutdown};
use reqwest::StatusCode;
use serde_json::{Value, json};

const POLICY: &str = r#"package mesh.platform.reading
import rego.v1
default allow := false
allow if "analyst" in input.principal.roles
allow if owns
owns if input.product.domain in input.principal.adminOf
columnMasks[column.name] := {"action": column.custom.mask} if {
    some column in input.product.columns
    column.custom.mask
    not owns
}
rowFilters contains {"expression": "carrier = 'UA'"} if {
    "partner" in input.principal.roles
    input.product.name == "operations.flights"
}
"#;

pub(crate) const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn contract(domain: &str, object: &str, columns: &[(&str, &str, Option<&str>)]) -> String {
    let column = |(name, of, mask): &(&str, &str, Option<&str>)| match mask {
        None => format!("      - name: {name}\n        logicalType: {of}\n"),
        Some(mask) => format!(
            "      - name: {name}\n        logicalType: {of}\n        customProperties:\n          - property: mask\n            value: {mask}\n"
        ),
    };
    let columns: String = columns.iter().map(column).collect();
    format!(
        "apiVersion: v3.1.0\nkind: DataContract\nid: urn:test:{domain}:{object}\nname: {object}\nversion: 1.0.0\n\
         status: active\ndomain: {domain}\ndataProduct: {object}\nservers:\n  - server: mesh\n    type: kafka\n    \
         host: mesh:9092\n    format: json\nschema:\n  - name: {object}\n    physicalType: topic\n    \
         physicalName: {domain}.{object}.v1\n    properties:\n{columns}"
    )
}

pub(crate) struct Mesh {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) running: Option<RunningBus>,
    pub(crate) bus: Bus,
    pub(crate) catalog: Catalog,
    pub(crate) url: String,
    pub(crate) shutdown: Shutdown,
    pub(crate) http: reqwest::Client,
}

impl Mesh {
    /// A mesh in which nobody is known yet.
    pub(crate) async fn empty() -> Self {
        Self::with_limits(json!({})).await
    }

    async fn with_limits(limits: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = LocalBus::start(LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), folder.path().join("bus")))
            .await
            .unwrap();
        let bus_config = BusConfig::new(running.bootstrap());
        let catalog_config = CatalogConfig::in_folder(folder.path());
        let key_file = folder.path().join("mask.key");
        std::fs::write(&key_file, "ab".repeat(32)).unwrap();
        std::fs::write(folder.path().join("query.toml"), toml(&bus_config, &catalog_config, &key_file)).unwrap();
        let config: QueryConfig = serde_json::from_value(json!({
            "bus": bus_config, "catalog": catalog_config, "masking": {"key_file": key_file}, "limits": limits,
        }))
        .unwrap();
        let context = Context::detached();
        let shutdown = context.shutdown.clone();
        let service = Query::build(config, context).await.unwrap();
        let url = format!("http://{}", service.http().unwrap());
        tokio::spawn(service.run(shutdown.clone()));
        let bus = Bus::connect(bus_config).await.unwrap();
        let catalog = Catalog::open(catalog_config).await.unwrap();
        Self { folder, running: Some(running), bus, catalog, url, shutdown, http: reqwest::Client::new() }
    }

    /// A mesh with flights and planes, an analyst, a partner, the owner of flights and a stranger.
    pub(crate) async fn full() -> Self {
        Self::full_with_limits(json!({})).await
    }

    pub(crate) async fn full_with_limits(limits: Value) -> Self {
        let mesh = Self::with_limits(limits).await;
        mesh.policy("mesh.platform.reading", POLICY).await;
        for (name, roles, admin_of) in [
            ("ana", vec!["analyst"], vec![]),
            ("pat", vec!["analyst", "partner"], vec![]),
            ("ollie", vec![], vec!["operations"]),
            ("zoe", vec![], vec![]),
        ] {
            mesh.principal(name, &roles, &admin_of).await;
        }
        let tail = ("tailnum", "string", Some("sha-256-global"));
        let flights = [("carrier", "string", None), tail, ("delay", "integer", None)];
        let rows: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["UA", "AA", "UA"])),
            Arc::new(StringArray::from(vec![Some("N1"), Some("N2"), None])),
            Arc::new(Int64Array::from(vec![2, 0, -6])),
        ];
        mesh.product("operations", "flights", &flights, &rows).await;
        let planes = [tail, ("year", "integer", None)];
        let rows: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["N1", "N2"])), Arc::new(Int64Array::from(vec![1999, 2004]))];
        mesh.product("fleet", "planes", &planes, &rows).await;
        mesh.known("ana", "operations.flights").await;
        mesh.known("ana", "fleet.planes").await;
        mesh.known("ollie", "operations.flights").await;
        mesh
    }

    pub(crate) async fn publish<M: serde::Serialize>(&self, topic: &str, of: &str, key: &str, message: &M) {
        let producer = self.bus.producer(ProducerOptions::default()).unwrap();
        let event = Event::new(of, "/test", uuid::Uuid::now_v7().to_string(), chrono::Utc::now(), message).unwrap();
        producer.publish(topic, &event.keyed(key)).await.unwrap();
    }

    pub(crate) async fn policy(&self, id: &str, rego: &str) {
        let policy = Policy { id: id.into(), rego: rego.into(), revision: 1, principal: "admin".into() };
        self.publish(topics::POLICIES, types::POLICY, id, &policy).await;
    }

    pub(crate) async fn principal(&self, name: &str, roles: &[&str], admin_of: &[&str]) {
        let principal = Principal {
            name: name.into(),
            key_sha256: mesh_runtime::credentials::key_sha256(&format!("key of {name}")),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            admin_of: admin_of.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Default::default()
        };
        self.publish(topics::PRINCIPALS, types::PRINCIPAL, name, &principal).await;
    }

    pub(crate) async fn product(
        &self,
        domain: &str,
        object: &str,
        columns: &[(&str, &str, Option<&str>)],
        rows: &[ArrayRef],
    ) {
        let document = contract(domain, object, columns);
        let parsed = ProductContract::parse("test.yaml", &document).unwrap();
        let namespace = NamespaceIdent::new(domain.to_owned());
        self.catalog.create_namespace(&namespace).await.unwrap();
        let table = parsed.table();
        let spec = TableSpec {
            ident: schema::ident(&table),
            schema: schema::table_schema(&parsed.iceberg_schema(None)).unwrap(),
            partition_spec: None,
            properties: BTreeMap::new(),
        };
        let created = self.catalog.create_table(spec).await.unwrap();
        let names = columns.iter().map(|(name, _, _)| *name);
        let mut batch: Vec<(&str, ArrayRef)> = names.zip(rows.iter().cloned()).collect();
        let commit = uuid::Uuid::now_v7();
        let mut writer = TableWriter::new(&created, commit, WriterOptions::default()).unwrap();
        let provenance = writer.schema().field_with_name("_mesh").unwrap().data_type().clone();
        batch.push(("_mesh", arrow::array::new_null_array(&provenance, rows[0].len())));
        writer.write(RecordBatch::try_from_iter(batch).unwrap()).await.unwrap();
        let files = writer.close().await.unwrap().files;
        let append = Append::new(&created, files).with_commit_id(commit).with(summary::TRACEPARENT, TRACE);
        self.catalog.append(&created, append).await.unwrap();
        let reference = |name: String| Some(TableRef { namespace: domain.into(), name, uuid: String::new() });
        let active = ActiveContract {
            contract_id: format!("urn:test:{domain}:{object}"),
            major: 1,
            revision: 1,
            product: format!("{domain}.{object}"),
            version: "1.0.0".into(),
            status: "active".into(),
            document,
            table: reference(table.table.clone()),
            dead_letters: reference(table.dead_letters().table),
            ..Default::default()
        };
        self.publish(topics::CONTRACTS, types::ACTIVE_CONTRACT, &topics::contract_key(&active.contract_id, 1), &active)
            .await;
    }

    /// Waits until a principal sees a table.
    pub(crate) async fn known(&self, who: &str, table: &str) {
        for _ in 0..600 {
            let answer = self.ask(who, &format!("SELECT 1 FROM {table} LIMIT 1")).await;
            if answer.status == StatusCode::OK {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{who} never saw {table}: {:?}", self.ask(who, &format!("SELECT 1 FROM {table}")).await);
    }

    pub(crate) async fn ask(&self, who: &str, sql: &str) -> Answered {
        self.ask_as(&format!("key of {who}"), sql, "application/json").await
    }

    pub(crate) async fn ask_as(&self, key: &str, sql: &str, accept: &str) -> Answered {
        let request = self.http.post(format!("{}/v1/sql", self.url)).header("accept", accept);
        let response = request.bearer_auth(key).body(sql.to_owned()).send().await.unwrap();
        let id = response.headers().get("mesh-query-id").map(|id| id.to_str().unwrap().to_owned()).unwrap();
        let status = response.status();
        Answered { id, status, body: response.bytes().await.unwrap().to_vec() }
    }

    /// All events of a topic so far.
    pub(crate) async fn events(&self, topic: &str) -> Vec<Event> {
        let mut reader = self.bus.read_topic(topic, Start::Beginning).await.unwrap();
        let mut events = Vec::new();
        while let Some(received) = reader.next_until_caught_up().await.unwrap() {
            events.push(received.event.unwrap());
        }
        events
    }

    /// The records of a topic that are about a query.
    pub(crate) async fn records(&self, topic: &str, query: &str, wanted: usize) -> Vec<Event> {
        let mut reader = self.bus.read_topic(topic, Start::Beginning).await.unwrap();
        let mut found = Vec::new();
        while found.len() < wanted {
            let next = tokio::time::timeout(Duration::from_secs(30), reader.next()).await.expect("the record").unwrap();
            let event = next.event.unwrap();
            if String::from_utf8_lossy(&event.data).contains(query) {
                found.push(event);
            }
        }
        found
    }

    pub(crate) async fn end(mut self) {
        self.shutdown.request();
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) id: String,
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: StatusCode, code: &str) {
        assert_eq!((self.status, self.json()["code"].as_str().unwrap()), (status, code), "{}", self.json());
    }

    #[track_caller]
    pub(crate) fn rows(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.json());
        self.json()["rows"].clone()
    }
}

/// The configuration of a service in a process of its own.
fn toml(bus: &BusConfig, catalog: &CatalogConfig, key_file: &std::path::Path) -> String {
    format!(
        "[bus]\nbootstrap = \"{}\"\n[catalog]\nuri = \"{}\"\nwarehouse = \"{}\"\nname = \"{}\"\n[masking]\nkey_file = \"{}\"\n",
        bus.bootstrap,
        catalog.uri,
        catalog.warehouse,
        catalog.name,
        key_file.display(),
    )
}
