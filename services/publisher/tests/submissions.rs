//! From a document at the door to topics, tables and a verdict, and the refusals on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod mesh;

use mesh::{ADMIN_KEY, Mesh, NARROW, OPS_KEY, WIDE, flights};
use mesh_lakehouse::summary;
use pretty_assertions::assert_eq;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_contract_becomes_topic_table_and_verdict() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let (status, body) =
        publisher.post(Some(OPS_KEY), "file=f.yaml&dry_run=true", &flights("json", "1.0.0", NARROW)).await;
    assert_eq!((status, body["state"].as_str(), body["revision"].is_null()), (200, Some("accepted"), true), "{body}");
    assert!(mesh.table("operations.flights_v1").await.is_none(), "a dry run made a table");

    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.0.0", NARROW)).await;
    assert_eq!(
        (status, body["state"].as_str(), body["product"].as_str()),
        (200, Some("accepted"), Some("operations.flights")),
        "{body}"
    );
    let table = mesh.table("operations.flights_v1").await.unwrap();
    assert_eq!(table.property("mesh.contract-revision"), Some("1"));
    assert!(mesh.table("operations.flights_v1_dead_letters").await.is_some());
    assert_eq!(mesh.bus.describe_topic("operations.flights.v1").await.unwrap().partitions, 4);

    let (_, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.0.0", NARROW)).await;
    assert_eq!(body["state"], "unchanged", "{body}");
    let (_, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.1.0", WIDE)).await;
    assert_eq!(body["state"], "changed", "{body}");
    let table = mesh.table("operations.flights_v1").await.unwrap();
    assert_eq!(table.property("mesh.contract-revision"), Some("3"));
    assert!(table.schema().field_by_name("tail").is_some());

    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.2.0", NARROW)).await;
    assert_eq!((status, body["code"].as_str()), (422, Some("MESH-PUBLISHER-0015")), "{body}");
    let retired = flights("json", "1.1.0", WIDE).replace("status: active", "status: retired");
    let (_, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &retired).await;
    assert_eq!(body["state"], "retired", "{body}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_contract_s_table_keeps_its_columns() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let door = &publisher;
    let post = |document: String| async move { door.post(Some(OPS_KEY), "file=f.yaml", &document).await };
    let first = flights("json", "1.0.0", NARROW);
    assert_eq!(post(first.clone()).await.0, 200);
    assert_eq!(post(first.replace("status: active", "status: retired")).await.1["state"], "retired");
    for columns in [&[("flight", "string"), ("carrier", "string")][..], &[("flight", "integer")]] {
        for query in ["file=f.yaml&dry_run=true", "file=f.yaml"] {
            let (status, body) = publisher.post(Some(OPS_KEY), query, &flights("json", "1.1.0", columns)).await;
            assert_eq!((status, body["code"].as_str()), (422, Some("MESH-PUBLISHER-0017")), "{query}: {body}");
            assert!(body["remedy"].as_str().unwrap().contains("2.0.0"), "{body}");
        }
    }
    let (status, body) = post(flights("json", "1.1.0", WIDE)).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("accepted")), "{body}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_is_made_again_by_the_same_document() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let document = flights("json", "1.0.0", NARROW);
    let post = || async { publisher.post(Some(OPS_KEY), "file=f.yaml", &document).await };
    assert_eq!(post().await.1["state"], "accepted");
    for name in ["operations.flights_v1", "operations.flights_v1_dead_letters"] {
        mesh.catalog.drop_table(&mesh.table(name).await.unwrap()).await.unwrap();
        for query in ["file=f.yaml&dry_run=true", "file=f.yaml"] {
            assert!(mesh.table(name).await.is_none());
            let (_, body) = publisher.post(Some(OPS_KEY), query, &document).await;
            assert_eq!(body["state"], "changed", "{query}: {body}");
            assert!(body["changes"][0]["reason"].as_str().unwrap().contains("is missing"), "{body}");
        }
        assert!(mesh.table(name).await.is_some());
        assert_eq!(post().await.1["state"], "unchanged", "what is there is left alone");
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_kafka_s_mesh_is_not_taken_for_a_later_publisher_s_work() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let name = mesh_contract::TableName::new("operations", "flights_v1");
    let ident = mesh_lakehouse::schema::ident(&name);
    mesh.catalog.create_namespace(ident.namespace()).await.unwrap();
    let contract = mesh_contract::ProductContract::parse("f.yaml", &flights("json", "1.0.0", NARROW)).unwrap();
    let schema = mesh_lakehouse::schema::table_schema(&contract.iceberg_schema(None)).unwrap();
    let properties = [(summary::PRODUCT, "operations.flights"), (summary::CONTRACT_REVISION, "4711")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let spec = mesh_lakehouse::TableSpec { ident, schema, partition_spec: None, properties };
    mesh.catalog.create_table(spec).await.unwrap();
    for query in ["file=f.yaml&dry_run=true", "file=f.yaml"] {
        let (status, body) = publisher.post(Some(OPS_KEY), query, &flights("json", "1.0.0", NARROW)).await;
        assert_eq!((status, body["code"].as_str()), (422, Some("MESH-PUBLISHER-0024")), "{query}: {body}");
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_admins_at_once_are_judged_one_after_the_other() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let (narrow, wide) = (flights("json", "1.0.0", NARROW), flights("json", "1.0.0", WIDE));
    let (one, other) = tokio::join!(
        publisher.post(Some(OPS_KEY), "file=n.yaml", &narrow),
        publisher.post(Some(ADMIN_KEY), "file=w.yaml", &wide),
    );
    let mut said = [&one, &other].map(|(status, body)| (*status, body["code"].as_str().unwrap_or_default()));
    said.sort_unstable();
    // Whichever came second differs from what is active by then, and its version does not say so.
    let second = if one.0 == 200 { "MESH-PUBLISHER-0014" } else { "MESH-PUBLISHER-0015" };
    assert_eq!(said, [(200, ""), (422, second)], "{one:?} {other:?}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_without_the_right_is_refused() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let good = flights("json", "1.0.0", NARROW);
    for (key, document, status, code) in [
        (None, good.clone(), 401, "MESH-PUBLISHER-0001"),
        (Some("no key"), good.clone(), 401, "MESH-PUBLISHER-0001"),
        (Some(OPS_KEY), good.replace("domain: operations", "domain: weather"), 403, "MESH-PUBLISHER-0002"),
        (Some(OPS_KEY), "[[principal]]\nname = \"me\"\nremove = true\n".to_owned(), 403, "MESH-PUBLISHER-0002"),
        (Some(OPS_KEY), "x".repeat(8 << 20), 413, "MESH-PUBLISHER-0003"),
        (Some(ADMIN_KEY), "[[principal]]\nname = \"admin\"\nremove = true\n".to_owned(), 422, "MESH-PUBLISHER-0021"),
    ] {
        let (found, body) = publisher.post(key, "", &document).await;
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{body}");
        assert!(body["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{body}");
    }
    for (query, code) in [("kind=poem", "MESH-PUBLISHER-0006"), ("dry_run=perhaps", "MESH-PUBLISHER-0033")] {
        let (status, body) = publisher.post(Some(OPS_KEY), query, &good).await;
        assert_eq!((status, body["code"].as_str()), (400, Some(code)), "{body}");
    }
    let request = reqwest::Client::new().post(format!("{}/v1/submissions", publisher.url)).bearer_auth(OPS_KEY);
    let response = request.body(vec![0x6b, 0xff, 0xfe]).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<serde_json::Value>().await.unwrap()["code"], "MESH-PUBLISHER-0007");
    let (status, body) = publisher.post(Some(OPS_KEY), "file=b.yaml", "kind: DataContract\n").await;
    assert_eq!((status, body["state"].as_str()), (422, Some("refused")), "{body}");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_refuses_from_then_on() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let rego = "package mesh.platform.admission\n\ndeny contains {\"rule\": \"owner\", \"path\": \"/team\", \
                \"message\": \"no team\", \"remedy\": \"name a team\"} if not input.contract.team\n";
    let (status, body) = publisher.post(Some(ADMIN_KEY), "file=a.rego", rego).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("accepted")), "{body}");
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &flights("json", "1.0.0", NARROW)).await;
    assert_eq!(
        (status, body["code"].as_str(), body["remedy"].as_str()),
        (422, Some("MESH-PUBLISHER-0016"), Some("name a team")),
        "{body}"
    );
    assert!(mesh.table("operations.flights_v1").await.is_none());
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_somebody_else_is_left_alone() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let name = mesh_contract::TableName::new("operations", "flights_v1");
    let ident = mesh_lakehouse::schema::ident(&name);
    mesh.catalog.create_namespace(ident.namespace()).await.unwrap();
    let schema = mesh_lakehouse::schema::dead_letter_schema().unwrap();
    let spec = mesh_lakehouse::TableSpec { ident, schema, partition_spec: None, properties: Default::default() };
    mesh.catalog.create_table(spec).await.unwrap();
    for query in ["file=f.yaml&dry_run=true", "file=f.yaml"] {
        let (status, body) = publisher.post(Some(OPS_KEY), query, &flights("json", "1.0.0", NARROW)).await;
        assert_eq!((status, body["code"].as_str()), (422, Some("MESH-PUBLISHER-0023")), "{query}: {body}");
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_aloud_and_nothing_is_admitted_past_it() {
    use mesh_proto::topics;
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let producer = mesh.bus.producer(mesh_bus::ProducerOptions::default()).unwrap();
    let foreign = |topic: &'static str, key: &'static str| {
        let record = mesh_bus::Record { topic, key: Some(key.as_bytes()), payload: Some(b"{}"), ..Default::default() };
        let producer = &producer;
        async move { producer.send(&record).await.unwrap().offset }
    };
    let offset = foreign(topics::SUBMISSIONS, "x").await;
    let verdicts = mesh::until("the record has its verdict", || async {
        let verdicts = mesh.verdicts().await;
        verdicts.contains_key(&format!("{offset}.0")).then_some(verdicts)
    })
    .await;
    assert_eq!(verdicts[&format!("{offset}.0")].0, "CONTRACT_STATE_REFUSED");

    let package = "mesh.platform.admission";
    foreign(topics::POLICIES, package).await;
    let contract = flights("json", "1.0.0", NARROW);
    mesh::until("the contract is refused", || async {
        let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml&dry_run=true", &contract).await;
        ((status, body["code"].as_str()) == (422, Some("MESH-PUBLISHER-0031"))).then_some(())
    })
    .await;
    let rego = "package mesh.platform.admission\n\ndeny contains {\"rule\": \"never\", \"path\": \"\", \
                \"message\": \"no\", \"remedy\": \"none\"} if false\n";
    let (status, body) = publisher.post(Some(ADMIN_KEY), "file=a.rego", rego).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = publisher.post(Some(OPS_KEY), "file=f.yaml", &contract).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("accepted")), "{body}");
    publisher.stop().await;
}

/// A data product that offers a contract.
fn product_of(contract: &str) -> String {
    format!(
        "---\napiVersion: v1.0.0\nkind: DataProduct\nid: urn:delays\nname: delays\nversion: 1.0.0\nstatus: active\n\
         domain: operations\noutputPorts:\n  - {{name: flights, version: 1.0.0, contractId: '{contract}'}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_product_stands_on_contracts_that_are_active() {
    let mesh = Mesh::start().await;
    let publisher = mesh.publisher(None).await.with_ops().await;
    let states = |body: &serde_json::Value| -> Vec<String> {
        let verdicts = body["verdicts"].as_array().unwrap();
        verdicts.iter().map(|verdict| verdict["state"].as_str().unwrap().to_owned()).collect()
    };
    let good = flights("json", "1.0.0", NARROW) + &product_of("urn:flights");
    let refused = good
        .replace("status: active\ndomain: operations\ndataProduct", "status: draft\ndomain: operations\ndataProduct");
    for query in ["file=f.yaml&dry_run=true", "file=f.yaml"] {
        let (status, body) = publisher.post(Some(OPS_KEY), query, &refused).await;
        assert_eq!((status, states(&body)), (422, vec!["refused".to_owned(); 2]), "{query}: {body}");
        assert_eq!(body["verdicts"][1]["findings"][0]["code"], "MESH-PUBLISHER-0022", "{query}: {body}");
        let (status, body) = publisher.post(Some(OPS_KEY), query, &good).await;
        assert_eq!((status, states(&body)), (200, vec!["accepted".to_owned(); 2]), "{query}: {body}");
    }
    publisher.stop().await;
}

/// Two publishers, one of them slow: it sleeps while the other decides, and wakes among its outcomes.
#[tokio::test(flavor = "multi_thread")]
async fn two_publishers_at_once_give_one_verdict() {
    let mesh = Mesh::start().await;
    let quick = mesh.publisher(None).await.with_ops().await;
    let slow = mesh.publisher(None).await;
    let mut columns = NARROW.to_vec();
    for (minor, column) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let document = flights("json", &format!("1.{minor}.0"), &columns);
        slow.signal(rustix::process::Signal::STOP);
        for expected in [if minor == 0 { "accepted" } else { "changed" }, "unchanged"] {
            let (_, body) = quick.post(Some(OPS_KEY), "file=f.yaml", &document).await;
            assert_eq!(body["state"], expected, "{body}");
        }
        slow.signal(rustix::process::Signal::CONT);
        columns.push((column, "string"));
        let (_, body) = slow.post(Some(OPS_KEY), "file=f.yaml", &document).await;
        assert_eq!(body["state"], "unchanged", "{body}");
    }
    slow.stop().await;
    quick.stop().await;
    // `verdicts` refuses two that say different things under one id.
    let submitted = mesh.events(mesh_proto::topics::SUBMISSIONS).await.len();
    assert_eq!(mesh.verdicts().await.len(), submitted);
}
