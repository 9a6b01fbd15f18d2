//! A bus, a catalog, a warehouse and a query service of one test's own.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use mesh_bus::Start;
use mesh_contract::ProductContract;
use mesh_lakehouse::{Change, RecordedColumns, TableSpec, TableWriter, WriterOptions, schema, summary};
use mesh_proto::cloudevents::Event;
use mesh_query::{Query, QueryConfig};
use mesh_runtime::{Context, Service, Shutdown};
use mesh_testkit::TestMesh;
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

/// The testkit's mesh, with a query service in this process.
pub(crate) struct Mesh {
    kit: TestMesh,
    /// For a service in a process of its own.
    pub(crate) config: PathBuf,
    pub(crate) url: String,
    pub(crate) shutdown: Shutdown,
    pub(crate) http: reqwest::Client,
}

/// What the test does with bus, catalog and topics, it does with the testkit's.
impl Deref for Mesh {
    type Target = TestMesh;

    fn deref(&self) -> &TestMesh {
        &self.kit
    }
}

impl Mesh {
    /// A mesh without principals.
    pub(crate) async fn empty() -> Self {
        Self::with_limits(json!({})).await
    }

    async fn with_limits(limits: Value) -> Self {
        let kit = TestMesh::start().await.unwrap();
        let key_file = kit.folder().join("mask.key");
        std::fs::write(&key_file, "ab".repeat(32)).unwrap();
        let masking = format!("[masking]\nkey_file = \"{}\"\n", key_file.display());
        let config_file = kit.config("query", &masking).unwrap();
        let config: QueryConfig = serde_json::from_value(json!({
            "bus": kit.broker.config(), "catalog": kit.catalog.config(), "masking": {"key_file": key_file}, "limits": limits,
        }))
        .unwrap();
        let context = Context::detached();
        let shutdown = context.shutdown.clone();
        let service = Query::build(config, context).await.unwrap();
        let url = format!("http://{}", service.http().unwrap());
        tokio::spawn(service.run(shutdown.clone()));
        Self { kit, config: config_file, url, shutdown, http: reqwest::Client::new() }
    }

    /// A mesh with flights and planes, an analyst, a partner, the owner of flights and a stranger.
    pub(crate) async fn full() -> Self {
        Self::full_with_limits(json!({})).await
    }

    pub(crate) async fn full_with_limits(limits: Value) -> Self {
        let mesh = Self::with_limits(limits).await;
        mesh.policy("mesh.platform.reading", POLICY).await.unwrap();
        for (name, roles, admin_of) in [
            ("ana", vec!["analyst"], vec![]),
            ("pat", vec!["analyst", "partner"], vec![]),
            ("ollie", vec![], vec!["operations"]),
            ("zoe", vec![], vec![]),
        ] {
            mesh.principal(name, &roles, &admin_of).await.unwrap();
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

    pub(crate) async fn product(
        &self,
        domain: &str,
        object: &str,
        columns: &[(&str, &str, Option<&str>)],
        rows: &[ArrayRef],
    ) {
        let names: Vec<&str> = columns.iter().map(|(name, _, _)| *name).collect();
        self.admit(&contract(domain, object, columns), &names, rows, true).await;
    }

    /// Makes the table of a contract as the publisher does, with these rows; a version before this one did not record
    /// the field ids of the columns.
    pub(crate) async fn admit(&self, document: &str, names: &[&str], rows: &[ArrayRef], records_ids: bool) {
        let parsed = ProductContract::parse("test.yaml", document).unwrap();
        if records_ids {
            self.recorded_table(&parsed).await;
        }
        let created = self.table(&parsed).await.unwrap();
        let mut batch: Vec<(&str, ArrayRef)> = names.iter().copied().zip(rows.iter().cloned()).collect();
        let commit = uuid::Uuid::now_v7();
        let mut writer = TableWriter::new(&created, commit, WriterOptions::default()).unwrap();
        let provenance = writer.schema().field_with_name("_mesh").unwrap().data_type().clone();
        batch.push(("_mesh", arrow::array::new_null_array(&provenance, rows[0].len())));
        writer.write(RecordBatch::try_from_iter(batch).unwrap()).await.unwrap();
        let files = writer.close().await.unwrap().files;
        let append = Change::append(&created, files).with_commit_id(commit).with(summary::TRACEPARENT, TRACE);
        self.catalog.apply(&created, &append).await.into_result().unwrap();
        self.activate(document, 1, &created).await.unwrap();
    }

    async fn recorded_table(&self, contract: &ProductContract) {
        let columns = contract.iceberg_schema(None);
        let schema = schema::table_schema(&columns).unwrap();
        let recorded = RecordedColumns::of(&schema, &columns).to_property();
        let properties = BTreeMap::from([(summary::CONTRACT_COLUMNS.to_owned(), recorded)]);
        let ident = schema::ident(&contract.table());
        self.catalog.create_namespace(ident.namespace()).await.unwrap();
        self.catalog.create_table(TableSpec { ident, schema, partition_spec: None, properties }).await.unwrap();
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
        self.kit.events(topic).await.unwrap()
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
        self.kit.broker.stop().await.unwrap();
    }

    /// Takes the bus away.
    pub(crate) async fn stop_bus(&mut self) {
        self.kit.broker.stop().await.unwrap();
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
