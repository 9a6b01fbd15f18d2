//! What is active: contracts, policies, principals, as the compacted topics say. One moment of it, immutable.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::{Module, PolicyError, PolicySet};
use mesh_proto::topics::contract_key;
use mesh_proto::v1::{ActiveContract, Policy, Principal};

/// Holders of this role act for the whole platform: policies, principals, every domain.
pub use mesh_policy::ADMIN;

/// What a judgement rests on.
#[derive(Debug, Clone, Default)]
pub struct ActiveState {
    /// By `<contract id>@<major>`.
    pub contracts: BTreeMap<String, Arc<ActiveContract>>,
    /// By package.
    pub policies: BTreeMap<String, Arc<Policy>>,
    /// By name.
    pub principals: BTreeMap<String, Arc<Principal>>,
    /// Topic and key of records that cannot be read, and their offsets.
    pub unreadable: BTreeMap<(&'static str, String), i64>,
}

impl ActiveState {
    /// The active revision of one major version of a contract.
    pub fn contract(&self, id: &str, major: u32) -> Option<&Arc<ActiveContract>> {
        self.contracts.get(&contract_key(id, major))
    }

    /// Any active major version of a contract.
    pub fn has_contract(&self, id: &str) -> bool {
        self.contracts.values().any(|contract| contract.contract_id == id)
    }

    /// The contracts whose records lie on this topic.
    pub fn on_topic<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Arc<ActiveContract>> {
        self.contracts.values().filter(move |contract| topic_of(contract) == topic)
    }

    /// All policies compiled, one of them possibly replaced by a candidate.
    pub fn policy_set(&self, candidate: Option<(&str, &str)>) -> Result<PolicySet, PolicyError> {
        let replaced = candidate.map(|(id, _)| id);
        let active = self.policies.values().filter(|policy| Some(policy.id.as_str()) != replaced);
        let modules = active.map(|policy| Module::new(&policy.id, &policy.rego));
        PolicySet::compile(modules.chain(candidate.map(|(id, rego)| Module::new(id, rego))))
    }
}

/// The name of the topic that feeds a product.
pub fn topic_of(contract: &ActiveContract) -> &str {
    contract.topic.as_ref().map_or("", |topic| &topic.name)
}

/// The domain of `domain.name`.
pub fn domain_of(product: &str) -> &str {
    product.split('.').next().unwrap_or_default()
}
