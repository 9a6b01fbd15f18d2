//! The example's three products, loaded as `mesh demo` loads them, and what their files say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_proto::topics;
use serde_json::Value;

use super::{Mesh, Output, eventually, get, post, root};

/// One product of the example.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) name: &'static str,
    /// Its domain's admin, who sees it unmasked.
    pub(crate) admin: &'static str,
    pub(crate) table: &'static str,
    pub(crate) contract: &'static str,
    pub(crate) data: &'static str,
}

pub(crate) const PLANES: Product = Product {
    name: "fleet.planes",
    admin: "fleet-admin",
    table: "fleet.planes_v1",
    contract: "examples/nyc/contracts/planes.odcs.yaml",
    data: "examples/nyc/data/planes.csv",
};
pub(crate) const WEATHER: Product = Product {
    name: "weather.hourly",
    admin: "weather-admin",
    table: "weather.hourly_v1",
    contract: "examples/nyc/contracts/weather.odcs.yaml",
    data: "examples/nyc/data/weather.csv",
};
pub(crate) const FLIGHTS: Product = Product {
    name: "operations.flights",
    admin: "ops-admin",
    table: "operations.flights_v1",
    contract: "examples/nyc/contracts/flights.odcs.yaml",
    data: "examples/nyc/data/flights.csv",
};

pub(crate) const PRODUCTS: [Product; 3] = [PLANES, WEATHER, FLIGHTS];
pub(crate) const DEAD_FLIGHTS: &str = "operations.flights_v1_dead_letters";

/// A line of a CSV file, by column.
pub(crate) type Line = BTreeMap<String, String>;

/// The lines of a CSV file of the example.
pub(crate) fn lines(path: &str) -> Vec<Line> {
    let mut reader = csv::Reader::from_path(root().join(path)).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

/// Whether the contract turns this flight away: it arrives at a time that is none.
pub(crate) fn is_poison(flight: &Line) -> bool {
    flight["arr_time"] == "2400"
}

/// Partitions of each product's topic, as the publisher makes it.
pub(crate) const PARTITIONS: usize = 4;

impl Product {
    /// The key of a line's record: the contract's primary key.
    pub(crate) fn key(&self, line: &Line) -> String {
        match self.name {
            "fleet.planes" => line["tailnum"].clone(),
            "weather.hourly" => format!(r#"["{}","{}"]"#, line["origin"], line["time_hour"]),
            _ => format!(r#"["{}",{},"{}"]"#, line["carrier"], line["flight"], line["time_hour"]),
        }
    }
}

/// Where Kafka's own clients put a key: murmur2, made positive.
pub(crate) fn partition(key: &str, partitions: usize) -> usize {
    const M: u32 = 0x5bd1_e995;
    let bytes = key.as_bytes();
    let mut hash = 0x9747_b28c ^ u32::try_from(bytes.len()).unwrap();
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (((hash ^ (hash >> 15)) & 0x7fff_ffff) as usize) % partitions
}

impl Mesh {
    /// People and policies by the admin, contracts by the admins of their domains.
    pub(crate) fn admit_example(&self) {
        self.submit_until_taken("admin", "examples/nyc/principals.toml");
        for policy in ["fleet/reading", "operations/reading", "platform/admission", "platform/reading"] {
            self.submit_until_taken("admin", &format!("examples/nyc/policies/{policy}.rego"));
        }
        for product in PRODUCTS {
            self.submit_until_taken(product.admin, product.contract);
        }
    }

    /// Submits a file until it is taken: the publisher may die in a fault test, and is started again.
    fn submit_until_taken(&self, who: &str, file: &str) {
        self.despite_faults(&format!("the verdict on {file}"), || self.run(&["--as", who, "apply", file]));
    }

    /// Publishes a file's rows; nothing is sent when the registry cannot be reached, so a second try doubles nothing.
    pub(crate) fn produce(&self, product: Product, file: &Path) {
        let file = file.to_str().unwrap();
        self.despite_faults(&format!("{file} published"), || {
            self.run(&["--as", product.admin, "produce", "--null", "NA", product.name, file])
        });
    }

    /// Registers the newest schema of a product's topic without one of its optional columns.
    pub(crate) fn register_without(&self, product: Product, column: &str) {
        let versions = format!("/subjects/{}.v1-value/versions", product.name);
        let address = self.endpoints().publisher.url;
        let address = address.strip_prefix("http://").unwrap();
        let key = self.home().key_kept(product.admin).unwrap();
        let body = |answer: String| serde_json::from_str::<Value>(answer.split_once("\r\n\r\n")?.1).ok();
        eventually(&format!("a schema without {column}"), Duration::from_secs(60), || {
            let latest = body(get(address, &format!("{versions}/latest")))?;
            let mut schema: Value = serde_json::from_str(latest["schema"].as_str()?).unwrap();
            schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != column);
            let request = serde_json::json!({ "schema": schema.to_string() }).to_string();
            // The same schema again has the same id: whether the answer of the first time was lost does not matter.
            body(post(address, &versions, &key, &request))?["id"].is_i64().then_some(())
        });
    }

    fn despite_faults(&self, what: &str, ask: impl Fn() -> Output) {
        eventually(what, Duration::from_secs(60), || {
            let output = ask();
            // 3 is the mesh's own fault; a no would stay a no.
            assert!(matches!(output.code, 0 | 3), "{output:?}");
            (output.code == 0).then_some(())
        });
    }

    /// Waits until the announced snapshots of a product cover so many events.
    pub(crate) fn await_announced(&self, product: Product, events: usize) {
        let what = format!("the announcement of {events} events of {}", product.name);
        eventually(&what, Duration::from_secs(120), || (self.announced_events(product) >= events as i64).then_some(()));
    }

    fn announced_events(&self, product: Product) -> i64 {
        let mut known = BTreeSet::new();
        let changes = self.events(topics::PRODUCT_CHANGES);
        let mine = changes.iter().filter(|e| e.data["product"] == product.name && known.insert(e.id.clone()));
        mine.map(|event| covered(&event.data)).sum()
    }

    /// The snapshots of a product's table in the order of their first announcement; each has one id, which is its own.
    pub(crate) fn announced_snapshots(&self, product: Product) -> Vec<i64> {
        let uuid = self.history(product.table).uuid;
        let mut ids = BTreeMap::new();
        let mut order = Vec::new();
        for event in self.events(topics::PRODUCT_CHANGES) {
            if event.data["product"] != product.name || !event.event_type.contains("product.changed") {
                continue;
            }
            assert_eq!(event.partition_key.as_deref(), Some(uuid.as_str()), "{event:?}");
            let snapshot = number(&event.data["snapshotId"]);
            match ids.insert(event.id.clone(), snapshot) {
                None => order.push(snapshot),
                again => assert_eq!(again, Some(snapshot), "an id stands for one snapshot: {event:?}"),
            }
        }
        order
    }

    /// The last verdict of each check.
    pub(crate) fn last_verdicts(&self) -> BTreeMap<String, Value> {
        let events = self.events(topics::QUALITY);
        events.into_iter().map(|event| (text(&event.data["checkId"]), event.data)).collect()
    }

    /// Waits until every check of the products' heads has its verdict.
    pub(crate) fn await_judged(&self, products: &[Product]) {
        for product in products {
            let head = self.history(product.table).snapshots.last().copied().unwrap();
            let judged =
                |verdict: &Value| verdict["metric"] == "latency" || text(&verdict["toSnapshotId"]) == head.to_string();
            eventually(&format!("verdicts on the head of {}", product.name), Duration::from_secs(60), || {
                let verdicts = self.last_verdicts();
                let mut mine = verdicts.values().filter(|verdict| verdict["product"] == product.name).peekable();
                (mine.peek().is_some() && mine.all(judged)).then_some(())
            });
        }
    }

    /// Writes lines of the example's file into one of the test's own.
    pub(crate) fn cut(&self, name: &str, lines: &[Line], header_of: &str) -> PathBuf {
        let path = self.folder().join(name);
        let header = csv::Reader::from_path(root().join(header_of)).unwrap().headers().unwrap().clone();
        let mut writer = csv::Writer::from_path(&path).unwrap();
        writer.write_record(&header).unwrap();
        for line in lines {
            writer.write_record(header.iter().map(|column| &line[column])).unwrap();
        }
        writer.flush().unwrap();
        path
    }
}

fn covered(change: &Value) -> i64 {
    let ranges = change["source"].as_array().into_iter().flatten();
    ranges.map(|range| number(&range["end"]) - number(&range["start"])).sum()
}

/// An int64 of canonical JSON, which is a text, and absent when it is 0.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
