//! What an error of the command line tells its reader to do, is done, and then the command works.
//!
//! The remedies of refused documents are in `errors.rs` and in the services' tests; that of a folder without policies is in
//! the command line's own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::nyc::{FLIGHTS, PLANES, lines, number};
use crate::support::{Mesh, Output, command, eventually, run};
use pretty_assertions::assert_eq;

/// Rows that `mesh produce` sends at once: of a batch with a bad row, none is sent.
const BATCH: usize = 1000;

#[test]
fn each_remedy_that_the_command_line_prints_works() {
    let folder = mesh_testkit::folder().unwrap();
    let mut mesh = started_as_the_error_says(folder.path());
    mesh.admit_example();
    a_key_that_is_known(&mesh);
    a_product_that_is_there(&mesh);
    a_query_that_was_answered(&mesh);
    a_row_that_is_corrected(&mesh);
    one_mesh_in_a_folder(&mut mesh, folder.path());
}

/// The command in backticks that begins with `mesh `, as words behind it.
fn remedy(output: &Output) -> Vec<String> {
    let mut quoted = output.stderr.split('`').skip(1).step_by(2);
    let command = quoted.find_map(|text| text.strip_prefix("mesh ")).unwrap_or_else(|| panic!("{output:?}"));
    command.split(' ').map(str::to_owned).collect()
}

fn started_as_the_error_says(folder: &Path) -> Mesh {
    let none = run(command().arg("--mesh").arg(folder).arg("products"));
    none.refused(2, "MESH-CLI-0001");
    assert_eq!(remedy(&none), ["up", "--data", folder.to_str().unwrap()]);
    let mesh = Mesh::up_in(folder);
    mesh.run(&["products"]).done();
    mesh
}

fn a_key_that_is_known(mesh: &Mesh) {
    let output = mesh.run(&["--as", "stranger", "sql", "SELECT 1"]);
    output.refused(2, "MESH-CLI-0003");
    let known = output.stderr.split("known there: ").nth(1).unwrap().lines().next().unwrap();
    let known: Vec<_> = known.split(", ").collect();
    assert!(known.contains(&"ana"), "{known:?}");
    for name in known {
        mesh.run(&["--as", name, "sql", "SELECT 1"]).done();
    }
}

/// The hint names the products that there are, or the command that does.
fn a_product_that_is_there(mesh: &Mesh) {
    let output = mesh.run(&["show", "fleet.plains"]);
    output.refused(1, "MESH-CLI-0005");
    if output.stderr.contains("`mesh products`") {
        assert!(mesh.run(&remedy(&output).iter().map(String::as_str).collect::<Vec<_>>()).done().contains(PLANES.name));
    } else {
        assert!(output.stderr.contains(PLANES.name), "{output:?}");
    }
    mesh.run(&["show", PLANES.name]).done();
}

fn a_query_that_was_answered(mesh: &Mesh) {
    mesh.run(&["lineage", "01a1fddc-311f-752f-8cec-8b64b9babf13"]).refused(1, "MESH-CLI-0014");
    let id = mesh.run(&["--as", "ana", "sql", "SELECT COUNT(*) AS n FROM fleet.planes"]).query_id();
    eventually("the query on mesh.spans", Duration::from_secs(30), || {
        (mesh.run(&["lineage", &id]).code == 0).then_some(())
    });
}

/// The error says how many rows were sent. The others, with the bad one corrected, make the whole file, each row once.
fn a_row_that_is_corrected(mesh: &Mesh) {
    let good: Vec<_> = lines(FLIGHTS.data).into_iter().filter(|line| line["arr_time"] != "2400").take(1300).collect();
    let mut bad = good.clone();
    bad[1234].insert("distance".to_owned(), "far".to_owned());
    let file = mesh.cut("bad.csv", &bad, FLIGHTS.data);
    let produce = |file: &Path| {
        mesh.run(&["--as", FLIGHTS.admin, "produce", "--null", "NA", FLIGHTS.name, file.to_str().unwrap()])
    };
    let output = produce(&file);
    output.refused(1, "MESH-CLI-0007");
    assert!(output.stderr.contains(&format!("bad.csv:{}:", 1234 + 2)), "{output:?}");
    let sent: usize =
        output.stderr.split(" rows before it were sent").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(sent, BATCH);
    produce(&mesh.cut("rest.csv", &good[sent..], FLIGHTS.data)).done();
    let count = |what: &str| number(&mesh.sql(FLIGHTS.admin, &format!("SELECT COUNT(*) AS n FROM {what}"))[0]["n"]);
    let wanted = good.len() as i64;
    eventually("every row", Duration::from_secs(60), || (count("operations.flights") >= wanted).then_some(()));
    let distinct = count("(SELECT DISTINCT carrier, flight, time_hour FROM operations.flights)");
    assert_eq!((count("operations.flights"), distinct), (wanted, wanted));
}

/// A second mesh is refused until the first one is stopped; a torn mesh.toml is written again by the next start.
fn one_mesh_in_a_folder(mesh: &mut Mesh, folder: &Path) {
    run(command().args(["up", "--data"]).arg(folder)).refused(2, "MESH-CLI-0015");
    mesh.stop();
    fs::write(mesh.home().mesh_file(), "[bus\n").unwrap();
    let torn = mesh.run(&["products"]);
    torn.refused(3, "MESH-CLI-0002");
    assert!(torn.stderr.contains("start the mesh again"), "{torn:?}");
    let mut again = Mesh::up_in(folder);
    again.run(&["products"]).done();
    again.stop();
}
