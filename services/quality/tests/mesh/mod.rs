//! A product as the publisher and ingest would leave it, on the testkit's mesh; quality as a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use chrono::Utc;
use mesh_bus::Record;
use mesh_contract::ProductContract;
use mesh_lakehouse::{Change, Table, TableWriter, WriterOptions, schema};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{Incident, Outcome, ProductChanged, ProductDropped, ProductRecreated, Verdict};
use mesh_testkit::{ServiceCommand, ServiceProcess, reference};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh of the testkit, with tables whose snapshots are announced.
pub(crate) struct TestMesh(mesh_testkit::TestMesh);

/// One row: id, kind, amount.
pub(crate) type Row = (i64, Option<&'static str>, Option<i64>);

impl TestMesh {
    pub(crate) async fn new() -> Self {
        Self(mesh_testkit::TestMesh::start().await.unwrap())
    }

    /// Admits a contract: makes its table, and activates it.
    pub(crate) async fn admit(&self, document: &str, revision: i64) -> ProductContract {
        let contract = ProductContract::parse("test.odcs.yaml", document).unwrap();
        let table = self.0.table(&contract).await.unwrap();
        self.0.activate(document, revision, &table).await.unwrap()
    }

    /// Writes what is no contract where one should be.
    pub(crate) async fn foreign_contract(&self, key: &str) {
        let record =
            Record { topic: topics::CONTRACTS, key: Some(key.as_bytes()), payload: Some(b"{}"), ..Record::default() };
        self.0.producer.send(&record).await.unwrap();
    }

    /// Takes a contract away.
    pub(crate) async fn retire(&self, contract: &ProductContract) {
        let key = topics::contract_key(contract.id().as_str(), contract.major().0);
        self.0.producer.delete(topics::CONTRACTS, &key).await.unwrap();
    }

    /// Commits rows, and announces the snapshot. Gives the snapshot's id.
    pub(crate) async fn commit(&self, contract: &ProductContract, rows: &[Row]) -> i64 {
        let table = self.0.catalog.load(&schema::ident(&contract.table())).await.unwrap();
        let commit_id = uuid::Uuid::now_v7();
        let mut writer = TableWriter::new(&table, commit_id, WriterOptions::default()).unwrap();
        writer.write(batch(&writer, rows)).await.unwrap();
        let written = writer.close().await.unwrap();
        let append = Change::append(&table, written.files).with_commit_id(commit_id);
        let committed = self.0.catalog.apply(&table, &append).await.into_result().unwrap();
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
        self.announced(types::PRODUCT_CHANGED, table, &changed).await;
    }

    async fn announced(&self, kind: &str, table: &Table, data: &impl serde::Serialize) {
        self.0.publish(topics::PRODUCT_CHANGES, kind, &table.uuid().to_string(), data).await.unwrap();
    }

    /// Drops the table, and announces that.
    pub(crate) async fn drop_table(&self, contract: &ProductContract) {
        let table = self.0.catalog.load(&schema::ident(&contract.table())).await.unwrap();
        self.0.catalog.drop_table(&table).await.unwrap();
        let dropped = ProductDropped { table: Some(reference(&table)), ..ProductDropped::default() };
        self.announced(types::PRODUCT_DROPPED, &table, &dropped).await;
    }

    /// Creates the table again, as another engine does, and announces that.
    pub(crate) async fn recreate_table(&self, contract: &ProductContract) {
        let table = self.0.table(contract).await.unwrap();
        let recreated = ProductRecreated { table: Some(reference(&table)), ..ProductRecreated::default() };
        self.announced(types::PRODUCT_RECREATED, &table, &recreated).await;
    }

    /// The file that the table's pointer names.
    pub(crate) async fn metadata_file(&self, contract: &ProductContract) -> PathBuf {
        let table = self.0.catalog.load(&schema::ident(&contract.table())).await.unwrap();
        PathBuf::from(table.metadata_location().strip_prefix("file://").unwrap())
    }

    /// The only file with rows.
    pub(crate) fn data_file(&self) -> PathBuf {
        let mut folders = vec![self.0.folder().to_owned()];
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

    async fn events(&self, topic: &str) -> Vec<Event> {
        self.0.events(topic).await.unwrap()
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

    /// Waits until a verdict of a check has this in its detail.
    pub(crate) async fn detail_follows(&self, check: &str, detail: &str) {
        let begun = Instant::now();
        loop {
            let verdicts = self.verdicts().await;
            if verdicts.iter().any(|(_, v)| v.check_id.ends_with(check) && v.detail.contains(detail)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{verdicts:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts quality; `fault` is a point and at which pass it kills.
    pub(crate) async fn quality(&self, fault: Option<(&str, u32)>) -> Quality {
        self.quality_with(fault, "100ms").await
    }

    /// With this interval for checks of whole tables. One with a fault may die before it is ready.
    pub(crate) async fn quality_with(&self, fault: Option<(&str, u32)>, table_wide: &str) -> Quality {
        let sections =
            format!("[judge]\ninterval = \"50ms\"\ntable_wide_interval = \"{table_wide}\"\ntick = \"50ms\"\n");
        let config = self.0.config("quality", &sections).unwrap();
        let fault = fault.map(|(point, at)| format!("{point}@{at}"));
        let command = ServiceCommand::new(env!("CARGO_BIN_EXE_mesh-quality")).config(&config).fault(fault.as_deref());
        let mut process = command.log_to(&self.log_file()).unwrap().spawn().unwrap();
        if fault.is_none() {
            process.await_ready().await.unwrap();
        }
        Quality(process)
    }

    fn log_file(&self) -> PathBuf {
        self.0.folder().join("quality.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

/// The service under test.
pub(crate) struct Quality(ServiceProcess);

impl Quality {
    pub(crate) async fn readiness(&self) -> (u16, String) {
        self.0.page("/health/ready").await.unwrap()
    }

    pub(crate) async fn metric(&self, name: &str) -> u64 {
        self.0.metric(name).await.unwrap()
    }

    /// Waits until it has taken up its tables, and looked at each.
    pub(crate) async fn settles_down(&self) {
        let begun = Instant::now();
        while self.metric("mesh_quality_tables").await == 0 || self.metric("mesh_quality_waiting_tables").await > 0 {
            assert!(begun.elapsed() < PATIENCE, "it takes up no table");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The look itself is not counted; it takes a fraction of this.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Waits until the fault has killed it.
    pub(crate) async fn dies(&mut self) {
        self.0.ended().await.expect("the fault point is passed");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.is_running().unwrap()
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
