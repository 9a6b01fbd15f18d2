//! Every remedy that a finding of the publisher prints is followed, word by word, and helps.

use std::collections::BTreeSet;

use super::*;

const COLUMNS: &str = "      - {name: flight, logicalType: integer, required: true}\n";
const WIDER: &str =
    "      - {name: flight, logicalType: integer, required: true}\n      - {name: tail, logicalType: string}\n";
const UPSERT: &str = "    customProperties: [{property: writeMode, value: upsert}]\n";

/// Codes that no document's author can do anything about, or that other tests provoke: the request's own, Kafka's, and
/// those of tables that other engines made (`tests/foreign.rs`).
const ELSEWHERE: &[&str] = &[
    "MESH-PUBLISHER-0001",
    "MESH-PUBLISHER-0004",
    "MESH-PUBLISHER-0005",
    "MESH-PUBLISHER-0006",
    "MESH-PUBLISHER-0007",
    "MESH-PUBLISHER-0008",
    "MESH-PUBLISHER-0009",
    "MESH-PUBLISHER-0010",
    "MESH-PUBLISHER-0016",
    "MESH-PUBLISHER-0024",
    "MESH-PUBLISHER-0026",
    "MESH-PUBLISHER-0027",
    "MESH-PUBLISHER-0028",
    "MESH-PUBLISHER-0030",
    "MESH-PUBLISHER-0031",
    "MESH-PUBLISHER-0032",
    "MESH-PUBLISHER-0033",
    "MESH-PUBLISHER-0034",
];

/// What is applied before, who submits, and the document that is refused.
struct Situation {
    before: Vec<String>,
    principal: &'static str,
    document: String,
}

fn situation(before: &[String], document: String) -> Situation {
    Situation { before: before.to_vec(), principal: "ops", document }
}

fn situations() -> Vec<Situation> {
    let good = flights("1.0.0", COLUMNS);
    let retired = good.replace("status: active", "status: retired");
    let root = |document: &str| Situation { before: Vec::new(), principal: "root", document: document.to_owned() };
    let product = "apiVersion: v1.0.0\nkind: DataProduct\nid: urn:p\nname: p\nversion: 1.0.0\nstatus: active\n\
                   domain: operations\noutputPorts:\n  - {name: flights, version: 1.0.0, contractId: 'urn:flights'}\n";
    let foreign = good.replace("domain: operations", "domain: weather").replace("urn:flights", "urn:weather");
    let key = "0".repeat(64);
    vec![
        situation(&[], good.replace("domain: operations", "domain: weather")),
        situation(&[], good.replace("urn:flights", &"u".repeat(256))),
        situation(
            &[],
            good.replace("name: n\n", &format!("name: n\ndescription: {{purpose: {}}}\n", "d".repeat(950_000))),
        ),
        situation(&[], vec![good.as_str(); 101].join("---\n")),
        situation(std::slice::from_ref(&good), good.replace("urn:flights", "urn:other")),
        situation(std::slice::from_ref(&good), good.replace("dataProduct: flights", "dataProduct: others")),
        situation(
            std::slice::from_ref(&good),
            good.replace("urn:flights", "urn:other").replace("dataProduct: flights", "dataProduct: other"),
        ),
        situation(&[foreign], good.clone()),
        situation(&[flights("1.2.0", COLUMNS)], good.clone()),
        situation(std::slice::from_ref(&good), flights("1.0.0", WIDER)),
        situation(&[flights("1.0.0", WIDER)], flights("1.1.0", COLUMNS)),
        situation(
            &[flights("1.0.0", WIDER), flights("1.0.0", WIDER).replace("status: active", "status: retired")],
            good.clone(),
        ),
        situation(&[], good.replace("    properties:", &format!("{UPSERT}    properties:"))),
        situation(&[], retired),
        situation(&[], product.to_owned()),
        situation(&[], good.replace("status: active", "status: draft")),
        situation(&[], format!("{good}---\n{}", flights("1.1.0", WIDER))),
        root("[[principal]]\nname = \"a b\"\nkey_sha256 = \"@KEY\"\n".replace("@KEY", &key).as_str()),
        root("[[principal]]\nname = \"ana\"\nkey_sha256 = \"short\"\n"),
        root("[[principal]]\nname = \"ana\"\n"),
        root("[[principal]]\nname = \"root\"\nremove = true\n"),
        root("[[principal]]\nname = \"root\"\nroles = [\"analyst\"]\n"),
        root("[[principal]]\nnom = \"ana\"\n"),
        root("[[principal]]\nname = \"ops\"\nadmin_of = [\"Operations!\"]\n"),
        root("[[principal]]\nname = \"ops\"\n\n[[principal]]\nname = \"ops\"\n"),
        root(&format!("[[principal]]\nname = \"ana\"\nkey_sha256 = \"{}\"\n", crate::registry::fingerprint("root"))),
    ]
}

/// What the remedy says, done: who submits which documents then. Several ways are all tried.
fn follow(found: &Finding, situation: &Situation) -> Vec<Vec<(&'static str, String)>> {
    let (remedy, document) = (found.remedy.as_str(), situation.document.as_str());
    let quoted = |after: &str| {
        let rest = remedy.split_once(after).unwrap_or_else(|| panic!("{remedy}")).1;
        rest.split(['`', ',']).next().unwrap().trim().to_owned()
    };
    let version = |to: &str| {
        let line = document.lines().find(|line| line.starts_with("version: ")).unwrap();
        document.replace(line, &format!("version: {to}"))
    };
    let same = |documents: Vec<String>| documents.into_iter().map(|document| (situation.principal, document)).collect();
    let key = "1".repeat(64);
    let mut ways = Vec::new();
    let mut way = |phrase: &str, documents: &dyn Fn() -> Vec<String>| {
        if remedy.contains(phrase) {
            ways.push(same(documents()));
        }
    };
    way("set `version: ", &|| vec![version(&quoted("set `version: "))]);
    way("apply it as version ", &|| {
        let next = remedy.split_once("apply it as version ").unwrap().1.split([' ', ',']).next().unwrap();
        vec![version(next)]
    });
    way("use at most 255", &|| vec![document.replace(&"u".repeat(256), "urn:short")]);
    way("shorten its descriptions", &|| vec![document.replace(&"d".repeat(950_000), "short")]);
    way("split it into several files", &|| document.split("---\n").map(str::to_owned).collect());
    way("use `id: ", &|| vec![document.replace("urn:other", &quoted("use `id: "))]);
    way("give the product another name", &|| {
        vec![document.replace("dataProduct: flights", "dataProduct: other").replace("name: flights", "name: other")]
    });
    way("give this contract an id of its own", &|| {
        vec![document.replace("urn:flights", "urn:own").replace("- name: flights", "- name: own")]
    });
    way("give the schema object another name", &|| vec![document.replace("- name: flights", "- name: other")]);
    way("name a topic of your own", &|| vec![document.replace("operations.flights.v1", "operations.own.v1")]);
    way("write `append`", &|| vec![document.replace("value: upsert", "value: append")]);
    way("leave the property out", &|| vec![document.replace(UPSERT, "")]);
    way("apply it as active first", &|| {
        vec![document.replace("status: retired", "status: active"), document.to_owned()]
    });
    way("apply that contract first", &|| vec![flights("1.0.0", COLUMNS), document.to_owned()]);
    way("or in the same file", &|| vec![format!("{}---\n{document}", flights("1.0.0", COLUMNS))]);
    way("set `status: active`", &|| vec![document.replace("status: draft", "status: active")]);
    way("into files of their own", &|| document.split("---\n").map(str::to_owned).collect());
    way("use at most 63 letters", &|| vec![document.replace("a b", "a.b")]);
    way("write the 64 hex digits", &|| vec![document.replace("short", &key)]);
    way("add key_sha256", &|| vec![format!("{document}key_sha256 = \"{key}\"\n")]);
    way("leave the role to one principal, or give it to another first", &|| {
        let other = format!("[[principal]]\nname = \"eve\"\nroles = [\"admin\"]\nkey_sha256 = \"{key}\"\n");
        vec![other, document.to_owned()]
    });
    way("write `[[principal]]` tables with name, key_sha256", &|| {
        vec![document.replace("nom", "name") + &format!("key_sha256 = \"{key}\"\n")]
    });
    way("use the folded name", &|| vec![document.replace("Operations!", "operations")]);
    way("keep one", &|| vec![document.split("\n\n").next().unwrap().to_owned() + "\n"]);
    way("give each principal a key of its own", &|| {
        vec![document.replace(&crate::registry::fingerprint("root"), &key)]
    });
    way("undo it", &|| vec![situation.before[0].clone()]);
    if let Some(domain) = remedy.strip_prefix("submit it as an admin of the domain `") {
        let domain = domain.trim_end_matches('`');
        let admin = format!("[[principal]]\nname = \"ops\"\nadmin_of = [\"operations\", \"{domain}\"]\n");
        ways.push(vec![("root", admin), ("ops", document.to_owned())]);
    }
    ways
}

#[test]
fn each_printed_remedy_helps() {
    let mut codes = BTreeSet::new();
    for situation in situations() {
        let mut mesh = Mesh::new();
        for document in &situation.before {
            let before = mesh.apply("root", "", document);
            assert_eq!(errors(&before), [], "{document}");
        }
        let found = errors(&mesh.clone().apply(situation.principal, "", &situation.document));
        let found = found.first().unwrap_or_else(|| panic!("admitted: {}", situation.document));
        codes.insert(found.code.clone());
        let ways = follow(found, &situation);
        assert!(!ways.is_empty(), "no test follows the remedy of {found:?}");
        for way in ways {
            let mut mesh = mesh.clone();
            for (principal, document) in &way {
                let errors = errors(&mesh.apply(principal, "", document));
                assert_eq!(errors, [], "{found:?} is not helped by {document}");
            }
        }
    }
    let known: BTreeSet<String> = ELSEWHERE.iter().map(|code| (*code).to_owned()).chain(codes).collect();
    let foreign = ["MESH-PUBLISHER-0023", "MESH-PUBLISHER-0035"].map(str::to_owned);
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
    let pages = std::fs::read_dir(pages).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap());
    let pages = pages.filter(|page| page.starts_with("MESH-PUBLISHER-")).map(|page| page.replace(".md", ""));
    let untried: Vec<String> = pages.filter(|code| !known.contains(code) && !foreign.contains(code)).collect();
    assert_eq!(untried, Vec::<String>::new(), "codes whose remedy no test follows");
}
