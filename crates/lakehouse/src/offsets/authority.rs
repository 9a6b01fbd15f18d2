//! Which snapshot's offsets count: the nearest ancestor of `main` that carries `mesh.offsets`.
//!
//! Where that chain ends in expired snapshots, the older metadata files that the metadata log names continue it, and
//! the mirror property stands for the snapshot it names if the chain reaches that. A table whose offsets cannot be
//! found this way stops: guessing would double or lose rows (OFFSETS-TRAVEL).

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::{SnapshotRef, TableMetadata};
use serde::{Deserialize, Serialize};

use super::SourceOffsets;
use crate::error::{LakehouseError, Result};
use crate::summary;
use crate::table::Table;

/// The offsets a table records, and where they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Next offsets.
    pub offsets: SourceOffsets,
    /// Where reading once began, per partition.
    pub start: SourceOffsets,
    /// The snapshot that recorded them; `None` if nothing is recorded yet.
    pub snapshot_id: Option<i64>,
    /// All `mesh.*` entries of that snapshot's summary (contract revision, pending dead letters, watermark, …).
    /// Of an expired snapshot only the mirror's copy is left.
    pub summary: BTreeMap<String, String>,
}

/// The table property that mirrors the last record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Mirror {
    pub snapshot_id: i64,
    pub sequence_number: i64,
    pub start: SourceOffsets,
    /// The `mesh.*` entries of the snapshot's summary that later commits must know, offsets among them.
    pub summary: BTreeMap<String, String>,
}

/// What the snapshots at hand show.
enum Chain {
    /// This snapshot carries offsets.
    Carries(SnapshotRef),
    /// The oldest ancestor at hand has this parent, which is not at hand.
    Ends(i64),
    /// The chain is whole, and no snapshot in it carries offsets.
    Nothing,
}

impl Table {
    /// The offsets this version of the table records; `LakehouseError::OffsetsLost` if they are unrecoverable.
    pub async fn recorded(&self) -> Result<Recorded> {
        let mirror = self.mirror()?;
        let start = mirror.as_ref().map(|m| m.start.clone()).unwrap_or_default();
        let mut known = Known::of(self.metadata());
        let mut older = self.metadata().metadata_log().iter().rev();
        loop {
            match (known.chain(self.metadata().current_snapshot_id()), &mirror) {
                (Chain::Carries(snapshot), _) => return self.recorded_by(&snapshot, start),
                (Chain::Ends(parent), Some(mirror)) if mirror.snapshot_id == parent => return self.recorded_in(mirror),
                // Never ingested: the mirror is written with the first offsets.
                (Chain::Nothing, None) => return Ok(Recorded::default()),
                (Chain::Ends(_) | Chain::Nothing, _) => {}
            }
            let Some(entry) = older.next() else { break };
            match self.store().table_metadata(&entry.metadata_file).await {
                Ok(metadata) => known.add(&metadata),
                Err(LakehouseError::MissingFile { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        match mirror {
            None => Ok(Recorded::default()),
            Some(_) => Err(self.lost(
                "main was rolled back to or replaced by a history without them, or the snapshots and metadata files that could tell are gone",
            )),
        }
    }

    fn recorded_by(&self, snapshot: &SnapshotRef, start: SourceOffsets) -> Result<Recorded> {
        let properties = &snapshot.summary().additional_properties;
        let summary: BTreeMap<String, String> = properties
            .iter()
            .filter(|(key, _)| key.starts_with("mesh."))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let offsets = self.decode(summary.get(summary::OFFSETS).map_or("", String::as_str))?;
        Ok(Recorded { offsets, start, snapshot_id: Some(snapshot.snapshot_id()), summary })
    }

    fn recorded_in(&self, mirror: &Mirror) -> Result<Recorded> {
        let offsets = self.decode(mirror.summary.get(summary::OFFSETS).map_or("", String::as_str))?;
        let (start, summary) = (mirror.start.clone(), mirror.summary.clone());
        Ok(Recorded { offsets, start, snapshot_id: Some(mirror.snapshot_id), summary })
    }

    fn mirror(&self) -> Result<Option<Mirror>> {
        let Some(text) = self.property(summary::OFFSETS_MIRROR) else { return Ok(None) };
        let mirror = serde_json::from_str(text);
        mirror.map(Some).map_err(|e| self.lost(&format!("the property {} is broken ({e})", summary::OFFSETS_MIRROR)))
    }

    fn decode(&self, text: &str) -> Result<SourceOffsets> {
        SourceOffsets::decode(text)
            .map_err(|e| self.lost(&format!("the summary's {} is broken ({e})", summary::OFFSETS)))
    }

    fn lost(&self, why: &str) -> LakehouseError {
        LakehouseError::OffsetsLost { table: self.ident().clone(), why: why.to_owned() }
    }
}

/// Snapshots known from one or several metadata files.
struct Known {
    snapshots: HashMap<i64, SnapshotRef>,
}

impl Known {
    fn of(metadata: &TableMetadata) -> Self {
        let mut known = Self { snapshots: HashMap::new() };
        known.add(metadata);
        known
    }

    /// Adds what an older metadata file knows. Where the two differ the older one has the parent: pyiceberg takes it
    /// from a snapshot whose parent it expires.
    fn add(&mut self, older: &TableMetadata) {
        for snapshot in older.snapshots() {
            let known = self.snapshots.entry(snapshot.snapshot_id()).or_insert_with(|| snapshot.clone());
            if known.parent_snapshot_id().is_none() && snapshot.parent_snapshot_id().is_some() {
                *known = snapshot.clone();
            }
        }
    }

    /// Walks from a snapshot towards the root.
    fn chain(&self, from: Option<i64>) -> Chain {
        let mut next = from;
        while let Some(id) = next {
            match self.snapshots.get(&id) {
                None => return Chain::Ends(id),
                Some(s) if s.summary().additional_properties.contains_key(summary::OFFSETS) => {
                    return Chain::Carries(s.clone());
                }
                Some(s) => next = s.parent_snapshot_id(),
            }
        }
        Chain::Nothing
    }
}
