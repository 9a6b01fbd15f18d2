//! A local bus, a catalog and a product, as the publisher and ingest would leave them; quality as a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use chrono::Utc;
use mesh_bus::{Bus, BusConfig, Producer, ProducerOptions, ReadOptions, Record, Start, TopicPartition};
use mesh_contract::ProductContract;
use mesh_lakehouse::{Append, Catalog, CatalogConfig, Table, TableSpec, TableWriter, WriterOptions, schema};
use mesh_localbus::{LocalBus, RunningBus};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{
    ActiveContract, Incident, Outcome, ProductChanged, ProductDropped, ProductRecreated, TableRef, Verdict,
};
use tempfile::TempDir;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestMesh {
    pub(crate) dir: TempDir,
    _bus: RunningBus,
    bus: Bus,
    producer: Producer,
    catalog: Catalog,
}

/// One row: id, kind, amount.
pub(crate) type Row = (i64, Option<&'static str>, Option<i64>);

impl TestMesh {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = mesh_localbus::LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), dir.path().join("bus"));
        let running = LocalBus::start(config).await.unwrap();
        let bus = Bus::connect(BusConfig::new(running.bootstrap())).await.unwrap();
        bus.ensure_control_topics().await.unwrap();
        let catalog = Catalog::open(CatalogConfig::in_folder(dir.path())).await.unwrap();
        let producer = bus.producer(ProducerOptions::default()).unwrap();
        Self { dir, _bus: running, bus, producer, catalog }
    }

    /// Admits a contract: makes its table, and says so on `mesh.contracts`.
    pub(crate) async fn admit(&self, document: &str, revision: i64) -> ProductContract {
        let contract = ProductContract::parse("test.odcs.yaml", document).unwrap();
        let ident = schema::ident(&contract.table());
        if self.catalog.find(&ident).await.unwrap().is_none() {
            self.catalog.create_namespace(ident.namespace()).await.unwrap();
            let columns = schema::table_schema(&contract.iceberg_schema(None)).unwrap();
            let spec =
                TableSpec { ident: ident.clone(), schema: columns, partition_spec: None, properties: BTreeMap::new() };
            self.catalog.create_table(spec).await.unwrap();
        }
        let table = self.catalog.load(&ident).await.unwrap();
        let active = ActiveContract {
            contract_id: contract.id().to_string(),
            major: contract.major().0,
            revision,
            product: contract.product().to_string(),
            document: document.to_owned(),
            table: Some(reference(&table)),
            admitted_at: Some(mesh_proto::timestamp(Utc::now())),
            ..ActiveContract::default()
        };
        let key = topics::contract_key(&active.contract_id, active.major);
        let event = Event::new(types::ACTIVE_CONTRACT, "/test", revision.to_string(), Utc::now(), &active).unwrap();
        self.producer.publish(topics::CONTRACTS, &event.keyed(key)).await.unwrap();
        contract
    }

    /// Writes what is no contract where one should be.
    pub(crate) async fn foreign_contract(&self, key: &str) {
        let record =
            Record { topic: topics::CONTRACTS, key: Some(key.as_bytes()), payload: Some(b"{}"), ..Record::default() };
        self.producer.send(&record).await.unwrap();
    }

    /// Takes a contract away.
    pub(crate) async fn retire(&self, contract: &ProductContract) {
        let key = topics::contract_key(contract.id().as_str(), contract.major().0);
        self.producer.delete(topics::CONTRACTS, &key).await.unwrap();
    }

    /// Commits rows, and announces the snapshot. Gives the snapshot's id.
    pub(crate) async fn commit(&self, contract: &ProductContract, rows: &[Row]) -> i64 {
        let table = self.catalog.load(&schema::ident(&contract.table())).await.unwrap();
        let commit_id = uuid::Uuid::now_v7();
        let mut writer = TableWriter::new(&table, commit_id, WriterOptions::default()).unwrap();
        writer.write(batch(&writer, rows)).await.unwrap();
        let written = writer.close().await.unwrap();
        let append = Append::new(&table, written.files).with_commit_id(commit_id);
        let committed = self.catalog.append(&table, append).await.unwrap();
        self.announce(contract, &committed.table).await;
        committed.snapshot_id.unwrap()
    }

    async fn announce(&self, contract: &ProductContract, table: &Table) {
        let snapshot = table.current_snapshot().unwrap();
        let changed = ProductChanged {
            table: Some(reference(table)),
            product: contract.product().to_string(),
            snapshot_id: snapshot.snapshot_id(),
            sequence_number: snapshot.sequence_number(),
            committed_at: Some(mesh_proto::timestamp(Utc::now())),
            ..ProductChanged::default()
        };
        let id = format!("{}-{}", table.uuid(), snapshot.snapshot_id());
        let event = Event::new(types::PRODUCT_CHANGED, "/test", id, Utc::now(), &changed).unwrap();
        self.producer.publish(topics::PRODUCT_CHANGES, &event.keyed(table.uuid().to_string())).await.unwrap();
    }

    /// Takes the table away, and says so.
    pub(crate) async fn drop_table(&self, contract: &ProductContract) {
        let table = self.catalog.load(&schema::ident(&contract.table())).await.unwrap();
        self.catalog.drop_table(&table).await.unwrap();
        let dropped = ProductDropped { table: Some(reference(&table)), ..ProductDropped::default() };
        self.say(types::PRODUCT_DROPPED, &table, &dropped).await;
    }

    /// Makes the table anew as somebody else does, and says so.
    pub(crate) async fn recreate_table(&self, contract: &ProductContract) {
        let columns = schema::table_schema(&contract.iceberg_schema(None)).unwrap();
        let ident = schema::ident(&contract.table());
        let spec = TableSpec { ident, schema: columns, partition_spec: None, properties: BTreeMap::new() };
        let table = self.catalog.create_table(spec).await.unwrap();
        let recreated = ProductRecreated { table: Some(reference(&table)), ..ProductRecreated::default() };
        self.say(types::PRODUCT_RECREATED, &table, &recreated).await;
    }

    async fn say(&self, kind: &str, table: &Table, data: &impl serde::Serialize) {
        let event = Event::new(kind, "/test", format!("{}-{kind}", table.uuid()), Utc::now(), data).unwrap();
        self.producer.publish(topics::PRODUCT_CHANGES, &event.keyed(table.uuid().to_string())).await.unwrap();
    }

    /// The file that the table's pointer names.
    pub(crate) async fn metadata_file(&self, contract: &ProductContract) -> PathBuf {
        let table = self.catalog.load(&schema::ident(&contract.table())).await.unwrap();
        PathBuf::from(table.metadata_location().strip_prefix("file://").unwrap())
    }

    /// The only file with rows.
    pub(crate) fn data_file(&self) -> PathBuf {
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.extension() {
                    _ if entry.is_dir() => folders.push(entry),
                    Some(extension) if extension == "parquet" => return entry,
                    _ => {}
                }
            }
        }
        panic!("no rows were written")
    }

    /// Every event of a topic, partition by partition in order, with its id.
    async fn events(&self, topic: &str) -> Vec<Event> {
        let mut events = Vec::new();
        let partitions = self.bus.describe_topic(topic).await.unwrap().partitions;
        for partition in 0..partitions {
            let (low, high) = self.bus.watermarks(topic, partition).await.unwrap();
            let reader = self.bus.partitions("test", ReadOptions::default()).unwrap();
            reader.add(&[(TopicPartition::new(topic, partition), Start::At(low))]).unwrap();
            let mut next = low;
            while next < high {
                for message in reader.next(1_000).await.unwrap().iter() {
                    next = message.offset() + 1;
                    events.push(message.event().unwrap());
                }
            }
        }
        events
    }

    pub(crate) async fn verdicts(&self) -> Vec<(String, Verdict)> {
        let decode = |event: Event| (event.id.clone(), event.decode_as(types::VERDICT).unwrap());
        self.events(topics::QUALITY).await.into_iter().map(decode).collect()
    }

    pub(crate) async fn incidents(&self) -> Vec<(String, Incident)> {
        let decode = |event: Event| (event.id.clone(), event.decode().unwrap());
        self.events(topics::INCIDENTS).await.into_iter().map(decode).collect()
    }

    /// The last verdict of each check: `outcome actual`, by the check's name.
    pub(crate) async fn last(&self) -> BTreeMap<String, String> {
        let show = |verdict: &Verdict| {
            let outcome = verdict.outcome().as_str_name().trim_start_matches("OUTCOME_").to_lowercase();
            // The age of a commit is not the same twice.
            let actual = if verdict.metric == "latency" { "" } else { verdict.actual.as_str() };
            format!("{outcome} {actual}").trim_end().to_owned()
        };
        let name = |verdict: &Verdict| verdict.check_id.rsplit('/').next().unwrap().to_owned();
        self.verdicts().await.iter().map(|(_, verdict)| (name(verdict), show(verdict))).collect()
    }

    /// Waits until the last verdicts are these.
    pub(crate) async fn settles(&self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let begun = Instant::now();
        loop {
            let last = self.last().await;
            if last == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{last:#?} instead of {expected:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Each check's last incident's state, by the check's name.
    async fn incident_states(&self) -> BTreeMap<String, String> {
        let state =
            |incident: &Incident| incident.state().as_str_name().trim_start_matches("INCIDENT_STATE_").to_lowercase();
        let name = |incident: &Incident| incident.check_id.rsplit('/').next().unwrap().to_owned();
        self.incidents().await.iter().map(|(_, incident)| (name(incident), state(incident))).collect()
    }

    /// Waits until each check's last incident is in this state.
    pub(crate) async fn incidents_settle(&self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(check, state)| ((*check).to_owned(), (*state).to_owned())).collect();
        let begun = Instant::now();
        loop {
            let states = self.incident_states().await;
            if states == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{states:?} instead of {expected:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until these checks, and no others, have an incident that is not resolved.
    pub(crate) async fn open_incidents_settle(&self, expected: &BTreeSet<&str>) {
        let begun = Instant::now();
        loop {
            let states = self.incident_states().await;
            let open = states.iter().filter(|(_, state)| *state != "resolved").map(|(check, _)| check.as_str());
            let open: BTreeSet<&str> = open.collect();
            if open == *expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{open:?} are open, {expected:?} should be\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until these were the outcomes of a check, one after the other, among others.
    pub(crate) async fn outcomes_follow(&self, check: &str, expected: &[Outcome]) {
        let begun = Instant::now();
        loop {
            let verdicts = self.verdicts().await;
            let mut outcomes = verdicts.iter().filter(|(_, v)| v.check_id.ends_with(check)).map(|(_, v)| v.outcome());
            if expected.iter().all(|wanted| outcomes.any(|outcome| outcome == *wanted)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{verdicts:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts quality; `fault` is a point and at which pass it kills.
    pub(crate) fn quality(&self, fault: Option<(&str, u32)>) -> Quality {
        self.quality_with(fault, "100ms")
    }

    /// With this interval for checks of whole tables.
    pub(crate) fn quality_with(&self, fault: Option<(&str, u32)>, table_wide: &str) -> Quality {
        let file = self.dir.path().join("quality.toml");
        let catalog = self.catalog.config();
        let config = format!(
            "[bus]\nbootstrap = \"{}\"\n[catalog]\nuri = \"{}\"\nwarehouse = \"{}\"\n\
             [judge]\ninterval = \"50ms\"\ntable_wide_interval = \"{table_wide}\"\ntick = \"50ms\"\n",
            self.bus.address(),
            catalog.uri,
            catalog.warehouse,
        );
        std::fs::write(&file, config).unwrap();
        Quality::start(&file, &self.log_file(), fault)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("quality.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

/// The service as a child process, killed when dropped.
pub(crate) struct Quality(Child, Option<SocketAddr>);

impl Quality {
    fn start(config: &Path, log: &Path, fault: Option<(&str, u32)>) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-quality"));
        command.arg("--config").arg(config).stdout(Stdio::piped()).stderr(log);
        if let Some((point, at)) = fault {
            command.env("MESH_FAULT", format!("{point}@{at}"));
        }
        Self(command.spawn().unwrap(), None)
    }

    /// A page of its admin port.
    pub(crate) fn page(&mut self, path: &str) -> String {
        let admin = *self.1.get_or_insert_with(|| {
            let mut line = String::new();
            BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
            ready["admin"].as_str().unwrap().parse().unwrap()
        });
        let mut stream = TcpStream::connect(admin).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: quality\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// A number among its metrics.
    pub(crate) fn metric(&mut self, name: &str) -> u64 {
        let page = self.page("/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    /// Waits until it has taken up its tables, and looked at each.
    pub(crate) async fn settles_down(&mut self) {
        let begun = Instant::now();
        while self.metric("mesh_quality_tables") == 0 || self.metric("mesh_quality_waiting_tables") > 0 {
            assert!(begun.elapsed() < PATIENCE, "it takes up no table");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The look itself is not counted; it takes a fraction of this.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Waits until the fault has killed it.
    pub(crate) async fn dies(&mut self) {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "the fault point was never passed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Quality {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reference(table: &Table) -> TableRef {
    TableRef {
        namespace: table.ident().namespace().join("."),
        name: table.ident().name().to_owned(),
        uuid: table.uuid().to_string(),
    }
}

fn batch(writer: &TableWriter, rows: &[Row]) -> RecordBatch {
    let column = |name: &str| -> ArrayRef {
        match name {
            "id" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
            "kind" => Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
            "amount" => Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            other => new_null_array(writer.schema().field_with_name(other).unwrap().data_type(), rows.len()),
        }
    };
    let columns = writer.schema().fields().iter().map(|field| column(field.name())).collect();
    RecordBatch::try_new(writer.schema().clone(), columns).unwrap()
}
