//! A folder that an earlier version made opens with this one and goes on: bus, catalog, tables, keys.
//!
//! The fixture is what that version's binary left behind (`tests/fixtures/make.py`): a table that pyiceberg rolled back, one
//! that was rebased after its topic was cut, and one whose last commit has its dead letters still to be committed.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::fixture::Fixture;
use crate::support::nyc::{DEAD_FLIGHTS, FLIGHTS, Line, PLANES, Product, WEATHER, is_poison, lines, number, text};
use crate::support::{Mesh, eventually, root};
use pretty_assertions::assert_eq;

/// What every version since has to open.
const VERSION: &str = "df2ccdf";

#[test]
fn a_folder_of_an_earlier_version_opens_and_goes_on() {
    let fixture = Fixture::unpack(VERSION);
    let mut mesh = Mesh::up_in(fixture.folder());
    for (product, records) in old_records() {
        rows_are_there_once(&mesh, product, &records);
    }
    pending_dead_letters_are_committed(&mesh);
    principals_and_policies_still_hold(&mesh);
    commands_answer(&mesh);
    new_events_arrive(&mesh);
    a_minor_version_applies(&mesh);
    every_snapshot_is_announced(&mesh);
    mesh.stop();
    // And once more: what this version wrote over what the old one left opens, too.
    let mut mesh = Mesh::up_in(fixture.folder());
    rows_are_there_once(&mesh, FLIGHTS, &with_new(FLIGHTS));
    mesh.stop();
}

/// The rows that the old version accepted, by product.
fn old_records() -> [(Product, Vec<Line>); 3] {
    [PLANES, WEATHER, FLIGHTS].map(|product| (product, old(product)))
}

fn old(product: Product) -> Vec<Line> {
    let lines = lines(product.data);
    match product.name {
        "fleet.planes" => lines[..30].to_vec(),
        // Those between were deleted from the topic before they were read, and the table was rebased.
        "weather.hourly" => [&lines[..40], &lines[80..100]].concat(),
        _ => [&lines[..60], &lines[100..130]].concat(),
    }
}

/// Records that the old version never saw.
fn new(product: Product) -> Vec<Line> {
    lines(product.data)[1000..1020].to_vec()
}

fn with_new(product: Product) -> Vec<Line> {
    [old(product), new(product)].concat()
}

/// Each record's row, once, and no row beside them.
fn rows_are_there_once(mesh: &Mesh, product: Product, records: &[Line]) {
    let columns: Vec<&str> = records[0].keys().map(String::as_str).filter(|column| is_text(column)).collect();
    let query = format!("SELECT {} FROM {}", columns.join(", "), product.name);
    let mut wanted: Vec<String> = records
        .iter()
        .map(|line| columns.iter().map(|column| format!("{}|", cell(&line[*column]))).collect())
        .collect();
    wanted.sort();
    eventually(&format!("{} rows of {}", wanted.len(), product.name), Duration::from_secs(60), || {
        let rows = mesh.sql(product.admin, &query);
        (rows.len() >= wanted.len()).then_some(())
    });
    let rows = mesh.sql(product.admin, &query);
    let mut found: Vec<String> =
        rows.iter().map(|row| columns.iter().map(|column| format!("{}|", text(&row[*column]))).collect()).collect();
    found.sort();
    assert_eq!(found, wanted, "{}", product.name);
    let places = format!("SELECT DISTINCT _mesh['partition'] AS p, _mesh['offset'] AS o FROM {}", product.name);
    assert_eq!(mesh.sql(product.admin, &places).len(), wanted.len(), "each from a record of its own");
}

/// Columns whose text in the file is the text of the answer.
fn is_text(column: &str) -> bool {
    ["tailnum", "manufacturer", "model", "origin", "dest", "carrier", "time_hour"].contains(&column)
}

fn cell(text: &str) -> &str {
    if text == "NA" { "" } else { text }
}

/// Two were in their table; two were named by the flights' last commit only.
fn pending_dead_letters_are_committed(mesh: &Mesh) {
    let poison = lines(FLIGHTS.data).into_iter().filter(is_poison).take(4).map(|line| FLIGHTS.key(&line));
    let wanted: BTreeSet<_> = poison.collect();
    let keys = || -> Vec<String> {
        let rows = mesh.sql(FLIGHTS.admin, &format!("SELECT key FROM {DEAD_FLIGHTS}"));
        rows.iter().map(|row| String::from_utf8(hex::decode(text(&row["key"])).unwrap()).unwrap()).collect()
    };
    eventually("the dead letters that were pending", Duration::from_secs(60), || (keys().len() >= 4).then_some(()));
    let found = keys();
    assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (4, wanted));
}

fn principals_and_policies_still_hold(mesh: &Mesh) {
    let masked = mesh.sql("ana", "SELECT tailnum FROM fleet.planes");
    assert_eq!(masked.len(), 30);
    assert!(masked.iter().all(|row| text(&row["tailnum"]).len() == 64), "{masked:?}");
    let carriers = mesh.sql("partner-ua", "SELECT DISTINCT carrier FROM operations.flights");
    assert_eq!(carriers, [serde_json::json!({"carrier": "UA"})]);
    mesh.run(&["--as", "partner-ua", "sql", "SELECT * FROM fleet.planes"]).refused(1, "MESH-QUERY-0003");
}

fn commands_answer(mesh: &Mesh) {
    let products = mesh.run(&["--output", "json", "products"]).json();
    assert_eq!(products.as_array().unwrap().len(), 3);
    for product in [PLANES, WEATHER, FLIGHTS] {
        mesh.run(&["show", product.name]).done();
        mesh.run(&["lineage", product.name]).done();
        // 1: a check failed, which is an answer.
        assert!(matches!(mesh.run(&["quality", product.name]).code, 0 | 1));
        let contract = mesh.run(&["--as", product.admin, "apply", product.contract]).done();
        assert!(contract.contains("unchanged"), "{contract}");
    }
    let changes = mesh.run(&["--output", "json", "watch", "--from", "start", "--count", "5", PLANES.name]).done();
    assert_eq!(changes.lines().count(), 5);
}

fn new_events_arrive(mesh: &Mesh) {
    for product in [PLANES, WEATHER, FLIGHTS] {
        mesh.produce(product, &mesh.cut("new.csv", &new(product), product.data));
        rows_are_there_once(mesh, product, &with_new(product));
    }
}

fn a_minor_version_applies(mesh: &Mesh) {
    let contract = fs::read_to_string(root().join(WEATHER.contract)).unwrap();
    let column = "      - {name: visib, ";
    let contract = contract.replace("\nversion: 1.0.0", "\nversion: 1.1.0");
    let contract = contract.replace(column, &format!("      - {{name: snow, logicalType: number}}\n{column}"));
    let path = mesh.folder().join("weather.yaml");
    fs::write(&path, contract).unwrap();
    mesh.run(&["--as", WEATHER.admin, "apply", path.to_str().unwrap()]).done();
    let row =
        r#"{"origin":"JFK","year":2013,"month":7,"day":1,"hour":0,"snow":1.5,"time_hour":"2013-07-01T00:00:00Z"}"#;
    let path = mesh.folder().join("snow.jsonl");
    fs::write(&path, format!("{row}\n")).unwrap();
    mesh.run(&["--as", WEATHER.admin, "produce", WEATHER.name, path.to_str().unwrap()]).done();
    let answer = eventually("the row of the new version", Duration::from_secs(60), || {
        let rows = mesh.sql("ana", "SELECT count(snow) AS snow, count(*) AS n FROM weather.hourly");
        (number(&rows[0]["snow"]) == 1).then_some(rows)
    });
    assert_eq!(number(&answer[0]["n"]), 81, "60 of the old version, 20 of this one, and this row");
}

/// In their order, whichever version committed or announced them. The planes' feed holds a rewind as well.
fn every_snapshot_is_announced(mesh: &Mesh) {
    for product in [WEATHER, FLIGHTS] {
        eventually(&format!("announcements of {}", product.name), Duration::from_secs(30), || {
            (mesh.announced_snapshots(product) == mesh.history(product.table).snapshots).then_some(())
        });
    }
    let planes = mesh.announced_snapshots(PLANES);
    let history = mesh.history(PLANES.table).snapshots;
    assert!(history.iter().all(|snapshot| planes.contains(snapshot)), "{history:?} in {planes:?}");
    assert!(planes.len() > history.len(), "what was rolled back had been announced");
}
