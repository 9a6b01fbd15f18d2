//! ANNOUNCED: every snapshot of a product table's `main` becomes an event, in order per table, under its one id.
//!
//! In: the catalog's pointers, once a second in one query; the metadata of tables whose pointer moved. Out: events on
//! `mesh.product-changes` (platform tables: `mesh.platform-changes`), and the last announced snapshot of each table on
//! `mesh.announced`, which is this stage's whole memory.
//!
//! Product tables are those that an active contract names or that were announced before. Dead-letter tables are not:
//! how many records of a range went there is part of the product table's own event.
//!
//! A crash between event and memory: at the start the newest events are read, and what is among them is not written
//! again; beyond that, a repeated event has the id of the first, so subscribers drop it.

pub mod chain;
pub mod describe;
mod events;
mod recent;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mesh_lakehouse::catalog::Pointer;
use mesh_lakehouse::{Catalog, Table, summary};
use mesh_proto::topics;
use mesh_proto::v1::{Announced, TableRef};
use mesh_runtime::{Shutdown, fault};

use crate::active_state::ActiveState;
use crate::error::{PublisherError, lakehouse};
use crate::log::Log;
use crate::memory::Memory;
use crate::telemetry::PublisherMetrics;
use chain::{Announcement, LastAnnounced};
use describe::{Owner, table_ref};
use events::Change;

/// Events after which the memory is written, within one table's history.
const AT_ONCE: usize = 100;

/// Watches the catalog; cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcer {
    log: Log,
    memory: Memory,
    catalog: Catalog,
    telemetry: PublisherMetrics,
    poll: Duration,
}

/// What was said and seen so far.
#[derive(Debug, Default)]
struct State {
    /// By table uuid.
    said: BTreeMap<String, Arc<Announced>>,
    /// `namespace.name` → the metadata location that was looked at last.
    seen: HashMap<String, String>,
    /// The location of a table that could not be read: said once.
    broken: HashMap<String, String>,
    recent: recent::Recent,
}

impl Announcer {
    pub fn new(log: Log, memory: Memory, catalog: Catalog, telemetry: PublisherMetrics, poll: Duration) -> Self {
        Self { log, memory, catalog, telemetry, poll }
    }

    /// Announces until the shutdown.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), PublisherError> {
        let said = self.memory.announced();
        let recent = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            recent = recent::Recent::read(self.log.bus(), &said) => recent?,
        };
        let mut state = State { said, recent, ..State::default() };
        loop {
            self.round(&mut state).await?;
            // Every table was looked at: from here on, what is said again is meant so.
            state.recent.forget();
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(self.poll) => {}
            }
        }
    }

    async fn round(&self, state: &mut State) -> Result<(), PublisherError> {
        let pointers = self.catalog.pointers().await.map_err(lakehouse("ask the catalog what changed"))?;
        let pointers: BTreeMap<String, Pointer> = pointers.into_iter().map(|p| (name_of(&p), p)).collect();
        let active_state = self.memory.active_state();
        let products = products(&active_state, &state.said);
        for (name, owner) in &products {
            let Some(pointer) = pointers.get(name) else { continue };
            if state.seen.get(name) != Some(&pointer.metadata_location) {
                self.look_at(state, name, pointer, owner.as_ref()).await?;
            }
        }
        state.broken.retain(|name, _| pointers.contains_key(name));
        self.telemetry.tables(products.len(), state.broken.len());
        self.dropped(state, &pointers).await
    }

    /// One table whose pointer moved. A table that cannot be read is said once and does not hold up the others.
    async fn look_at(
        &self,
        state: &mut State,
        name: &str,
        pointer: &Pointer,
        owner: Option<&Owner>,
    ) -> Result<(), PublisherError> {
        let location = pointer.metadata_location.clone();
        match self.catalog.load_at(pointer).await {
            Ok(table) => {
                let owner = owner.cloned().unwrap_or_else(|| former_owner(&table));
                self.announce(state, &table, &owner).await?;
                state.broken.remove(name);
                state.seen.insert(name.to_owned(), location);
            }
            Err(problem) => {
                if state.broken.insert(name.to_owned(), location.clone()) != Some(location) {
                    let error = mesh_runtime::report::chain(&problem);
                    tracing::error!(code = problem.code(), table = name, error, "the table cannot be announced");
                }
            }
        }
        Ok(())
    }

    /// Says what is new about a table.
    async fn announce(&self, state: &mut State, table: &Table, owner: &Owner) -> Result<(), PublisherError> {
        self.recreated(state, table, owner).await?;
        let uuid = table.uuid().to_string();
        let known = state.said.get(&uuid);
        let last = known.and_then(|said| said_of(said));
        let mut history = describe::history(table.metadata());
        if known.is_some() && last.is_none() {
            // All of the log was told up to the end of `main`: only where it begins anew is news.
            history.log.clear();
        }
        let steps = chain::steps(last, &history);
        for some in steps.chunks(AT_ONCE) {
            for (step, _) in some {
                let change = match step {
                    Announcement::Snapshot(id) => match table.metadata().snapshot_by_id(*id) {
                        Some(snapshot) => Change::Snapshot(Box::new(describe::changed(table, snapshot, owner))),
                        None => continue,
                    },
                    Announcement::Gap { last, first_known } => events::gap(table, owner, *last, *first_known),
                    Announcement::Rewound { from, to, at } => events::rewound(table, owner, *from, *to, *at),
                };
                self.say(state, owner, change).await?;
            }
            let reached = some.last().and_then(|(_, reached)| *reached);
            self.remember(state, table, reached).await?;
        }
        Ok(())
    }

    /// A name that points at another table than the one announced last.
    async fn recreated(&self, state: &mut State, table: &Table, owner: &Owner) -> Result<(), PublisherError> {
        let now = table_ref(table);
        let same_name = |of: &TableRef| of.namespace == now.namespace && of.name == now.name && of.uuid != now.uuid;
        let before = state.said.values().filter_map(|said| said.table.clone()).find(|of| same_name(of));
        if let Some(before) = before {
            self.say(state, owner, events::recreated(&now, owner, &before.uuid)).await?;
            self.forget(state, &before.uuid).await?;
        }
        Ok(())
    }

    /// Tables that were announced and are gone. One that has another name now is gone as well: products are known by
    /// their table's name.
    async fn dropped(&self, state: &mut State, pointers: &BTreeMap<String, Pointer>) -> Result<(), PublisherError> {
        let gone: Vec<TableRef> = state
            .said
            .values()
            .filter_map(|said| said.table.clone())
            .filter(|table| !pointers.contains_key(&format!("{}.{}", table.namespace, table.name)))
            .collect();
        for table in gone {
            state.seen.remove(&format!("{}.{}", table.namespace, table.name));
            let product = self
                .memory
                .active_state()
                .contracts
                .values()
                .find(|c| names(c.table.as_ref(), &table))
                .map(|c| c.product.clone());
            let owner = Owner {
                product: product.unwrap_or_else(|| format!("{}.{}", table.namespace, table.name)),
                ..Owner::default()
            };
            self.say(state, &owner, events::dropped(&table, &owner)).await?;
            self.forget(state, &table.uuid).await?;
        }
        Ok(())
    }

    /// Writes an event, unless it is among those written shortly before a crash.
    async fn say(&self, state: &mut State, owner: &Owner, change: Change) -> Result<(), PublisherError> {
        let topic = match crate::active_state::domain_of(&owner.product) {
            "platform" => topics::PLATFORM_CHANGES,
            _ => topics::PRODUCT_CHANGES,
        };
        let id = change.id();
        if state.recent.takes(&id) {
            tracing::info!(id, "announced before the last stop already");
            return Ok(());
        }
        let (kind, table) = (change.kind(), change.table());
        match self.log.publish(topic, &change.event(&self.log, topic)?).await {
            // One table's summary must not hold up the announcements of all.
            Err(error) if error.is_too_large() => {
                tracing::warn!(
                    table,
                    id,
                    "longer than a record may be: announced without source ranges and schema diff"
                );
                self.log.publish(topic, &change.short().event(&self.log, topic)?).await?;
            }
            published => drop(published?),
        }
        fault::point("publisher.announce.said");
        self.telemetry.announced(kind);
        tracing::info!(table, event = kind, id, "announced");
        Ok(())
    }

    async fn remember(
        &self,
        state: &mut State,
        table: &Table,
        last: Option<LastAnnounced>,
    ) -> Result<(), PublisherError> {
        let announced = Announced {
            table: Some(table_ref(table)),
            snapshot_id: last.map(|last| last.id),
            sequence_number: last.map(|last| last.sequence).unwrap_or_default(),
            metadata_location: table.metadata_location().to_owned(),
            head_since: last.and_then(|last| DateTime::from_timestamp_millis(last.since?)).map(mesh_proto::timestamp),
            at: Some(mesh_proto::timestamp(Utc::now())),
        };
        let uuid = table.uuid().to_string();
        let id = format!("{uuid}-{}", announced.snapshot_id.unwrap_or_default());
        let kind = mesh_proto::cloudevents::types::ANNOUNCED;
        let event = self.log.event(topics::ANNOUNCED, kind, &id, &announced)?.keyed(&uuid);
        self.log.publish(topics::ANNOUNCED, &event).await?;
        fault::point("publisher.announce.remembered");
        state.said.insert(uuid, Arc::new(announced));
        Ok(())
    }

    async fn forget(&self, state: &mut State, uuid: &str) -> Result<(), PublisherError> {
        self.log.erase(topics::ANNOUNCED, uuid, 0).await?;
        state.said.remove(uuid);
        Ok(())
    }
}

/// The snapshot that was announced last; none if `main` ended with it.
fn said_of(announced: &Announced) -> Option<LastAnnounced> {
    let millis = |at: &pbjson_types::Timestamp| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000;
    let since = announced.head_since.as_ref().map(millis);
    Some(LastAnnounced { id: announced.snapshot_id?, sequence: announced.sequence_number, since })
}

fn name_of(pointer: &Pointer) -> String {
    format!("{}.{}", pointer.ident.namespace().join("."), pointer.ident.name())
}

fn names(one: Option<&TableRef>, other: &TableRef) -> bool {
    one.is_some_and(|one| one.namespace == other.namespace && one.name == other.name)
}

/// The tables to announce, by `namespace.name`; without an owner where no contract is active any more.
fn products(active_state: &ActiveState, said: &BTreeMap<String, Arc<Announced>>) -> BTreeMap<String, Option<Owner>> {
    let name = |table: &TableRef| format!("{}.{}", table.namespace, table.name);
    let before = said.values().filter_map(|said| said.table.as_ref()).map(|table| (name(table), None));
    let mut products: BTreeMap<String, Option<Owner>> = before.collect();
    products.extend(active_state.contracts.values().filter_map(|contract| {
        let topic = contract.topic.as_ref().map(|topic| (topic.topic_id.clone(), topic.name.clone()));
        let owner = Owner { product: contract.product.clone(), major: contract.major, topic };
        Some((name(contract.table.as_ref()?), Some(owner)))
    }));
    products
}

/// Whose table it was, by what the table itself says.
fn former_owner(table: &Table) -> Owner {
    let ident = table.ident();
    let major = ident.name().rsplit_once("_v").and_then(|(_, major)| major.parse().ok()).unwrap_or_default();
    let unnamed = || format!("{}.{}", ident.namespace().join("."), ident.name());
    Owner { product: table.property(summary::PRODUCT).map_or_else(unnamed, str::to_owned), major, topic: None }
}
