//! The snapshot of a change: manifests, manifest list, summary, and the mirror of its offsets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{FormatVersion, Operation, PartitionSpec, Snapshot, SnapshotSummaryCollector, Summary};
use uuid::Uuid;

use super::manifests::Manifests;
use super::{Change, totals};
use crate::error::{LakehouseError, Result};
use crate::offsets::Recorded;
use crate::offsets::authority::Mirror;
use crate::summary;
use crate::table::Table;

/// A snapshot whose files are on disk.
pub(super) struct Made {
    pub(super) snapshot: Snapshot,
    /// The text of the mirror property, if the snapshot carries offsets.
    pub(super) mirror: Option<String>,
}

/// Writes the files of a change's snapshot.
pub(super) async fn make(
    base: &Table,
    change: &Change,
    recorded: &Recorded,
    written: &mut Vec<String>,
) -> Result<Made> {
    check(base, change)?;
    let metadata = base.metadata();
    let snapshot_id = new_snapshot_id(base);
    let sequence_number = metadata.next_sequence_number();
    let manifests = Manifests { base, snapshot_id, commit_id: change.commit_id };
    let list = manifests.append(&change.add, written).await?;
    let mesh = mesh_entries(change, recorded);
    let mirror = mirror(change, recorded, &mesh, snapshot_id, sequence_number);
    let operation = change.operation.clone().unwrap_or(Operation::Append);
    let summary = Summary { operation, additional_properties: entries(base, change, mesh).await? };
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(sequence_number)
        // A clock behind the last committer's must not make history go backwards: more than a minute is refused.
        .with_timestamp_ms(chrono::Utc::now().timestamp_millis().max(metadata.last_updated_ms()))
        .with_manifest_list(list)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id())
        .build();
    Ok(Made { snapshot, mirror })
}

fn check(base: &Table, change: &Change) -> Result<()> {
    if base.metadata().format_version() != FormatVersion::V2 {
        return Err(LakehouseError::invalid(
            base.ident(),
            "write a table of another format version than 2",
            "unsupported",
        ));
    }
    let width = base.metadata().default_partition_spec().fields().len();
    let mut paths = HashSet::new();
    for file in &change.add {
        if file.partition().fields().len() != width {
            return Err(LakehouseError::invalid(
                base.ident(),
                "add a file of another partition spec",
                file.file_path(),
            ));
        }
        // Its rows would be read twice, and a compaction would make that last.
        if !paths.insert(file.file_path()) {
            return Err(LakehouseError::invalid(base.ident(), "add a file twice", file.file_path()));
        }
    }
    Ok(())
}

/// The whole summary: ours, what the files come to, and the table's totals after them.
async fn entries(base: &Table, change: &Change, mesh: BTreeMap<String, String>) -> Result<HashMap<String, String>> {
    let metadata = base.metadata();
    let mut collector = SnapshotSummaryCollector::default();
    // Without the spec's fields: with them iceberg 0.10.1 makes a path of each partition only to count them, and panics on
    // a moment before 1970 that has a fraction of a second (`values/temporal.rs`, `microseconds_to_datetimetz`).
    let spec = Arc::new(PartitionSpec::unpartition_spec());
    for file in &change.add {
        collector.add_file(file, metadata.current_schema().clone(), spec.clone());
    }
    let mut entries: HashMap<String, String> = change.summary.clone().into_iter().collect();
    entries.extend(mesh);
    entries.extend(collector.build());
    if !metadata.default_partition_spec().is_unpartitioned() {
        let partitions: HashSet<_> = change.add.iter().map(|file| file.partition()).collect();
        entries.insert("changed-partition-count".to_owned(), partitions.len().to_string());
    }
    totals::add(base, &mut entries).await?;
    Ok(entries)
}

/// The `mesh.*` entries: the caller's, the offsets after its moves, and what must not get lost on the way.
fn mesh_entries(change: &Change, recorded: &Recorded) -> BTreeMap<String, String> {
    let mut mesh = change.summary.clone();
    mesh.insert(summary::COMMIT_ID.to_owned(), change.commit_id.to_string());
    let carried = if change.offsets.is_empty() { summary::CARRIED } else { summary::CARRIED_BY_MOVES };
    for key in carried {
        if let (false, Some(value)) = (mesh.contains_key(*key), recorded.summary.get(*key)) {
            mesh.insert((*key).to_owned(), value.clone());
        }
    }
    if !change.offsets.is_empty() {
        mesh.extend(change.offsets.entries(recorded));
    }
    mesh
}

fn mirror(
    change: &Change,
    recorded: &Recorded,
    mesh: &BTreeMap<String, String>,
    snapshot_id: i64,
    sequence_number: i64,
) -> Option<String> {
    mesh.get(summary::OFFSETS)?;
    let carried = summary::CARRIED.iter().filter_map(|key| Some(((*key).to_owned(), mesh.get(*key)?.clone())));
    let start = change.offsets.starts(&recorded.start);
    let mirror = Mirror { snapshot_id, sequence_number, start, summary: carried.collect() };
    serde_json::to_string(&mirror).ok()
}

fn new_snapshot_id(base: &Table) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        // Positive, as every engine's are.
        let id = i64::try_from((high ^ low) >> 1).unwrap_or_default();
        if id != 0 && base.metadata().snapshot_by_id(id).is_none() {
            return id;
        }
    }
}
