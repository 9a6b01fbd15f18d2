//! The door, on a local bus, a SQLite catalog and a warehouse of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use iceberg::NamespaceIdent;
use mesh_bus::{Bus, BusConfig, ProducerOptions, Start};
use mesh_contract::ProductContract;
use mesh_lakehouse::{Append, Catalog, CatalogConfig, TableSpec, TableWriter, WriterOptions, schema, summary};
use mesh_localbus::{Config as BusOptions, LocalBus, RunningBus};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, AuditRecord, Policy, Principal, TableRef, Usage};
use mesh_query::{Config, Query};
use mesh_runtime::{Context, Service, Shutdown};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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

const BROKEN: &str = r#"package mesh.domain.operations.reading
import rego.v1
default allow := true
rowFilters contains {"expression": "carrier ~~ nonsense ("}
"#;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

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

struct Mesh {
    _folder: tempfile::TempDir,
    running: Option<RunningBus>,
    bus: Bus,
    catalog: Catalog,
    url: String,
    shutdown: Shutdown,
    http: reqwest::Client,
}

impl Mesh {
    /// A mesh in which nobody is known yet.
    async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running =
            LocalBus::start(BusOptions::new("127.0.0.1:0".parse().unwrap(), folder.path().join("bus"))).await.unwrap();
        let bus_config = BusConfig::new(running.bootstrap());
        let catalog_config = CatalogConfig::in_folder(folder.path());
        let key_file = folder.path().join("mask.key");
        std::fs::write(&key_file, "ab".repeat(32)).unwrap();
        let config: Config = serde_json::from_value(json!({
            "bus": bus_config, "catalog": catalog_config, "masking": {"key_file": key_file},
        }))
        .unwrap();
        let context = Context::detached();
        let shutdown = context.shutdown.clone();
        let service = Query::build(config, context).await.unwrap();
        let url = format!("http://{}", service.http().unwrap());
        tokio::spawn(service.run(shutdown.clone()));
        let bus = Bus::connect(bus_config).await.unwrap();
        let catalog = Catalog::open(catalog_config).await.unwrap();
        Self { _folder: folder, running: Some(running), bus, catalog, url, shutdown, http: reqwest::Client::new() }
    }

    /// A mesh with flights and planes, an analyst, a partner, the owner of flights and a stranger.
    async fn full() -> Self {
        let mesh = Self::empty().await;
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

    async fn publish<M: serde::Serialize>(&self, topic: &str, of: &str, key: &str, message: &M) {
        let producer = self.bus.producer(ProducerOptions::default()).unwrap();
        let event = Event::new(of, "/test", uuid::Uuid::now_v7().to_string(), chrono::Utc::now(), message).unwrap();
        producer.publish(topic, &event.keyed(key)).await.unwrap();
    }

    async fn policy(&self, id: &str, rego: &str) {
        let policy = Policy { id: id.into(), rego: rego.into(), revision: 1, principal: "admin".into() };
        self.publish(topics::POLICIES, types::POLICY, id, &policy).await;
    }

    async fn principal(&self, name: &str, roles: &[&str], admin_of: &[&str]) {
        let principal = Principal {
            name: name.into(),
            key_sha256: hex::encode(Sha256::digest(format!("key of {name}"))),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            admin_of: admin_of.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Default::default()
        };
        self.publish(topics::PRINCIPALS, types::PRINCIPAL, name, &principal).await;
    }

    async fn product(&self, domain: &str, object: &str, columns: &[(&str, &str, Option<&str>)], rows: &[ArrayRef]) {
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
    async fn known(&self, who: &str, table: &str) {
        for _ in 0..600 {
            let answer = self.ask(who, &format!("SELECT 1 FROM {table} LIMIT 1")).await;
            if answer.status == StatusCode::OK {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{who} never saw {table}: {:?}", self.ask(who, &format!("SELECT 1 FROM {table}")).await);
    }

    async fn ask(&self, who: &str, sql: &str) -> Answered {
        self.ask_as(&format!("key of {who}"), sql, "application/json").await
    }

    async fn ask_as(&self, key: &str, sql: &str, accept: &str) -> Answered {
        let request = self.http.post(format!("{}/v1/sql", self.url)).header("accept", accept);
        let response = request.bearer_auth(key).body(sql.to_owned()).send().await.unwrap();
        let id = response.headers().get("mesh-query-id").map(|id| id.to_str().unwrap().to_owned()).unwrap();
        let status = response.status();
        Answered { id, status, body: response.bytes().await.unwrap().to_vec() }
    }

    /// The records of a topic that are about a query.
    async fn records(&self, topic: &str, query: &str, wanted: usize) -> Vec<Event> {
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

    async fn end(mut self) {
        self.shutdown.request();
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }
}

#[derive(Debug)]
struct Answered {
    id: String,
    status: StatusCode,
    body: Vec<u8>,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    fn refused(&self, status: StatusCode, code: &str) {
        assert_eq!((self.status, self.json()["code"].as_str().unwrap()), (status, code), "{}", self.json());
    }

    #[track_caller]
    fn rows(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.json());
        self.json()["rows"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_while_nobody_is_known() {
    let mesh = Mesh::empty().await;
    let answer = mesh.ask("ana", "SELECT 1").await;
    assert!([StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED].contains(&answer.status), "{answer:?}");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_what_the_policies_let_them() {
    let mesh = Mesh::full().await;
    let check = |answer: Answered, expected: Value| assert_eq!(answer.rows(), expected);

    let sql = "SELECT carrier, delay FROM operations.flights ORDER BY delay";
    let all = json!([{"carrier": "UA", "delay": -6}, {"carrier": "AA", "delay": 0}, {"carrier": "UA", "delay": 2}]);
    check(mesh.ask("ana", sql).await, all.clone());
    check(mesh.ask("ollie", &sql.replace("flights", "flights_v1")).await, all);
    let own = json!([{"carrier": "UA", "delay": -6}, {"carrier": "UA", "delay": 2}]);
    check(mesh.ask("pat", sql).await, own);

    // The owner sees the value; others one hash, the same in every table, so that they can join on it.
    let tails = "SELECT tailnum FROM operations.flights WHERE delay = 2";
    check(mesh.ask("ollie", tails).await, json!([{"tailnum": "N1"}]));
    let hashed = mesh.ask("ana", tails).await.rows()[0]["tailnum"].as_str().unwrap().to_owned();
    assert_eq!(hashed.len(), 64);
    let joined =
        "SELECT f.carrier, p.year FROM operations.flights f JOIN fleet.planes p ON f.tailnum = p.tailnum ORDER BY 1";
    check(mesh.ask("ana", joined).await, json!([{"carrier": "AA", "year": 2004}, {"carrier": "UA", "year": 1999}]));

    mesh.ask("zoe", sql).await.refused(StatusCode::FORBIDDEN, "MESH-QUERY-0003");
    mesh.ask("ana", "SELECT * FROM operations.flights_v1_dead_letters")
        .await
        .refused(StatusCode::FORBIDDEN, "MESH-QUERY-0003");
    mesh.ask("nobody", sql).await.refused(StatusCode::UNAUTHORIZED, "MESH-QUERY-0001");
    let unknown = mesh.ask("ana", "SELECT * FROM operations.flihgts").await;
    unknown.refused(StatusCode::NOT_FOUND, "MESH-QUERY-0004");
    assert!(unknown.json()["message"].as_str().unwrap().contains("operations.flights"), "{}", unknown.json());
    let stranger = mesh.ask("zoe", "SELECT * FROM operations.flihgts").await;
    assert!(!stranger.json()["message"].as_str().unwrap().contains("operations.flights"), "{}", stranger.json());
    mesh.ask("ana", "SELEC 1").await.refused(StatusCode::BAD_REQUEST, "MESH-QUERY-0005");
    mesh.ask("ana", "DROP TABLE operations.flights").await.refused(StatusCode::BAD_REQUEST, "MESH-QUERY-0006");
    mesh.ask("ana", "SELECT nope FROM operations.flights").await.refused(StatusCode::BAD_REQUEST, "MESH-QUERY-0007");
    let division = mesh.ask("ana", "SELECT 1 / delay FROM operations.flights").await;
    division.refused(StatusCode::UNPROCESSABLE_ENTITY, "MESH-QUERY-0008");

    let tables =
        mesh.ask("pat", "SELECT table_name FROM information_schema.tables WHERE table_schema = 'operations'").await;
    assert!(tables.rows().to_string().contains("flights_v1"), "{}", tables.rows());
    let tables = mesh.ask("zoe", "SHOW TABLES").await.rows().to_string();
    assert!(!tables.contains("flights"), "{tables}");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_as_csv_and_arrow_too() {
    let mesh = Mesh::full().await;
    let sql = "SELECT carrier, delay FROM operations.flights ORDER BY delay";
    let csv = mesh.ask_as("key of pat", sql, "text/csv").await;
    assert_eq!(String::from_utf8(csv.body).unwrap(), "carrier,delay\nUA,-6\nUA,2\n");
    let arrow = mesh.ask_as("key of pat", sql, "application/vnd.apache.arrow.stream").await;
    let reader = arrow_ipc::reader::StreamReader::try_new(arrow.body.as_slice(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    mesh.ask_as("key of pat", sql, "image/png").await.refused(StatusCode::NOT_ACCEPTABLE, "MESH-QUERY-0015");
    mesh.ask_as("key of ollie", "SELECT _mesh FROM operations.flights", "text/csv")
        .await
        .refused(StatusCode::NOT_ACCEPTABLE, "MESH-QUERY-0016");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_audited_and_its_lineage_told() {
    let mesh = Mesh::full().await;
    let sql = "SELECT f.tailnum, count(*) AS n FROM operations.flights f WHERE f.delay > -10 GROUP BY f.tailnum";
    let answer = mesh.ask("pat", sql).await;
    assert_eq!(answer.rows().as_array().unwrap().len(), 2);

    let audit: AuditRecord = mesh.records(topics::AUDIT, &answer.id, 1).await[0].decode().unwrap();
    assert_eq!((audit.principal.as_str(), audit.decision, audit.statement.as_str()), ("pat", 1, sql));
    let access = &audit.accesses[0];
    assert_eq!((access.product.as_str(), access.table.as_str()), ("operations.flights", "operations.flights_v1"));
    assert_eq!((&access.columns, access.row_filtered), (&vec!["delay".to_owned(), "tailnum".to_owned()], true));
    assert_eq!(access.masked_columns, ["tailnum"]);
    assert!(access.snapshot_id > 0);

    let events = mesh.records(topics::LINEAGE, &answer.id, 2).await;
    let kinds: Vec<Value> = events.iter().map(|event| serde_json::from_slice(&event.data).unwrap()).collect();
    assert_eq!((kinds[0]["eventType"].as_str(), kinds[1]["eventType"].as_str()), (Some("START"), Some("COMPLETE")));
    let run = &kinds[1];
    assert_eq!(run["run"]["runId"], json!(answer.id));
    let commits = &run["inputs"][0]["facets"]["meshwork_product"]["commits"];
    assert_eq!(commits[0]["traceparent"], json!(TRACE));
    let columns = &run["outputs"][0]["facets"]["columnLineage"];
    let tail = &columns["fields"]["tailnum"]["inputFields"][0];
    assert_eq!((tail["name"].as_str(), tail["field"].as_str()), (Some("operations.flights_v1"), Some("tailnum")));
    assert_eq!(tail["transformations"][0]["masking"], json!(true));
    assert!(columns["dataset"].to_string().contains("GROUP_BY"), "{columns}");

    let usage: Usage = mesh.records(topics::USAGE, &answer.id, 1).await[0].decode().unwrap();
    assert_eq!((usage.rows, usage.product.as_str()), (2, "operations.flights"));

    let denied = mesh.ask("zoe", sql).await;
    let audit: AuditRecord = mesh.records(topics::AUDIT, &denied.id, 1).await[0].decode().unwrap();
    assert_eq!((audit.decision, audit.reason.as_str()), (2, "MESH-QUERY-0003"));
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_be_parsed_refuses_the_query() {
    let mesh = Mesh::full().await;
    mesh.policy("mesh.domain.operations.reading", BROKEN).await;
    for _ in 0..600 {
        let answer = mesh.ask("ana", "SELECT 1 FROM operations.flights").await;
        if answer.status != StatusCode::OK {
            answer.refused(StatusCode::INTERNAL_SERVER_ERROR, "MESH-QUERY-0013");
            assert!(!answer.json().to_string().contains("nonsense"), "{}", answer.json());
            return mesh.end().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the policy never arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_no_row_leaves() {
    let mut mesh = Mesh::full().await;
    mesh.running.take().unwrap().shutdown().await;
    let answer = mesh.ask("ana", "SELECT carrier FROM operations.flights").await;
    answer.refused(StatusCode::SERVICE_UNAVAILABLE, "MESH-QUERY-0011");
    mesh.end().await;
}
