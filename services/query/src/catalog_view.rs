//! What query knows of the mesh: principals, policies, products — views of compacted topics.
//!
//! Fails closed: until principals, policies and contracts are loaded, or while one of them cannot be read, no
//! query is answered. A policy counts from the moment it is on the topic; nothing is cached beyond its revision.

mod products;
mod rules;

use std::sync::Arc;

use mesh_bus::{Bus, View};
use mesh_lakehouse::Catalog;
use mesh_policy::PrincipalFacts;
use mesh_proto::topics;
use mesh_proto::trace::TraceContext;
use mesh_proto::v1::{ActiveContract, Policy, Principal};
use mesh_runtime::Credentials;

use crate::error::QueryError;

pub use products::{CatalogEntry, Products, TableKind, find};
pub use rules::Rules;

/// A table as a query reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadTable {
    /// `domain.name`.
    pub product: String,
    pub major: u32,
    /// `namespace.name` in the catalog.
    pub table: String,
    /// The table as the statement names it.
    pub named: String,
    pub snapshot_id: Option<i64>,
    pub masked: Vec<String>,
    pub row_filtered: bool,
    /// The newest commits: snapshot and trace context.
    pub commits: Vec<(i64, TraceContext)>,
}

/// The views.
#[derive(Clone, Debug)]
pub struct CatalogView {
    pub catalog: Catalog,
    contracts: View<ActiveContract>,
    principals: View<Principal>,
    policies: View<Policy>,
    products: Arc<Products>,
    rules: Arc<Rules>,
}

impl CatalogView {
    /// Opens the views; they load in the background.
    pub async fn open(bus: &Bus, catalog: Catalog) -> Result<Self, QueryError> {
        Ok(Self {
            catalog,
            contracts: bus.view(topics::CONTRACTS, |c: &ActiveContract| c.revision).await?,
            principals: bus.view(topics::PRINCIPALS, |p: &Principal| p.revision).await?,
            policies: bus.view(topics::POLICIES, |p: &Policy| p.revision).await?,
            products: Arc::default(),
            rules: Arc::default(),
        })
    }

    /// Waits until everything is loaded.
    pub async fn loaded(&self) -> Result<(), QueryError> {
        self.contracts.loaded().await?;
        self.principals.loaded().await?;
        Ok(self.policies.loaded().await?)
    }

    /// Whether anybody may read at all.
    pub fn ready(&self) -> Result<(), QueryError> {
        fn check<T: serde::de::DeserializeOwned + Send + Sync + 'static>(
            view: &View<T>,
            what: &'static str,
        ) -> Result<(), QueryError> {
            let known = view.is_loaded() && view.unreadable().is_empty();
            if known { Ok(()) } else { Err(QueryError::NotReady { what }) }
        }
        check(&self.principals, "principals")?;
        check(&self.policies, "policies")?;
        check(&self.contracts, "contracts")
    }

    /// Whose credentials they are.
    pub fn principal(&self, credentials: &Credentials) -> Result<PrincipalFacts, QueryError> {
        self.ready()?;
        let all = self.principals.snapshot();
        let found = all.values().find(|principal| credentials.are_of(principal));
        let principal = found.ok_or(QueryError::UnknownKey)?;
        Ok(PrincipalFacts {
            name: principal.name.clone(),
            roles: principal.roles.clone(),
            admin_of: principal.admin_of.clone(),
            attributes: principal.attributes.clone().into_iter().collect(),
        })
    }

    /// The products with an active contract.
    pub fn products(&self) -> Result<Vec<Arc<CatalogEntry>>, QueryError> {
        self.ready()?;
        Ok(self.products.of(&self.contracts.snapshot()))
    }

    /// The policies, compiled, and the highest revision among them.
    pub fn rules(&self) -> Result<(mesh_policy::PolicySet, i64), QueryError> {
        self.ready()?;
        self.rules.of(&self.policies.snapshot())
    }
}
