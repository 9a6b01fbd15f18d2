//! The whole way, from files to governed answers: January 2013 through a real mesh, on the local bus or on the Kafka
//! that `MESH_TEST_KAFKA` names. Both are held to the same files, row for row, so both give the same tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::nyc::{
    DEAD_FLIGHTS, FLIGHTS, Line, PARTITIONS, PLANES, PRODUCTS, Product, WEATHER, is_poison, lines, number, partition,
    text,
};
use crate::support::{Mesh, root};
use pretty_assertions::assert_eq;
use serde_json::Value;

#[test]
fn january_becomes_governed_and_traced_answers() {
    let mut mesh = Mesh::up_on_tested_kafka();
    mesh.admit_example();
    a_contract_that_policy_refuses_is_refused(&mesh);
    for product in PRODUCTS {
        mesh.produce(product, &root().join(product.data));
    }
    for product in PRODUCTS {
        mesh.await_announced(product, lines(product.data).len());
    }
    for product in PRODUCTS {
        table_equals_file(&mesh, product);
    }
    flights_at_2400_are_dead_letters(&mesh);
    every_offset_is_a_row_or_a_dead_letter_once(&mesh);
    snapshots_are_announced_in_order(&mesh);
    a_partner_sees_its_own_carrier_only(&mesh);
    tail_numbers_are_masked_and_still_join(&mesh);
    let query_id = the_analyst_gets_what_the_files_give(&mesh);
    lineage_of_the_answer_reaches_the_producers(&mesh, &query_id);
    products_are_shown_and_judged(&mesh);
    a_watcher_sees_it_all(&mesh);
    mesh.stop();
}

fn a_contract_that_policy_refuses_is_refused(mesh: &Mesh) {
    let refused = mesh.run(&["--as", "ops-admin", "apply", "examples/nyc/refused/passengers.odcs.yaml"]);
    refused.refused(1, "MESH-PUBLISHER-0016");
    assert!(refused.stdout.contains("sha-256-global"), "says what to write instead: {refused:?}");
}

/// Every column of every row, as the domain's admin sees them, and the place where the row was in the topic: a record's
/// key chooses its partition, the file's order its offset.
fn table_equals_file(mesh: &Mesh, product: Product) {
    let lines = lines(product.data);
    let columns: Vec<String> = lines[0].keys().cloned().collect();
    let query = format!(
        "SELECT {}, _mesh['partition'] AS at_partition, _mesh['offset'] AS at_offset FROM {}",
        columns.join(", "),
        product.name
    );
    let rows = mesh.sql(product.admin, &query).into_iter().map(|row| {
        let place = format!("{}@{}", number(&row["at_partition"]), number(&row["at_offset"]));
        format!("{place}|{}", cells(&columns, |column| canonical(&row[column])))
    });
    // How a text of the file reads follows from the type that the table gave its column.
    let types = types(mesh, product);
    let mut ends = [0; PARTITIONS];
    let wanted = lines.iter().map(|line| {
        let partition = partition(&product.key(line), PARTITIONS);
        ends[partition] += 1;
        (line, format!("{partition}@{}", ends[partition] - 1))
    });
    let accepted = wanted.filter(|(line, _)| product.name != FLIGHTS.name || !is_poison(line));
    let wanted = accepted
        .map(|(line, place)| format!("{place}|{}", cells(&columns, |column| read(&line[column], &types[column]))));
    same_rows(product.name, counted(rows), counted(wanted));
}

fn cells(columns: &[String], cell: impl Fn(&str) -> String) -> String {
    columns.iter().map(|column| cell(column)).collect::<Vec<_>>().join("|")
}

fn types(mesh: &Mesh, product: Product) -> BTreeMap<String, String> {
    let shown = mesh.run(&["--output", "json", "show", product.name]).json();
    let columns = shown["columns"].as_array().unwrap();
    columns.iter().map(|column| (text(&column["name"]), text(&column["type"]))).collect()
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("{text:?}"),
        number => number.as_f64().unwrap().to_string(),
    }
}

fn read(text: &str, ty: &str) -> String {
    match ty {
        _ if text == "NA" => "null".to_owned(),
        "long" | "double" => text.parse::<f64>().unwrap().to_string(),
        _ => format!("{text:?}"),
    }
}

fn counted(rows: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    rows.for_each(|row| *counted.entry(row).or_default() += 1);
    counted
}

/// Equal as multisets; of what differs, a few rows are enough to tell why.
fn same_rows(name: &str, found: BTreeMap<String, usize>, wanted: BTreeMap<String, usize>) {
    let lacking = |from: &BTreeMap<String, usize>, other: &BTreeMap<String, usize>| -> Vec<String> {
        other.iter().filter(|(row, times)| from.get(*row) != Some(times)).map(|(row, _)| row.clone()).take(3).collect()
    };
    assert_eq!((lacking(&found, &wanted), lacking(&wanted, &found)), (vec![], vec![]), "{name}: missing, unexpected");
    assert!(!found.is_empty());
}

fn flights_at_2400_are_dead_letters(mesh: &Mesh) {
    let dead = mesh.sql("ops-admin", &format!("SELECT key, place, reason FROM {DEAD_FLIGHTS}"));
    let keys: BTreeSet<_> =
        dead.iter().map(|row| String::from_utf8(hex::decode(text(&row["key"])).unwrap()).unwrap()).collect();
    let poison: BTreeSet<_> =
        lines(FLIGHTS.data).iter().filter(|flight| is_poison(flight)).map(|f| FLIGHTS.key(f)).collect();
    assert_eq!((dead.len(), keys), (11, poison));
    for row in dead {
        assert_eq!((text(&row["place"]).as_str(), text(&row["reason"]).contains("2400")), ("arr_time", true), "{row}");
    }
    let rows = mesh.sql("ops-admin", "SELECT COUNT(*) AS n FROM operations.flights");
    assert_eq!(number(&rows[0]["n"]), 26_993);
}

fn every_offset_is_a_row_or_a_dead_letter_once(mesh: &Mesh) {
    let query = format!(
        "SELECT p, COUNT(*) AS n, COUNT(DISTINCT o) AS d, MIN(o) AS first, MAX(o) AS last FROM (
           SELECT _mesh['partition'] AS p, _mesh['offset'] AS o FROM operations.flights
           UNION ALL SELECT partition, \"offset\" FROM {DEAD_FLIGHTS}) GROUP BY p ORDER BY p"
    );
    let partitions = mesh.sql("ops-admin", &query);
    for partition in &partitions {
        let of = |column: &str| number(&partition[column]);
        assert_eq!((of("d"), of("first"), of("last")), (of("n"), 0, of("n") - 1), "{partition}");
    }
    assert_eq!(partitions.iter().map(|p| number(&p["n"])).sum::<i64>(), 27_004);
}

fn snapshots_are_announced_in_order(mesh: &Mesh) {
    for product in PRODUCTS {
        let announced = mesh.announced_snapshots(product);
        assert_eq!(announced, mesh.history(product.table).snapshots, "{}", product.name);
    }
}

fn a_partner_sees_its_own_carrier_only(mesh: &Mesh) {
    let rows = mesh.sql("partner-ua", "SELECT carrier, COUNT(*) AS n FROM operations.flights GROUP BY carrier");
    let of_ua = lines(FLIGHTS.data).iter().filter(|flight| flight["carrier"] == "UA" && !is_poison(flight)).count();
    assert_eq!((rows.len(), text(&rows[0]["carrier"]), number(&rows[0]["n"])), (1, "UA".to_owned(), of_ua as i64));
    mesh.run(&["--as", "partner-ua", "sql", "SELECT * FROM fleet.planes"]).refused(1, "MESH-QUERY-0003");
}

fn tail_numbers_are_masked_and_still_join(mesh: &Mesh) {
    let query = "SELECT DISTINCT f.tailnum AS t FROM operations.flights f JOIN fleet.planes p ON p.tailnum = f.tailnum";
    let masked: BTreeSet<_> = mesh.sql("ana", query).iter().map(|row| text(&row["t"])).collect();
    assert!(
        masked.iter().all(|t| t.len() == 64 && t.bytes().all(|b| b.is_ascii_hexdigit())),
        "a mask is 64 hex digits"
    );
    let tails = |path| lines(path).into_iter().filter(|line| line.get("arr_time").is_none_or(|at| at != "2400"));
    let planes: BTreeSet<_> = tails(PLANES.data).map(|line| line["tailnum"].clone()).collect();
    let flown: BTreeSet<_> = tails(FLIGHTS.data).map(|line| line["tailnum"].clone()).collect();
    assert_eq!(masked.len(), planes.intersection(&flown).count());
    // What a reader compares with is masked as well, so nothing can be tried out.
    let tried = mesh.sql("ana", "SELECT COUNT(*) AS n FROM operations.flights WHERE tailnum = 'N14228'");
    assert_eq!(number(&tried[0]["n"]), 0);
}

/// The example's question, answered from the files.
fn the_analyst_gets_what_the_files_give(mesh: &Mesh) -> String {
    let query = std::fs::read_to_string(root().join("examples/nyc/queries/delay.sql")).unwrap();
    let output = mesh.run(&["--as", "ana", "--output", "json", "sql", &query]);
    let query_id = output.query_id();
    let wanted = delays();
    let rows = output.json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), wanted.len());
    for row in rows {
        let (flights, mean) = wanted[&(text(&row["wind"])[..1].to_owned(), text(&row["age"])[..1].to_owned())];
        assert_eq!(number(&row["flights"]), flights, "{row}");
        assert!((row["mean_delay"].as_f64().unwrap() - mean).abs() < 0.0501, "{row}, computed {mean}");
    }
    query_id
}

/// Flights and mean delay by wind and age, each named by its first digit.
fn delays() -> BTreeMap<(String, String), (i64, f64)> {
    let years: BTreeMap<_, _> =
        lines(PLANES.data).iter().map(|p| (p["tailnum"].clone(), p["year"].parse::<i64>().ok())).collect();
    let place = |line: &Line| (line["origin"].clone(), line["time_hour"].clone());
    let winds: BTreeMap<_, _> =
        lines(WEATHER.data).iter().map(|w| (place(w), w["wind_speed"].parse::<f64>().unwrap())).collect();
    let mut sums: BTreeMap<_, (i64, f64)> = BTreeMap::new();
    for flight in lines(FLIGHTS.data).iter().filter(|flight| !is_poison(flight)) {
        let year = years.get(&flight["tailnum"]).copied().flatten();
        let (Some(year), Some(wind), Ok(delay)) = (year, winds.get(&place(flight)), flight["dep_delay"].parse::<f64>())
        else {
            continue;
        };
        let wind = 1 + [5.0, 15.0, 25.0].iter().filter(|bound| wind >= bound).count();
        let age = 1 + [5, 15].iter().filter(|bound| 2013 - year >= **bound).count();
        let sum = sums.entry((wind.to_string(), age.to_string())).or_default();
        *sum = (sum.0 + 1, sum.1 + delay);
    }
    sums.into_iter().map(|(group, (flights, sum))| (group, (flights, sum / flights as f64))).collect()
}

fn lineage_of_the_answer_reaches_the_producers(mesh: &Mesh, query_id: &str) {
    let names = |field: fn(&Product) -> String| PRODUCTS.iter().map(field).collect::<BTreeSet<_>>();
    let (tables, products) = (names(|p| p.table.to_owned()), names(|p| p.name.to_owned()));
    // A span arrives when its process exports its batch, which is a moment after the work; each has its own moment.
    crate::support::eventually("the graph from the query to each product's producers", Duration::from_secs(30), || {
        let output = mesh.run(&["--output", "json", "lineage", query_id]);
        let graph = (output.code == 0).then(|| output.json())?;
        let nodes = graph["nodes"].as_array().unwrap();
        let of_kind = |kind: &str, attribute: &str| -> BTreeSet<String> {
            nodes.iter().filter(|n| n["kind"] == kind).map(|n| text(&n["attributes"][attribute])).collect()
        };
        assert_eq!(of_kind("query", "mesh.query_id"), BTreeSet::from([query_id.to_owned()]));
        let whole = of_kind("commit", "mesh.table") == tables && of_kind("produce", "mesh.product") == products;
        whole.then_some(())
    });
    columns_of_the_answer_are_known(mesh, query_id);
    let of_product = mesh.run(&["lineage", FLIGHTS.name]);
    assert!(of_product.done().contains(query_id), "a product's lineage shows who read it");
}

fn columns_of_the_answer_are_known(mesh: &Mesh, query_id: &str) {
    let arrows = mesh.run(&["--output", "json", "lineage", "--columns", query_id]).json();
    let arrows = arrows.as_array().unwrap();
    let from =
        |source: &str| arrows.iter().find(|arrow| arrow["source"] == source).unwrap_or_else(|| panic!("{source}"));
    assert_eq!(from("operations.flights_v1.tailnum")["masked"], true);
    assert_eq!(from("fleet.planes_v1.tailnum")["masked"], true);
    let delay = from("operations.flights_v1.dep_delay");
    assert_eq!(
        ["output", "kind", "subtype", "topic_field"].map(|field| text(&delay[field])),
        ["mean_delay", "direct", "aggregation", "operations.flights.v1:dep_delay"]
    );
    assert_eq!(delay["masked"], false);
}

fn products_are_shown_and_judged(mesh: &Mesh) {
    mesh.await_judged(&PRODUCTS);
    let products = mesh.run(&["--output", "json", "products"]).json();
    let names: Vec<_> = products.as_array().unwrap().iter().map(|product| text(&product["product"])).collect();
    assert_eq!(names, ["fleet.planes", "operations.flights", "weather.hourly"]);

    let shown = mesh.run(&["--output", "json", "show", FLIGHTS.name]).json();
    assert_eq!(
        (text(&shown["owner"]), text(&shown["ports"]["topic"])),
        ("ops-admin".into(), "operations.flights.v1".into())
    );
    assert_eq!(text(&shown["snapshots"][0]["total_rows"]), "26993");
    let readers: BTreeSet<_> = shown["readers"].as_array().unwrap().iter().map(|r| text(&r["principal"])).collect();
    assert_eq!(readers, ["ana", "ops-admin", "partner-ua"].map(str::to_owned).into(), "by its audit");

    assert_eq!(mesh.run(&["quality", FLIGHTS.name]).code, 0, "flights keep their promises");
    let weather = mesh.run(&["quality", WEATHER.name]);
    assert_eq!(weather.code, 1, "six hours are missing: {weather:?}");
    assert_eq!(mesh.last_verdicts()["weather.hourly/v1/no-hour-missing"]["actual"], "2226 rows");

    mesh.run(&["show", "no.such"]).refused(1, "MESH-CLI-0005");
    mesh.run(&["--as", "ana", "sql", "SELECT * FROM operations.nothing"]).refused(1, "MESH-QUERY-0004");
    assert_eq!(mesh.run(&["products", "--nonsense"]).code, 2, "usage");
}

/// As many events as there are, and each of them: topics have no order among each other.
fn a_watcher_sees_it_all(mesh: &Mesh) {
    let topics = ["mesh.contract-events", "mesh.product-changes", "mesh.quality", "mesh.incidents"];
    let events = topics.iter().flat_map(|topic| mesh.events(topic));
    let wanted: BTreeSet<_> =
        events.filter(|e| e.data["product"] == FLIGHTS.name).map(|e| (e.event_type, e.id)).collect();
    let count = wanted.len().to_string();
    let output = mesh.run(&["--output", "json", "watch", "--from", "start", "--count", &count, FLIGHTS.name]).done();
    let seen = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seen: BTreeSet<_> = seen.map(|event| (text(&event["type"]), text(&event["id"]))).collect();
    assert_eq!(seen, wanted);
    assert!(wanted.iter().any(|(ty, _)| ty == "org.meshwork.contract.accepted.v1"), "{wanted:?}");
    assert!(wanted.iter().any(|(ty, _)| ty == "org.meshwork.product.changed.v1"), "{wanted:?}");
}
