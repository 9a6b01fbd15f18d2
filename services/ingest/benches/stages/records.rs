//! Generated records: 16 fields, about 500 bytes in Avro, the same ones every time.
//!
//! Ids, a moment, doubles, small integers, a flag, and texts from few different ones (`country`) to none twice
//! (`session_id`). Each record has a key and, as `mesh produce` writes it, a `traceparent` header.

use apache_avro::writer::datum::GenericDatumWriter;
use chrono::{DateTime, SecondsFormat};
use mesh_ingest::pipeline::source_batch::SourceBatch;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::Failure;

/// The writer's schema, registered under [`SCHEMA_ID`].
pub(crate) const SCHEMA: &str = r#"{"type": "record", "name": "Event", "namespace": "bench", "fields": [
    {"name": "event_id", "type": "long"}, {"name": "user_id", "type": "long"},
    {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "price", "type": "double"}, {"name": "lat", "type": "double"}, {"name": "lon", "type": "double"},
    {"name": "quantity", "type": "int"}, {"name": "status_code", "type": "int"},
    {"name": "is_mobile", "type": "boolean"}, {"name": "country", "type": "string"},
    {"name": "device", "type": "string"}, {"name": "city", "type": "string"},
    {"name": "session_id", "type": "string"}, {"name": "url", "type": "string"},
    {"name": "user_agent", "type": "string"}, {"name": "message", "type": "string"}]}"#;
pub(crate) const SCHEMA_ID: u32 = 1;

/// Records that the service fetches at once.
const CHUNK: usize = 8192;
const FIRST_MS: i64 = 1_767_225_600_000;
const TRACE: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Avro,
    Json,
}

impl Encoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Json => "json",
        }
    }
}

#[derive(Serialize)]
struct Event<'a, M> {
    event_id: i64,
    user_id: i64,
    event_time: M,
    price: f64,
    lat: f64,
    lon: f64,
    quantity: i32,
    status_code: i32,
    is_mobile: bool,
    country: &'a str,
    device: &'a str,
    city: &'a str,
    session_id: String,
    url: &'a str,
    user_agent: &'a str,
    message: String,
}

impl<'a, M> Event<'a, M> {
    fn at<N>(self, event_time: N) -> Event<'a, N> {
        Event {
            event_time,
            event_id: self.event_id,
            user_id: self.user_id,
            price: self.price,
            lat: self.lat,
            lon: self.lon,
            quantity: self.quantity,
            status_code: self.status_code,
            is_mobile: self.is_mobile,
            country: self.country,
            device: self.device,
            city: self.city,
            session_id: self.session_id,
            url: self.url,
            user_agent: self.user_agent,
            message: self.message,
        }
    }
}

/// The texts that records are made of.
struct Texts {
    words: Vec<String>,
    countries: Vec<String>,
    cities: Vec<String>,
    urls: Vec<String>,
    agents: Vec<String>,
}

impl Texts {
    fn new(random: &mut StdRng) -> Self {
        let words: Vec<String> = (0..2000)
            .map(|_| {
                let length = random.random_range(3..=10);
                (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
            })
            .collect();
        let countries =
            (0..40u8).map(|at| [b'A' + at % 26, b'A' + (at % 26 * 7 % 26)].map(char::from).iter().collect());
        let urls = (0..20_000).map(|_| format!("https://shop.example.com/{}", some(&words, 6, "/", random)));
        let (countries, urls) = (countries.collect(), urls.collect());
        let cities = (0..1000).map(|_| some(&words, 2, " ", random)).collect();
        let agents = (0..200).map(|_| {
            let (system, version) = (some(&words, 2, "; ", random), random.random_range(500..600));
            format!("Mozilla/5.0 ({system}) AppleWebKit/{version}.36 (KHTML, like Gecko) Safari/{version}")
        });
        let agents = agents.collect();
        Self { words, countries, cities, urls, agents }
    }

    fn event<'a>(&'a self, event_id: i64, random: &mut StdRng) -> Event<'a, ()> {
        Event {
            event_id,
            user_id: random.random_range(0..1 << 40),
            event_time: (),
            price: f64::from(random.random_range(0..100_000)) / 100.0,
            lat: random.random_range(-90.0..90.0),
            lon: random.random_range(-180.0..180.0),
            quantity: random.random_range(1..=100),
            status_code: one(&[200, 201, 301, 404, 500], random),
            is_mobile: random.random(),
            country: one_of(&self.countries, random),
            device: one(&["phone", "tablet", "desktop", "tv", "watch", "console"], random),
            city: one_of(&self.cities, random),
            session_id: uuid::Uuid::from_u128(random.random()).to_string(),
            url: one_of(&self.urls, random),
            user_agent: one_of(&self.agents, random),
            message: format!("{} {:032x}", some(&self.words, 26, " ", random), random.random::<u128>()),
        }
    }
}

fn one<T: Copy + Default>(of: &[T], random: &mut StdRng) -> T {
    of.choose(random).copied().unwrap_or_default()
}

fn one_of<'a>(of: &'a [String], random: &mut StdRng) -> &'a str {
    of.choose(random).map_or("", String::as_str)
}

fn some(words: &[String], count: usize, between: &str, random: &mut StdRng) -> String {
    let words: Vec<&str> = (0..count).map(|_| one_of(words, random)).collect();
    words.join(between)
}

/// `rows` records in chunks, and the bytes of their values.
pub(crate) fn records(rows: usize, encoding: Encoding) -> Result<(Vec<SourceBatch>, usize), Failure> {
    let mut random = StdRng::seed_from_u64(42);
    let texts = Texts::new(&mut random);
    let schema = apache_avro::Schema::parse_str(SCHEMA)?;
    let avro = GenericDatumWriter::builder(&schema).build()?;
    let (mut chunks, mut bytes) = (vec![SourceBatch::default()], 0);
    for (id, offset) in (0..rows).zip(0i64..) {
        let at = FIRST_MS + offset;
        let event = texts.event(offset, &mut random);
        let value = match encoding {
            Encoding::Json => serde_json::to_vec(&event.at(moment(at)))?,
            Encoding::Avro => {
                let mut value = vec![0];
                value.extend(SCHEMA_ID.to_be_bytes());
                avro.write_ser(&mut value, &event.at(at))?;
                value
            }
        };
        bytes += value.len();
        if id % CHUNK == 0 && id > 0 {
            chunks.push(SourceBatch::default());
        }
        if let Some(chunk) = chunks.last_mut() {
            let key = offset.to_string();
            // Four partitions, one after the other.
            let place = (i32::try_from(id % 4)?, offset / 4, at);
            chunk.add(place, Some(key.as_bytes()), Some(&value), [("traceparent", Some(TRACE))]);
        }
    }
    Ok((chunks, bytes))
}

fn moment(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
