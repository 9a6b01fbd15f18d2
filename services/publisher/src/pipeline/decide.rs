//! In: one document, who submits it, what is active, and what is there. Out: what becomes of it. Pure: the dry run stops
//! here, the pipeline carries out what it says.
//! Never: an admission that standard, policy or compatibility refuses (ADMITTED), or one because a check could not be
//! made (NEVER-SILENT); a verdict of the dry run that apply does not give (ONE-VERDICT).

mod contract;
mod platform;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mesh_contract::{DataProduct, ProductContract};
use mesh_policy::Authority;
use mesh_proto::v1::{FieldChange, Finding, Policy, Principal};

use super::existing::Existing;
use super::read::{Body, Part};
use crate::active_state::ActiveState;
use crate::authority::needed;
use crate::finding::{at, error, is_error, is_too_long, warning};

pub use contract::STATUS;
/// What a decision rests on, beside the document.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub active_state: &'a ActiveState,
    /// Who submits, by name: looked up in the active state.
    pub principal: &'a str,
    /// The file's name, for findings.
    pub file: &'a str,
    /// What is there of the document's product; nothing for other documents.
    pub existing: &'a Existing,
    /// The revision that the document gets.
    pub revision: i64,
}

/// What shall become of a document.
#[derive(Debug, Clone)]
pub enum Decision {
    /// At least one finding is an error.
    Refused(Vec<Finding>),
    /// The active revision says the same.
    Unchanged(Vec<Finding>),
    Admitted(Admission),
}

/// An admitted document: what to do, how it differs from the active revision, what its author should look at.
#[derive(Debug, Clone)]
pub struct Admission {
    pub plan: ProvisionPlan,
    /// Empty exactly where nothing was active before.
    pub changes: Vec<FieldChange>,
    pub warnings: Vec<Finding>,
}

/// What an admission does to the mesh.
#[derive(Debug, Clone)]
pub enum ProvisionPlan {
    /// Provision and activate; the text is the one to keep.
    Activate(Box<ProductContract>, String),
    Retire(Box<ProductContract>),
    /// Nothing is provisioned: the verdict is the record of it.
    Note,
    Policy(Policy),
    Principals(Principals),
}

/// Principals to write and names to take away. Revisions are set when they are published.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Principals {
    pub write: Vec<Principal>,
    pub remove: Vec<String>,
}

/// The decision on one document.
pub fn decide(part: &Part, case: &Case<'_>) -> Decision {
    guarded(|| unguarded(part, case))
}

/// A decision that panics would do so again at every try: it is a refusal, so that the next document's turn comes.
fn guarded(decide: impl FnOnce() -> Decision) -> Decision {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|_| {
        let message = "judging the document failed in a way that it never should: a defect of the publisher";
        let remedy = "report it with the document; the publisher's log says where";
        Decision::Refused(vec![error("MESH-PUBLISHER-0034", message, remedy)])
    })
}

fn unguarded(part: &Part, case: &Case<'_>) -> Decision {
    let decision = match (&part.body, authority(part, case).or_else(|| long_id(part))) {
        // Refused from every principal; a record that is no submission has none.
        (Body::Unreadable(findings), _) => Decision::Refused(findings.clone()),
        (_, Some(refusal)) => Decision::Refused(vec![refusal]),
        (Body::Contract(document, text), None) => contract::decide(document, text, case),
        (Body::DataProduct(product), None) => data_product(product, case),
        (Body::Policy(package, rego), None) => platform::policy(&package.to_string(), rego, case),
        (Body::Principals(entries), None) => platform::principals(entries, case),
    };
    decision.with_warnings(&part.warnings)
}

/// The admission that an earlier run decided on and announced as proposed: not judged a second time, since the
/// active state may already hold its own outcome.
pub fn resume(part: &Part, changes: Vec<FieldChange>, case: &Case<'_>) -> Decision {
    let plan = match &part.body {
        Body::Contract(document, text) => contract::plan(document, text),
        Body::DataProduct(_) => Ok(ProvisionPlan::Note),
        Body::Policy(package, rego) => Ok(platform::policy_plan(&package.to_string(), rego, case)),
        Body::Principals(entries) => {
            Ok(ProvisionPlan::Principals(platform::principals_plan(entries, case.active_state)))
        }
        Body::Unreadable(findings) => Err(findings.clone()),
    };
    match plan {
        Ok(plan) => Decision::Admitted(Admission { plan, changes, warnings: part.warnings.clone() }),
        Err(findings) => Decision::Refused(findings),
    }
}

impl Decision {
    fn with_warnings(mut self, warnings: &[Finding]) -> Self {
        match &mut self {
            Self::Refused(findings) if findings.iter().any(|f| warnings.contains(f)) => {}
            Self::Refused(findings) | Self::Unchanged(findings) => findings.extend_from_slice(warnings),
            Self::Admitted(admission) => admission.warnings.extend_from_slice(warnings),
        }
        self
    }
}

/// Ids are record keys, and stand in every event about the document.
fn long_id(part: &Part) -> Option<Finding> {
    let id = match &part.body {
        Body::Contract(contract, _) => contract.id.to_string(),
        Body::DataProduct(product) => product.id.to_string(),
        Body::Policy(package, _) => package.to_string(),
        Body::Principals(_) | Body::Unreadable(_) => return None,
    };
    is_too_long(&id).then(|| {
        at(
            "/id",
            error("MESH-PUBLISHER-0003", format!("the id has {} characters", id.chars().count()), "use at most 255"),
        )
    })
}

/// The endpoint checks this as well; but rights may be withdrawn since, and records on the topic are judged by themselves.
fn authority(part: &Part, case: &Case<'_>) -> Option<Finding> {
    let Some(principal) = case.active_state.principals.get(case.principal) else {
        let message = format!("principal `{}` does not exist", case.principal);
        return Some(error("MESH-PUBLISHER-0001", message, "submit as a principal that exists"));
    };
    let needs = needed(part);
    (!needs.granted_to(&principal.roles, &principal.admin_of)).then(|| forbidden(&principal.name, &needs))
}

/// The refusal of somebody who may not submit this.
pub(crate) fn forbidden(name: &str, needs: &Authority) -> Finding {
    let message = format!("principal `{name}` may not submit this document");
    error("MESH-PUBLISHER-0002", message, format!("submit it as {}", needs))
}

/// A data product names its ports' contracts: those it offers must be there, those it reads may be elsewhere.
fn data_product(product: &DataProduct, case: &Case<'_>) -> Decision {
    let known = |id: &str| case.active_state.has_contract(id);
    let mut findings = Vec::new();
    for (list, ports) in [("outputPorts", &product.output_ports), ("inputPorts", &product.input_ports)] {
        for (index, port) in ports.iter().enumerate() {
            let Some(id) = port.contract_id.as_ref().filter(|id| !known(id.as_str())) else { continue };
            let message = format!("port `{}` names contract `{id}`, which is not active", port.name);
            let place = format!("/{list}/{index}/contractId");
            let found = match list {
                "outputPorts" => {
                    error("MESH-PUBLISHER-0022", message, "apply that contract first, or in the same file")
                }
                _ => warning("MESH-PUBLISHER-0022", message, "correct the id, if the contract is one of this mesh"),
            };
            findings.push(at(place, found));
        }
    }
    if findings.iter().any(is_error) {
        return Decision::Refused(findings);
    }
    Decision::Admitted(Admission { plan: ProvisionPlan::Note, changes: Vec::new(), warnings: findings })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
