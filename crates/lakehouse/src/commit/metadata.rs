//! A change on a base as new table metadata: requirements checked, snapshot made, updates applied.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{TableMetadataBuilder, TableMetadataRef};
use iceberg::{MetadataLocation, TableRequirement, TableUpdate};

use super::{Append, Change, Evolve, snapshot};
use crate::error::{LakehouseError, Result};
use crate::offsets::Fence;
use crate::summary;
use crate::table::Table;

/// What a change becomes on a base.
pub(super) enum Built {
    /// The base has it already.
    Already(Option<i64>),
    /// New metadata, not yet written.
    New(Box<New>),
}

/// New metadata and what comes with it.
pub(super) struct New {
    pub(super) metadata: TableMetadataRef,
    pub(super) location: String,
    pub(super) bytes: Bytes,
    pub(super) snapshot_id: Option<i64>,
    pub(super) retired: Vec<String>,
}

/// Builds a change on a base; files it writes are listed in `written` before they are.
pub(super) async fn build(base: &Table, change: &Change, written: &mut Vec<String>) -> Result<Built> {
    match change {
        Change::Append(append) => self::append(base, append, written).await,
        Change::Evolve(evolve) => self::evolve(base, evolve).await,
        Change::Expire(snapshots) => self::expire(base, snapshots).await,
    }
}

async fn append(base: &Table, append: &Append, written: &mut Vec<String>) -> Result<Built> {
    let recorded = match base.recorded().await {
        // What is lost cannot be fenced: the swap alone says that nobody was here meanwhile.
        Err(LakehouseError::OffsetsLost { .. }) if append.offset_ranges.recover() => None,
        recorded => Some(recorded?),
    };
    if let (false, Some(recorded)) = (append.offset_ranges.is_empty(), &recorded) {
        match Fence::decide(recorded, &append.offset_ranges) {
            Fence::Commit => {}
            Fence::AlreadyMine => return Ok(Built::Already(recorded.snapshot_id)),
            Fence::Fenced { partition, mine, found } => {
                return Err(LakehouseError::Fenced { table: base.ident().clone(), partition, mine, found });
            }
        }
    }
    unchanged(base, append)?;
    let made = snapshot::append(base, append, &recorded.unwrap_or_default(), written).await?;
    let id = made.snapshot.snapshot_id();
    let refused = |e| LakehouseError::invalid(base.ident(), "add the snapshot", e);
    // Keeps the retention that the branch has.
    let mut builder = builder(base).set_branch_snapshot(made.snapshot, iceberg::spec::MAIN_BRANCH).map_err(refused)?;
    if let Some(mirror) = made.mirror {
        let updates = HashMap::from([(summary::OFFSETS_MIRROR.to_owned(), mirror)]);
        builder = TableUpdate::SetProperties { updates }.apply(builder).map_err(refused)?;
    }
    finish(base, builder, Some(id)).await
}

/// The files' schema and partition spec are the base's: values under another spec would prune what they should not.
fn unchanged(base: &Table, append: &Append) -> Result<()> {
    let (current_schema_id, default_spec_id) = (append.schema_id, append.spec_id);
    let changed = |what, from, to| LakehouseError::SchemaChanged { table: base.ident().clone(), what, from, to };
    let check = |requirement: TableRequirement| requirement.check(Some(base.metadata())).ok();
    check(TableRequirement::CurrentSchemaIdMatch { current_schema_id })
        .ok_or_else(|| changed("schema", current_schema_id, base.metadata().current_schema_id()))?;
    if append.files.is_empty() {
        return Ok(());
    }
    check(TableRequirement::DefaultSpecIdMatch { default_spec_id })
        .ok_or_else(|| changed("partition spec", default_spec_id, base.metadata().default_partition_spec_id()))
}

async fn evolve(base: &Table, evolve: &Evolve) -> Result<Built> {
    let table = base.ident().clone();
    if let Some(text) = base.property(summary::CONTRACT_REVISION) {
        let have: i64 =
            text.parse().map_err(|e| LakehouseError::invalid(&table, "its mesh.contract-revision is no number", e))?;
        match have.cmp(&evolve.revision) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok(Built::Already(None)),
            std::cmp::Ordering::Greater => {
                return Err(LakehouseError::RevisionNotNewer { table, have, offered: evolve.revision });
            }
        }
    }
    let mut updates = Vec::new();
    if let Some(schema) = &evolve.schema {
        updates.push(TableUpdate::AddSchema { schema: schema.clone() });
        updates.push(TableUpdate::SetCurrentSchema { schema_id: TableMetadataBuilder::LAST_ADDED });
    }
    let mut properties: HashMap<String, String> = evolve.set.clone().into_iter().collect();
    properties.insert(summary::CONTRACT_REVISION.to_owned(), evolve.revision.to_string());
    updates.push(TableUpdate::SetProperties { updates: properties });
    if !evolve.remove.is_empty() {
        updates.push(TableUpdate::RemoveProperties { removals: evolve.remove.clone() });
    }
    let builder = updates.into_iter().try_fold(builder(base), |builder, update| update.apply(builder));
    finish(base, builder.map_err(|e| LakehouseError::invalid(&table, "change schema and properties", e))?, None).await
}

async fn expire(base: &Table, snapshots: &[i64]) -> Result<Built> {
    let kept = kept(base).await?;
    let going: Vec<i64> = base
        .metadata()
        .snapshots()
        .map(|s| s.snapshot_id())
        .filter(|id| snapshots.contains(id) && !kept.contains(id))
        .collect();
    if going.is_empty() {
        return Ok(Built::Already(None));
    }
    let update = TableUpdate::RemoveSnapshots { snapshot_ids: going };
    let builder =
        update.apply(builder(base)).map_err(|e| LakehouseError::invalid(base.ident(), "expire snapshots", e))?;
    finish(base, builder, None).await
}

/// Snapshots that no expiry takes: those that refs name, and the one whose offsets count.
async fn kept(base: &Table) -> Result<Vec<i64>> {
    let mut kept = base.ref_snapshots()?;
    kept.extend(base.metadata().current_snapshot_id());
    kept.extend(base.recorded().await?.snapshot_id);
    Ok(kept)
}

fn builder(base: &Table) -> TableMetadataBuilder {
    base.metadata().as_ref().clone().into_builder(Some(base.metadata_location().to_owned()))
}

async fn finish(base: &Table, builder: TableMetadataBuilder, snapshot_id: Option<i64>) -> Result<Built> {
    let refused = |e| LakehouseError::invalid(base.ident(), "build its metadata", e);
    let result = builder.build().map_err(refused)?;
    let metadata = Arc::new(result.metadata);
    // Foreign engines name metadata files otherwise: then the numbering starts anew.
    let place = MetadataLocation::from_str(base.metadata_location());
    let place = place.unwrap_or_else(|_| MetadataLocation::new_with_metadata(metadata.location(), &metadata));
    let place = place.with_next_version().with_new_metadata(&metadata);
    let memory = FileIO::new_with_memory();
    metadata.write_to(&memory, &place).await.map_err(refused)?;
    let location = place.to_string();
    let bytes = memory.new_input(&location).map_err(refused)?.read().await.map_err(refused)?;
    let retired = result.expired_metadata_logs.into_iter().map(|entry| entry.metadata_file).collect();
    Ok(Built::New(Box::new(New { metadata, location, bytes, snapshot_id, retired })))
}
