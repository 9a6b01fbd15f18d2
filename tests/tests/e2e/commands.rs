//! The command line on a mesh that works: what it says beforehand, whom it gives keys, what it shows of many documents.

use std::fs;
use std::time::Duration;

use crate::support::nyc::{PLANES, WEATHER, text};
use crate::support::{Mesh, root, run};
use mesh_cli::home::Home;
use pretty_assertions::assert_eq;

#[test]
fn the_commands_say_what_is_and_what_would_be() {
    let mesh = Mesh::up();
    mesh.admit_example();
    a_dry_run_says_what_would_change_and_changes_nothing(&mesh);
    a_dry_run_makes_no_key(&mesh);
    a_known_principal_keeps_its_key(&mesh);
    a_refused_file_leaves_no_key(&mesh);
    each_document_of_a_file_has_its_verdict(&mesh);
    verdicts_before_an_error_are_not_lost(&mesh);
    a_row_without_a_required_value_is_an_error_with_its_line(&mesh);
    what_was_not_judged_is_no_pass(&mesh);
    a_file_gives_the_same_rows_whatever_the_format(&mesh);
    a_query_is_known_as_soon_as_it_is_answered(&mesh);
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// A file of the test's own in the mesh's folder.
fn file(mesh: &Mesh, name: &str, text: &str) -> String {
    let path = mesh.folder().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn credentials(mesh: &Mesh) -> String {
    fs::read_to_string(mesh.folder().join("credentials.toml")).unwrap()
}

fn a_dry_run_says_what_would_change_and_changes_nothing(mesh: &Mesh) {
    let contract = read(WEATHER.contract).replace("\nversion: 1.0.0", "\nversion: 1.1.0");
    let column = "      - {name: visib, ";
    let changed = contract.replace(column, &format!("      - {{name: snow, logicalType: number}}\n{column}"));
    assert!(changed.contains("1.1.0") && changed.contains("snow"));
    let changed = file(mesh, "changed.yaml", &changed);
    let printed = mesh.run(&["--as", "weather-admin", "apply", "--dry-run", &changed]).done();
    assert!(printed.contains("snow") && printed.contains("would be changed weather.hourly 1.1.0"), "{printed}");
    let products = mesh.run(&["--output", "json", "products"]).json();
    let weather = products.as_array().unwrap().iter().find(|product| product["product"] == WEATHER.name).unwrap();
    assert_eq!(text(&weather["version"]), "1.0.0");
}

fn a_dry_run_makes_no_key(mesh: &Mesh) {
    let before = credentials(mesh);
    let two = file(mesh, "two.toml", "[[principal]]\nname = \"bob\"\n\n[[principal]]\nname = \"eve\"\n");
    let printed = mesh.run(&["apply", "--dry-run", &two]).done();
    assert!(
        printed.contains("bob added") && printed.contains("eve added") && printed.contains("would be changed"),
        "{printed}"
    );
    assert_eq!(credentials(mesh), before);
}

/// On another machine, whose owner has the admin's key alone.
fn a_known_principal_keeps_its_key(mesh: &Mesh) {
    let elsewhere = mesh_testkit::folder().unwrap();
    fs::copy(mesh.home().mesh_file(), elsewhere.path().join("mesh.toml")).unwrap();
    let admin = mesh.home().key_kept("admin").unwrap();
    fs::write(elsewhere.path().join("credentials.toml"), format!("[keys]\nadmin = \"{admin}\"\n")).unwrap();
    let apply = |file: &str| run(crate::support::command().arg("--mesh").arg(elsewhere.path()).args(["apply", file]));
    let printed = apply("examples/nyc/principals.toml").done();
    assert!(printed.contains("unchanged principals"), "{printed}");
    assert!(!Home::own(elsewhere.path()).has_key("ana").unwrap(), "a key was made for somebody who has one");
    mesh.sql("ana", "SELECT 1 AS one");

    // Somebody new gets one, there and nowhere else.
    let printed = apply(&file(mesh, "new.toml", "[[principal]]\nname = \"new\"\nroles = [\"analyst\"]\n"));
    assert!(printed.stderr.contains("keys were made for new"), "{printed:?}");
    assert!(Home::own(elsewhere.path()).has_key("new").unwrap() && !mesh.home().has_key("new").unwrap());
    let sql = run(crate::support::command().arg("--mesh").arg(elsewhere.path()).args([
        "--as",
        "new",
        "sql",
        "SELECT 1 AS one",
    ]));
    sql.done();
}

fn a_refused_file_leaves_no_key(mesh: &Mesh) {
    let before = credentials(mesh);
    let one = file(mesh, "one.toml", "[[principal]]\nname = \"mallory\"\n");
    mesh.run(&["--as", "ana", "apply", &one]).refused(1, "MESH-PUBLISHER-0002");
    let wrong = file(mesh, "wrong.toml", "[[principal]]\nname = \"trent\"\nadmin_of = [\"No Domain\"]\n");
    mesh.run(&["apply", &wrong]).refused(1, "MESH-PUBLISHER-0020");
    assert_eq!(credentials(mesh), before);
}

fn each_document_of_a_file_has_its_verdict(mesh: &Mesh) {
    let both = file(mesh, "both.yaml", &format!("{}\n---\n{}", read(WEATHER.contract), read(PLANES.contract)));
    let verdicts = mesh.run(&["--output", "json", "apply", &both]).json();
    let verdicts = verdicts.as_array().unwrap().iter();
    let verdicts: Vec<_> = verdicts.map(|verdict| (text(&verdict["product"]), text(&verdict["state"]))).collect();
    let unchanged = |product: &str| (product.to_owned(), "unchanged".to_owned());
    assert_eq!(verdicts, [unchanged(WEATHER.name), unchanged(PLANES.name)]);
}

fn verdicts_before_an_error_are_not_lost(mesh: &Mesh) {
    let output = mesh.run(&["--output", "json", "--as", "weather-admin", "apply", WEATHER.contract, "no-such.yaml"]);
    output.refused(2, "MESH-CLI-0006");
    let verdicts: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(verdicts[0]["product"], WEATHER.name);
    let output = mesh.run(&["--output", "json", "validate", WEATHER.contract, "no-such.yaml"]);
    output.refused(2, "MESH-CLI-0006");
    let verdicts: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(verdicts[0]["valid"], true);
}

fn a_row_without_a_required_value_is_an_error_with_its_line(mesh: &Mesh) {
    let good = "N1,1999,x,m,o,1,2,,e\n";
    let rows = file(
        mesh,
        "rows.csv",
        &format!("tailnum,year,type,manufacturer,model,engines,seats,speed,engine\n{good},1999,x,m,o,1,2,,e\n"),
    );
    let output = mesh.run(&["--as", "fleet-admin", "produce", PLANES.name, &rows]);
    output.refused(1, "MESH-CLI-0007");
    assert!(output.stderr.contains("rows.csv:3: column `tailnum` has no value"), "{output:?}");
    assert!(output.stderr.contains("0 rows before it were sent"), "{output:?}");
}

/// Nothing was published, so most checks have nothing to say; none of that is a pass.
fn what_was_not_judged_is_no_pass(mesh: &Mesh) {
    let output = mesh.run(&["quality", PLANES.name]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stdout.contains("fleet.planes/v1/age-known"), "each check is there: {output:?}");
}

/// Every type that a file can hold, sent as Avro and as JSON.
fn a_file_gives_the_same_rows_whatever_the_format(mesh: &Mesh) {
    const COLUMNS: &str = "
      - {name: id, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: amount, logicalType: number, physicalType: 'decimal(22,2)', required: true}
      - {name: tax, logicalType: number, physicalType: 'decimal(12,2)'}
      - {name: big, logicalType: integer, logicalTypeOptions: {format: u64}}
      - {name: small, logicalType: integer, logicalTypeOptions: {format: i32}}
      - {name: ratio, logicalType: number, logicalTypeOptions: {format: f32}}
      - {name: raw, logicalType: string, physicalType: binary}
      - {name: uid, logicalType: string, physicalType: uuid}
      - {name: day, logicalType: date}
      - {name: clock, logicalType: time}
      - {name: at, logicalType: timestamp}
      - {name: parts, logicalType: array, items: {logicalType: number}}
";
    let weather = read(WEATHER.contract);
    let (head, _) = weather.split_once("slaProperties:").unwrap();
    let csv = "id,amount,tax,big,small,ratio,raw,uid,day,clock,at,parts\n\
               a,12345678901234567890.50,-0.07,18446744073709551615,7,1.5,AP8=,1481531d-ccc9-46d9-a56f-5b67459c0537,\
               2026-02-03,10:11:12.5,2026-01-02T10:00:00+02:00,\"[1,2.5]\"\nb,3,,,,,,,,,,\n";
    let jsonl = "{\"id\":\"c\",\"amount\":1.25,\"tax\":4,\"ratio\":2,\"parts\":[1]}\n";
    let answers = ["avro", "json"].map(|format| {
        let head =
            head.replace("nyc:weather", format).replace("dataProduct: hourly", &format!("dataProduct: {format}"));
        let contract = format!(
            "{}slaProperties: [{{property: latency, value: 1, unit: d}}]\nschema:\n  - name: {format}\n    \
             quality: [{{id: some, metric: rowCount, mustBeGreaterThan: 0}}]\n    properties:{COLUMNS}",
            head.replace("format: json", &format!("format: {format}"))
        );
        let contract = file(mesh, &format!("{format}.yaml"), &contract);
        mesh.run(&["--as", "weather-admin", "apply", &contract]).done();
        for (name, text) in [("rows.csv", csv), ("rows.jsonl", jsonl)] {
            let rows = file(mesh, name, text);
            mesh.run(&["--as", "weather-admin", "produce", &format!("weather.{format}"), &rows]).done();
        }
        let columns = "id, amount, tax, big, small, ratio, raw, uid, day, clock, at, parts";
        let query = format!("SELECT {columns} FROM weather.{format} ORDER BY id");
        crate::support::eventually("three rows", Duration::from_secs(30), || {
            let answer = mesh.run(&["--as", "weather-admin", "-o", "json", "sql", &query]).done();
            (answer.matches("\"id\"").count() == 3).then_some(answer)
        })
    });
    assert_eq!(answers[0], answers[1]);
    for value in ["12345678901234567890.50", "-0.07", "18446744073709551615", "\"00ff\"", "2026-01-02T08:00:00Z"] {
        assert!(answers[0].contains(value), "{value}: {}", answers[0]);
    }
}

/// Its records leave the service in batches; a request right after the answer finds the query all the same.
fn a_query_is_known_as_soon_as_it_is_answered(mesh: &Mesh) {
    for more in [&[][..], &["--columns"]] {
        let query = mesh.run(&["--as", "ana", "sql", "SELECT COUNT(*) AS n FROM fleet.planes"]).query_id();
        mesh.run(&[&["lineage", query.as_str()], more].concat()).done();
    }
    let output = mesh.run(&["lineage", PLANES.name]);
    assert_eq!((output.code, output.stderr.contains("no commit of fleet.planes")), (1, true), "{output:?}");
}
