//! Which files a snapshot has, from its manifests.
//!
//! In: a table and a snapshot (or the snapshots of a range). Out: every live data file with the numbers that its
//! manifest entry carries. Never: a delete file passed over, a file counted twice.

use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, ManifestContentType, ManifestEntryRef, ManifestFile, SnapshotRef,
};

use super::error::ScanError;
use crate::table::Table;

/// One data file of a scan.
#[derive(Clone, Debug)]
pub struct ScanFile {
    entry: ManifestEntryRef,
    spec_id: i32,
    sequence_number: i64,
}

impl ScanFile {
    /// What the manifest says about it.
    pub fn data_file(&self) -> &DataFile {
        self.entry.data_file()
    }

    /// The partition spec that its partition value belongs to.
    pub fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// The snapshot that added it.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.entry.snapshot_id()
    }

    /// The sequence number of its data.
    pub fn sequence_number(&self) -> i64 {
        self.sequence_number
    }
}

/// The data files of a scan, oldest first.
#[derive(Clone, Debug, Default)]
pub struct FileSet {
    files: Vec<ScanFile>,
    entries_read: usize,
}

impl FileSet {
    /// All live data files of a snapshot.
    pub async fn of_snapshot(table: &Table, snapshot: &SnapshotRef) -> Result<Self, ScanError> {
        let mut set = Self::default();
        for manifest in table.manifests(snapshot).await?.iter() {
            set.read_manifest(table, manifest, |_| true).await?;
        }
        set.sort();
        Ok(set)
    }

    /// The data files that these snapshots added, whether or not a later one compacted them away.
    pub(super) async fn added_by(table: &Table, snapshots: &[SnapshotRef]) -> Result<Self, ScanError> {
        let mut set = Self::default();
        for snapshot in snapshots {
            let id = snapshot.snapshot_id();
            for manifest in table.manifests(snapshot).await?.iter() {
                // A snapshot's own files are in manifests that it added itself. Those that it merged are others'.
                if manifest.added_snapshot_id == id && manifest.has_added_files() {
                    set.read_manifest(table, manifest, |added_by| added_by == Some(id)).await?;
                }
            }
        }
        set.sort();
        set.files.dedup_by(|a, b| a.data_file().file_path() == b.data_file().file_path());
        Ok(set)
    }

    async fn read_manifest(
        &mut self,
        table: &Table,
        file: &ManifestFile,
        wanted: impl Fn(Option<i64>) -> bool,
    ) -> Result<(), ScanError> {
        if !file.has_added_files() && !file.has_existing_files() {
            return Ok(());
        }
        let manifest = table.store().manifest(file).await?;
        self.entries_read += manifest.entries().len();
        for entry in manifest.entries() {
            if !entry.is_alive() || !wanted(entry.snapshot_id()) {
                continue;
            }
            check_readable(table, file, entry.data_file())?;
            self.files.push(ScanFile {
                entry: Arc::clone(entry),
                spec_id: file.partition_spec_id,
                sequence_number: entry.sequence_number().unwrap_or(file.sequence_number),
            });
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.files.sort_by(|a, b| {
            (a.sequence_number, a.data_file().file_path()).cmp(&(b.sequence_number, b.data_file().file_path()))
        });
    }

    /// Keeps the files whose place in `keep` is true.
    pub(super) fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.files.retain(|_| keep.next().copied().unwrap_or(true));
    }

    /// The files, oldest first.
    pub fn files(&self) -> &[ScanFile] {
        &self.files
    }

    /// Manifest entries that were looked at to find the files: what a scan's planning costs.
    pub fn entries_read(&self) -> usize {
        self.entries_read
    }

    /// Rows in all files: exact, since there are no deletes.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.data_file().record_count()).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.data_file().file_size_in_bytes()).sum()
    }

    /// Nulls in a column, by field id; `None` if some file's manifest entry does not say.
    pub fn null_count(&self, field_id: i32) -> Option<u64> {
        self.files.iter().map(|f| f.data_file().null_value_counts().get(&field_id).copied()).sum()
    }
}

pub(super) fn check_readable(table: &Table, manifest: &ManifestFile, file: &DataFile) -> Result<(), ScanError> {
    let is_delete = manifest.content == ManifestContentType::Deletes || file.content_type() != DataContentType::Data;
    if is_delete {
        return Err(ScanError::DeleteFile { table: table.ident().to_string(), path: file.file_path().to_owned() });
    }
    if file.file_format() != DataFileFormat::Parquet {
        return Err(ScanError::NotParquet {
            table: table.ident().to_string(),
            path: file.file_path().to_owned(),
            format: file.file_format().to_string(),
        });
    }
    Ok(())
}
