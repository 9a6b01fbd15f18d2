//! What another engine did to a product's tables: what can go on goes on, and the remedy of each refusal works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod mesh;

use mesh::{Mesh, NARROW, OPS_KEY, Publisher, WIDE, flights};
use mesh_lakehouse::summary;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

const TABLE: &str = "operations.flights_v1";
const DEAD_LETTERS: &str = "operations.flights_v1_dead_letters";

/// The same verdict of the dry run and of apply; a refusal's code and remedy, else none.
async fn apply(publisher: &Publisher, document: &str) -> (Value, Option<(String, String)>) {
    let (dry, dry_body) = publisher.post(Some(OPS_KEY), "file=f.yaml&dry_run=true", document).await;
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", document).await;
    let told = |body: &Value| (body["state"].clone(), body["code"].clone(), body["verdicts"][0]["findings"].clone());
    assert_eq!((dry, told(&dry_body)), (status, told(&body)));
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let refusal = text("code").zip(text("remedy"));
    (body, refusal)
}

async fn started() -> (Mesh, Publisher) {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    assert_eq!(apply(&publisher, &flights("json", "1.0.0", NARROW)).await.1, None);
    (mesh, publisher)
}

/// What a remedy about tables says, done to the table; the documents to apply then.
async fn follow(mesh: &Mesh, table: &str, remedy: &str, document: &str) -> Vec<String> {
    let mut ways = Vec::new();
    if remedy.contains("apply it as version 2.0.0") {
        ways.push(document.replace("version: 1.", "version: 2."));
    }
    if let Some(rest) = remedy.split_once("rename `").map(|(_, rest)| rest) {
        let (from, rest) = rest.split_once("` back to `").unwrap();
        let to = rest.split_once('`').unwrap().0;
        mesh.evolve(table, |fields, _| rename(fields, from, to)).await;
        ways.push(document.to_owned());
    }
    if remedy.contains("drop or rename that table") || remedy.contains("or drop the table") {
        mesh.catalog.drop_table(&mesh.table(table).await.unwrap()).await.unwrap();
        ways.push(document.to_owned());
    }
    assert!(!ways.is_empty(), "no test follows the remedy {remedy:?}");
    ways
}

fn rename(fields: &mut [Value], from: &str, to: &str) {
    fields.iter_mut().filter(|field| field["name"] == from).for_each(|field| field["name"] = to.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_dropped_and_created_again_is_refused_by_its_uuid_until_it_is_dropped() {
    let (mesh, publisher) = started().await;
    let document = flights("json", "1.0.0", NARROW);
    for name in [TABLE, DEAD_LETTERS] {
        for copies_properties in [false, true] {
            let before = mesh.table(name).await.unwrap();
            let properties =
                if copies_properties { before.metadata().properties().clone() } else { Default::default() };
            let newcomer = mesh.create_over(&before, properties).await;
            for document in [&document, &flights("json", "1.1.0", WIDE)] {
                let (body, refusal) = apply(&publisher, document).await;
                let (code, _) = refusal.expect("the newcomer was taken over");
                assert_eq!(code, "MESH-PUBLISHER-0035", "{body}");
                assert!(body["verdicts"][0]["findings"][0]["line"].as_i64() > Some(1), "{body}");
                assert!(body["message"].as_str().unwrap().contains(&newcomer.uuid().to_string()), "{body}");
            }
            let untouched = mesh.table(name).await.unwrap();
            assert_eq!(untouched.metadata_location(), newcomer.metadata_location(), "the newcomer was changed");
            let (_, remedy) = apply(&publisher, &document).await.1.unwrap();
            for document in follow(&mesh, name, &remedy, &document).await {
                let (body, refusal) = apply(&publisher, &document).await;
                assert_eq!(refusal, None, "{body}");
            }
            let (body, _) = apply(&publisher, &document).await;
            assert_eq!(body["state"], "unchanged", "{body}");
            assert!(mesh.table(name).await.is_some_and(|table| table.uuid() != newcomer.uuid()));
        }
    }
    // A retired contract leaves the newcomer alone, too.
    let before = mesh.table(TABLE).await.unwrap();
    let newcomer = mesh.create_over(&before, before.metadata().properties().clone()).await;
    let (body, _) = apply(&publisher, &document.replace("status: active", "status: retired")).await;
    assert_eq!(body["state"], "retired", "{body}");
    assert_eq!(mesh.table(TABLE).await.unwrap().metadata_location(), newcomer.metadata_location());
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remedies_about_tables_help() {
    let (mesh, publisher) = started().await;
    mesh.evolve(TABLE, |fields, _| rename(fields, "carrier", "airline")).await;
    let document = flights("json", "1.1.0", WIDE);
    let (code, remedy) = apply(&publisher, &document).await.1.expect("a renamed column was taken for a new one");
    assert_eq!(code, "MESH-PUBLISHER-0017");
    for document in follow(&mesh, TABLE, &remedy, &document).await {
        let (body, refusal) = apply(&publisher, &document).await;
        assert_eq!(refusal, None, "{body}");
    }
    for (name, revision, expected) in
        [("others", None, "MESH-PUBLISHER-0023"), ("late", Some("4711"), "MESH-PUBLISHER-0024")]
    {
        let document = flights("json", "1.0.0", NARROW).replace("flights", name);
        let table = format!("operations.{name}_v1");
        let ident = mesh_lakehouse::schema::ident(&mesh_contract::TableName::new("operations", format!("{name}_v1")));
        let product = revision.map(|_| (summary::PRODUCT.to_owned(), format!("operations.{name}")));
        let revision = revision.map(|revision| (summary::CONTRACT_REVISION.to_owned(), revision.to_owned()));
        let schema = mesh.table(TABLE).await.unwrap().schema().as_ref().clone();
        let properties = product.into_iter().chain(revision).collect();
        let spec = mesh_lakehouse::TableSpec { ident, schema, partition_spec: None, properties };
        mesh.catalog.create_table(spec).await.unwrap();
        let (code, remedy) = apply(&publisher, &document).await.1.unwrap();
        assert_eq!(code, expected);
        for document in follow(&mesh, &table, &remedy, &document).await {
            assert_eq!(apply(&publisher, &document).await.1, None, "{remedy}");
        }
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minor_version_goes_on_over_foreign_columns_and_partitions() {
    let (mesh, publisher) = started().await;
    mesh.evolve(TABLE, |fields, next| {
        fields.push(json!({"id": next, "name": "theirs", "required": false, "type": "double"}));
    })
    .await;
    mesh.rewrite(TABLE, |metadata| {
        let id = metadata["schemas"][0]["fields"][0]["id"].clone();
        let field = json!({"source-id": id, "field-id": 1000, "name": "flight_bucket", "transform": "bucket[4]"});
        metadata["partition-specs"].as_array_mut().unwrap().push(json!({"spec-id": 1, "fields": [field]}));
        metadata["default-spec-id"] = 1.into();
        metadata["last-partition-id"] = 1000.into();
    })
    .await;
    let (body, refusal) = apply(&publisher, &flights("json", "1.1.0", WIDE)).await;
    assert_eq!((refusal, body["state"].as_str()), (None, Some("changed")), "{body}");
    let table = mesh.table(TABLE).await.unwrap();
    let names: Vec<&str> = table.schema().as_struct().fields().iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["flight", "carrier", "tail", "theirs", "_mesh"]);
    assert_eq!(table.metadata().default_partition_spec_id(), 1);
    publisher.stop().await;
}
