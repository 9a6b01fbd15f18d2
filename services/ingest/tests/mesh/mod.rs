//! A mesh of one table: a broker, a catalog, a contract, and the service as the process that it is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    missing_debug_implementations
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use iceberg::TableIdent;
use mesh_bus::{Bus, Producer, ProducerOptions, Record, TopicSpec};
use mesh_contract::ProductContract;
use mesh_lakehouse::schema::{dead_letter_schema, evolve, ident, partition_spec, table_schema};
use mesh_lakehouse::{Catalog, CatalogConfig, Change, Table, TableSpec};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Principal, RegisteredSchema, TableRef, TopicRef};
use mesh_testkit::{Broker, broker, eventually, folder, unique};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

pub const WAIT: Duration = Duration::from_secs(60);

/// A record's place in its topic.
pub type Place = (i32, i64);

pub struct Mesh {
    /// `None` if another mesh has it.
    pub broker: Option<Broker>,
    pub bus: Bus,
    pub producer: Producer,
    pub catalog: Catalog,
    pub contract: ProductContract,
    pub topic: String,
    pub partitions: i32,
    bootstrap: String,
    _folder: Option<TempDir>,
}

impl Mesh {
    /// A mesh whose contract has these properties, one line of YAML each; its topic has two partitions.
    pub async fn new(format: &str, properties: &[&str], extra: &str) -> anyhow::Result<Self> {
        Self::on(broker().await?, format, properties, extra).await
    }

    /// A mesh on this broker.
    pub async fn on(broker: Broker, format: &str, properties: &[&str], extra: &str) -> anyhow::Result<Self> {
        let folder = folder()?;
        let bus = broker.connect().await?;
        bus.ensure_control_topics().await?;
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await?;
        let bootstrap = broker.bootstrap().to_owned();
        let name = unique("things");
        let mesh = Self::with(bus, catalog, bootstrap, (&name, &topic_of(&name)), (format, properties, extra)).await?;
        Ok(Self { broker: Some(broker), _folder: Some(folder), ..mesh })
    }

    /// Another product of the same kind in this mesh. It lives no longer than this one.
    pub async fn another(&self, format: &str, properties: &[&str]) -> anyhow::Result<Self> {
        let (bus, catalog) = (self.bus.clone(), self.catalog.clone());
        let name = unique("things");
        Self::with(bus, catalog, self.bootstrap.clone(), (&name, &topic_of(&name)), (format, properties, "")).await
    }

    /// Another product on the same topic.
    pub async fn beside(&self, format: &str, properties: &[&str]) -> anyhow::Result<Self> {
        let (bus, catalog, name) = (self.bus.clone(), self.catalog.clone(), unique("things"));
        Self::with(bus, catalog, self.bootstrap.clone(), (&name, &self.topic), (format, properties, "")).await
    }

    async fn with(
        bus: Bus,
        catalog: Catalog,
        bootstrap: String,
        (name, topic): (&str, &str),
        (format, properties, extra): (&str, &[&str], &str),
    ) -> anyhow::Result<Self> {
        let contract = ProductContract::parse("test.yaml", &document(name, topic, format, properties, extra))?;
        let (topic, partitions) = (topic.to_owned(), 2);
        bus.ensure_topics(&[TopicSpec::new(&topic, partitions)]).await?;
        let producer = bus.producer(ProducerOptions::default())?;
        let (broker, _folder) = (None, None);
        let mesh = Self { broker, bus, producer, catalog, contract, topic, partitions, bootstrap, _folder };
        mesh.provision().await?;
        mesh.activate(1).await?;
        Ok(mesh)
    }

    async fn provision(&self) -> anyhow::Result<()> {
        let (table, dead) = (self.contract.table(), self.contract.dead_letter_table());
        self.catalog.create_namespace(ident(&table).namespace()).await?;
        let schema = table_schema(&self.contract.iceberg_schema(None))?;
        let partition_spec = partition_spec(self.contract.partition_spec(), &schema)?;
        let spec =
            |ident, schema, partition_spec| TableSpec { ident, schema, partition_spec, properties: BTreeMap::new() };
        self.catalog.create_table(spec(ident(&table), schema, partition_spec)).await?;
        self.catalog.create_table(spec(ident(&dead), dead_letter_schema()?, None)).await?;
        Ok(())
    }

    /// Gives the table the columns of another revision, which is not active yet.
    pub async fn evolve(&mut self, revision: i64, format: &str, properties: &[&str]) -> anyhow::Result<()> {
        self.revise(format, properties)?;
        let table = self.table().await?;
        let schema = evolve(&table, &self.contract.iceberg_schema(None))?;
        self.catalog.apply(&table, &Change::revision(revision).with_schema(schema)).await.into_result()?;
        Ok(())
    }

    /// Another revision of the contract, of which the table learns nothing.
    pub fn revise(&mut self, format: &str, properties: &[&str]) -> anyhow::Result<()> {
        let name = self.contract.product().to_string().split('.').next_back().context("no name")?.to_owned();
        self.contract = ProductContract::parse("test.yaml", &document(&name, &self.topic, format, properties, ""))?;
        Ok(())
    }

    /// Puts the contract on `mesh.contracts`.
    pub async fn activate(&self, revision: i64) -> anyhow::Result<()> {
        let active = self.active(revision).await?;
        let key = topics::contract_key(&active.contract_id, active.major);
        let source = self.bus.source("test");
        let event = Event::new(types::ACTIVE_CONTRACT, &source, unique("id"), chrono::Utc::now(), &active)?.keyed(key);
        self.producer.publish(topics::CONTRACTS, &event).await?;
        Ok(())
    }

    /// The contract as the publisher activates it.
    pub async fn active(&self, revision: i64) -> anyhow::Result<ActiveContract> {
        let table = |table: Table| TableRef {
            namespace: table.ident().namespace().to_url_string(),
            name: table.ident().name().to_owned(),
            uuid: table.uuid().to_string(),
        };
        Ok(ActiveContract {
            contract_id: self.contract.id().to_string(),
            major: 1,
            revision,
            product: self.contract.product().to_string(),
            version: "1.0.0".into(),
            status: "active".into(),
            document: self.contract.contract().to_json(),
            topic: Some(TopicRef {
                name: self.topic.clone(),
                topic_id: self.bus.describe_topic(&self.topic).await?.id.to_string(),
            }),
            table: Some(table(self.table().await?)),
            dead_letters: Some(table(self.catalog.load(&ident(&self.contract.dead_letter_table())).await?)),
            principal: "test".into(),
            admitted_at: None,
        })
    }

    /// Registers a schema; its id.
    pub async fn register(&self, schema: &serde_json::Value) -> anyhow::Result<u32> {
        let schema = RegisteredSchema {
            subject: self.contract.schema_subject(),
            fingerprint: unique("f"),
            schema_type: "AVRO".into(),
            schema: schema.to_string(),
        };
        let event = Event::new(types::SCHEMA, &self.bus.source("test"), unique("id"), chrono::Utc::now(), &schema)?;
        let delivered = self.producer.publish(topics::SCHEMAS, &event.keyed(unique("key"))).await?;
        Ok(u32::try_from(delivered.offset + 1)?)
    }

    /// Writes a record.
    pub async fn send(&self, partition: i32, value: Option<&[u8]>) -> anyhow::Result<Place> {
        let trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers: [(&str, &[u8]); 1] = [("traceparent", trace)];
        let record = Record {
            topic: &self.topic,
            partition: Some(partition),
            key: Some(b"k"),
            payload: value,
            headers: &headers,
            timestamp_ms: None,
        };
        let delivered = self.producer.send(&record).await?;
        Ok((delivered.partition, delivered.offset))
    }

    pub async fn table(&self) -> anyhow::Result<Table> {
        Ok(self.catalog.load(&ident(&self.contract.table())).await?)
    }

    /// Starts the service and waits until it is ready.
    pub fn start(&self) -> anyhow::Result<Service> {
        let service = self.start_with_fault(None)?;
        service.ready()
    }

    /// Starts the service with a fault armed; it may die before it is ready.
    pub fn start_with_fault(&self, fault: Option<&str>) -> anyhow::Result<Service> {
        self.spawn(&["ingest.instance=test"], fault)
    }

    /// Starts the service with other settings and waits until it is ready.
    pub fn start_with(&self, settings: &[&str]) -> anyhow::Result<Service> {
        self.spawn(settings, None)?.ready()
    }

    fn spawn(&self, settings: &[&str], fault: Option<&str>) -> anyhow::Result<Service> {
        let config = self.catalog.config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-ingest"));
        let places = [
            format!("bus.bootstrap={}", self.bootstrap),
            format!("catalog.uri={}", config.uri),
            format!("catalog.warehouse={}", config.warehouse),
        ];
        let pace = ["ingest.commit_interval=100ms", "ingest.schema_wait=1s", "ingest.topic_check=1s"];
        for set in places.iter().map(String::as_str).chain(pace).chain(settings.iter().copied()) {
            command.args(["--set", set]);
        }
        command.arg("--child").stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(fault) = fault {
            command.env("MESH_FAULT", fault);
        }
        let mut child = command.spawn().context("mesh-ingest does not start")?;
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (errors, lines) = (child.stderr.take().context("no stderr")?, log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                eprintln!("{line}");
                lines.lock().unwrap().push(line);
            }
        });
        Ok(Service { child, admin: String::new(), http: String::new(), log })
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.bus.config().bootstrap).create()?)
    }

    /// The log forgets everything of a partition.
    pub async fn truncate(&self, partition: i32) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::End)?;
        self.admin()?.delete_records(&list, &AdminOptions::new()).await?;
        let marks = async || self.bus.watermarks(&self.topic, partition).await.ok();
        let empty = async || marks().await.filter(|(low, high)| low == high).map(|_| ());
        eventually("the records are gone", WAIT, empty).await
    }

    /// The topic gets more partitions.
    pub async fn grow(&self, partitions: usize) -> anyhow::Result<()> {
        let more = NewPartitions::new(&self.topic, partitions);
        self.admin()?.create_partitions([&more], &AdminOptions::new()).await?;
        Ok(())
    }

    /// Writes a record to a partition that may only just have been made.
    pub async fn send_anew(&self, partition: i32, value: &[u8]) -> anyhow::Result<Place> {
        let record =
            Record { topic: &self.topic, partition: Some(partition), payload: Some(value), ..Record::default() };
        let sent = async || self.bus.producer(ProducerOptions::default()).ok()?.send(&record).await.ok();
        let delivered = eventually("the partition takes a record", WAIT, sent).await?;
        Ok((delivered.partition, delivered.offset))
    }

    /// Deletes the topic and makes another of its name.
    pub async fn recreate_topic(&self) -> anyhow::Result<()> {
        self.admin()?.delete_topics(&[&self.topic], &AdminOptions::new()).await?;
        let again = async || self.bus.ensure_topics(&[TopicSpec::new(&self.topic, self.partitions)]).await.ok();
        eventually("the topic is there again", WAIT, again).await
    }

    /// Makes somebody known to the mesh.
    pub async fn know(&self, name: &str, key: &str, roles: &[&str], admin_of: &[&str]) -> anyhow::Result<()> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let principal = Principal {
            name: name.into(),
            key_sha256: mesh_runtime::credentials::key_sha256(key),
            roles: own(roles),
            admin_of: own(admin_of),
            ..Principal::default()
        };
        let source = self.bus.source("test");
        let event = Event::new(types::PRINCIPAL, &source, unique("id"), chrono::Utc::now(), &principal)?.keyed(name);
        self.producer.publish(topics::PRINCIPALS, &event).await?;
        Ok(())
    }

    /// Places of the rows, and places and reasons of the dead letters, in order.
    pub async fn stored(&self) -> anyhow::Result<(Vec<Place>, Vec<(Place, String)>)> {
        let mut rows = Vec::new();
        for batch in self.read(&ident(&self.contract.table())).await? {
            let mesh = batch.column_by_name("_mesh").context("no _mesh")?.as_struct();
            let partitions = mesh.column_by_name("partition").context("no partition")?.as_primitive::<Int32Type>();
            let offsets = mesh.column_by_name("offset").context("no offset")?.as_primitive::<Int64Type>();
            rows.extend((0..batch.num_rows()).map(|at| (partitions.value(at), offsets.value(at))));
        }
        let mut dead = Vec::new();
        for batch in self.read(&ident(&self.contract.dead_letter_table())).await? {
            let column = |name: &str| batch.column_by_name(name).cloned().with_context(|| name.to_owned());
            let (partitions, offsets, reasons) = (column("partition")?, column("offset")?, column("reason")?);
            let place =
                |at| (partitions.as_primitive::<Int32Type>().value(at), offsets.as_primitive::<Int64Type>().value(at));
            let word = |at| reasons.as_string::<i32>().value(at).split(':').next().unwrap_or_default().to_owned();
            dead.extend((0..batch.num_rows()).map(|at| (place(at), word(at))));
        }
        rows.sort_unstable();
        dead.sort_unstable();
        Ok((rows, dead))
    }

    /// Waits until the tables hold exactly these.
    pub async fn until_stored(&self, rows: &[Place], dead: &[(Place, &str)]) -> anyhow::Result<()> {
        let mut wanted: (Vec<Place>, Vec<(Place, String)>) =
            (rows.to_vec(), dead.iter().map(|(place, reason)| (*place, (*reason).to_owned())).collect());
        wanted.0.sort_unstable();
        wanted.1.sort_unstable();
        let seen = Mutex::new(None);
        let found = eventually("the tables hold what was sent", WAIT, async || {
            let stored = self.stored().await.ok()?;
            let done = stored == wanted;
            *seen.lock().unwrap() = Some(stored);
            done.then_some(())
        });
        found.await.with_context(|| format!("wanted {wanted:?}, found {:?}", seen.lock().unwrap()))
    }

    /// All rows of a table, read file by file.
    pub async fn read(&self, table: &TableIdent) -> anyhow::Result<Vec<RecordBatch>> {
        let table = self.catalog.load(table).await?;
        let Some(snapshot) = table.current_snapshot() else { return Ok(Vec::new()) };
        let mut batches = Vec::new();
        for manifest in table.manifests(snapshot).await?.iter() {
            for entry in table.store().manifest(manifest).await?.entries() {
                let path = entry.file_path().trim_start_matches("file://");
                let file = std::fs::File::open(Path::new(path))?;
                for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
                    batches.push(batch?);
                }
            }
        }
        Ok(batches)
    }
}

fn topic_of(name: &str) -> String {
    format!("testing.{name}.v1")
}

fn document(name: &str, topic: &str, format: &str, properties: &[&str], extra: &str) -> String {
    let properties: String = properties.iter().map(|property| format!("      - {property}\n")).collect();
    format!(
        "apiVersion: v3.1.0\nkind: DataContract\nid: urn:test:{name}\nversion: 1.0.0\nstatus: active\ndomain: testing\n\
         dataProduct: {name}\nservers:\n  - {{server: mesh, type: kafka, host: 'mesh:9092', format: {format}}}\n\
         schema:\n  - name: {name}\n    physicalName: {topic}\n    physicalType: topic\n    logicalType: object\n\
         {extra}    properties:\n{properties}"
    )
}

/// The service's process; killed when dropped.
pub struct Service {
    child: Child,
    admin: String,
    http: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn ready(mut self) -> anyhow::Result<Self> {
        let out = self.child.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        anyhow::ensure!(line.contains("\"ready\":\"ingest\""), "the service is not ready: {line:?}");
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        self.admin = ready["admin"].as_str().context("no admin port")?.to_owned();
        self.http = ready["http"].as_str().context("no door")?.to_owned();
        Ok(self)
    }

    /// Waits until readiness is red and says all of this.
    pub async fn until_unready(&self, says: &[&str]) -> anyhow::Result<()> {
        let red = async || {
            let page = self.ask("/health/ready").ok()?;
            (page.starts_with("HTTP/1.1 503") && says.iter().all(|said| page.contains(said))).then_some(())
        };
        eventually(&format!("red: {says:?}"), WAIT, red).await
    }

    /// Waits until readiness is green.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        let green = async || self.ask("/health/ready").ok().filter(|page| page.starts_with("HTTP/1.1 200")).map(|_| ());
        eventually("green", WAIT, green).await
    }

    /// Waits until a log line contains one of these.
    pub async fn until_logged_any(&self, texts: &[&str]) -> anyhow::Result<()> {
        let any = async || texts.iter().any(|text| self.logged(text) > 0).then_some(());
        eventually(&texts.join(" or "), WAIT, any).await
    }

    /// Waits until a log line contains this.
    pub async fn until_logged(&self, text: &str) -> anyhow::Result<()> {
        eventually(text, WAIT, async || (self.logged(text) > 0).then_some(())).await
    }

    fn ask(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = std::net::TcpStream::connect(&self.admin)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    /// The value of a table's metric.
    pub fn metric(&self, name: &str, table: &str) -> anyhow::Result<i64> {
        let page = self.ask("/metrics")?;
        let of_table = |line: &&str| line.starts_with(name) && line.contains(&format!("table=\"{table}\""));
        let line = page.lines().find(of_table).with_context(|| format!("no {name} of {table}"))?;
        Ok(line.rsplit(' ').next().context("no value")?.parse()?)
    }

    /// Asks the door for a new start: status and body.
    pub fn rebase(&self, key: &str, asked: &serde_json::Value) -> anyhow::Result<(u16, serde_json::Value)> {
        let (mut stream, body) = (std::net::TcpStream::connect(&self.http)?, asked.to_string());
        write!(
            stream,
            "POST /v1/rebase HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let (head, body) = page.split_once("\r\n\r\n").context("no body")?;
        Ok((head.split(' ').nth(1).context("no status")?.parse()?, serde_json::from_str(body)?))
    }

    /// Log lines so far that contain this.
    pub fn logged(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// SIGSTOP, SIGCONT, SIGTERM, …
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        anyhow::ensure!(sent.success(), "kill -{name} failed");
        Ok(())
    }

    /// The signal that ended the process, if it ends within this time.
    pub async fn ended_by(&mut self, within: Duration) -> anyhow::Result<Option<i32>> {
        use std::os::unix::process::ExitStatusExt as _;
        let child = std::cell::RefCell::new(&mut self.child);
        let ended = eventually("the process ends", within, async || child.borrow_mut().try_wait().ok().flatten()).await;
        ended.ok().map(|status| status.signal().context("it exited by itself")).transpose()
    }

    /// SIGTERM, and the exit code.
    pub async fn drain(mut self) -> anyhow::Result<Option<i32>> {
        self.signal("TERM")?;
        let ended = std::cell::RefCell::new(&mut self.child);
        let status =
            eventually("the process drains", WAIT, async || ended.borrow_mut().try_wait().ok().flatten()).await?;
        Ok(status.code())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
