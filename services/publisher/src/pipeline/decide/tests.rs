use std::sync::Arc;

use mesh_proto::v1::{ActiveContract, DocumentKind, Submission, TableRef, TopicRef};
use pretty_assertions::assert_eq;

use super::*;
use crate::active_state::ADMIN;
use crate::pipeline::existing::TableFacts;
use crate::pipeline::{fit, read};

/// A contract of the domain `operations`, by what the tests vary.
#[derive(Clone)]
struct Doc {
    id: &'static str,
    domain: &'static str,
    product: &'static str,
    object: &'static str,
    version: &'static str,
    status: &'static str,
    topic: &'static str,
    columns: &'static str,
}

const FLIGHTS: Doc = Doc {
    id: "urn:flights",
    domain: "operations",
    product: "flights",
    object: "flights",
    version: "1.0.0",
    status: "active",
    topic: "operations.flights.v1",
    columns: "      - {name: id, logicalType: integer, required: true}\n",
};

const WIDER: &str =
    "      - {name: id, logicalType: integer, required: true}\n      - {name: tail, logicalType: string}\n";

impl Doc {
    fn yaml(&self) -> String {
        let Self { id, domain, product, object, version, status, topic, columns } = self;
        format!(
            "apiVersion: v3.1.0\nkind: DataContract\nid: {id}\nname: n\nversion: {version}\nstatus: {status}\n\
             domain: {domain}\ndataProduct: {product}\nservers:\n  - server: mesh\n    type: kafka\n    host: mesh:9092\n\
             \x20   format: json\nschema:\n  - name: {object}\n    physicalName: {topic}\n    physicalType: topic\n\
             \x20   logicalType: object\n    properties:\n{columns}"
        )
    }

    fn active(&self, revision: i64) -> ActiveContract {
        let contract = ProductContract::parse("active", &self.yaml()).unwrap();
        let table = contract.table();
        ActiveContract {
            contract_id: self.id.into(),
            major: contract.major().0,
            revision,
            product: contract.product().to_string(),
            version: self.version.into(),
            status: self.status.into(),
            document: self.yaml(),
            topic: Some(TopicRef { name: contract.topic().into(), topic_id: String::new() }),
            table: Some(TableRef { namespace: table.namespace, name: table.table, uuid: String::new() }),
            ..ActiveContract::default()
        }
    }
}

/// An active state in which `root` is admin of all, `ops` of operations, and these contracts are active.
fn active_state(active: &[Doc]) -> ActiveState {
    let mut active_state = ActiveState::default();
    for (name, roles, admin_of) in [("root", ADMIN, ""), ("ops", "domain-admin", "operations")] {
        let admin_of = if admin_of.is_empty() { Vec::new() } else { vec![admin_of.to_owned()] };
        let key_sha256 = crate::registry::fingerprint(name);
        let principal =
            Principal { name: name.into(), key_sha256, roles: vec![roles.into()], admin_of, ..Principal::default() };
        active_state.principals.insert(name.into(), Arc::new(principal));
    }
    for (revision, doc) in active.iter().enumerate() {
        let contract = doc.active(revision as i64);
        let key = mesh_proto::topics::contract_key(&contract.contract_id, contract.major);
        active_state.contracts.insert(key, Arc::new(contract));
    }
    active_state
}

fn submit(active_state: &ActiveState, principal: &str, kind: DocumentKind, text: &str) -> Decision {
    let submission = Submission { kind: kind.into(), document: text.into(), ..Submission::default() };
    let part = read::read(&submission).remove(0);
    let existing = as_promised(active_state, &part);
    decide(&part, &Case { active_state, principal, file: "f", existing: &existing, revision: 100 })
}

/// What the tests' active contracts promise is there, as far as it is the document's.
fn as_promised(active_state: &ActiveState, part: &Part) -> Existing {
    let mut existing = Existing { has_topic: true, next_revision: 100, ..Existing::default() };
    let Some(wanted) = part.contract() else { return existing };
    for active in active_state.contracts.values() {
        let contract = ProductContract::parse("active", &active.document).unwrap();
        if contract.table() == wanted.table() {
            let table = fit::table_spec(&contract, active.revision).unwrap();
            let dead_letters = fit::dead_letter_spec(&contract, active.revision).unwrap();
            existing.table = Some(TableFacts::planned(&table));
            existing.dead_letters = Some(TableFacts::planned(&dead_letters));
        }
    }
    existing
}

/// The codes of what is wrong, or how many changes an admission has.
fn outcome(decision: &Decision) -> Result<usize, Vec<String>> {
    match decision {
        Decision::Refused(findings) => {
            Err(findings.iter().filter(|f| is_error(f)).map(|finding| finding.code.clone()).collect())
        }
        Decision::Unchanged(_) => Ok(0),
        Decision::Admitted(admission) => Ok(admission.changes.len()),
    }
}

fn check(active: &[Doc], doc: &Doc, expected: Result<usize, &[&str]>) {
    let decision = submit(&active_state(active), "ops", DocumentKind::Contract, &doc.yaml());
    let expected = expected.map_err(|codes| codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>());
    assert_eq!(outcome(&decision), expected, "{decision:#?}");
}

#[test]
fn a_judgement_that_panics_is_a_refusal() {
    let decision = guarded(|| panic!("a defect"));
    assert_eq!(outcome(&decision), Err(vec!["MESH-PUBLISHER-0034".to_owned()]));
}

#[test]
fn a_good_contract_is_admitted() {
    check(&[], &FLIGHTS, Ok(0));
    check(&[FLIGHTS], &FLIGHTS, Ok(0));
}

#[test]
fn an_addition_needs_a_higher_minor_version() {
    check(&[FLIGHTS], &Doc { columns: WIDER, ..FLIGHTS }, Err(&["MESH-PUBLISHER-0014"]));
    check(&[FLIGHTS], &Doc { columns: WIDER, version: "1.1.0", ..FLIGHTS }, Ok(1));
}

#[test]
fn a_breaking_change_needs_a_new_major() {
    let wide = Doc { columns: WIDER, ..FLIGHTS };
    check(std::slice::from_ref(&wide), &Doc { version: "1.1.0", ..FLIGHTS }, Err(&["MESH-PUBLISHER-0015"]));
    check(&[wide], &Doc { version: "2.0.0", topic: "operations.flights.v2", ..FLIGHTS }, Ok(0));
}

#[test]
fn a_breaking_change_is_found_at_its_place_with_a_remedy() {
    let text = FLIGHTS.yaml().replace("integer", "string").replace("1.0.0", "1.1.0");
    let Decision::Refused(findings) = submit(&active_state(&[FLIGHTS]), "ops", DocumentKind::Contract, &text) else {
        panic!("a breaking change was admitted")
    };
    let found = &findings[0];
    assert_eq!((found.path.as_str(), found.line > 10), ("/schema/0/properties/0", true), "{found:?}");
    assert!(found.remedy.contains("2.0.0"), "{found:?}");
}

#[test]
fn no_version_follows_a_higher_one() {
    let active = Doc { version: "1.2.0", ..FLIGHTS };
    check(&[active], &Doc { version: "1.1.0", ..FLIGHTS }, Err(&["MESH-PUBLISHER-0014"]));
}

#[test]
fn names_are_taken_once() {
    check(&[FLIGHTS], &Doc { id: "urn:other", ..FLIGHTS }, Err(&["MESH-PUBLISHER-0011"]));
    let other = Doc { id: "urn:other", product: "departures", topic: "operations.departures.v1", ..FLIGHTS };
    check(&[FLIGHTS], &other, Err(&["MESH-PUBLISHER-0012"]));
    check(&[FLIGHTS], &Doc { object: "flights_v1", ..other.clone() }, Err(&["MESH-PUBLISHER-0012"]));
    check(&[FLIGHTS], &Doc { object: "departures", ..other }, Ok(0));
}

#[test]
fn what_no_record_holds_is_refused_while_it_can_be_said() {
    let text = FLIGHTS.yaml().replace("name: n\n", &format!("name: \"{}\"\n", "n".repeat(950_000)));
    let judged = |text: &str| outcome(&submit(&active_state(&[]), "ops", DocumentKind::Contract, text));
    assert_eq!(judged(&text), Err(vec!["MESH-PUBLISHER-0003".to_owned()]));
    assert_eq!(
        judged(&FLIGHTS.yaml().replace("urn:flights", &"u".repeat(256))),
        Err(vec!["MESH-CONTRACT-0044".to_owned()])
    );
    let many = vec![FLIGHTS.yaml(); 101].join("---\n");
    assert_eq!(judged(&many), Err(vec!["MESH-PUBLISHER-0003".to_owned()]));
}

#[test]
fn what_ingest_cannot_do_is_not_promised() {
    let text = FLIGHTS
        .yaml()
        .replace("    properties:", "    customProperties: [{property: writeMode, value: upsert}]\n    properties:");
    let Decision::Refused(findings) = submit(&active_state(&[]), "ops", DocumentKind::Contract, &text) else {
        panic!("upsert was admitted")
    };
    let found = &findings[0];
    assert_eq!(
        (found.code.as_str(), found.path.as_str()),
        ("MESH-PUBLISHER-0018", "/schema/0/customProperties/0/value")
    );
    assert!(found.line > 10 && found.remedy.contains("append"), "{found:?}");
}

#[test]
fn a_topic_is_its_domain_s_alone() {
    let foreign = Doc { id: "urn:w", domain: "weather", product: "stolen", object: "stolen", ..FLIGHTS };
    check(&[foreign], &FLIGHTS, Err(&["MESH-PUBLISHER-0013"]));
    check(&[], &Doc { topic: "mesh.audit", ..FLIGHTS }, Err(&["MESH-CONTRACT-0044"]));
}

#[test]
fn a_status_says_whether_it_runs() {
    check(&[], &Doc { status: "draft", ..FLIGHTS }, Err(&["MESH-PUBLISHER-0025"]));
    check(&[], &Doc { status: "retired", ..FLIGHTS }, Err(&["MESH-PUBLISHER-0019"]));
    check(&[FLIGHTS], &Doc { status: "retired", ..FLIGHTS }, Ok(2));
    check(&[FLIGHTS], &Doc { status: "deprecated", ..FLIGHTS }, Ok(2));
}

#[test]
fn a_domain_s_admin_submits_for_that_domain() {
    check(&[], &Doc { domain: "weather", ..FLIGHTS }, Err(&["MESH-PUBLISHER-0002"]));
    let decision = submit(&active_state(&[]), "nobody", DocumentKind::Contract, &FLIGHTS.yaml());
    assert_eq!(outcome(&decision), Err(vec!["MESH-PUBLISHER-0001".to_owned()]));
}

#[test]
fn policy_refuses_with_its_own_words() {
    let rego = "package mesh.platform.admission\n\ndeny contains {\"rule\": \"r\", \"path\": \"/schema/0\", \
                \"message\": \"no owner\", \"remedy\": \"name one\"} if not input.contract.team\n";
    let mut active_state = active_state(&[]);
    let id = "mesh.platform.admission".to_owned();
    active_state.policies.insert(id.clone(), Arc::new(Policy { id, rego: rego.into(), ..Policy::default() }));
    let decision = submit(&active_state, "ops", DocumentKind::Contract, &FLIGHTS.yaml());
    let Decision::Refused(findings) = &decision else { panic!("{decision:?}") };
    assert_eq!((findings[0].code.as_str(), findings[0].path.as_str()), ("MESH-PUBLISHER-0016", "/schema/0"));
    assert!(findings[0].message.starts_with("no owner"), "{findings:?}");
}

#[test]
fn a_policy_that_cannot_be_evaluated_refuses() {
    let rego = "package mesh.platform.admission\n\ndeny := 7\n";
    let mut active_state = active_state(&[]);
    let id = "mesh.platform.admission".to_owned();
    active_state.policies.insert(id.clone(), Arc::new(Policy { id, rego: rego.into(), ..Policy::default() }));
    let decision = submit(&active_state, "ops", DocumentKind::Contract, &FLIGHTS.yaml());
    assert_eq!(outcome(&decision), Err(vec!["MESH-POLICY-0007".to_owned()]), "{decision:?}");
}

#[test]
fn policies_are_the_platform_s_or_the_domain_s_own() {
    let platform = "package mesh.platform.reading\n\nallow := true\n";
    let own = "package mesh.domain.operations.reading\n\nallow := true\n";
    let judged =
        |principal: &str, text: &str| outcome(&submit(&active_state(&[]), principal, DocumentKind::Policy, text));
    assert_eq!(judged("ops", platform), Err(vec!["MESH-PUBLISHER-0002".to_owned()]));
    assert_eq!(judged("ops", own), Ok(0));
    assert_eq!(judged("root", platform), Ok(0));
}

fn principals(text: &str) -> Decision {
    submit(&active_state(&[]), "root", DocumentKind::Principals, text)
}

fn refused_principals(text: &str, code: &str) {
    assert_eq!(outcome(&principals(text)), Err(vec![code.to_owned()]), "{text}");
}

#[test]
fn principals_are_added_changed_and_removed_by_name() {
    let key = "0".repeat(64);
    let text = format!(
        "[[principal]]\nname = \"ana\"\nkey_sha256 = \"{key}\"\n\n[[principal]]\nname = \"ops\"\nremove = true\n"
    );
    let Decision::Admitted(Admission { plan: ProvisionPlan::Principals(plan), changes, .. }) = principals(&text) else {
        panic!("refused")
    };
    let written: Vec<&str> = plan.write.iter().map(|principal| principal.name.as_str()).collect();
    assert_eq!((written, plan.remove), (vec!["ana"], vec!["ops".to_owned()]));
    assert_eq!(changes.len(), 2);
}

#[test]
fn a_principal_keeps_its_key_where_the_file_says_none() {
    let same = "[[principal]]\nname = \"ops\"\nroles = [\"domain-admin\"]\nadmin_of = [\"operations\"]\n";
    assert!(matches!(principals(same), Decision::Unchanged(_)));
    refused_principals("[[principal]]\nname = \"new\"\n", "MESH-PUBLISHER-0020");
}

#[test]
fn the_last_admin_cannot_lock_the_mesh() {
    refused_principals("[[principal]]\nname = \"root\"\nremove = true\n", "MESH-PUBLISHER-0021");
    refused_principals("[[principal]]\nname = \"root\"\nroles = [\"analyst\"]\n", "MESH-PUBLISHER-0021");
}

#[test]
fn a_key_is_one_principal_s() {
    let key = crate::registry::fingerprint("root");
    refused_principals(&format!("[[principal]]\nname = \"ana\"\nkey_sha256 = \"{key}\"\n"), "MESH-PUBLISHER-0020");
}

#[test]
fn a_contract_id_stays_with_its_product() {
    let foreign = Doc { domain: "weather", product: "hourly", object: "hourly", topic: "weather.hourly.v1", ..FLIGHTS };
    check(
        &[foreign],
        &Doc { version: "2.0.0", topic: "operations.flights.v2", ..FLIGHTS },
        Err(&["MESH-PUBLISHER-0011"]),
    );
}

#[test]
fn nothing_is_admitted_past_a_record_that_cannot_be_read() {
    for (topic, expected) in [
        (mesh_proto::topics::POLICIES, Err(vec!["MESH-PUBLISHER-0031".to_owned()])),
        (mesh_proto::topics::CONTRACTS, Err(vec!["MESH-PUBLISHER-0031".to_owned()])),
        (mesh_proto::topics::PRINCIPALS, Ok(0)),
    ] {
        let mut active_state = active_state(&[]);
        active_state.unreadable.insert((topic, "some key".into()), 7);
        let decision = submit(&active_state, "ops", DocumentKind::Contract, &FLIGHTS.yaml());
        assert_eq!(outcome(&decision), expected, "{topic}");
    }
}
