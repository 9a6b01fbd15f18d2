//! The snapshot of an append: manifests, manifest list, summary, and the mirror of its offsets.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::{FormatVersion, Operation, Snapshot, SnapshotSummaryCollector, Summary};
use uuid::Uuid;

use super::manifests::Manifests;
use super::{Append, totals};
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

/// Writes the files of an append's snapshot.
pub(super) async fn append(
    base: &Table,
    append: &Append,
    recorded: &Recorded,
    written: &mut Vec<String>,
) -> Result<Made> {
    check(base, append)?;
    let metadata = base.metadata();
    let snapshot_id = new_snapshot_id(base);
    let sequence_number = metadata.next_sequence_number();
    let manifests = Manifests { base, snapshot_id, commit_id: append.commit_id };
    let list = manifests.append(&append.files, written).await?;
    let mesh = mesh_entries(append, recorded);
    let mirror = mirror(append, recorded, &mesh, snapshot_id, sequence_number);
    let summary = Summary { operation: Operation::Append, additional_properties: entries(base, append, mesh).await? };
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

fn check(base: &Table, append: &Append) -> Result<()> {
    if base.metadata().format_version() != FormatVersion::V2 {
        return Err(LakehouseError::invalid(
            base.ident(),
            "write a table of another format version than 2",
            "unsupported",
        ));
    }
    let width = base.metadata().default_partition_spec().fields().len();
    match append.files.iter().find(|file| file.partition().fields().len() != width) {
        Some(file) => {
            Err(LakehouseError::invalid(base.ident(), "add a file of another partition spec", file.file_path()))
        }
        None => Ok(()),
    }
}

/// The whole summary: ours, what the files come to, and the table's totals after them.
async fn entries(base: &Table, append: &Append, mesh: BTreeMap<String, String>) -> Result<HashMap<String, String>> {
    let metadata = base.metadata();
    let mut collector = SnapshotSummaryCollector::default();
    for file in &append.files {
        collector.add_file(file, metadata.current_schema().clone(), metadata.default_partition_spec().clone());
    }
    let mut entries: HashMap<String, String> = append.summary.clone().into_iter().collect();
    entries.extend(mesh);
    entries.extend(collector.build());
    totals::add(base, &mut entries).await?;
    Ok(entries)
}

/// The `mesh.*` entries: the caller's, the offsets after its moves, and what must not get lost on the way.
fn mesh_entries(append: &Append, recorded: &Recorded) -> BTreeMap<String, String> {
    let mut mesh = append.summary.clone();
    mesh.insert(summary::COMMIT_ID.to_owned(), append.commit_id.to_string());
    let carried = if append.offset_ranges.is_empty() { summary::CARRIED } else { summary::CARRIED_BY_MOVES };
    for key in carried {
        if let (false, Some(value)) = (mesh.contains_key(*key), recorded.summary.get(*key)) {
            mesh.insert((*key).to_owned(), value.clone());
        }
    }
    if !append.offset_ranges.is_empty() {
        mesh.extend(append.offset_ranges.entries(recorded));
    }
    mesh
}

fn mirror(
    append: &Append,
    recorded: &Recorded,
    mesh: &BTreeMap<String, String>,
    snapshot_id: i64,
    sequence_number: i64,
) -> Option<String> {
    mesh.get(summary::OFFSETS)?;
    let carried = summary::CARRIED.iter().filter_map(|key| Some(((*key).to_owned(), mesh.get(*key)?.clone())));
    let start = append.offset_ranges.starts(&recorded.start);
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
