//! Clients that know nothing of Meshwork: pyiceberg reads its catalog, confluent-kafka's Avro producer its registry.
//!
//! They run with the Python that `MESH_PYTHON` names or `.ci/python.sh` makes; without one they fail (`MESH_SKIP=python`
//! leaves them out).

use std::collections::BTreeMap;

use crate::support::Mesh;
use crate::support::nyc::{DEAD_FLIGHTS, FLIGHTS, PLANES, Product, WEATHER, is_poison, lines, number};
use crate::support::python::Python;
use pretty_assertions::assert_eq;

/// Publishes one flight with the schema that the mesh's registry has for the topic.
const PUBLISH: &str = r#"
import datetime, sys
from confluent_kafka import SerializingProducer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
bootstrap, registry, topic = sys.argv[1:]
client = SchemaRegistryClient({"url": registry})
schema = client.get_latest_version(topic + "-value").schema.schema_str
serializer = AvroSerializer(client, schema, conf={"auto.register.schemas": False, "use.latest.version": True})
producer = SerializingProducer({"bootstrap.servers": bootstrap, "value.serializer": serializer})
failed = []
producer.produce(topic, key=b'["ZZ",1,"2013-02-01T12:00:00Z"]', value={
    "year": 2013, "month": 2, "day": 1, "dep_time": 700, "sched_dep_time": 655, "dep_delay": 5, "arr_time": 900,
    "sched_arr_time": 855, "arr_delay": 5, "carrier": "ZZ", "flight": 1, "tailnum": None, "origin": "JFK", "dest": "SFO",
    "air_time": 110, "distance": 2586, "hour": 6, "minute": 55,
    "time_hour": datetime.datetime(2013, 2, 1, 12, tzinfo=datetime.timezone.utc),
}, on_delivery=lambda error, _: failed.append(error) if error else None)
left = producer.flush(20)
assert not failed and left == 0, (failed, left)
"#;

#[test]
fn others_read_and_write_what_meshwork_does() {
    let Some(python) = Python::find() else { return };
    let mut mesh = Mesh::up();
    mesh.admit_example();
    let flights: Vec<_> = lines(FLIGHTS.data).into_iter().filter(is_poison_or_early).collect();
    mesh.produce(FLIGHTS, &mesh.cut("flights.csv", &flights, FLIGHTS.data));
    mesh.produce(WEATHER, &mesh.cut("weather.csv", &lines(WEATHER.data), WEATHER.data));
    mesh.await_announced(FLIGHTS, flights.len());

    let endpoints = mesh.endpoints();
    python.run(PUBLISH, &[&endpoints.bus.bootstrap, &endpoints.publisher.url, "operations.flights.v1"]).done();
    mesh.await_announced(FLIGHTS, flights.len() + 1);
    mesh.await_announced(WEATHER, lines(WEATHER.data).len());
    let flown =
        mesh.sql("ops-admin", "SELECT distance, tailnum, time_hour FROM operations.flights WHERE carrier = 'ZZ'");
    assert_eq!(flown, [serde_json::json!({"distance": 2586, "tailnum": null, "time_hour": "2013-02-01T12:00:00Z"})]);

    let ours = counts(&mesh);
    assert_eq!(ours[DEAD_FLIGHTS], 11);
    mesh.stop();
    assert_eq!(python.count(&endpoints.catalog), ours);
}

fn is_poison_or_early(flight: &crate::support::nyc::Line) -> bool {
    is_poison(flight) || flight["day"] == "1"
}

/// What Meshwork counts, table by table, dead letters among them.
fn counts(mesh: &Mesh) -> BTreeMap<String, i64> {
    let tables = |product: Product| [product.table.to_owned(), format!("{}_dead_letters", product.table)];
    let count =
        |admin: &str, table: &str| number(&mesh.sql(admin, &format!("SELECT COUNT(*) AS n FROM {table}"))[0]["n"]);
    let products = [PLANES, WEATHER, FLIGHTS];
    products.iter().flat_map(|p| tables(*p).map(|table| (table.clone(), count(p.admin, &table)))).collect()
}
