//! The newest verdicts: for the door, which waits for one; for the pipeline, which must not give one twice.

use std::collections::{BTreeMap, VecDeque};

use mesh_proto::v1::{ContractEvent, ContractState};

/// How many are kept: more than can be on their way at one time.
const KEPT: usize = 4096;

/// The id of the verdict on a submission's n-th document.
pub fn verdict_id(revision: i64, part: usize) -> String {
    format!("{revision}.{part}")
}

/// The id of the proposal of a submission's n-th document.
pub fn proposal_id(revision: i64, part: usize) -> String {
    format!("{revision}.{part}.proposed")
}

/// Verdicts and proposals by their event's id.
#[derive(Debug, Default)]
pub struct Verdicts {
    by_id: BTreeMap<String, ContractEvent>,
    order: VecDeque<String>,
    last: Option<i64>,
}

impl Verdicts {
    pub(super) fn take(&mut self, id: String, verdict: ContractEvent) {
        self.last = self.last.max(Some(verdict.revision));
        if self.by_id.insert(id.clone(), verdict).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > KEPT {
            self.order.pop_front().map(|oldest| self.by_id.remove(&oldest));
        }
    }

    pub fn get(&self, id: &str) -> Option<&ContractEvent> {
        self.by_id.get(id)
    }

    /// The newest submission that was judged, at least in part.
    pub fn last(&self) -> Option<i64> {
        self.last
    }

    /// The final verdicts on a submission's documents, if all of them are there.
    pub fn of(&self, revision: i64, parts: usize) -> Option<Vec<ContractEvent>> {
        (0..parts).map(|part| self.get(&verdict_id(revision, part)).cloned()).collect()
    }

    /// The changes of a document that was proposed already.
    pub fn proposed(&self, revision: i64, part: usize) -> Option<&ContractEvent> {
        self.get(&proposal_id(revision, part)).filter(|event| event.state() == ContractState::Proposed)
    }
}
