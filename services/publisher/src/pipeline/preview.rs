//! The dry run: the pipeline's own decisions on a file's documents, one after the other, on the mesh as it would be by
//! then. Pure.
//!
//! In: the active state, and what is there. Out: decisions. Never: anything written or made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_contract::ProductContract;
use mesh_lakehouse::TableSpec;
use mesh_proto::topics::contract_key;
use mesh_proto::v1::{ActiveContract, TopicRef};

use super::decide::{Admission, Case, Decision, ProvisionPlan, decide};
use super::existing::{Existing, TableFacts};
use super::read::Part;
use super::{Submitted, fit, publish};
use crate::active_state::ActiveState;

/// The mesh as it would be after the documents so far.
#[derive(Debug, Clone, Default)]
pub struct Preview {
    pub active_state: ActiveState,
    /// Tables that were made or changed, by `namespace.name`.
    tables: BTreeMap<String, TableFacts>,
    topics: BTreeSet<String>,
}

impl Preview {
    pub fn of(active_state: ActiveState) -> Self {
        Self { active_state, ..Self::default() }
    }

    /// The decision on a document; what it admits counts for the next ones.
    pub fn decide(&mut self, submitted: &Submitted, part: &Part, existing: Existing) -> Decision {
        let existing = self.after_so_far(part, existing);
        let submission = &submitted.submission;
        let decision = decide(
            part,
            &Case {
                active_state: &self.active_state,
                principal: &submission.principal,
                file: &submission.file_name,
                existing: &existing,
                revision: submitted.revision,
            },
        );
        if let Decision::Admitted(admission) = &decision {
            self.carry_out(submitted, admission, existing);
        }
        decision
    }

    /// What is there, as the documents so far leave it.
    fn after_so_far(&self, part: &Part, existing: Existing) -> Existing {
        let Some(contract) = part.contract() else { return existing };
        let table = self.tables.get(&contract.table().to_string()).cloned();
        let dead_letters = self.tables.get(&contract.dead_letter_table().to_string()).cloned();
        Existing {
            table: table.or(existing.table),
            dead_letters: dead_letters.or(existing.dead_letters),
            has_topic: existing.has_topic || self.topics.contains(contract.topic()),
            ..existing
        }
    }

    fn carry_out(&mut self, submitted: &Submitted, admission: &Admission, existing: Existing) {
        let revision = submitted.revision;
        match &admission.plan {
            ProvisionPlan::Activate(contract, text) => {
                let record = publish::record(contract, text, submitted);
                self.activate(contract, record, existing, revision);
            }
            ProvisionPlan::Retire(contract) => {
                let key = contract_key(contract.id().as_str(), contract.major().0);
                self.active_state.contracts.remove(&key);
                if let Some(table) = existing.table {
                    self.put(TableFacts { revision: Some(Ok(revision)), ..table });
                }
            }
            ProvisionPlan::Policy(policy) => {
                self.active_state.policies.insert(policy.id.clone(), Arc::new(policy.clone()));
            }
            ProvisionPlan::Principals(principals) => {
                let written = principals.write.iter().map(|one| (one.name.clone(), Arc::new(one.clone())));
                self.active_state.principals.extend(written);
                self.active_state.principals.retain(|name, _| !principals.remove.contains(name));
            }
            ProvisionPlan::Note => {}
        }
    }

    fn activate(&mut self, contract: &ProductContract, record: ActiveContract, existing: Existing, revision: i64) {
        let key = contract_key(&record.contract_id, record.major);
        let active = self.active_state.contracts.get(&key).cloned();
        // The decision has made sure of both.
        let table = match existing.table {
            Some(table) => evolved(table, contract, active.as_deref(), revision),
            None => fit::table_spec(contract, revision).ok().map(planned),
        };
        let dead_letters =
            existing.dead_letters.or_else(|| fit::dead_letter_spec(contract, revision).ok().map(planned));
        let reference = |facts: &Option<TableFacts>| facts.as_ref().map(|facts| facts.reference.clone());
        let record = ActiveContract {
            topic: Some(TopicRef { name: contract.topic().to_owned(), topic_id: String::new() }),
            table: reference(&table),
            dead_letters: reference(&dead_letters),
            ..record
        };
        self.topics.insert(contract.topic().to_owned());
        [table, dead_letters].into_iter().flatten().for_each(|facts| self.put(facts));
        self.active_state.contracts.insert(key, Arc::new(record));
    }

    fn put(&mut self, facts: TableFacts) {
        self.tables.insert(facts.name(), facts);
    }
}

fn planned(spec: TableSpec) -> TableFacts {
    TableFacts::planned(&spec)
}

fn evolved(
    table: TableFacts,
    contract: &ProductContract,
    active: Option<&ActiveContract>,
    revision: i64,
) -> Option<TableFacts> {
    let schema = fit::next_schema(&table, contract, active).ok()?;
    let last_column_id = table.last_column_id.max(schema.highest_field_id());
    let columns = Ok(Some(fit::columns_of(contract, &schema)));
    Some(TableFacts { revision: Some(Ok(revision)), schema: Arc::new(schema), last_column_id, columns, ..table })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
