//! A bus, a catalog and a publisher process of one test's own.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mesh_bus::{Bus, BusConfig, Start};
use mesh_lakehouse::{Catalog, CatalogConfig, Change, Table, summary};
use mesh_localbus::{LocalBus, LocalBusConfig, RunningBus};
use mesh_proto::cloudevents::Event;
use mesh_runtime::credentials::key_sha256;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub const ADMIN_KEY: &str = "the key of the first admin";
pub const OPS_KEY: &str = "the key of the operations desk";

/// Everything but the publisher: it comes and goes.
pub struct Mesh {
    pub folder: TempDir,
    kafka: Option<RunningBus>,
    pub bus: Bus,
    pub catalog: Catalog,
}

/// A running publisher; killed when dropped.
pub struct Publisher {
    pub child: Child,
    pub url: String,
}

impl Mesh {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), folder.path().join("bus"));
        let kafka = LocalBus::start(config).await.unwrap();
        let bus = Bus::connect(BusConfig::new(kafka.bootstrap())).await.unwrap();
        let catalog = CatalogConfig::in_folder(folder.path());
        let text = format!(
            "[bus]\nbootstrap = \"{}\"\n[catalog]\nuri = \"{}\"\nwarehouse = \"{}\"\nname = \"{}\"\n\
             [bootstrap]\nadmin_key_sha256 = \"{}\"\n[door]\nmax_body_bytes = 65536\n[announce]\npoll = \"100ms\"\n",
            kafka.bootstrap(),
            catalog.uri,
            catalog.warehouse,
            catalog.name,
            key_sha256(ADMIN_KEY),
        );
        std::fs::write(folder.path().join("publisher.toml"), text).unwrap();
        let catalog = Catalog::open(catalog).await.unwrap();
        Self { folder, kafka: Some(kafka), bus, catalog }
    }

    /// Takes Kafka away; the guard brings it back where it was.
    pub async fn kafka_gone(&mut self) -> SocketAddr {
        let kafka = self.kafka.take().unwrap();
        let address = kafka.bootstrap().parse().unwrap();
        kafka.shutdown().await;
        address
    }

    pub async fn kafka_back(&mut self, address: SocketAddr) {
        self.kafka = Some(LocalBus::start(LocalBusConfig::new(address, self.folder.path().join("bus"))).await.unwrap());
    }

    /// A publisher that is ready; one with a fault kills itself there.
    pub async fn publisher(&self, fault: Option<&str>) -> Publisher {
        self.start_publisher(fault, &[]).await
    }

    /// A publisher whose configuration differs, by `key=value`.
    pub async fn publisher_with(&self, sets: &[&str]) -> Publisher {
        self.start_publisher(None, sets).await
    }

    async fn start_publisher(&self, fault: Option<&str>, sets: &[&str]) -> Publisher {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-publisher"));
        command.arg("--config").arg(self.folder.path().join("publisher.toml")).arg("--child");
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command.stdout(Stdio::piped()).kill_on_drop(true).env_remove("MESH_FAULT").env("RUST_LOG", "warn");
        if let Some(fault) = fault {
            command.env("MESH_FAULT", fault);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap();
        let ready: Value = serde_json::from_str(&line.expect("the publisher is ready")).unwrap();
        Publisher { child, url: format!("http://{}", ready["http"].as_str().unwrap()) }
    }

    /// All events on a topic.
    pub async fn events(&self, topic: &str) -> Vec<Event> {
        let mut reader = self.bus.read_topic(topic, Start::Beginning).await.unwrap();
        let mut events = Vec::new();
        while let Some(received) = reader.next_until_caught_up().await.unwrap() {
            events.extend(received.event.ok());
        }
        events
    }

    pub async fn table(&self, name: &str) -> Option<Table> {
        let (namespace, table) = name.split_once('.').unwrap();
        self.catalog
            .find(&mesh_lakehouse::schema::ident(&mesh_contract::TableName::new(namespace, table)))
            .await
            .unwrap()
    }

    /// A snapshot without rows.
    pub async fn snapshot(&self, name: &str, watermark: i64) -> i64 {
        let table = self.table(name).await.unwrap();
        let append = Change::append(&table, Vec::new()).with(summary::WATERMARK, watermark.to_string());
        self.catalog.apply(&table, &append).await.into_result().unwrap().snapshot_id.unwrap()
    }

    /// Writes a table's metadata anew, as an engine that knows nothing of this mesh does.
    pub async fn rewrite(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let table = self.table(name).await.unwrap();
        let before = table.metadata_location().to_owned();
        let text = std::fs::read(before.strip_prefix("file://").unwrap()).unwrap();
        let mut metadata: Value = serde_json::from_slice(&text).unwrap();
        change(&mut metadata);
        let (folder, file) = before.rsplit_once('/').unwrap();
        let version: u32 = file.split_once('-').unwrap().0.parse().unwrap();
        let after = format!("{folder}/{:05}-{}.metadata.json", version + 1, uuid::Uuid::new_v4());
        std::fs::write(after.strip_prefix("file://").unwrap(), metadata.to_string()).unwrap();
        self.point(name, &after).await;
    }

    /// Drops a table and creates another under its name, as another engine does.
    pub async fn create_over(&self, table: &Table, properties: HashMap<String, String>) -> Table {
        self.catalog.drop_table(table).await.unwrap();
        let (ident, schema) = (table.ident().clone(), table.schema().as_ref().clone());
        let properties = properties.into_iter().collect();
        let spec = mesh_lakehouse::TableSpec { ident, schema, partition_spec: None, properties };
        self.catalog.create_table(spec).await.unwrap()
    }

    /// Changes a table's current schema, as another engine does; the closure gets its fields and the next free id.
    pub async fn evolve(&self, name: &str, change: impl FnOnce(&mut Vec<Value>, i64)) {
        self.rewrite(name, |metadata| {
            let current = metadata["current-schema-id"].clone();
            let schemas = metadata["schemas"].as_array_mut().unwrap();
            let mut schema = schemas.iter().find(|schema| schema["schema-id"] == current).unwrap().clone();
            let id = schemas.iter().map(|schema| schema["schema-id"].as_i64().unwrap()).max().unwrap() + 1;
            schema["schema-id"] = id.into();
            let next = metadata["last-column-id"].as_i64().unwrap() + 1;
            change(schema["fields"].as_array_mut().unwrap(), next);
            metadata["schemas"].as_array_mut().unwrap().push(schema);
            metadata["current-schema-id"] = id.into();
            metadata["last-column-id"] = next.into();
        })
        .await;
    }

    /// Points a table's name at other metadata.
    pub async fn point(&self, name: &str, location: &str) {
        let (namespace, table) = name.split_once('.').unwrap();
        let swap = "UPDATE iceberg_tables SET previous_metadata_location = metadata_location, metadata_location = ? \
                    WHERE table_namespace = ? AND table_name = ?";
        let query = sqlx::query(swap).bind(location).bind(namespace).bind(table);
        assert_eq!(query.execute(&self.database().await).await.unwrap().rows_affected(), 1);
    }

    /// The catalog's database, as somebody else opens it.
    pub async fn database(&self) -> sqlx::SqlitePool {
        let uri = self.catalog.config().uri.replace("sqlite:///", "sqlite://");
        sqlx::SqlitePool::connect(&uri).await.unwrap()
    }

    /// Types and data of what was said about tables, in the order of the topic.
    pub async fn changes(&self) -> Vec<(String, Value)> {
        let events = self.events(mesh_proto::topics::PRODUCT_CHANGES).await;
        events.into_iter().map(|event| (event.event_type.clone(), event.decode().unwrap())).collect()
    }

    /// The snapshots announced, in the order of the topic.
    pub async fn announced(&self) -> Vec<i64> {
        let events = self.events(mesh_proto::topics::PRODUCT_CHANGES).await;
        let of = |event: Event| event.decode::<mesh_proto::v1::ProductChanged>().unwrap().snapshot_id;
        events.into_iter().filter(|e| e.event_type == mesh_proto::cloudevents::types::PRODUCT_CHANGED).map(of).collect()
    }

    /// Verdicts without proposals: event id → state and subject.
    pub async fn verdicts(&self) -> BTreeMap<String, (String, String)> {
        let mut verdicts = BTreeMap::new();
        for event in self.events(mesh_proto::topics::CONTRACT_EVENTS).await {
            let verdict: mesh_proto::v1::ContractEvent = event.decode().unwrap();
            if verdict.state() != mesh_proto::v1::ContractState::Proposed {
                let told = (verdict.state().as_str_name().to_owned(), verdict.subject);
                let before = verdicts.insert(event.id.clone(), told.clone());
                assert!(before.is_none() || before == Some(told), "{} has two verdicts", event.id);
            }
        }
        verdicts
    }
}

impl Publisher {
    pub async fn post(&self, key: Option<&str>, query: &str, document: &str) -> (u16, Value) {
        self.try_post(key, query, document).await.unwrap()
    }

    pub async fn try_post(&self, key: Option<&str>, query: &str, document: &str) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}/v1/submissions?{query}", self.url);
        let mut request = reqwest::Client::new().post(url).body(document.to_owned());
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// Makes the admin of operations.
    pub async fn with_ops(self) -> Self {
        let text = format!(
            "[[principal]]\nname = \"ops\"\nkey_sha256 = \"{}\"\nroles = [\"domain-admin\"]\nadmin_of = [\"operations\"]\n",
            key_sha256(OPS_KEY)
        );
        let (status, body) = self.post(Some(ADMIN_KEY), "file=principals.toml", &text).await;
        assert_eq!((status, body["state"].as_str()), (200, Some("changed")), "{body}");
        self
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub async fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let ended =
            tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.expect("drains in time").unwrap();
        assert!(ended.success(), "{ended}");
    }
}

/// Awaits a condition, for at most a minute.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A contract of the domain operations.
pub fn flights(format: &str, version: &str, columns: &[(&str, &str)]) -> String {
    let columns: String =
        columns.iter().map(|(name, logical)| format!("      - {{name: {name}, logicalType: {logical}}}\n")).collect();
    let major = version.split('.').next().unwrap();
    format!(
        "apiVersion: v3.1.0\nkind: DataContract\nid: urn:flights\nname: flights\nversion: {version}\nstatus: active\n\
         domain: operations\ndataProduct: flights\nservers:\n  - server: mesh\n    type: kafka\n    host: mesh:9092\n    \
         format: {format}\nschema:\n  - name: flights\n    physicalName: operations.flights.v{major}\n    \
         physicalType: topic\n    logicalType: object\n    properties:\n{columns}"
    )
}

pub const NARROW: &[(&str, &str)] = &[("flight", "integer"), ("carrier", "string")];
pub const WIDE: &[(&str, &str)] = &[("flight", "integer"), ("carrier", "string"), ("tail", "string")];
