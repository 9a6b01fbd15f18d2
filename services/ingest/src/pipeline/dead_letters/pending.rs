//! The dead-letter table follows its table.
//!
//! In: the dead-letter files of a commit; later, what the summary of a commit names as pending. Out: an entry for that
//! summary; a commit of those files to the dead-letter table, fenced by that table's own offsets.
//! The table's own commit is the only decision: what is pending is read from it, also by the process that wrote it. This
//! one can be repeated by any process at any time, even by several at once: it is done once the dead-letter table records the
//! range's end, and until then no new range is committed.
//! Must never happen: a dead letter twice, one that its table's commit does not name, a range that begins beyond what the
//! dead-letter table has, or a file deleted that another process has committed here.

use std::collections::BTreeMap;

use arrow::compute::filter_record_batch;
use arrow_array::BooleanArray;
use iceberg::spec::{DataFile, FormatVersion, deserialize_data_file_from_json, serialize_data_file_to_json};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{
    Catalog, Change, LakehouseError, OffsetRanges, RangeStart, SourceOffsets, Table, TableWriter, WriterOptions,
    summary,
};
use mesh_runtime::fault;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StoredDeadLetters, keys_of, rows, stored_from};
use crate::error::IngestError;
use crate::pipeline::write::{CommitFiles, Summary};

/// What `mesh.dead-letters-pending` holds: files already written, and the ranges they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDeadLetters {
    commit: Uuid,
    cluster: String,
    topic: String,
    /// What the dead-letter table recorded when the files were written, by partition. Summaries of versions before 0.2 lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<BTreeMap<i32, i64>>,
    /// The range's end, by partition.
    next: BTreeMap<i32, i64>,
    paths: Vec<String>,
    /// The same files as manifest entries.
    files: Vec<String>,
}

/// What is done about dead letters that the dead-letter table should have and lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The table stops.
    Refuse,
    /// The loss is accepted: only a new start does that.
    Accept,
}

impl PendingDeadLetters {
    /// Of a commit; `None` if it has no dead letters.
    pub fn new(
        table: &Table,
        source: &TopicSource,
        stored: &StoredDeadLetters,
        summary: &Summary,
        files: &CommitFiles,
    ) -> Result<Option<Self>, IngestError> {
        if files.dead.files.is_empty() {
            return Ok(None);
        }
        let partition = table.metadata().default_partition_type();
        let entry = |file: &DataFile| serialize_data_file_to_json(file.clone(), partition, FormatVersion::V2);
        let entries: Result<Vec<String>, iceberg::Error> = files.dead.files.iter().map(entry).collect();
        let start = summary.next.keys().filter_map(|partition| Some((*partition, stored.next(*partition)?)));
        Ok(Some(Self {
            commit: summary.commit_id,
            cluster: source.cluster.clone(),
            topic: source.topic.clone(),
            start: Some(start.collect()),
            next: summary.next.clone(),
            paths: files.dead.files.iter().map(|file| file.file_path().to_owned()).collect(),
            files: entries.map_err(|source| unreadable(table, source))?,
        }))
    }

    /// As the summary holds it.
    pub fn encode(&self) -> String {
        // Strings and integers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What a table's summary names as pending.
    pub fn of(table: &Table, entries: &BTreeMap<String, String>) -> Result<Option<Self>, IngestError> {
        let Some(text) = entries.get(summary::DEAD_LETTERS_PENDING) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|source| unreadable(table, source))
    }

    /// The ranges' ends, if they are of this source.
    pub fn next(&self, source: &TopicSource) -> BTreeMap<i32, i64> {
        if self.source() == *source { self.next.clone() } else { BTreeMap::new() }
    }

    fn source(&self) -> TopicSource {
        TopicSource { cluster: self.cluster.clone(), topic: self.topic.clone() }
    }

    /// Commits the files unless the dead-letter table has them; returns that table as it is then.
    pub async fn settle(&self, catalog: &Catalog, table: &Table, gap: Gap) -> Result<Table, IngestError> {
        let mut table = table.clone();
        loop {
            let Some(append) = self.append(&table, gap).await? else { return Ok(table) };
            fault::point("ingest.dead_letters.before");
            // Another process may commit these very files: nothing here deletes them, whatever becomes of this.
            match catalog.apply(&table, &append).await.into_result() {
                Ok(committed) => {
                    fault::point("ingest.dead_letters.after");
                    return Ok(committed.table);
                }
                // Another process did it, or another range: look again.
                Err(LakehouseError::Fenced { .. }) => table = catalog.load(table.ident()).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the dead-letter table lacks; `None` once it lacks nothing.
    async fn append(&self, table: &Table, gap: Gap) -> Result<Option<Change>, IngestError> {
        let id = self.commit.to_string();
        let properties =
            |s: &iceberg::spec::SnapshotRef| s.summary().additional_properties.get(summary::COMMIT_ID) == Some(&id);
        if table.ancestors().any(properties) {
            return Ok(None);
        }
        let recorded = table.recorded().await?.offsets;
        if self.is_recorded(&recorded) {
            return Ok(None);
        }
        let files = match &self.start {
            Some(start) => {
                self.begins_in(table, &recorded, start, gap)?;
                let as_it_was = self.next.keys().all(|p| self.at(&recorded, *p) == start.get(p).copied());
                if as_it_was { self.entries(table)? } else { self.lacking(table).await? }
            }
            None => self.lacking(table).await?,
        };
        let ranges = self.ranges(&recorded)?;
        if files.is_empty() && ranges.iter().all(|(_, _, range)| range.start.offset() == range.next) {
            return Ok(None);
        }
        Ok(Some(Change::append(table, files).with_commit_id(self.commit).with_offsets(ranges)))
    }

    fn at(&self, recorded: &SourceOffsets, partition: i32) -> Option<i64> {
        recorded.get(&self.source(), partition)
    }

    /// The dead-letter table records the ends of these ranges, and came there by them. A table that was rolled back has
    /// ranges that end before what the dead-letter table records, or there: they prove nothing.
    fn is_recorded(&self, recorded: &SourceOffsets) -> bool {
        let Some(start) = &self.start else {
            return self.next.iter().all(|(p, next)| self.at(recorded, *p).is_some_and(|at| at >= *next));
        };
        let moves = self.next.iter().any(|(p, next)| start.get(p).is_none_or(|start| start < next));
        moves
            && self
                .next
                .iter()
                .all(|(p, next)| self.at(recorded, *p) == Some((*next).max(start.get(p).copied().unwrap_or(0))))
    }

    /// The dead-letter table has all that came before these files.
    fn begins_in(
        &self,
        table: &Table,
        recorded: &SourceOffsets,
        start: &BTreeMap<i32, i64>,
        gap: Gap,
    ) -> Result<(), IngestError> {
        let behind = start.iter().find(|(p, start)| self.at(recorded, **p) < Some(**start));
        match behind {
            Some((partition, start)) if gap == Gap::Refuse => {
                Err(behind_of(table, *partition, self.at(recorded, *partition), *start))
            }
            _ => Ok(()),
        }
    }

    fn ranges(&self, recorded: &SourceOffsets) -> Result<OffsetRanges, IngestError> {
        let mut ranges = OffsetRanges::default();
        for (partition, next) in &self.next {
            let at = self.at(recorded, *partition);
            let start = at.map_or(RangeStart::First(0), RangeStart::Recorded);
            ranges.add(&self.source(), *partition, start, start.offset().max(*next))?;
        }
        Ok(ranges)
    }

    fn entries(&self, table: &Table) -> Result<Vec<DataFile>, IngestError> {
        let metadata = table.metadata();
        let (spec, partition) = (metadata.default_partition_spec_id(), metadata.default_partition_type());
        let entry = |json: &String| deserialize_data_file_from_json(json, spec, partition, metadata.current_schema());
        let entries: Result<Vec<DataFile>, iceberg::Error> = self.files.iter().map(entry).collect();
        entries.map_err(|source| unreadable(table, source))
    }

    /// The rows that the table does not have, in a file of their own. Another commit reached into these ranges: the same
    /// records may have come by it.
    async fn lacking(&self, table: &Table) -> Result<Vec<DataFile>, IngestError> {
        let mut batches = Vec::new();
        for path in &self.paths {
            batches.extend(rows(table, path).await?);
        }
        let keys = batches.iter().map(|batch| keys_of(table, batch)).collect::<Result<Vec<_>, _>>()?;
        let lowest = keys.iter().flatten().map(|(_, offset, _)| *offset).min().unwrap_or_default();
        let stored = stored_from(table, lowest).await?;
        if !keys.iter().flatten().any(|key| stored.contains(key)) {
            return self.entries(table);
        }
        let mut writer = TableWriter::new(table, Uuid::now_v7(), WriterOptions::default())?;
        for (batch, keys) in batches.iter().zip(keys) {
            let lacks: BooleanArray = keys.iter().map(|key| Some(!stored.contains(key))).collect();
            let rest = filter_record_batch(batch, &lacks).map_err(|error| unreadable(table, error))?;
            writer.write(rest).await?;
        }
        Ok(writer.close().await?.files)
    }
}

/// Up to where the dead-letter table must have the dead letters, by its table's summary, against what it records.
pub fn complete(
    table: &Table,
    recorded: &SourceOffsets,
    entries: &BTreeMap<String, String>,
) -> Result<(), IngestError> {
    let Some(text) = entries.get(summary::DEAD_LETTER_OFFSETS) else { return Ok(()) };
    let wanted = SourceOffsets::decode(text).map_err(|source| unreadable(table, source))?;
    match wanted.iter().find(|(source, partition, wanted)| recorded.get(source, *partition) < Some(*wanted)) {
        Some((source, partition, wanted)) => Err(behind_of(table, partition, recorded.get(&source, partition), wanted)),
        None => Ok(()),
    }
}

fn behind_of(table: &Table, partition: i32, found: Option<i64>, wanted: i64) -> IngestError {
    let found = found.map_or_else(|| "nothing".to_owned(), |found| format!("offset {found}"));
    IngestError::DeadLettersBehind { table: table.ident().to_string(), partition, found, wanted }
}

pub(super) fn unreadable(table: &Table, source: impl std::error::Error + Send + Sync + 'static) -> IngestError {
    IngestError::Pending { table: table.ident().to_string(), source: Box::new(source) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[path = "tests.rs"]
mod tests;
