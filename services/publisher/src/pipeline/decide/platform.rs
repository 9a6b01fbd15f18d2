//! The decision on what is the platform's own: policies and principals.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::v1::{FieldChange, Finding, Policy, Principal};

use super::{Admission, Case, Decision, Principals, ProvisionPlan};
use crate::active_state::{ADMIN, ActiveState};
use crate::finding::{error, of_policy};
use crate::pipeline::read::PrincipalEntry;

/// A policy must compile, by itself and beside all others.
pub(super) fn policy(id: &str, rego: &str, case: &Case<'_>) -> Decision {
    let active = case.active_state.policies.get(id);
    if active.is_some_and(|policy| policy.rego == rego) {
        return Decision::Unchanged(Vec::new());
    }
    if let Err(problem) = case.active_state.policy_set(Some((id, rego))) {
        return Decision::Refused(vec![of_policy(&problem)]);
    }
    let changes = active.map(|_| change(id, "changed", "the module's text differs")).into_iter().collect();
    Decision::Admitted(Admission { plan: policy_plan(id, rego, case), changes, warnings: Vec::new() })
}

pub(super) fn policy_plan(id: &str, rego: &str, case: &Case<'_>) -> ProvisionPlan {
    let principal = case.principal.to_owned();
    ProvisionPlan::Policy(Policy { id: id.to_owned(), rego: rego.to_owned(), revision: 0, principal })
}

/// A file adds and changes the principals that it names and removes those it says to; all others stay.
pub(super) fn principals(entries: &[PrincipalEntry], case: &Case<'_>) -> Decision {
    let active = &case.active_state.principals;
    let mut findings: Vec<Finding> = entries.iter().flat_map(|entry| check(entry, active)).collect();
    findings.extend(doubled(entries));
    let plan = principals_plan(entries, case.active_state);
    if findings.is_empty() {
        findings.extend(after(&plan, active));
    }
    if !findings.is_empty() {
        return Decision::Refused(findings);
    }
    if plan == Principals::default() {
        return Decision::Unchanged(Vec::new());
    }
    let changes = if active.is_empty() { Vec::new() } else { differences(&plan, active) };
    Decision::Admitted(Admission { plan: ProvisionPlan::Principals(plan), changes, warnings: Vec::new() })
}

/// What differs from the active principals.
pub(super) fn principals_plan(entries: &[PrincipalEntry], active_state: &ActiveState) -> Principals {
    let mut plan = Principals::default();
    for entry in entries {
        let active = active_state.principals.get(&entry.name);
        if entry.remove {
            plan.remove.extend(active.map(|_| entry.name.clone()));
        } else {
            let wanted = record(entry, active.map(Arc::as_ref));
            let same = active.is_some_and(|active| Principal { revision: 0, ..Principal::clone(active) } == wanted);
            plan.write.extend((!same).then_some(wanted));
        }
    }
    plan
}

fn record(entry: &PrincipalEntry, active: Option<&Principal>) -> Principal {
    let known = || active.map(|active| active.key_sha256.clone());
    Principal {
        name: entry.name.clone(),
        key_sha256: entry.key_sha256.as_ref().map(|key| key.to_ascii_lowercase()).or_else(known).unwrap_or_default(),
        roles: entry.roles.clone(),
        admin_of: entry.admin_of.clone(),
        attributes: entry.attributes.clone(),
        revision: 0,
    }
}

fn change(path: &str, kind: &str, reason: &str) -> FieldChange {
    FieldChange { path: path.to_owned(), kind: kind.to_owned(), breaking: false, reason: reason.to_owned() }
}

fn differences(plan: &Principals, active: &BTreeMap<String, Arc<Principal>>) -> Vec<FieldChange> {
    let written = plan.write.iter().map(|principal| match active.contains_key(&principal.name) {
        true => change(&principal.name, "changed", "its key, roles, domains or attributes differ"),
        false => change(&principal.name, "added", "it is new"),
    });
    let removed = plan.remove.iter().map(|name| change(name, "removed", "its key is not valid any more"));
    written.chain(removed).collect()
}

fn check(entry: &PrincipalEntry, active: &BTreeMap<String, Arc<Principal>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |what: String, remedy: &str| {
        findings.push(error("MESH-PUBLISHER-0020", format!("principal `{}`: {what}", entry.name), remedy));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    if entry.name.is_empty() || entry.name.len() > 63 || !entry.name.chars().all(plain) {
        wrong("its name is not one".into(), "use at most 63 letters, digits and . _ @ -");
    }
    match &entry.key_sha256 {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {}
        Some(_) => wrong("key_sha256 is no SHA-256".into(), "write the 64 hex digits of `printf %s KEY | sha256sum`"),
        None if entry.remove || active.contains_key(&entry.name) => {}
        None => wrong("it is new and has no key".into(), "add key_sha256, or let `mesh apply` make a key"),
    }
    for domain in &entry.admin_of {
        if mesh_contract::Domain::new(domain).ok().is_none_or(|folded| folded.as_str() != domain) {
            wrong(
                format!("admin_of names `{domain}`, which is no domain's name"),
                "use the folded name: a-z, 0-9 and _",
            );
        }
    }
    findings
}

/// A name that the file has twice: one of the two would win unseen.
fn doubled(entries: &[PrincipalEntry]) -> Vec<Finding> {
    let twice = |at: usize| entries[..at].iter().any(|before| before.name == entries[at].name);
    let names = (0..entries.len()).filter(|at| twice(*at)).map(|at| &entries[at].name);
    names
        .map(|name| error("MESH-PUBLISHER-0020", format!("principal `{name}` stands in the file twice"), "keep one"))
        .collect()
}

/// The mesh afterwards: it must have an admin, and a key must belong to one principal.
fn after(plan: &Principals, active: &BTreeMap<String, Arc<Principal>>) -> Vec<Finding> {
    let mut then: BTreeMap<&str, &Principal> = active.iter().map(|(name, of)| (name.as_str(), of.as_ref())).collect();
    then.extend(plan.write.iter().map(|principal| (principal.name.as_str(), principal)));
    then.retain(|name, _| !plan.remove.iter().any(|removed| removed == name));
    let mut findings = Vec::new();
    if !then.values().any(|principal| mesh_policy::authority::is_platform_admin(&principal.roles)) {
        let message = format!("no principal would have the role `{ADMIN}` any more: the mesh would be locked");
        findings.push(error(
            "MESH-PUBLISHER-0021",
            message,
            "leave the role to one principal, or give it to another first",
        ));
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, principal) in &then {
        if let Some(other) = owners.insert(principal.key_sha256.as_str(), name) {
            let message = format!("principals `{other}` and `{name}` have the same key");
            findings.push(error("MESH-PUBLISHER-0020", message, "give each principal a key of its own"));
        }
    }
    findings
}
