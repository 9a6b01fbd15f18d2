//! The registry's paths, with the clients that people use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code, unreachable_pub)]

mod mesh;

use apache_avro::types::Value as Avro;
use mesh::{Mesh, OPS_KEY, WIDE, flights};
use pretty_assertions::assert_eq;
use schema_registry_converter::async_impl::avro::{AvroDecoder, AvroEncoder};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject, post_schema,
};
use schema_registry_converter::schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedSchema};
use serde_json::{Value, json};

const SUBJECT: &str = "operations.flights.v1-value";

async fn started() -> (Mesh, mesh::Publisher) {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("avro", "1.0.0", WIDE)).await;
    assert_eq!(status, 200, "{body}");
    (mesh, publisher)
}

/// A writer's schema with the contract's columns.
fn schema(extra: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "flight", "fields": [
            {{"name": "flight", "type": ["null", "long"], "default": null}},
            {{"name": "carrier", "type": ["null", "string"], "default": null}}{extra}]}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_converter_registers_and_reads() {
    let (_mesh, publisher) = started().await;
    let settings = SrSettings::new_builder(publisher.url.clone()).set_token_authorization(OPS_KEY).build().unwrap();
    let strategy = SubjectNameStrategy::TopicNameStrategy("operations.flights.v1".into(), false);
    let own = get_schema_by_subject(&settings, &strategy).await.unwrap();
    let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema(""));
    let registered = post_schema(&settings, SUBJECT.to_owned(), supplied.clone()).await.unwrap();
    let again = post_schema(&settings, SUBJECT.to_owned(), supplied).await.unwrap();
    assert_eq!((registered.id, registered.id != own.id), (again.id, true));
    let read = get_schema_by_id(registered.id, &settings).await.unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&read.schema).unwrap(),
        serde_json::from_str::<Value>(&schema("")).unwrap()
    );

    // A record on its way: the encoder registers (what is known keeps its id), the decoder looks up by id.
    let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema(""));
    let strategy = SubjectNameStrategy::TopicNameStrategyWithSchema("operations.flights.v1".into(), false, supplied);
    let given = |value| Avro::Union(1, Box::new(value));
    let flight = vec![("flight", given(Avro::Long(7))), ("carrier", given(Avro::String("UA".into())))];
    let framed = AvroEncoder::new(settings).encode(flight, strategy).await.unwrap();
    assert_eq!((framed[0], &framed[1..5]), (0, &registered.id.to_be_bytes()[..]));
    let anybody = SrSettings::new_builder(publisher.url.clone()).build().unwrap();
    let read = AvroDecoder::new(anybody).decode(Some(&framed)).await.unwrap();
    let Avro::Record(fields) = read.value else { panic!("{:?}", read.value) };
    assert_eq!(fields[0].1, given(Avro::Long(7)));
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_those_of_confluent() {
    let (_mesh, publisher) = started().await;
    let client = reqwest::Client::new();
    let no_string = schema("").replace("\"long\"", "\"string\"");
    let post = |path: &str, schema: &str| {
        let request = client.post(format!("{}{path}", publisher.url)).bearer_auth(OPS_KEY);
        let request = request.json(&json!({ "schema": schema }));
        async move { answer(request).await }
    };
    let get = |path: &str| {
        let request = client.get(format!("{}{path}", publisher.url));
        async move { answer(request).await }
    };
    let versions = format!("/subjects/{SUBJECT}/versions");
    assert_eq!(get("/subjects").await, (200, json!([SUBJECT]), 0));
    assert_eq!(get(&versions).await.1, json!([1]));
    assert_eq!(get(&format!("{versions}/latest")).await.1["version"], json!(1));
    assert_eq!(get(&format!("{versions}/9")).await.2, 40402);
    assert_eq!(get(&format!("{versions}/x")).await.2, 42202);
    assert_eq!(get("/subjects/nothing/versions/latest").await.2, 40401);
    assert_eq!(get("/schemas/ids/999").await.2, 40403);
    assert_eq!(get("/schemas/ids/one").await.2, 40403);
    assert_eq!(get(&format!("/subjects/{SUBJECT}")).await.2, 405);
    let (status, body, code) = post(&versions, &"x".repeat(70_000)).await;
    assert_eq!((status, code), (413, 413));
    assert!(body["message"].as_str().unwrap().starts_with("MESH-PUBLISHER-0003: "), "{body}");
    let broken = client.post(format!("{}{versions}", publisher.url)).bearer_auth(OPS_KEY).body(vec![0xff, 0xfe]);
    assert_eq!(answer(broken).await.2, 42201);
    assert_eq!(post(&format!("/subjects/{SUBJECT}"), &schema("")).await.2, 40403);
    assert_eq!(post("/subjects/nothing", &schema("")).await.2, 40401);
    assert_eq!(post(&versions, "{\"type\": \"rekord\"}").await.2, 42201);
    assert_eq!(post(&versions, &no_string).await.0, 409);
    assert_eq!(post("/subjects/nothing-value/versions", &schema("")).await.0, 409);
    let (status, body, _) = post("/subjects/operations.flights.v1-key/versions", "\"string\"").await;
    assert!(status == 409 && body["message"].as_str().unwrap().contains("string serializer"), "{body}");
    let (status, body, code) = with_references(&client, &publisher, json!([{ "name": "x" }])).await;
    assert_eq!((status, code), (422, 42201), "{body}");
    assert!(body["message"].as_str().unwrap().contains("references"), "{body}");
    for none in [json!([]), Value::Null] {
        assert_eq!(with_references(&client, &publisher, none).await.0, 200);
    }
    publisher.stop().await;
}

async fn with_references(
    client: &reqwest::Client,
    publisher: &mesh::Publisher,
    references: Value,
) -> (u16, Value, u64) {
    let body = json!({ "schema": schema(""), "schemaType": "AVRO", "references": references });
    let url = format!("{}/subjects/{SUBJECT}/versions", publisher.url);
    answer(client.post(url).bearer_auth(OPS_KEY).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_known_registers_and_anybody_looks_up() {
    let (_mesh, publisher) = started().await;
    let client = reqwest::Client::new();
    let versions = format!("{}/subjects/{SUBJECT}/versions", publisher.url);
    let body = json!({ "schema": schema("") });
    let post = || client.post(&versions).json(&body);
    for stranger in [
        post(),
        post().bearer_auth("no key"),
        post().basic_auth("admin", Some(OPS_KEY)),
        post().basic_auth("ops", Some("no key")),
    ] {
        let response = stranger.send().await.unwrap();
        assert_eq!(response.headers().get("www-authenticate").unwrap(), "Basic");
        let refusal: Value = response.json().await.unwrap();
        assert_eq!(refusal["error_code"], 40101, "{refusal}");
        assert!(refusal["message"].as_str().unwrap().contains("MESH-PUBLISHER-0001"), "{refusal}");
    }
    assert_eq!(answer(client.get(&versions)).await.1, json!([1]), "a stranger registered a schema");
    let (status, registered, _) = answer(post().basic_auth("ops", Some(OPS_KEY))).await;
    assert_eq!(status, 200, "{registered}");
    let look_up = client.post(format!("{}/subjects/{SUBJECT}", publisher.url)).json(&body);
    assert_eq!(answer(look_up).await.1["id"], registered["id"]);
    publisher.stop().await;
}

/// Status, body, Confluent's error code.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Value, u64) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let code = body["error_code"].as_u64().unwrap_or_default();
    (status, body, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_registers_and_reads() {
    let Some(python) = mesh_testkit::python().unwrap() else { return };
    let (_mesh, publisher) = started().await;
    let script = r#"
import sys
from confluent_kafka.schema_registry import SchemaRegistryClient, Schema
client = SchemaRegistryClient({"url": sys.argv[1], "basic.auth.user.info": "ops:" + sys.argv[4]})
subject, text = sys.argv[2], sys.argv[3]
number = client.register_schema(subject, Schema(text, "AVRO"))
assert client.get_schema(number).schema_type == "AVRO"
assert client.lookup_schema(subject, Schema(text, "AVRO")).schema_id == number
latest = client.get_latest_version(subject)
assert (latest.schema_id, latest.version) == (number, 2), latest
assert client.get_subjects() == [subject]
assert client.get_versions(subject) == [1, 2]

from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
context = SerializationContext("operations.flights.v1", MessageField.VALUE)
wider = text.replace('"carrier"', '"tail"')
row = {"flight": 7, "tail": "N1"}
# By its default it registers; then it looks up what is there; then it takes the newest.
for settings in [{}, {"auto.register.schemas": False}, {"auto.register.schemas": False, "use.latest.version": True}]:
    fresh = SchemaRegistryClient({"url": sys.argv[1], "basic.auth.user.info": "ops:" + sys.argv[4]})
    framed = AvroSerializer(fresh, wider, conf=settings)(row, context)
    number = int.from_bytes(framed[1:5], "big")
    assert framed[0] == 0 and number == fresh.lookup_schema(subject, Schema(wider, "AVRO")).schema_id, framed
    reader = SchemaRegistryClient({"url": sys.argv[1]})
    assert AvroDeserializer(reader)(framed, context) == row
assert client.get_versions(subject) == [1, 2, 3]
"#;
    let schema = schema("");
    let args = ["-c", script, &publisher.url, SUBJECT, &schema, OPS_KEY];
    let ran = tokio::process::Command::new(python).args(args).output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    publisher.stop().await;
}

/// Column types of a contract, each with one of its ways to be written down.
const COLUMNS: [(&str, &str); 14] = [
    ("flag", "{name: v, logicalType: boolean}"),
    ("small", "{name: v, logicalType: integer, logicalTypeOptions: {format: i32}}"),
    ("big", "{name: v, logicalType: integer}"),
    ("real", "{name: v, logicalType: number}"),
    ("amount", "{name: v, logicalType: number, physicalType: 'decimal(10,2)'}"),
    ("words", "{name: v, logicalType: string}"),
    ("number", "{name: v, logicalType: string, physicalType: uuid}"),
    ("bytes", "{name: v, logicalType: string, physicalType: binary}"),
    ("day", "{name: v, logicalType: date}"),
    ("clock", "{name: v, logicalType: time}"),
    ("moment", "{name: v, logicalType: timestamp}"),
    ("thing", "{name: v, logicalType: object, properties: [{name: a, logicalType: string}]}"),
    ("many", "{name: v, logicalType: array, items: {name: item, logicalType: integer}}"),
    ("needed", "{name: v, logicalType: string, required: true}"),
];

/// Types that writers use, logical ones and unions too.
fn written() -> Vec<Value> {
    let logical = |base: &str, logical: &str| json!({"type": base, "logicalType": logical});
    let fixed = |size: u64, logical: Option<&str>| match logical {
        Some(logical) => json!({"type": "fixed", "name": "F", "size": size, "logicalType": logical}),
        None => json!({"type": "fixed", "name": "F", "size": size}),
    };
    let mut types: Vec<Value> =
        ["boolean", "int", "long", "float", "double", "string", "bytes", "null"].map(Value::from).to_vec();
    types.extend([
        logical("int", "date"),
        logical("int", "time-millis"),
        logical("long", "time-micros"),
        logical("long", "timestamp-millis"),
        logical("long", "timestamp-micros"),
        logical("long", "timestamp-nanos"),
        logical("long", "local-timestamp-micros"),
        logical("string", "uuid"),
        fixed(16, Some("uuid")),
        fixed(12, Some("duration")),
        fixed(4, None),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 5}),
        json!({"type": "enum", "name": "E", "symbols": ["A", "B"]}),
        json!({"type": "array", "items": "long"}),
        json!({"type": "map", "values": "long"}),
        json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}),
    ]);
    let unions = types
        .clone()
        .into_iter()
        .filter(|ty| ty != "null")
        .flat_map(|ty| [json!([ty.clone()]), json!(["null", ty.clone()]), json!([ty, "null"])]);
    let unions: Vec<Value> = unions.collect();
    types.extend(unions);
    types.push(json!(["int", "string"]));
    types.push(json!(["null"]));
    types
}

/// Each pair of a column and a writer's type, at the endpoint: admitted exactly where the contract covers it, which is
/// what ingest decodes (its own matrix has the same pairs); a refusal names the column.
#[tokio::test(flavor = "multi_thread")]
async fn the_registry_admits_what_the_contract_covers() {
    let (_mesh, publisher) = started().await;
    let client = reqwest::Client::new();
    let (mut admitted, mut refused) = (0, 0);
    for (name, column) in COLUMNS {
        let text = flights("avro", "1.0.0", &[]).replace("flights", name) + &format!("      - {column}\n");
        let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &text).await;
        assert_eq!(status, 200, "{body}");
        let contract = mesh_contract::ProductContract::parse("f", &text).unwrap();
        let url = format!("{}/subjects/operations.{name}.v1-value/versions", publisher.url);
        for ty in written() {
            let schema = json!({"type": "record", "name": "w", "fields": [{"name": "v", "type": ty}]}).to_string();
            let request = client.post(&url).bearer_auth(OPS_KEY).json(&json!({ "schema": schema }));
            let (status, body, _) = answer(request).await;
            let verdict = contract.covers(&schema);
            let is_covered = verdict.as_ref().is_ok_and(|verdict| verdict.covered);
            assert_eq!(status == 200, is_covered, "{column} written as {ty}: {body}, {verdict:?}");
            match status {
                200 => {
                    admitted += 1;
                    let kept = answer(client.get(format!("{}/schemas/ids/{}", publisher.url, body["id"]))).await.1;
                    let kept: Value = serde_json::from_str(kept["schema"].as_str().unwrap()).unwrap();
                    assert_eq!(kept["fields"][0]["type"], ty);
                }
                409 => {
                    refused += 1;
                    let message = body["message"].as_str().unwrap();
                    assert!(message.contains("MESH-PUBLISHER-0026") && message.contains("v:"), "{ty}: {message}");
                }
                // What is no Avro by the specification is refused before any contract is looked at.
                other => assert_eq!(other, 422, "{ty}: {body}"),
            }
        }
    }
    assert!(admitted > 40 && refused > 400, "{admitted} admitted, {refused} refused");
    publisher.stop().await;
}
