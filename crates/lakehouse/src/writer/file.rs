//! One Parquet file from its first batch to its entry in a manifest.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef as ArrowSchemaRef;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, SchemaRef, Struct};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{DEFAULT_CREATED_BY, EnabledStatistics, WriterProperties};
use uuid::Uuid;

use super::WriterOptions;
use super::metrics::{self, NanCounter};
use crate::error::{LakehouseError, Result};
use crate::store;

/// Where and how all files of one writer are written.
#[derive(Debug)]
pub(super) struct Target {
    prefix: String,
    next: u32,
    pub(super) arrow: ArrowSchemaRef,
    schema: SchemaRef,
    spec_id: i32,
    properties: WriterProperties,
    nans: NanCounter,
}

impl Target {
    pub(super) fn new(
        place: &str,
        commit_id: Uuid,
        arrow: ArrowSchemaRef,
        schema: SchemaRef,
        spec_id: i32,
        options: &WriterOptions,
    ) -> Self {
        // A second writer for the same commit must not meet the first one's files.
        let writer = Uuid::new_v4().simple().to_string();
        let (writer, _) = writer.split_at(8);
        let nans = NanCounter::new(&arrow);
        let prefix = format!("{place}/{commit_id}-{writer}");
        Self { prefix, next: 0, arrow, schema, spec_id, properties: properties(options), nans }
    }

    pub(super) fn next_location(&mut self) -> String {
        self.next += 1;
        format!("{}-{:05}.parquet", self.prefix, self.next)
    }
}

/// Explicit, since Iceberg's own writer ignores the table's compression property.
fn properties(options: &WriterOptions) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_created_by(created_by())
        .build()
}

/// In the form that parquet-java parses (`application version … (build …)`): of a writer that it cannot parse it ignores
/// the statistics of strings.
fn created_by() -> String {
    format!("meshwork version {} (build {DEFAULT_CREATED_BY})", env!("CARGO_PKG_VERSION"))
}

/// A file being written.
pub(super) struct OpenFile<W: Write + Send = File> {
    location: String,
    partition: Struct,
    writer: ArrowWriter<W>,
    nans: HashMap<i32, u64>,
}

impl<W: Write + Send> std::fmt::Debug for OpenFile<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("location", &self.location)
            .field("rows", &self.writer.in_progress_rows())
            .finish()
    }
}

impl OpenFile {
    pub(super) fn create(target: &Target, location: String, partition: Struct) -> Result<Self> {
        let file = store::create_new(&location)?;
        Self::new(target, location, partition, file)
    }

    /// Ends the file, puts it on disk and describes it.
    pub(super) fn finish(self, target: &Target) -> Result<DataFile> {
        let (described, writer) = self.end(target)?;
        let synced = writer.inner().sync_all();
        synced.map_err(|e| LakehouseError::file("write", described.file_path(), e))?;
        Ok(described)
    }
}

impl<W: Write + Send> OpenFile<W> {
    pub(super) fn new(target: &Target, location: String, partition: Struct, to: W) -> Result<Self> {
        let writer = ArrowWriter::try_new(to, target.arrow.clone(), Some(target.properties.clone()));
        let writer = writer.map_err(|e| failed(&location, e))?;
        Ok(Self { location, partition, writer, nans: target.nans.zeros() })
    }

    pub(super) fn partition(&self) -> &Struct {
        &self.partition
    }

    /// Bytes on disk and to come.
    pub(super) fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Bytes held for the row group in progress.
    pub(super) fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    pub(super) fn buffered_rows(&self) -> usize {
        self.writer.in_progress_rows()
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        NanCounter::count(rows, &mut self.nans);
        self.writer.write(rows).map_err(|e| failed(&self.location, e))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| failed(&self.location, e))
    }

    /// Ends the file and describes it.
    pub(super) fn end(mut self, target: &Target) -> Result<(DataFile, ArrowWriter<W>)> {
        let footer = self.writer.finish().map_err(|e| failed(&self.location, e))?;
        let size = self.writer.bytes_written();
        let columns = metrics::of(&footer, &target.schema);
        let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or_default();
        let offsets = footer.row_groups().iter().filter_map(|group| group.file_offset()).collect();
        let described = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(self.location.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(self.partition)
            .partition_spec_id(target.spec_id)
            .record_count(rows)
            .file_size_in_bytes(size as u64)
            .column_sizes(columns.sizes)
            .value_counts(columns.values)
            .null_value_counts(columns.nulls)
            .nan_value_counts(self.nans)
            .lower_bounds(columns.lower)
            .upper_bounds(columns.upper)
            .split_offsets(Some(offsets))
            .build();
        let described = described.map_err(|e| LakehouseError::File {
            operation: "describe",
            path: self.location,
            source: Box::new(e),
        })?;
        Ok((described, self.writer))
    }
}

/// Parquet hides a full disk or a missing right in its own error.
fn failed(location: &str, error: ParquetError) -> LakehouseError {
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(io) => LakehouseError::file("write", location, *io),
            Err(source) => LakehouseError::File { operation: "write", path: location.to_owned(), source },
        },
        other => LakehouseError::File { operation: "write", path: location.to_owned(), source: Box::new(other) },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::rows;

    /// A device that is always full.
    #[test]
    fn a_full_disk_is_reported_as_one() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let rows = rows(0..100_000);
        let mut writer = ArrowWriter::try_new(full, rows.schema(), None).unwrap();
        let ended = writer.write(&rows).and_then(|()| writer.finish().map(|_| ()));
        assert_eq!(failed("file:///w/x.parquet", ended.unwrap_err()).code(), "MESH-LAKEHOUSE-0003");
    }
}
