//! Rows become data files: record batches in, Parquet files with Iceberg metrics out.
//! Memory is bounded: one row group per open partition, the largest flushed first; files roll by size.
//! What must never happen: a file reported that is not whole and on disk.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef as ArrowSchemaRef;
use iceberg::spec::DataFile;
use uuid::Uuid;

use crate::error::Result;
use crate::table::Table;

/// How files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// A file is closed when it reaches this size.
    pub target_file_bytes: u64,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// Bytes buffered over all open files before the largest flushes its row group.
    pub memory_bytes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { target_file_bytes: 256 << 20, row_group_rows: 1 << 20, memory_bytes: 128 << 20 }
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
#[derive(Debug)]
pub struct TableWriter {
    schema: ArrowSchemaRef,
}

impl TableWriter {
    /// A writer whose file names carry `commit_id` (use the same id for the commit).
    pub fn new(_table: &Table, _commit_id: Uuid, _options: WriterOptions) -> Result<Self> {
        unimplemented!()
    }

    /// The Arrow schema that batches must have (field ids in its metadata; batches need not carry them).
    pub fn schema(&self) -> &ArrowSchemaRef {
        &self.schema
    }

    /// Writes a batch. CPU work and file I/O happen on tokio's blocking pool.
    pub async fn write(&mut self, _batch: RecordBatch) -> Result<()> {
        unimplemented!()
    }

    /// Finishes all files; they are synced when this returns. No rows, no files.
    pub async fn close(self) -> Result<Written> {
        unimplemented!()
    }

    /// Gives up and deletes what was written.
    pub async fn abort(self) -> Result<()> {
        unimplemented!()
    }
}
