//! ANNOUNCED: every snapshot of a product table's `main` becomes an event, in order per table, under its one id.
//!
//! In: the catalog's pointers, once a second in one query; the metadata of tables whose pointer moved. Out: events on
//! `mesh.product-changes` (platform tables: `mesh.platform-changes`), and the last announced snapshot of each table on
//! `mesh.announced`, which is this stage's whole memory.
//! Never: the snapshots of another table announced as a product's because it has its table's name.
//!
//! Product tables are those that an active contract names, by uuid, or that were announced before. Dead-letter tables are
//! not: how many records of a range went there is part of the product table's own event.
//!
//! A crash between event and memory: at the start the newest events are read, and what is among them is not written
//! again; beyond that, a repeated event has the id of the first, so subscribers drop it.

pub mod chain;
pub mod describe;
mod events;
mod recent;
mod tracked;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mesh_lakehouse::catalog::Pointer;
use mesh_lakehouse::{Catalog, Table};
use mesh_proto::topics;
use mesh_proto::v1::{Announced, TableRef};
use mesh_runtime::{Shutdown, fault};

use crate::error::{PublisherError, lakehouse};
use crate::log::Log;
use crate::memory::Memory;
use crate::telemetry::PublisherMetrics;
use chain::{Announcement, LastAnnounced};
use describe::{Owner, table_ref};
use events::Change;
use tracked::{LastByTable, Tracked, name_of};

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

/// What was announced and looked at so far.
#[derive(Debug, Default)]
struct State {
    last: LastByTable,
    /// `namespace.name` → the metadata location and the uuid for which it was looked at last.
    looked_at: HashMap<String, (String, String)>,
    /// The location of a table that cannot be announced: logged once.
    broken: HashMap<String, String>,
    recent: recent::Recent,
}

impl Announcer {
    pub fn new(log: Log, memory: Memory, catalog: Catalog, telemetry: PublisherMetrics, poll: Duration) -> Self {
        Self { log, memory, catalog, telemetry, poll }
    }

    /// Announces until the shutdown.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), PublisherError> {
        let announced = self.memory.announced();
        let recent = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            recent = recent::Recent::read(self.log.bus(), &announced) => recent?,
        };
        let mut state = State { last: LastByTable::from(announced), recent, ..State::default() };
        loop {
            self.round(&mut state).await?;
            // Every table was looked at: from here on, a repetition is meant.
            state.recent.forget();
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(self.poll) => {}
            }
        }
    }

    async fn round(&self, state: &mut State) -> Result<(), PublisherError> {
        let pointers = self.catalog.pointers().await.map_err(lakehouse("list the catalog's tables"))?;
        let pointers: BTreeMap<String, Pointer> = pointers.into_iter().map(|p| (name_of(&p), p)).collect();
        let tracked = tracked::tables(&self.memory.active_state(), &state.last);
        for (name, table) in &tracked {
            let Some(pointer) = pointers.get(name) else { continue };
            let is_known =
                |(location, uuid): &(String, String)| *location == pointer.metadata_location && *uuid == table.uuid;
            if !state.looked_at.get(name).is_some_and(is_known) {
                self.look_at(state, name, pointer, table).await?;
            }
        }
        state.broken.retain(|name, _| pointers.contains_key(name));
        self.telemetry.tables(tracked.len(), state.broken.len());
        self.dropped(state, &pointers).await
    }

    /// One table whose pointer moved. A table that cannot be read is logged once and does not hold up the others.
    async fn look_at(
        &self,
        state: &mut State,
        name: &str,
        pointer: &Pointer,
        tracked: &Tracked,
    ) -> Result<(), PublisherError> {
        let location = pointer.metadata_location.clone();
        match self.catalog.load_at(pointer).await {
            Ok(table) => {
                let owner = tracked.owner.clone().unwrap_or_else(|| tracked::former_owner(&table));
                self.recreated(state, &table, &owner).await?;
                if tracked.is(&table) {
                    self.announce(state, &table, &owner).await?;
                    state.broken.remove(name);
                } else if tracked.owner.is_some()
                    && state.broken.insert(name.to_owned(), location.clone()) != Some(location.clone())
                {
                    let (code, expected) = ("MESH-PUBLISHER-0035", tracked.uuid.as_str());
                    let found = table.uuid().to_string();
                    tracing::error!(code, table = name, found, expected, "table not announced: it is another's");
                }
                state.looked_at.insert(name.to_owned(), (location, tracked.uuid.clone()));
            }
            Err(problem) => {
                if state.broken.insert(name.to_owned(), location.clone()) != Some(location) {
                    let error = mesh_runtime::report::chain(&problem);
                    tracing::error!(code = problem.code(), table = name, error, "table not announced");
                }
            }
        }
        Ok(())
    }

    /// Announces what is new about a table.
    async fn announce(&self, state: &mut State, table: &Table, owner: &Owner) -> Result<(), PublisherError> {
        let known = state.last.of(&table.uuid().to_string());
        let steps = chain::news(known.as_deref().map(last_of), table.metadata().as_ref());
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
                self.publish(state, owner, change).await?;
            }
            let reached = some.last().and_then(|(_, reached)| *reached);
            self.remember(state, table, reached).await?;
        }
        Ok(())
    }

    /// A name that points at another table than the one announced last.
    async fn recreated(&self, state: &mut State, table: &Table, owner: &Owner) -> Result<(), PublisherError> {
        let now = table_ref(table);
        let before = state.last.named(&now.namespace, &now.name).filter(|before| before.uuid != now.uuid);
        if let Some(before) = before {
            self.publish(state, owner, events::recreated(&now, owner, &before.uuid)).await?;
            self.forget(state, &before.uuid).await?;
        }
        Ok(())
    }

    /// Tables that were announced and are dropped. One that has another name now counts as dropped as well: products are
    /// known by their table's name.
    async fn dropped(&self, state: &mut State, pointers: &BTreeMap<String, Pointer>) -> Result<(), PublisherError> {
        let is_dropped = |table: &TableRef| !pointers.contains_key(&format!("{}.{}", table.namespace, table.name));
        let dropped: Vec<TableRef> = state.last.tables().filter(|table| is_dropped(table)).cloned().collect();
        for table in dropped {
            state.looked_at.remove(&format!("{}.{}", table.namespace, table.name));
            let owner = tracked::owner_of(&self.memory.active_state(), &table);
            self.publish(state, &owner, events::dropped(&table, &owner)).await?;
            self.forget(state, &table.uuid).await?;
        }
        Ok(())
    }

    /// Writes an event, unless it is among those written shortly before a crash.
    async fn publish(&self, state: &mut State, owner: &Owner, change: Change) -> Result<(), PublisherError> {
        let topic = match crate::active_state::domain_of(&owner.product) {
            "platform" => topics::PLATFORM_CHANGES,
            _ => topics::PRODUCT_CHANGES,
        };
        let id = change.id();
        if state.recent.takes(&id) {
            tracing::info!(id, "snapshot announced before the last stop");
            return Ok(());
        }
        let (kind, table) = (change.kind(), change.table());
        match self.log.publish(topic, &change.event(&self.log, topic)?).await {
            // One table's summary must not hold up the announcements of all.
            Err(error) if error.is_too_large() => {
                tracing::warn!(table, id, "event too large: announced without source ranges and schema diff");
                self.log.publish(topic, &change.short().event(&self.log, topic)?).await?;
            }
            published => drop(published?),
        }
        fault::point("publisher.announce.said");
        self.telemetry.announced(kind);
        tracing::info!(table, event = kind, id, "snapshot announced");
        Ok(())
    }

    async fn remember(
        &self,
        state: &mut State,
        table: &Table,
        last: Option<LastAnnounced>,
    ) -> Result<(), PublisherError> {
        let announced = announced(table, last);
        let uuid = table.uuid().to_string();
        let id = format!("{uuid}-{}", announced.snapshot_id.unwrap_or_default());
        let kind = mesh_proto::cloudevents::types::ANNOUNCED;
        let event = self.log.event(topics::ANNOUNCED, kind, &id, &announced)?.keyed(&uuid);
        self.log.publish(topics::ANNOUNCED, &event).await?;
        fault::point("publisher.announce.remembered");
        state.last.set(uuid, announced);
        Ok(())
    }

    async fn forget(&self, state: &mut State, uuid: &str) -> Result<(), PublisherError> {
        self.log.erase(topics::ANNOUNCED, uuid, 0).await?;
        state.last.remove(uuid);
        Ok(())
    }
}

/// The record of `mesh.announced`.
fn announced(table: &Table, last: Option<LastAnnounced>) -> Announced {
    let since = last.and_then(|last| DateTime::from_timestamp_millis(last.since?));
    Announced {
        table: Some(table_ref(table)),
        snapshot_id: last.map(|last| last.id),
        sequence_number: last.map(|last| last.sequence).unwrap_or_default(),
        metadata_location: table.metadata_location().to_owned(),
        head_since: since.and_then(describe::readable),
        at: Some(mesh_proto::timestamp(Utc::now())),
    }
}

/// The snapshot that was announced last; none if `main` ended with it.
fn last_of(announced: &Announced) -> Option<LastAnnounced> {
    let millis = |at: &pbjson_types::Timestamp| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000;
    let since = announced.head_since.as_ref().map(millis);
    Some(LastAnnounced { id: announced.snapshot_id?, sequence: announced.sequence_number, since })
}
