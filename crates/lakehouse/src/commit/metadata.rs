//! A change on a base: what the catalog must require, and the updates it is to apply.

use iceberg::TableRequirement;
use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, TableMetadataBuilder};

use super::{Change, snapshot};
use crate::catalog::Requirement;
use crate::error::{LakehouseError, Result};
use crate::offsets::{Fence, Recorded};
use crate::summary;
use crate::table::Table;

/// What a change becomes on a base.
pub(super) enum Built {
    /// The base has it already.
    Already(Option<i64>),
    /// A commit for the catalog; the files that it names are written.
    New(Box<BuiltCommit>),
}

/// A commit for the catalog.
pub(super) struct BuiltCommit {
    pub(super) requirements: Vec<Requirement>,
    pub(super) updates: Vec<TableUpdate>,
    pub(super) snapshot_id: Option<i64>,
}

/// Builds a change on a base; files it writes are listed in `written` before they are.
pub(super) async fn build(base: &Table, change: &Change, written: &mut Vec<String>) -> Result<Built> {
    let recorded = match fenced(base, change).await? {
        Fenced::Commit(recorded) => recorded,
        Fenced::Already(snapshot_id) => return Ok(Built::Already(snapshot_id)),
    };
    if is_recorded(base, change)? {
        return Ok(Built::Already(None));
    }
    unchanged(base, change)?;
    let mut requirements = vec![Requirement::from(TableRequirement::UuidMatch { uuid: base.uuid() })];
    let mut builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_location().to_owned()));
    let expired = expired(base, change).await?;
    if change.operation.is_none() && change.revision.is_none() && expired.is_empty() && change.properties.is_empty() {
        return Ok(Built::Already(None));
    }
    let mut snapshot_id = None;
    if change.operation.is_some() {
        let made = snapshot::make(base, change, &recorded, written).await?;
        snapshot_id = Some(made.snapshot.snapshot_id());
        // Keeps the retention that the branch has.
        builder = builder.set_branch_snapshot(made.snapshot, MAIN_BRANCH).map_err(refused(base, "add the snapshot"))?;
        builder = set(base, builder, made.mirror.map(|mirror| (summary::OFFSETS_MIRROR.to_owned(), mirror)))?;
        requirements.push(current_schema(base));
        if !change.add.is_empty() {
            requirements.push(default_spec(base));
        }
    }
    if change.operation.is_some() || !expired.is_empty() {
        requirements.push(same_head(base));
    }
    builder = self::expire(base, builder, &expired).await?;
    builder = self::evolve(base, builder, change, &mut requirements)?;
    if base.property(summary::METADATA_VERSIONS).is_none() {
        // Tables of versions before this one kept a hundred.
        builder = set(base, builder, Some((summary::METADATA_VERSIONS.to_owned(), summary::KEPT_METADATA.to_owned())))?;
    }
    let updates = builder.build().map_err(refused(base, "build its metadata"))?.changes;
    Ok(Built::New(Box::new(BuiltCommit { requirements, updates, snapshot_id })))
}

/// What the fence says.
enum Fenced {
    Commit(Recorded),
    Already(Option<i64>),
}

async fn fenced(base: &Table, change: &Change) -> Result<Fenced> {
    if change.operation.is_none() {
        return Ok(Fenced::Commit(Recorded::default()));
    }
    let recorded = match base.recorded().await {
        // What is lost cannot be fenced: the head that the catalog requires alone says that no one was here meanwhile.
        Err(LakehouseError::OffsetsLost { .. }) if change.offsets.recover() => {
            return Ok(Fenced::Commit(Recorded::default()));
        }
        recorded => recorded?,
    };
    if change.offsets.is_empty() {
        return Ok(Fenced::Commit(recorded));
    }
    match Fence::decide(&recorded, &change.offsets) {
        Fence::Commit => Ok(Fenced::Commit(recorded)),
        Fence::AlreadyMine => Ok(Fenced::Already(recorded.snapshot_id)),
        Fence::Fenced { partition, mine, found } => {
            Err(LakehouseError::Fenced { table: base.ident().clone(), partition, mine, found })
        }
    }
}

/// The base has this contract revision already; a higher one is an error.
fn is_recorded(base: &Table, change: &Change) -> Result<bool> {
    let (Some(offered), Some(text)) = (change.revision, base.property(summary::CONTRACT_REVISION)) else {
        return Ok(false);
    };
    let table = base.ident().clone();
    let have: i64 =
        text.parse().map_err(|e| LakehouseError::invalid(&table, "its mesh.contract-revision is no number", e))?;
    match have > offered {
        true => Err(LakehouseError::RevisionNotNewer { table, have, offered }),
        false => Ok(have == offered),
    }
}

/// The files' schema and partition spec are the base's: values under another spec would prune what they should not.
fn unchanged(base: &Table, change: &Change) -> Result<()> {
    if change.operation.is_none() {
        return Ok(());
    }
    let metadata = base.metadata();
    let changed = |what, from, to| Err(LakehouseError::SchemaChanged { table: base.ident().clone(), what, from, to });
    if change.schema_id != metadata.current_schema_id() {
        return changed("schema", change.schema_id, metadata.current_schema_id());
    }
    if !change.add.is_empty() && change.spec_id != metadata.default_partition_spec_id() {
        return changed("partition spec", change.spec_id, metadata.default_partition_spec_id());
    }
    Ok(())
}

fn evolve(
    base: &Table,
    builder: TableMetadataBuilder,
    change: &Change,
    requirements: &mut Vec<Requirement>,
) -> Result<TableMetadataBuilder> {
    let mut builder = builder;
    if let Some(schema) = &change.schema {
        let last_assigned_field_id = base.metadata().last_column_id();
        requirements.push(TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id }.into());
        requirements.push(current_schema(base));
        builder = builder.add_current_schema(schema.clone()).map_err(refused(base, "change its schema"))?;
    }
    let mut properties = change.properties.clone();
    if let Some(revision) = change.revision {
        let is = base.property(summary::CONTRACT_REVISION).map(str::to_owned);
        requirements.push(Requirement::Property { key: summary::CONTRACT_REVISION.to_owned(), is });
        properties.insert(summary::CONTRACT_REVISION.to_owned(), Some(revision.to_string()));
    }
    let removed: Vec<String> = properties.iter().filter(|(_, value)| value.is_none()).map(|(k, _)| k.clone()).collect();
    let builder = set(base, builder, properties.into_iter().filter_map(|(key, value)| Some((key, value?))))?;
    if removed.is_empty() {
        return Ok(builder);
    }
    builder.remove_properties(&removed).map_err(refused(base, "remove properties"))
}

/// Those of the snapshots to expire that are there and that nothing keeps.
async fn expired(base: &Table, change: &Change) -> Result<Vec<i64>> {
    if change.expire.is_empty() {
        return Ok(Vec::new());
    }
    let kept = kept(base).await?;
    let there = change.expire.iter().copied().filter(|id| base.metadata().snapshot_by_id(*id).is_some());
    Ok(there.filter(|id| !kept.contains(id)).collect())
}

/// Snapshots that no expiry takes: those that refs name, and the one whose offsets count.
async fn kept(base: &Table) -> Result<Vec<i64>> {
    let mut kept = base.ref_snapshots()?;
    kept.extend(base.metadata().current_snapshot_id());
    kept.extend(base.recorded().await?.snapshot_id);
    Ok(kept)
}

/// Removes snapshots with the schemas and partition specs that only they used.
async fn expire(base: &Table, builder: TableMetadataBuilder, expired: &[i64]) -> Result<TableMetadataBuilder> {
    if expired.is_empty() {
        return Ok(builder);
    }
    let metadata = base.metadata();
    let left: Vec<_> = metadata.snapshots().filter(|s| !expired.contains(&s.snapshot_id())).collect();
    let used = |id: i32| id == metadata.current_schema_id() || left.iter().any(|s| s.schema_id() == Some(id));
    // A snapshot without a schema id may have any of them.
    let unsure = left.iter().any(|s| s.schema_id().is_none());
    let schemas = metadata.schemas_iter().map(|schema| schema.schema_id()).filter(|id| !unsure && !used(*id));
    let schemas: Vec<i32> = schemas.collect();
    let builder = builder.remove_snapshots(expired);
    let builder = builder.remove_schemas(&schemas).map_err(refused(base, "remove schemas"))?;
    let specs = unused_specs(base, &left).await?;
    builder.remove_partition_specs(&specs).map_err(refused(base, "remove partition specs"))
}

/// Partition specs by which no manifest of these snapshots is written.
async fn unused_specs(base: &Table, snapshots: &[&iceberg::spec::SnapshotRef]) -> Result<Vec<i32>> {
    let metadata = base.metadata();
    let mut unused: Vec<i32> = metadata.partition_specs_iter().map(|spec| spec.spec_id()).collect();
    unused.retain(|id| *id != metadata.default_partition_spec_id());
    for snapshot in snapshots {
        if unused.is_empty() {
            break;
        }
        let manifests = base.manifests(snapshot).await?;
        unused.retain(|id| manifests.iter().all(|manifest| manifest.partition_spec_id != *id));
    }
    Ok(unused)
}

fn set(
    base: &Table,
    builder: TableMetadataBuilder,
    properties: impl IntoIterator<Item = (String, String)>,
) -> Result<TableMetadataBuilder> {
    builder.set_properties(properties.into_iter().collect()).map_err(refused(base, "set properties"))
}

fn same_head(base: &Table) -> Requirement {
    let snapshot_id = base.metadata().current_snapshot_id();
    TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id }.into()
}

fn current_schema(base: &Table) -> Requirement {
    let current_schema_id = base.metadata().current_schema_id();
    TableRequirement::CurrentSchemaIdMatch { current_schema_id }.into()
}

fn default_spec(base: &Table) -> Requirement {
    let default_spec_id = base.metadata().default_partition_spec_id();
    TableRequirement::DefaultSpecIdMatch { default_spec_id }.into()
}

fn refused<'a>(base: &'a Table, what: &'static str) -> impl Fn(iceberg::Error) -> LakehouseError + 'a {
    move |error| LakehouseError::invalid(base.ident(), what, error)
}
