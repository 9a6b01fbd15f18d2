//! Refused records as rows of the dead-letter table, and which of them that table has.
//!
//! In: refusals; the dead-letter table. Out: rows for dead-letter files; the dead letters that a table has of records
//! that its product's table will read again after a rollback.
//! How the files of a commit get into the dead-letter table: [`pending`].

pub mod pending;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema};
use iceberg::spec::{DataFile, PrimitiveLiteral};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{LakehouseError, Table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::IngestError;
use crate::pipeline::plan::TablePlan;
use crate::pipeline::refusal::Refusals;
use crate::pipeline::source_batch::{SourceBatch, SourceRecord};

pub use pending::PendingDeadLetters;

/// A record as a dead-letter table knows it: partition, offset, timestamp. The topic's id is not in there; the timestamp
/// tells the records of a topic from those of another one that was created under its name.
type DeadLetterKey = (i32, i64, i64);

/// The refused records as rows of the dead-letter table.
pub fn batch(records: &SourceBatch, refusals: &Refusals, plan: &TablePlan) -> Result<RecordBatch, ArrowError> {
    let refused = || refusals.iter().map(|(index, _)| records.record(index));
    let columns = crate::pipeline::enrich::origin(refused, &plan.topic)?;
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let mut values = BinaryBuilder::new();
    let (mut codes, mut messages, mut places) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    for (index, refusal) in refusals.iter() {
        values.append_option(records.record(index).value());
        codes.append_value(refusal.reason.code());
        messages.append_value(format!("{}: {}", refusal.reason, refusal.message));
        places.append_option((!refusal.place.is_empty()).then_some(&refusal.place));
    }
    let own: [(&str, ArrayRef, bool); 5] = [
        ("value", Arc::new(values.finish()), true),
        ("reason_code", Arc::new(codes.finish()), false),
        ("reason", Arc::new(messages.finish()), false),
        ("place", Arc::new(places.finish()), true),
        ("contract_revision", Arc::new(Int64Array::from(vec![plan.revision; refusals.len()])), false),
    ];
    for (name, array, null) in own {
        fields.push(Field::new(name, array.data_type().clone(), null));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// What a dead-letter table has already, as far as its product's table will read it again.
#[derive(Debug, Clone, Default)]
pub struct StoredDeadLetters {
    /// Up to where it has the dead letters of each partition. Behind its table, but for one that was rolled back.
    next: BTreeMap<i32, i64>,
    /// Those from the table's own positions on.
    keys: HashSet<DeadLetterKey>,
}

impl StoredDeadLetters {
    /// Looks what a dead-letter table has from these positions on. A table whose offsets are lost stops when dead letters
    /// are pending next.
    pub async fn load(
        table: &Table,
        source: &TopicSource,
        positions: &BTreeMap<i32, i64>,
    ) -> Result<Self, IngestError> {
        let recorded = match table.recorded().await {
            Ok(recorded) => recorded.offsets,
            Err(LakehouseError::OffsetsLost { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let next = positions.keys().filter_map(|partition| Some((*partition, recorded.get(source, *partition)?)));
        let next: BTreeMap<i32, i64> = next.collect();
        let behind = |(partition, at): (&i32, &i64)| next.get(partition).filter(|next| *next > at).map(|_| *at);
        let keys = match positions.iter().filter_map(behind).min() {
            Some(lowest) => stored_from(table, lowest).await?,
            None => HashSet::new(),
        };
        Ok(Self { next, keys })
    }

    /// Up to where it has the dead letters of a partition.
    pub fn next(&self, partition: i32) -> Option<i64> {
        self.next.get(&partition).copied()
    }

    /// Whether it has this record.
    pub fn has(&self, record: SourceRecord<'_>) -> bool {
        self.next(record.partition()).is_some_and(|next| record.offset() < next)
            && self.keys.contains(&(record.partition(), record.offset(), record.timestamp_us()))
    }

    /// It has those of these ranges now.
    pub fn advance(&mut self, next: &BTreeMap<i32, i64>) {
        for (partition, next) in next {
            let known = self.next.entry(*partition).or_insert(*next);
            *known = (*known).max(*next);
        }
    }
}

/// The dead letters of a table from an offset on, in any partition.
pub(crate) async fn stored_from(table: &Table, offset: i64) -> Result<HashSet<DeadLetterKey>, IngestError> {
    let mut keys = HashSet::new();
    let Some(snapshot) = table.current_snapshot() else { return Ok(keys) };
    for manifest in table.manifests(snapshot).await?.iter() {
        let manifest = table.store().manifest(manifest).await?;
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            if reaches(table, entry.data_file(), offset) {
                for batch in rows(table, entry.file_path()).await? {
                    keys.extend(keys_of(table, &batch)?);
                }
            }
        }
    }
    Ok(keys)
}

/// Whether a file may hold an offset as high as this one.
fn reaches(table: &Table, file: &DataFile, offset: i64) -> bool {
    let field = table.schema().field_by_name("offset").map(|field| field.id);
    let highest = field.and_then(|id| file.upper_bounds().get(&id)).map(|bound| bound.literal());
    !matches!(highest, Some(PrimitiveLiteral::Long(highest)) if *highest < offset)
}

/// All rows of a dead-letter file.
pub(crate) async fn rows(table: &Table, location: &str) -> Result<Vec<RecordBatch>, IngestError> {
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| LakehouseError::Corrupt {
        path: location.to_owned(),
        expected: "a Parquet file of dead letters",
        source,
    };
    let bytes = table.store().read(location).await?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
    let batches = reader.map_err(|error| unreadable(error.into()))?.collect::<Result<Vec<_>, _>>();
    Ok(batches.map_err(|error| unreadable(error.into()))?)
}

/// The keys of a file's rows, in their order.
pub(crate) fn keys_of(table: &Table, batch: &RecordBatch) -> Result<Vec<DeadLetterKey>, IngestError> {
    let columns = || {
        let partitions = batch.column_by_name("partition")?.as_primitive_opt::<Int32Type>()?;
        let offsets = batch.column_by_name("offset")?.as_primitive_opt::<Int64Type>()?;
        let timestamps = batch.column_by_name("timestamp")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some((partitions, offsets, timestamps))
    };
    let (partitions, offsets, timestamps) = columns().ok_or_else(|| {
        let why = "a file of it lacks the columns partition, offset or timestamp";
        pending::unreadable(table, std::io::Error::other(why))
    })?;
    let keys = partitions.values().iter().zip(offsets.values()).zip(timestamps.values());
    Ok(keys.map(|((partition, offset), timestamp)| (*partition, *offset, *timestamp)).collect())
}
