//! AT-REST: a mesh that has drained its work commits, announces and emits nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::Mesh;
use crate::support::nyc::{FLIGHTS, WEATHER, lines};
use mesh_proto::topics::CONTROL_TOPICS;
use pretty_assertions::assert_eq;

/// How long nothing may happen.
const REST: Duration = Duration::from_secs(30);

/// Everything that a mesh at work would move: ends of topics, heads of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Marks {
    topics: BTreeMap<String, i64>,
    tables: Vec<(String, String)>,
}

#[test]
fn a_drained_mesh_commits_and_emits_nothing() {
    let mesh = Mesh::up();
    mesh.admit_example();
    let flights = lines(FLIGHTS.data);
    // With poison, so that a dead-letter table is at rest, too; planes stay without a single event.
    mesh.produce(FLIGHTS, &mesh.cut("flights.csv", &flights[..1500], FLIGHTS.data));
    mesh.produce(WEATHER, &mesh.cut("weather.csv", &lines(WEATHER.data)[..300], WEATHER.data));
    mesh.await_announced(FLIGHTS, 1500);
    mesh.await_announced(WEATHER, 300);
    mesh.await_judged(&[FLIGHTS, WEATHER]);
    assert_eq!(mesh.sql("ana", "SELECT 1 AS n FROM operations.flights LIMIT 1").len(), 1);

    let drained = await_quiet(&mesh);
    assert!(drained.topics["mesh.audit"] > 0 && drained.topics["mesh.spans"] > 0, "there was something: {drained:?}");
    std::thread::sleep(REST);
    assert_eq!(marks(&mesh), drained);
}

/// Waits until nothing has moved for a while: spans and usage leave in batches, after the work itself.
fn await_quiet(mesh: &Mesh) -> Marks {
    let (mut last, mut since) = (marks(mesh), Instant::now());
    crate::support::eventually("a mesh that is quiet for 8 s", Duration::from_secs(90), || {
        let now = marks(mesh);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(8)).then(|| last.clone())
    })
}

fn marks(mesh: &Mesh) -> Marks {
    let products = ["operations.flights.v1", "weather.hourly.v1", "fleet.planes.v1"];
    let names: Vec<_> = CONTROL_TOPICS.iter().map(|topic| topic.name).chain(products).collect();
    let topics = mesh.wait_for(async {
        let bus = mesh.bus().await;
        let mut ends = BTreeMap::new();
        for topic in bus.describe_topics(&names).await.unwrap() {
            for partition in 0..topic.partitions {
                let (_, end) = bus.watermarks(&topic.name, partition).await.unwrap();
                *ends.entry(topic.name.clone()).or_default() += end;
            }
        }
        ends
    });
    Marks { topics, tables: mesh.metadata_locations() }
}
