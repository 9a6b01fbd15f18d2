//! What goes wrong ends in a coded error that names its page, and in nothing worse.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::nyc::{Line, WEATHER, lines, number, text};
use crate::support::processes::{child_with, signal};
use crate::support::{Mesh, command, eventually, root, run};
use mesh_bus::{ProducerOptions, Record, TopicSpec};
use mesh_proto::topics;
use pretty_assertions::assert_eq;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn what_people_do_wrong_is_told_with_a_code() {
    let mesh = Mesh::up();
    mesh.admit_example();
    a_malformed_contract(&mesh);
    a_policy_that_is_no_rego(&mesh);
    an_unknown_principal(&mesh);
    a_query_that_is_not_allowed(&mesh);
    a_poison_record_in_the_middle_of_a_batch(&mesh);
    a_kafka_that_holds_another_mesh(&mesh);
}

fn a_malformed_contract(mesh: &Mesh) {
    let contract = fs::read_to_string(root().join(WEATHER.contract)).unwrap();
    let malformed = contract.replace("logicalType: timestamp", "logicalType: timestmap");
    assert_ne!(malformed, contract);
    let file = write(mesh, "malformed.odcs.yaml", &malformed);
    let file = file.to_str().unwrap();
    let line = 1 + malformed.lines().position(|line| line.contains("timestmap")).unwrap();
    for command in [vec!["validate", file], vec!["--as", "weather-admin", "apply", file]] {
        let output = mesh.run(&command);
        output.refused(1, "MESH-CONTRACT-0008");
        assert!(output.stdout.contains(&format!("{file}:{line}:")), "names the place: {output:?}");
    }
    let torn = write(mesh, "torn.odcs.yaml", "apiVersion: v3.1.0\nkind: [DataContract\n");
    mesh.run(&["--as", "weather-admin", "apply", torn.to_str().unwrap()]).refused(1, "MESH-CONTRACT-0001");
}

fn a_policy_that_is_no_rego(mesh: &Mesh) {
    let broken = write(mesh, "reading.rego", "package mesh.platform.reading\n\nimport rego.v1\n\ndefault allow := \n");
    mesh.run(&["--as", "admin", "apply", broken.to_str().unwrap()]).refused(1, "MESH-POLICY-0001");
    // The policy that was there stands.
    assert_eq!(mesh.sql("ana", "SELECT COUNT(*) AS n FROM fleet.planes").len(), 1);
}

fn an_unknown_principal(mesh: &Mesh) {
    mesh.run(&["--as", "nobody", "sql", "SELECT 1"]).refused(2, "MESH-CLI-0003");
    run(mesh.command(&["sql", "SELECT 1"]).env("MESH_KEY", "not-a-key")).refused(1, "MESH-QUERY-0001");
    run(mesh.command(&["apply", WEATHER.contract]).env("MESH_KEY", "not-a-key")).refused(1, "MESH-PUBLISHER-0001");
    // Known, but another domain's.
    mesh.run(&["--as", "fleet-admin", "apply", WEATHER.contract]).refused(1, "MESH-PUBLISHER-0002");
}

fn a_query_that_is_not_allowed(mesh: &Mesh) {
    mesh.run(&["--as", "partner-ua", "sql", "SELECT * FROM fleet.planes"]).refused(1, "MESH-QUERY-0003");
    mesh.run(&["--as", "admin", "sql", "DROP TABLE fleet.planes"]).refused(1, "MESH-QUERY-0006");
    // Dead letters hold raw bytes: only the product's owners read them.
    let dead = "SELECT * FROM weather.hourly_v1_dead_letters";
    mesh.run(&["--as", "ana", "sql", dead]).refused(1, "MESH-QUERY-0003");
    assert!(mesh.sql("weather-admin", dead).is_empty());
}

fn a_poison_record_in_the_middle_of_a_batch(mesh: &Mesh) {
    const GOOD: &str = r#"{"origin":"JFK","year":2013,"month":1,"day":1,"hour":1,"time_hour":"2013-01-01T06:00:00Z"}"#;
    let poison =
        [r#"{"origin":"JFK","year":"#, r#"{"origin":null,"year":2013}"#, "\u{0}\u{1}", GOOD.trim_end_matches('}')];
    let values: Vec<&str> = poison.iter().flat_map(|poison| [GOOD, poison, GOOD]).collect();
    mesh.wait_for(async {
        let producer = mesh.bus().await.producer(ProducerOptions::default()).unwrap();
        // One key, so one partition, so one batch.
        let record = |value: &'static str| Record {
            topic: "weather.hourly.v1",
            key: Some(b"k"),
            payload: Some(value.as_bytes()),
            ..Record::default()
        };
        producer.send_all(values.into_iter().map(record)).await.unwrap();
    });
    mesh.await_announced(WEATHER, 12);
    let dead = "SELECT \"offset\" AS o, reason_code, reason, value FROM weather.hourly_v1_dead_letters ORDER BY o";
    let dead = eventually("four dead letters", Duration::from_secs(20), || {
        Some(mesh.sql("weather-admin", dead)).filter(|dead| dead.len() == 4)
    });
    for ((row, poison), place) in dead.iter().zip(poison).zip([1, 4, 7, 10]) {
        assert_eq!((number(&row["o"]), text(&row["value"])), (place, hex::encode(poison)), "{row}");
        let code = text(&row["reason_code"]);
        assert!(code.starts_with("MESH-INGEST-") && !text(&row["reason"]).is_empty(), "{row}");
        assert!(root().join(format!("docs/errors/{code}.md")).exists(), "{code} has no page");
    }
    let rows = mesh.sql("weather-admin", "SELECT _mesh['offset'] AS o FROM weather.hourly ORDER BY o");
    assert_eq!(
        rows.iter().map(|row| number(&row["o"])).collect::<Vec<_>>(),
        [0, 2, 3, 5, 6, 8, 9, 11],
        "its neighbours are rows"
    );
}

/// Services with an empty catalog would announce there that each product was dropped.
fn a_kafka_that_holds_another_mesh(mesh: &Mesh) {
    let kafka = mesh.endpoints().bus.bootstrap;
    let ends = || [topics::PRINCIPALS, topics::CONTRACT_EVENTS, topics::PRODUCT_CHANGES].map(|t| mesh.events(t).len());
    let (before, folder) = (ends(), mesh_testkit::folder().unwrap());
    for start in ["up", "demo"] {
        let data = folder.path().join(start);
        run(command().args([start, "--kafka", &kafka, "--data"]).arg(data)).refused(2, "MESH-CLI-0017");
    }
    assert_eq!(ends(), before, "nothing was written");
}

#[test]
fn a_mesh_whose_port_is_taken_says_which_and_leaves_nothing_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, code) in
        [("MESH_QUERY__HTTP__LISTEN", "MESH-QUERY-0022"), ("MESH_PUBLISHER__HTTP__LISTEN", "MESH-RUNTIME-0005")]
    {
        let folder = mesh_testkit::folder().unwrap();
        let output = run(command().env(variable, &address).args(["up", "--data"]).arg(folder.path()));
        output.refused(3, "MESH-CLI-0008");
        output.refused(3, code);
        assert!(output.stderr.contains(&address), "names the address: {output:?}");
        assert!(!folder.path().join("mesh.toml").exists());
    }
}

#[test]
fn a_bus_that_cannot_start_says_why() {
    let folder = mesh_testkit::folder().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let bus = |address: &str, data: PathBuf| run(command().args(["bus", "--listen", address, "--data"]).arg(data));
    bus(&address, folder.path().join("bus")).refused(2, "MESH-LOCALBUS-0001");
    bus("127.0.0.1:0", below_a_file(&folder)).refused(3, "MESH-LOCALBUS-0003");
    bus("0.0.0.0:0", folder.path().join("bus")).refused(2, "MESH-LOCALBUS-0002");
}

#[test]
fn a_mesh_in_an_unwritable_folder_says_so() {
    let folder = mesh_testkit::folder().unwrap();
    let output = run(command().args(["up", "--data"]).arg(below_a_file(&folder)));
    output.refused(2, "MESH-CLI-0006");
    run(command().arg("--mesh").arg(folder.path()).arg("products")).refused(2, "MESH-CLI-0001");
}

#[test]
fn a_table_whose_topic_was_made_again_stops_with_a_code_until_it_has_a_new_start() {
    const TOPIC: &str = "weather.hourly.v1";
    let mesh = Mesh::up();
    mesh.admit_example();
    let hours = lines(WEATHER.data);
    mesh.produce(WEATHER, &mesh.cut("before.csv", &hours[..100], WEATHER.data));
    mesh.await_announced(WEATHER, 100);
    mesh.wait_for(async {
        let admin = ClientConfig::new().set("bootstrap.servers", mesh.endpoints().bus.bootstrap).create();
        let admin: AdminClient<_> = admin.unwrap();
        admin.delete_topics(&[TOPIC], &AdminOptions::new()).await.unwrap();
        mesh.bus().await.ensure_topics(&[TopicSpec::new(TOPIC, 4)]).await.unwrap();
    });
    eventually("ingest says what it stopped for", Duration::from_secs(60), || {
        mesh.readiness("ingest").contains("MESH-INGEST-0005").then_some(())
    });

    let rebase = |who: &str, more: &[&str]| {
        mesh.run(&[&["--as", who, "--output", "json", "ingest", "rebase", WEATHER.name], more].concat())
    };
    rebase("fleet-admin", &[]).refused(1, "MESH-INGEST-0021");
    rebase("weather-admin", &["--at", "0=7"]).refused(1, "MESH-INGEST-0023");
    assert_eq!(rebase("weather-admin", &["--dry-run"]).json()["rebased"], false);
    assert!(mesh.readiness("ingest").contains("MESH-INGEST-0005"), "a dry run changes nothing");
    let done = rebase("weather-admin", &["--reason", "made again"]).json();
    assert_eq!((&done["rebased"], done["partitions"].as_array().unwrap().len()), (&Value::Bool(true), 4));

    // As JSON lines, which become the same events.
    let file = write(&mesh, "after.jsonl", &hours[100..200].iter().map(as_json).collect::<String>());
    mesh.run(&["--as", "weather-admin", "produce", WEATHER.name, file.to_str().unwrap()]).done();
    eventually("the rows of both topics", Duration::from_secs(60), || {
        let rows = mesh.sql("ana", "SELECT COUNT(*) AS n FROM weather.hourly");
        (number(&rows[0]["n"]) == 200).then_some(())
    });
    assert!(mesh.sql("weather-admin", "SELECT 1 FROM weather.hourly_v1_dead_letters").is_empty());
}

/// A line of the weather's file as a line of JSON.
fn as_json(hour: &Line) -> String {
    let value = |(column, text): (&String, &String)| match (column.as_str(), text.as_str()) {
        (_, "NA") => (column.clone(), Value::Null),
        ("origin" | "time_hour", _) => (column.clone(), text.clone().into()),
        _ => (column.clone(), serde_json::from_str(text).unwrap()),
    };
    format!("{}\n", Value::Object(hour.iter().map(value).collect()))
}

#[test]
fn a_table_whose_folder_cannot_be_written_to_says_so_until_it_can() {
    let mesh = Mesh::up();
    mesh.admit_example();
    // A file in the folder's place stops everybody, root included.
    let warehouse = fs::read_dir(mesh.folder().join("warehouse/weather")).unwrap().map(|entry| entry.unwrap().path());
    let table = warehouse.into_iter().find(|path| !path.to_str().unwrap().contains("dead_letters")).unwrap();
    fs::write(table.join("data"), "").unwrap();
    mesh.produce(WEATHER, &mesh.cut("hours.csv", &lines(WEATHER.data)[..100], WEATHER.data));
    let reason = eventually("ingest says why", Duration::from_secs(60), || {
        Some(mesh.readiness("ingest")).filter(|reason| reason.contains("MESH-LAKEHOUSE-0004"))
    });
    assert!(reason.contains(table.to_str().unwrap()), "names the place: {reason}");
    assert!(root().join("docs/errors/MESH-LAKEHOUSE-0004.md").exists());
    fs::remove_file(table.join("data")).unwrap();
    mesh.await_announced(WEATHER, 100);
}

/// A place that cannot be written, by root either.
fn below_a_file(folder: &tempfile::TempDir) -> PathBuf {
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    file.join("folder")
}

#[test]
fn a_broker_that_vanished_is_named_and_its_return_is_noticed() {
    let mesh = Mesh::up();
    mesh.admit_example();
    let hours = lines(WEATHER.data);
    mesh.produce(WEATHER, &mesh.cut("before.csv", &hours[..100], WEATHER.data));
    mesh.await_announced(WEATHER, 100);

    // The supervisor must sleep, or it would bring the bus back at once.
    let bus = child_with(mesh.pid(), "bus").expect("the bus is a process of its own");
    signal(mesh.pid(), Signal::STOP);
    signal(bus, Signal::KILL);
    mesh.run(&["products"]).refused(3, "MESH-CLI-0004");
    mesh.run(&["--as", "ana", "sql", "SELECT COUNT(*) AS n FROM weather.hourly"]).refused(3, "MESH-QUERY-0011");
    signal(mesh.pid(), Signal::CONT);
    eventually("the bus is back", Duration::from_secs(30), || (mesh.run(&["products"]).code == 0).then_some(()));

    mesh.produce(WEATHER, &mesh.cut("after.csv", &hours[100..200], WEATHER.data));
    mesh.await_announced(WEATHER, 200);
    let rows = mesh.sql("ana", "SELECT COUNT(*) AS n FROM weather.hourly");
    assert_eq!(number(&rows[0]["n"]), 200, "ingest goes on where it was");
}

fn write(mesh: &Mesh, name: &str, text: &str) -> PathBuf {
    let path = mesh.folder().join(name);
    fs::write(&path, text).unwrap();
    path
}
