//! In: an admitted and provisioned document. Out: its record on `mesh.contracts`, `mesh.policies` or `mesh.principals`.
//! Never: a record before what it promises exists, or a lower revision left standing over a higher one.

use chrono::Utc;
use mesh_contract::ProductContract;
use mesh_proto::cloudevents::types;
use mesh_proto::topics::{self, contract_key};
use mesh_proto::v1::{ActiveContract, Policy, Principal};
use mesh_runtime::fault;
use serde::Serialize;

use super::decide::{Principals, ProvisionPlan};
use super::provision::Provisioned;
use super::{AdmissionPipeline, Submitted};
use crate::error::PublisherError;
use crate::log::Log;
use crate::memory::Overwritten;

/// Makes the plan's outcome active, and waits until this publisher itself sees it.
pub async fn publish(
    pipeline: &AdmissionPipeline,
    submitted: &Submitted,
    plan: &ProvisionPlan,
    provisioned: Provisioned,
) -> Result<(), PublisherError> {
    let (log, memory, revision) = (&pipeline.log, &pipeline.memory, submitted.revision);
    let (topic, last) = match (plan, provisioned) {
        (ProvisionPlan::Activate(contract, text), Provisioned::Ready(tables)) => {
            let active = ActiveContract { topic: Some(tables.topic), ..record(contract, text, submitted) };
            let active =
                ActiveContract { table: Some(tables.table), dead_letters: Some(tables.dead_letters), ..active };
            (topics::CONTRACTS, contract_record(log, &active).await?)
        }
        (ProvisionPlan::Retire(contract), _) => {
            let key = contract_key(contract.id().as_str(), contract.major().0);
            (topics::CONTRACTS, log.erase(topics::CONTRACTS, &key, revision).await?.offset)
        }
        (ProvisionPlan::Policy(policy), _) => {
            let policy = Policy { revision, ..policy.clone() };
            (topics::POLICIES, policy_record(log, &policy).await?)
        }
        (ProvisionPlan::Principals(principals), _) => match principals_records(log, principals, revision).await? {
            Some(last) => (topics::PRINCIPALS, last),
            None => return Ok(()),
        },
        (ProvisionPlan::Note | ProvisionPlan::Activate(..), _) => return Ok(()),
    };
    fault::point("publisher.publish.active");
    memory.has_read(topic, last).await;
    Ok(())
}

/// The record of an active contract, without where its data goes.
pub fn record(contract: &ProductContract, text: &str, submitted: &Submitted) -> ActiveContract {
    ActiveContract {
        contract_id: contract.id().to_string(),
        major: contract.major().0,
        revision: submitted.revision,
        product: contract.product().to_string(),
        version: contract.contract().version.clone(),
        status: contract.contract().status.clone().unwrap_or_else(|| "active".to_owned()),
        document: text.to_owned(),
        principal: submitted.submission.principal.clone(),
        admitted_at: Some(mesh_proto::timestamp(Utc::now())),
        ..ActiveContract::default()
    }
}

/// An event whose id is its key and revision: the same however often it is written.
async fn write<M: Serialize>(
    log: &Log,
    topic: &'static str,
    kind: &str,
    key: &str,
    revision: i64,
    data: &M,
) -> Result<i64, PublisherError> {
    let event = log.event(topic, kind, &format!("{key}.{revision}"), data)?;
    Ok(log.publish(topic, &event.keyed(key).in_sequence(revision.max(0))).await?.offset)
}

async fn contract_record(log: &Log, active: &ActiveContract) -> Result<i64, PublisherError> {
    let key = contract_key(&active.contract_id, active.major);
    write(log, topics::CONTRACTS, types::ACTIVE_CONTRACT, &key, active.revision, active).await
}

async fn policy_record(log: &Log, policy: &Policy) -> Result<i64, PublisherError> {
    write(log, topics::POLICIES, types::POLICY, &policy.id, policy.revision, policy).await
}

/// Writes one principal.
pub async fn principal_record(log: &Log, principal: &Principal) -> Result<i64, PublisherError> {
    write(log, topics::PRINCIPALS, types::PRINCIPAL, &principal.name, principal.revision, principal).await
}

async fn principals_records(log: &Log, principals: &Principals, revision: i64) -> Result<Option<i64>, PublisherError> {
    let mut last = None;
    for principal in &principals.write {
        last = Some(principal_record(log, &Principal { revision, ..principal.clone() }).await?);
    }
    for name in &principals.remove {
        last = Some(log.erase(topics::PRINCIPALS, name, revision).await?.offset);
    }
    Ok(last)
}

/// Writes again what a publisher that slept wrote over.
pub async fn heal(pipeline: &AdmissionPipeline) -> Result<(), PublisherError> {
    for Overwritten { topic, key } in pipeline.memory.take_overwritten() {
        let (log, active_state) = (&pipeline.log, pipeline.memory.active_state());
        tracing::warn!(topic, key, "an older revision was written over a newer one: writing the newer one again");
        match topic {
            topics::CONTRACTS if active_state.contracts.contains_key(&key) => {
                contract_record(log, &active_state.contracts[&key]).await?
            }
            topics::POLICIES if active_state.policies.contains_key(&key) => {
                policy_record(log, &active_state.policies[&key]).await?
            }
            topics::PRINCIPALS if active_state.principals.contains_key(&key) => {
                principal_record(log, &active_state.principals[&key]).await?
            }
            _ => match pipeline.memory.erased(topic, &key) {
                Some(revision) => log.erase(topic, &key, revision).await?.offset,
                None => continue,
            },
        };
    }
    Ok(())
}
