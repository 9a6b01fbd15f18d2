//! Manifests and manifest list of a new snapshot. When there are a hundred small manifests, the commit that finds them
//! merges them, so that a reader never opens more than that for a table's tail.
//!
//! Manifests of like size are merged: one that is larger than all smaller ones together stays as it is. So each file's
//! entry is written a few times in a table's life, not once per hundred commits.

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, Manifest, ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriterBuilder};
use std::sync::Arc;
use uuid::Uuid;

use super::avro;
use crate::error::{LakehouseError, Result};
use crate::store::blocking;
use crate::table::Table;

/// So many small manifests are merged into one.
const MERGE_AT: usize = 100;
/// A manifest of this size (of compressed bytes) is left alone.
const BIG: i64 = 2 << 20;

/// Writes the manifests of one snapshot.
pub(super) struct Manifests<'a> {
    pub(super) base: &'a Table,
    pub(super) snapshot_id: i64,
    pub(super) commit_id: Uuid,
}

/// Takes out the manifests that are larger than all smaller ones together; those left are worth a merge.
fn split_off_large(small: &mut Vec<ManifestFile>) -> Vec<ManifestFile> {
    small.sort_by_key(|manifest| manifest.manifest_length);
    let mut sum = 0;
    // At least half of them: then the next merge is far off.
    let large = small.iter().enumerate().position(|(at, manifest)| {
        let larger = at >= MERGE_AT / 2 && manifest.manifest_length > sum;
        sum += manifest.manifest_length;
        larger
    });
    large.map_or_else(Vec::new, |at| small.split_off(at))
}

/// A file that is in the table already.
struct Existing {
    file: DataFile,
    snapshot_id: i64,
    sequence_number: i64,
    file_sequence_number: Option<i64>,
}

impl Manifests<'_> {
    /// The base's files and these; returns the manifest list's location.
    pub(super) async fn append(&self, added: &[DataFile], written: &mut Vec<String>) -> Result<String> {
        let (mut kept, mut small) = self.existing().await?;
        let mut existing = Vec::new();
        if small.len() + usize::from(!added.is_empty()) >= MERGE_AT {
            kept.extend(split_off_large(&mut small));
            existing = self.read(&small).await?;
        } else {
            kept.extend(small);
        }
        if !added.is_empty() || !existing.is_empty() {
            kept.push(self.write_manifest(added.to_vec(), existing, written).await?);
        }
        self.write_list(kept, written).await
    }

    /// The base's manifests that still name files: those to keep as they are, and small ones.
    async fn existing(&self) -> Result<(Vec<ManifestFile>, Vec<ManifestFile>)> {
        let Some(snapshot) = self.base.current_snapshot() else { return Ok(Default::default()) };
        let manifests = self.base.manifests(snapshot).await?;
        let alive = manifests.iter().filter(|m| m.has_added_files() || m.has_existing_files()).cloned();
        let spec = self.base.metadata().default_partition_spec_id();
        let fits = |m: &ManifestFile| {
            m.content == ManifestContentType::Data && m.partition_spec_id == spec && m.manifest_length < BIG
        };
        let (small, kept) = alive.partition(fits);
        Ok((kept, small))
    }

    async fn read(&self, manifests: &[ManifestFile]) -> Result<Vec<Existing>> {
        let mut existing = Vec::new();
        for file in manifests {
            let manifest = self.base.store().manifest(file).await?;
            existing.extend(self.alive(&manifest, file)?);
        }
        Ok(existing)
    }

    fn alive(&self, manifest: &Arc<Manifest>, file: &ManifestFile) -> Result<Vec<Existing>> {
        let alive = manifest.entries().iter().filter(|entry| entry.is_alive());
        let existing = alive.map(|entry| {
            Some(Existing {
                file: entry.data_file().clone(),
                snapshot_id: entry.snapshot_id()?,
                sequence_number: entry.sequence_number()?,
                file_sequence_number: entry.file_sequence_number,
            })
        });
        existing.collect::<Option<_>>().ok_or_else(|| LakehouseError::Corrupt {
            path: file.manifest_path.clone(),
            expected: "a manifest whose entries have snapshot and sequence number",
            source: "an entry inherits nothing".into(),
        })
    }

    async fn write_manifest(
        &self,
        added: Vec<DataFile>,
        existing: Vec<Existing>,
        written: &mut Vec<String>,
    ) -> Result<ManifestFile> {
        // Unique for each attempt: an earlier attempt's may still be referred to.
        let location = self.location(&format!("{}-{}-m0.avro", self.commit_id, self.snapshot_id));
        let metadata = self.base.metadata();
        let (schema, spec) = (metadata.current_schema().clone(), metadata.default_partition_spec().as_ref().clone());
        let (id, ident, path) = (self.snapshot_id, self.base.ident().clone(), location.clone());
        let encoded = blocking("write", &location, move || {
            let refused = |e: iceberg::Error| LakehouseError::invalid(&ident, "write a manifest", e);
            let memory = FileIO::new_with_memory();
            let output = memory.new_output(&path).map_err(refused)?;
            let mut writer = ManifestWriterBuilder::new(output, Some(id), schema, spec).build_v2_data();
            for old in existing {
                let numbers = (old.snapshot_id, old.sequence_number, old.file_sequence_number);
                writer.add_existing_file(old.file, numbers.0, numbers.1, numbers.2).map_err(refused)?;
            }
            for file in added {
                // Below zero: unassigned, inherited from the manifest list.
                writer.add_file(file, -1).map_err(refused)?;
            }
            let write = async { Ok((writer.write_manifest_file().await?, memory.new_input(&path)?.read().await?)) };
            let (mut file, bytes): (ManifestFile, Bytes) = futures::executor::block_on(write).map_err(refused)?;
            let bytes = avro::deflated(&bytes).map_err(|e| LakehouseError::invalid(&ident, "write a manifest", e))?;
            file.manifest_length = bytes.len() as i64;
            Ok((file, bytes))
        });
        let (file, bytes) = encoded.await?;
        written.push(location.clone());
        self.base.store().write_new(&location, bytes.into()).await?;
        Ok(file)
    }

    async fn write_list(&self, manifests: Vec<ManifestFile>, written: &mut Vec<String>) -> Result<String> {
        let refused = |e: iceberg::Error| LakehouseError::invalid(self.base.ident(), "write a manifest list", e);
        let location = self.location(&format!("snap-{}-0-{}.avro", self.snapshot_id, self.commit_id));
        let metadata = self.base.metadata();
        let memory = FileIO::new_with_memory();
        let output = memory.new_output(&location).map_err(refused)?.writer().await.map_err(refused)?;
        let (parent, sequence_number) = (metadata.current_snapshot_id(), metadata.next_sequence_number());
        let mut writer = ManifestListWriter::v2(output, self.snapshot_id, parent, sequence_number);
        writer.add_manifests(manifests.into_iter()).map_err(refused)?;
        writer.close().await.map_err(refused)?;
        let bytes = memory.new_input(&location).map_err(refused)?.read().await.map_err(refused)?;
        let bytes = avro::deflated(&bytes)
            .map_err(|e| LakehouseError::invalid(self.base.ident(), "write a manifest list", e))?;
        written.push(location.clone());
        self.base.store().write_new(&location, bytes.into()).await?;
        Ok(location)
    }

    fn location(&self, name: &str) -> String {
        format!("{}/metadata/{name}", self.base.metadata().location())
    }
}
