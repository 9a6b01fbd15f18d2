//! The policies of the mesh, compiled once for each set of revisions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_policy::{Module, PolicySet};
use mesh_proto::v1::Policy;

use crate::error::QueryError;

type Revisions = Vec<(String, i64)>;

/// The last compiled set.
#[derive(Default)]
pub struct Rules {
    compiled: Mutex<Option<(Revisions, PolicySet)>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

impl Rules {
    /// The compiled policies and the highest revision among them.
    pub fn of(&self, policies: &BTreeMap<String, Arc<Policy>>) -> Result<(PolicySet, i64), QueryError> {
        let revisions: Revisions = policies.iter().map(|(id, policy)| (id.clone(), policy.revision)).collect();
        let highest = revisions.iter().map(|(_, revision)| *revision).max().unwrap_or(-1);
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, set)) = compiled.as_ref().filter(|(known, _)| *known == revisions) {
            return Ok((set.clone(), highest));
        }
        let modules: Vec<Module> = policies.values().map(|p| Module::new(p.id.clone(), p.rego.clone())).collect();
        let set = PolicySet::compile(&modules)
            .map_err(|source| QueryError::Policy { product: "any product".to_owned(), source: Box::new(source) })?;
        *compiled = Some((revisions, set.clone()));
        Ok((set, highest))
    }
}
