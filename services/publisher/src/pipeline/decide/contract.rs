//! The decision on an ODCS contract: can the mesh run it, is its name free, may it follow what is active, does policy
//! allow it, does it fit the tables that are there.

use std::sync::Arc;

use mesh_contract::{Compatibility, Contract, ProductContract, compare};
use mesh_policy::{AdmissionInput, PrincipalFacts};
use mesh_proto::record::{RECORD_BYTES, json_bytes};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, FieldChange, Finding, Principal};
use serde_json::Value;

use super::{Admission, Case, Decision, ProvisionPlan};
use crate::active_state::{ActiveState, domain_of, topic_of};
use crate::finding::{at, error, of_contract_error, of_denial, of_policy};
use crate::pipeline::existing::Existing;
use crate::pipeline::fit;

pub(super) fn decide(document: &Contract, text: &str, case: &Case<'_>) -> Decision {
    match plan(document, text) {
        Ok(ProvisionPlan::Activate(contract, text)) => activate(document, contract, text, case),
        Ok(ProvisionPlan::Retire(contract)) => retire(document, contract, case),
        Ok(_) => Decision::Refused(Vec::new()),
        Err(findings) => refused(document, findings, case),
    }
}

fn activate(document: &Contract, contract: Box<ProductContract>, text: String, case: &Case<'_>) -> Decision {
    let active = case.active_state.contract(contract.id().as_str(), contract.major().0).map(Arc::as_ref);
    let mut findings = unreadable(case.active_state);
    if let Some(other) = other_product(&contract, case.active_state) {
        // What changed since the other product's revision helps its author nothing.
        findings.push(other);
        return refused(document, findings, case);
    }
    let mut changes = Vec::new();
    let mut is_same = false;
    match active.map(|active| following(active, &contract)).transpose() {
        Ok(None) => {}
        Ok(Some(Some(found))) => changes = found,
        Ok(Some(None)) => match active.and_then(|active| missing(active, case.existing)) {
            Some(missing) => {
                is_same = true;
                changes.push(restored(&missing));
            }
            None => return Decision::Unchanged(Vec::new()),
        },
        Err(refusals) => findings.extend(refusals),
    }
    // What is active is not judged again, only made again.
    if !is_same {
        findings.extend(too_large(&text));
        findings.extend(names(&contract, case.active_state));
        findings.extend(policy(&contract, case));
    }
    if findings.is_empty() {
        let fits = fit::check(&contract, active, case.existing, case.revision);
        findings.extend(fits.err().map(|finding| *finding));
    }
    if findings.is_empty() {
        let plan = ProvisionPlan::Activate(contract, text);
        return Decision::Admitted(Admission { plan, changes, warnings: Vec::new() });
    }
    refused(document, findings, case)
}

fn retire(document: &Contract, contract: Box<ProductContract>, case: &Case<'_>) -> Decision {
    let active = case.active_state.contract(contract.id().as_str(), contract.major().0);
    let mut findings = unreadable(case.active_state);
    match active.map(|active| following(active, &contract)) {
        None => findings.push(nothing_to_retire(&contract)),
        Some(Ok(None)) => return Decision::Unchanged(Vec::new()),
        Some(Ok(Some(changes))) if findings.is_empty() => {
            let plan = ProvisionPlan::Retire(contract);
            return Decision::Admitted(Admission { plan, changes, warnings: Vec::new() });
        }
        Some(Ok(Some(_))) => {}
        Some(Err(refusals)) => findings.extend(refusals),
    }
    refused(document, findings, case)
}

fn refused(document: &Contract, findings: Vec<Finding>, case: &Case<'_>) -> Decision {
    Decision::Refused(findings.into_iter().map(|found| placed(document, case.file, found)).collect())
}

/// What an active contract promises and is not there.
fn missing(active: &ActiveContract, existing: &Existing) -> Option<String> {
    let tables = [(&active.table, &existing.table), (&active.dead_letters, &existing.dead_letters)];
    let tables = tables.into_iter().filter_map(|(expected, found)| Some((expected.as_ref()?, found)));
    let mut missing = tables.filter_map(|(expected, found)| match found {
        None => Some(format!("the table {}.{} is missing", expected.namespace, expected.name)),
        Some(found) if fit::is_other(expected, found) => {
            Some(format!("another table is there under the name {}", found.name()))
        }
        Some(_) => None,
    });
    let topic = || active.topic.as_ref().filter(|_| !existing.has_topic);
    missing.next().or_else(|| Some(format!("the topic {} is missing", topic()?.name)))
}

/// The change of a contract whose table or topic is made again, by the document that is active.
fn restored(missing: &str) -> FieldChange {
    let reason = format!("{missing}, and is made again");
    FieldChange { path: String::new(), kind: "restored".to_owned(), breaking: false, reason }
}

/// What admitting the document would do, whatever else is active.
pub(super) fn plan(document: &Contract, text: &str) -> Result<ProvisionPlan, Vec<Finding>> {
    let contract = ProductContract::new(document.clone()).map_err(|problem| of_contract_error(&problem))?;
    match document.status.as_deref().unwrap_or("active") {
        "active" | "deprecated" => Ok(ProvisionPlan::Activate(Box::new(contract), text.to_owned())),
        "retired" => Ok(ProvisionPlan::Retire(Box::new(contract))),
        other => {
            let message = format!("the contract's status is `{other}`: it is not meant to run yet");
            let remedy = "set `status: active` to apply it; `mesh validate` checks drafts";
            Err(vec![placed(document, "", at("/status", error("MESH-PUBLISHER-0025", message, remedy)))])
        }
    }
}

/// A contract or a policy that cannot be read might refuse this one: nothing is admitted past it.
fn unreadable(active_state: &ActiveState) -> Vec<Finding> {
    let deciding =
        active_state.unreadable.iter().filter(|((topic, _), _)| [topics::CONTRACTS, topics::POLICIES].contains(topic));
    let findings = deciding.map(|((topic, key), offset)| {
        let message =
            format!("nothing can be admitted: the record of `{key}` at offset {offset} of {topic} cannot be read");
        error(
            "MESH-PUBLISHER-0031",
            message,
            "submit the policy again, or have the record's key erased; then apply again",
        )
    });
    findings.collect()
}

/// What the endpoint takes in may still be more than a record of `mesh.contracts` holds.
fn too_large(text: &str) -> Option<Finding> {
    let bytes = json_bytes(text);
    (bytes > RECORD_BYTES).then(|| {
        let message = format!("the contract is {bytes} bytes as a record, and {RECORD_BYTES} fit");
        error("MESH-PUBLISHER-0003", message, "shorten its descriptions, or make two products of it")
    })
}

fn nothing_to_retire(contract: &ProductContract) -> Finding {
    let message = format!("contract {} v{} is not active, so it cannot be retired", contract.id(), contract.major());
    at("/status", error("MESH-PUBLISHER-0019", message, "correct id and version, or apply it as active first"))
}

/// How the contract differs from the active one; none where it does not.
fn following(active: &ActiveContract, new: &ProductContract) -> Result<Option<Vec<FieldChange>>, Vec<Finding>> {
    let old = ProductContract::parse(&format!("{}@{}", active.contract_id, active.revision), &active.document)
        .map_err(|problem| vec![unreadable_active(active, &problem)])?;
    if old.contract().says_the_same(new.contract()) {
        return Ok(None);
    }
    let verdict = compare(&old, new);
    let mut refusals: Vec<Finding> = verdict.breaking().map(|change| breaking(change, new)).collect();
    if refusals.is_empty() {
        refusals.extend(version(&old, new, &verdict));
    }
    if refusals.is_empty() { Ok(Some(changes(&old, new, &verdict))) } else { Err(refusals) }
}

fn unreadable_active(active: &ActiveContract, problem: &mesh_contract::ContractError) -> Finding {
    let why = mesh_runtime::report::chain(problem);
    let message = format!("the active revision {} of {} cannot be read: {why}", active.revision, active.contract_id);
    error("MESH-PUBLISHER-0027", message, "this is a defect: report it; a new major version can be applied meanwhile")
}

fn breaking(change: &mesh_contract::FieldChange, new: &ProductContract) -> Finding {
    let place = if change.path.is_empty() { "the contract".to_owned() } else { format!("`{}`", change.path) };
    let next = new.major().0 + 1;
    let remedy = format!("undo it, or apply it as version {next}.0.0 beside the active one");
    at(
        pointer(new.contract(), &change.path),
        error("MESH-PUBLISHER-0015", format!("{place}: {}", change.reason), remedy),
    )
}

/// A change must show in the version: programs that pin one rely on it.
fn version(old: &ProductContract, new: &ProductContract, verdict: &Compatibility) -> Option<Finding> {
    let problem = verdict.check_version(&old.contract().version, &new.contract().version).err()?;
    Some(at("/version", error("MESH-PUBLISHER-0014", problem.to_string(), problem.remedy())))
}

/// Never empty: what the comparison of fields does not see is a change of the contract's words.
fn changes(old: &ProductContract, new: &ProductContract, verdict: &Compatibility) -> Vec<FieldChange> {
    let mut changes: Vec<FieldChange> = verdict.changes.iter().map(of_change).collect();
    let (was, is) = (status(old), status(new));
    if was != is {
        // First, since a verdict carries only so many, and what it is called rests on this one.
        let reason = format!("{was} became {is}");
        changes.insert(0, FieldChange { path: STATUS.into(), kind: STATUS.into(), breaking: false, reason });
    }
    if changes.is_empty() {
        let reason = "the contract's words differ".to_owned();
        changes.push(FieldChange { path: String::new(), kind: "documentation".into(), breaking: false, reason });
    }
    changes
}

/// Path and kind of a change of status.
pub const STATUS: &str = "status";

fn status(contract: &ProductContract) -> &str {
    contract.contract().status.as_deref().unwrap_or("active")
}

fn of_change(change: &mesh_contract::FieldChange) -> FieldChange {
    let kind = serde_json::to_value(change.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    FieldChange {
        path: change.path.clone(),
        kind: kind.unwrap_or_default(),
        breaking: change.breaking,
        reason: change.reason.clone(),
    }
}

/// A contract id that another product has already.
fn other_product(new: &ProductContract, active_state: &ActiveState) -> Option<Finding> {
    let mut same_id = active_state.contracts.values().filter(|other| other.contract_id == new.id().as_str());
    let other = same_id.find(|other| other.product != new.product().to_string())?;
    let message = format!("contract id `{}` is product {}'s already", new.id(), other.product);
    Some(at("/id", error("MESH-PUBLISHER-0011", message, "give this contract an id of its own")))
}

/// Names that another contract has already.
fn names(new: &ProductContract, active_state: &ActiveState) -> Vec<Finding> {
    let domain = new.product().domain.as_str();
    let others = || active_state.contracts.values().filter(|other| other.contract_id != new.id().as_str());
    let mut findings = Vec::new();
    if let Some(other) = others().find(|other| other.product == new.product().to_string()) {
        let message = format!("product {} is contract `{}`'s already", new.product(), other.contract_id);
        let remedy = format!("use `id: {}`, or give the product another name", other.contract_id);
        findings.push(at("/id", error("MESH-PUBLISHER-0011", message, remedy)));
    } else if let Some((other, name)) = others().find_map(|other| Some((other, shared_name(new, other)?))) {
        let message = format!("`{domain}.{name}` is a name of product {} already", other.product);
        findings
            .push(at("/schema/0/name", error("MESH-PUBLISHER-0012", message, "give the schema object another name")));
    }
    findings.extend(topic(new, domain, active_state));
    findings
}

/// A name that both have in SQL: the unsuffixed one, that of the table, that of the dead letters.
fn shared_name(new: &ProductContract, other: &ActiveContract) -> Option<String> {
    let table = other.table.as_ref().filter(|table| table.namespace == new.product().domain.as_str())?;
    let object = table.name.strip_suffix(&format!("_v{}", other.major)).unwrap_or(&table.name);
    let theirs = [object.to_owned(), table.name.clone(), format!("{}_dead_letters", table.name)];
    let mine = [new.object_name().to_owned(), new.table().table, new.dead_letter_table().table];
    mine.into_iter().find(|name| theirs.contains(name))
}

/// A topic is the domain's that declared it first: a foreign contract over it would open its records to others.
fn topic(new: &ProductContract, domain: &str, active_state: &ActiveState) -> Option<Finding> {
    let place = "/schema/0/physicalName";
    let foreign = active_state.on_topic(new.topic()).find(|other| domain_of(&other.product) != domain)?;
    let message = format!("topic `{}` belongs to product {}", topic_of(foreign), foreign.product);
    Some(at(place, error("MESH-PUBLISHER-0013", message, "read that product's table, or name a topic of your own")))
}

fn policy(contract: &ProductContract, case: &Case<'_>) -> Vec<Finding> {
    let submitter =
        case.active_state.principals.get(case.principal).map(|principal| facts(principal)).unwrap_or_default();
    let (domain, product) = (contract.product().domain.to_string(), contract.product().to_string());
    let input = AdmissionInput::new(&domain, &product, &contract.contract().document, &submitter);
    match case.active_state.policy_set(None).and_then(|policies| policies.admission(&input)) {
        Ok(denials) => denials.iter().map(of_denial).collect(),
        Err(problem) => vec![of_policy(&problem)],
    }
}

fn facts(principal: &Principal) -> PrincipalFacts {
    PrincipalFacts {
        name: principal.name.clone(),
        roles: principal.roles.clone(),
        admin_of: principal.admin_of.clone(),
        attributes: principal.attributes.clone(),
    }
}

/// The JSON pointer of a column, for a top-level one; else of the schema object.
fn pointer(contract: &Contract, path: &str) -> String {
    let top = path.split(['.', '[']).next().unwrap_or_default();
    let columns = contract.document.pointer("/schema/0/properties").and_then(Value::as_array);
    let fold = |name: &str| mesh_contract::names::fold_column(name).unwrap_or_default();
    let place = columns.into_iter().flatten().position(|column| {
        let name = column["name"].as_str().unwrap_or_default();
        name == top || fold(name) == top
    });
    place.map_or_else(|| "/schema/0".to_owned(), |index| format!("/schema/0/properties/{index}"))
}

/// With line and column of its pointer in the submitted text.
fn placed(document: &Contract, file: &str, found: Finding) -> Finding {
    if found.line > 0 || found.path.is_empty() {
        return found;
    }
    let place = document.finding_at(file, "", &found.path, "", "");
    let of = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Finding { line: of(place.line), column: of(place.column), ..found }
}
