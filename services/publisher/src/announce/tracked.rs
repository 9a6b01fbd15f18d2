//! Which tables are announced: those of the active contracts, and those announced before. Pure.
//!
//! In: the active state, and what was announced last. Out: tables by name, each with the uuid that it must have.
//! Never: a table taken for a product's by its name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_lakehouse::catalog::Pointer;
use mesh_lakehouse::{Table, summary};
use mesh_proto::v1::{Announced, TableRef};

use super::describe::Owner;
use crate::active_state::ActiveState;

/// The last announced snapshot of each table, by uuid, and the uuid of each name.
#[derive(Debug, Default)]
pub(super) struct LastByTable {
    by_uuid: BTreeMap<String, Arc<Announced>>,
    by_name: HashMap<(String, String), String>,
}

impl From<BTreeMap<String, Arc<Announced>>> for LastByTable {
    fn from(by_uuid: BTreeMap<String, Arc<Announced>>) -> Self {
        let named = |(uuid, announced): (&String, &Arc<Announced>)| {
            let table = announced.table.as_ref()?;
            Some(((table.namespace.clone(), table.name.clone()), uuid.clone()))
        };
        let by_name = by_uuid.iter().filter_map(named).collect();
        Self { by_uuid, by_name }
    }
}

impl LastByTable {
    pub(super) fn of(&self, uuid: &str) -> Option<Arc<Announced>> {
        self.by_uuid.get(uuid).cloned()
    }

    /// The table that was announced under a name.
    pub(super) fn named(&self, namespace: &str, name: &str) -> Option<TableRef> {
        let uuid = self.by_name.get(&(namespace.to_owned(), name.to_owned()))?;
        self.by_uuid.get(uuid)?.table.clone()
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &TableRef> {
        self.by_uuid.values().filter_map(|announced| announced.table.as_ref())
    }

    pub(super) fn set(&mut self, uuid: String, announced: Announced) {
        if let Some(table) = &announced.table {
            self.by_name.insert((table.namespace.clone(), table.name.clone()), uuid.clone());
        }
        self.by_uuid.insert(uuid, Arc::new(announced));
    }

    pub(super) fn remove(&mut self, uuid: &str) {
        self.by_uuid.remove(uuid);
        self.by_name.retain(|_, named| named != uuid);
    }
}

/// A table that is announced.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    /// Of the table that the contract was given; without a contract, of the one announced before.
    pub(super) uuid: String,
    /// None where no contract is active any more.
    pub(super) owner: Option<Owner>,
}

impl Tracked {
    /// Whether this is the table that is meant. The version before wrote no uuid into some records.
    pub(super) fn is(&self, table: &Table) -> bool {
        self.uuid.is_empty() || table.uuid().to_string() == self.uuid
    }
}

/// The tables to announce, by `namespace.name`.
pub(super) fn tables(active_state: &ActiveState, last: &LastByTable) -> BTreeMap<String, Tracked> {
    let name = |table: &TableRef| format!("{}.{}", table.namespace, table.name);
    let before = last.tables().map(|table| (name(table), Tracked { uuid: table.uuid.clone(), owner: None }));
    let mut tables: BTreeMap<String, Tracked> = before.collect();
    tables.extend(active_state.contracts.values().filter_map(|contract| {
        let topic = contract.topic.as_ref().map(|topic| (topic.topic_id.clone(), topic.name.clone()));
        let owner = Owner { product: contract.product.clone(), major: contract.major, topic };
        let table = contract.table.as_ref()?;
        Some((name(table), Tracked { uuid: table.uuid.clone(), owner: Some(owner) }))
    }));
    tables
}

/// Whose a dropped table was.
pub(super) fn owner_of(active_state: &ActiveState, table: &TableRef) -> Owner {
    let is_same = |other: &TableRef| other.namespace == table.namespace && other.name == table.name;
    let contract = active_state.contracts.values().find(|contract| contract.table.as_ref().is_some_and(is_same));
    let product = contract.map(|contract| contract.product.clone());
    Owner { product: product.unwrap_or_else(|| format!("{}.{}", table.namespace, table.name)), ..Owner::default() }
}

/// Whose table it was, by what the table itself says.
pub(super) fn former_owner(table: &Table) -> Owner {
    let ident = table.ident();
    let major = ident.name().rsplit_once("_v").and_then(|(_, major)| major.parse().ok()).unwrap_or_default();
    let unnamed = || format!("{}.{}", ident.namespace().join("."), ident.name());
    Owner { product: table.property(summary::PRODUCT).map_or_else(unnamed, str::to_owned), major, topic: None }
}

pub(super) fn name_of(pointer: &Pointer) -> String {
    format!("{}.{}", pointer.ident.namespace().join("."), pointer.ident.name())
}
