//! Rows become data files: record batches in, Parquet files with Iceberg metrics out.
//!
//! batch → `conform` (the table's own Arrow types) → `partition` (rows of one partition together) → `file` (Parquet)
//! → `metrics` (what a planner wants to know). Memory is bounded: row groups are flushed, the biggest first, and files
//! roll by size. What must never happen: a file reported that is not whole and on disk.

mod conform;
mod file;
mod metrics;
mod partition;
mod sample;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef as ArrowSchemaRef;
use iceberg::TableIdent;
use iceberg::spec::{DataFile, SchemaRef, Struct};
use uuid::Uuid;

use self::file::{OpenFile, Target};
pub use self::partition::{Partitioner, Unpartitionable, transform};
pub use self::sample::{can_write, write_sample};
use crate::error::{LakehouseError, Result};
use crate::store::{self, blocking};
use crate::table::Table;

/// How files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// A file is closed when it reaches this size.
    pub target_file_bytes: usize,
    /// Rows of a row group at most.
    pub row_group_rows: usize,
    /// Bytes buffered over all open files before the biggest flushes its row group.
    pub memory_bytes: usize,
    /// Files (one per partition value) open at once before the biggest is closed.
    pub open_files: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { target_file_bytes: 256 << 20, row_group_rows: 1 << 20, memory_bytes: 128 << 20, open_files: 64 }
    }
}

/// What a writer wrote.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The files, ready for a commit.
    pub files: Vec<DataFile>,
    /// Rows in them.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Writes rows of one table into data files of its current schema and partition spec.
///
/// Dropped without [`TableWriter::close`] it deletes what it wrote.
#[derive(Debug)]
pub struct TableWriter {
    state: Option<Box<State>>,
    schema: ArrowSchemaRef,
    place: String,
}

#[derive(Debug)]
struct State {
    ident: TableIdent,
    target: Target,
    options: WriterOptions,
    partitioner: Option<Partitioner>,
    open: HashMap<Struct, OpenFile>,
    finished: Vec<DataFile>,
    /// Every file begun, until it is reported.
    begun: Vec<String>,
}

impl TableWriter {
    /// A writer whose file names carry `commit_id` (give the same id to the commit).
    pub fn new(table: &Table, commit_id: Uuid, options: WriterOptions) -> Result<Self> {
        let ident = table.ident().clone();
        let schema = table.schema().clone();
        let arrow = arrow_schema(&schema)?;
        let spec = table.metadata().default_partition_spec();
        let partitioner = Partitioner::of(table)?;
        let place = format!("{}/data", table.metadata().location());
        let target = Target::new(&place, commit_id, arrow.clone(), schema, spec.spec_id(), &options);
        let state = State {
            ident,
            target,
            options,
            partitioner,
            open: HashMap::new(),
            finished: Vec::new(),
            begun: Vec::new(),
        };
        Ok(Self { state: Some(Box::new(state)), schema: arrow, place })
    }

    /// The Arrow schema of the files, with field ids. Batches have its columns by name; types may differ in what
    /// changes no value (field metadata, names of list elements, offsets' width).
    pub fn schema(&self) -> &ArrowSchemaRef {
        &self.schema
    }

    /// Writes a batch. CPU work and file I/O happen on tokio's blocking pool.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let mut state = self.take()?;
        let work = move || {
            state.write(&batch)?;
            Ok(state)
        };
        self.state = Some(blocking("write", &self.place, work).await?);
        Ok(())
    }

    /// Finishes all files; they are synced when this returns. No rows, no files.
    pub async fn close(mut self) -> Result<Written> {
        let state = self.take()?;
        blocking("write", &self.place, move || state.close()).await
    }

    /// Bytes that are buffered in memory, over all open files.
    pub fn memory(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.open.values().map(OpenFile::memory).sum())
    }

    /// A write that failed took the files with it.
    fn take(&mut self) -> Result<Box<State>> {
        self.state.take().ok_or_else(|| LakehouseError::File {
            operation: "go on writing",
            path: self.place.clone(),
            source: "an earlier write of this writer failed".into(),
        })
    }
}

/// The Arrow schema of a table's files: Iceberg's types, field ids in the metadata.
pub fn arrow_schema(schema: &SchemaRef) -> Result<ArrowSchemaRef> {
    let arrow = iceberg::arrow::schema_to_arrow_schema(schema)
        .map_err(|e| LakehouseError::schema("the table's Arrow schema", e))?;
    Ok(Arc::new(arrow))
}

impl State {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = conform::conform(&self.ident, batch, &self.target.arrow)?;
        match &self.partitioner {
            None => self.write_part(Struct::empty(), &batch)?,
            Some(partitioner) => {
                for (partition, rows) in partitioner.split(&self.ident, &batch)? {
                    self.write_part(partition, &rows)?;
                    // Not once at the end: each row may be of a partition of its own.
                    self.bound_memory()?;
                }
            }
        }
        self.bound_memory()
    }

    fn write_part(&mut self, partition: Struct, rows: &RecordBatch) -> Result<()> {
        let file = match self.open.entry(partition) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let location = self.target.next_location();
                self.begun.push(location.clone());
                let file = OpenFile::create(&self.target, location, entry.key().clone())?;
                entry.insert(file)
            }
        };
        file.write(rows)?;
        if file.size() >= self.options.target_file_bytes {
            let partition = file.partition().clone();
            self.finish(&partition)?;
        }
        Ok(())
    }

    fn finish(&mut self, partition: &Struct) -> Result<()> {
        match self.open.remove(partition) {
            Some(file) => self.finished.push(file.finish(&self.target)?),
            None => return Ok(()),
        }
        Ok(())
    }

    fn bound_memory(&mut self) -> Result<()> {
        while self.open.len() > self.options.open_files {
            let Some(biggest) = self.open.values().max_by_key(|f| f.size()).map(|f| f.partition().clone()) else {
                break;
            };
            self.finish(&biggest)?;
        }
        while self.open.values().map(OpenFile::memory).sum::<usize>() > self.options.memory_bytes {
            match self.open.values_mut().filter(|f| f.buffered_rows() > 0).max_by_key(|f| f.memory()) {
                Some(biggest) => biggest.flush()?,
                None => break,
            }
        }
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<Written> {
        let open: Vec<Struct> = self.open.keys().cloned().collect();
        for partition in open {
            self.finish(&partition)?;
        }
        if let Some(first) = self.finished.first() {
            store::sync_folder(first.file_path())?;
        }
        self.begun.clear();
        let files = std::mem::take(&mut self.finished);
        let rows = files.iter().map(DataFile::record_count).sum();
        let bytes = files.iter().map(DataFile::file_size_in_bytes).sum();
        Ok(Written { files, rows, bytes })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for location in &self.begun {
            if let Err(error) = std::fs::remove_file(store::local_path(location)) {
                tracing::debug!(%error, location, "left for orphan removal");
            }
        }
    }
}
