//! Files of the warehouse, all of them through one object store: reads of metadata through caches, writes that are
//! created new, whole and durable before anything refers to them. Locations are `file:///…` URIs or absolute paths.
//!
//! In: locations as Iceberg metadata spells them. Out: bytes. Never: a file overwritten, or announced before it is on disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt;
use iceberg::io::FileIO;
use iceberg::spec::{Manifest, ManifestFile, ManifestList, Snapshot, TableMetadata, TableMetadataRef};
use moka::future::Cache;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::error::{LakehouseError, Result};

/// Bytes of manifest files whose parsed form is kept.
const MANIFEST_CACHE_BYTES: u64 = 32 << 20;
/// Manifest lists kept: one per snapshot that is read.
const LIST_CACHE: u64 = 512;
/// Bytes of table metadata whose parsed form is kept, by location.
const METADATA_CACHE_BYTES: u64 = 64 << 20;

/// Access to the warehouse's files; cheap to clone, caches shared.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    manifests: Cache<String, Arc<Manifest>>,
    lists: Cache<String, Arc<Vec<ManifestFile>>>,
    metadata: Cache<String, TableMetadataRef>,
}

impl Store {
    /// Local files.
    pub fn local() -> Self {
        let manifests = Cache::builder()
            .max_capacity(MANIFEST_CACHE_BYTES)
            .weigher(|_: &String, manifest: &Arc<Manifest>| weight(manifest))
            .build();
        let metadata = Cache::builder()
            .max_capacity(METADATA_CACHE_BYTES)
            .weigher(|_: &String, metadata: &TableMetadataRef| metadata_weight(metadata))
            .build();
        Self {
            inner: Arc::new(Inner {
                store: Arc::new(object_store::local::LocalFileSystem::new()),
                manifests,
                lists: Cache::new(LIST_CACHE),
                metadata,
            }),
        }
    }

    /// The object store that holds every location of this warehouse (for DataFusion's Parquet source).
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.store
    }

    /// The URL under which [`Store::object_store`] is registered with DataFusion.
    pub fn store_url(&self) -> &'static str {
        "file://"
    }

    /// A location as a path within [`Store::object_store`]: the only place where the one becomes the other.
    pub fn object_path(&self, location: &str) -> Result<object_store::path::Path> {
        object_store::path::Path::from_absolute_path(local_path(location)).map_err(|source| LakehouseError::File {
            operation: "resolve",
            path: location.to_owned(),
            source: Box::new(source),
        })
    }

    /// A whole file's bytes.
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let failed = |e| LakehouseError::object("read", location, e);
        let found = self.inner.store.get(&self.object_path(location)?).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    /// Table metadata at a location; cached, since a metadata file never changes.
    pub async fn table_metadata(&self, location: &str) -> Result<TableMetadataRef> {
        if let Some(found) = self.inner.metadata.get(location).await {
            return Ok(found);
        }
        // Iceberg reads gzipped files too, but says of a missing one only that it could not be read.
        let bytes = self.read(location).await?;
        let memory = FileIO::new_with_memory();
        let corrupt = |e: iceberg::Error| LakehouseError::Corrupt {
            path: location.to_owned(),
            expected: "Iceberg table metadata",
            source: Box::new(e),
        };
        memory.new_output(location).map_err(corrupt)?.write(bytes).await.map_err(corrupt)?;
        let metadata = Arc::new(TableMetadata::read_from(&memory, location).await.map_err(corrupt)?);
        self.inner.metadata.insert(location.to_owned(), metadata.clone()).await;
        Ok(metadata)
    }

    /// Keeps metadata that was just written.
    pub(crate) async fn remember_metadata(&self, location: &str, metadata: &TableMetadataRef) {
        self.inner.metadata.insert(location.to_owned(), metadata.clone()).await;
    }

    /// The manifests of a snapshot; cached by location.
    pub async fn manifest_list(&self, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<Arc<Vec<ManifestFile>>> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.inner.lists.get(location).await {
            return Ok(found);
        }
        let bytes = self.read(location).await?;
        let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).map_err(|e| {
            LakehouseError::Corrupt { path: location.to_owned(), expected: "a manifest list", source: Box::new(e) }
        })?;
        let list = Arc::new(list.consume_entries().into_iter().collect::<Vec<_>>());
        self.inner.lists.insert(location.to_owned(), list.clone()).await;
        Ok(list)
    }

    /// A manifest with its entries; sequence numbers and snapshot ids are inherited already. Cached by location.
    pub async fn manifest(&self, file: &ManifestFile) -> Result<Arc<Manifest>> {
        if let Some(found) = self.inner.manifests.get(&file.manifest_path).await {
            return Ok(found);
        }
        let (entry, bytes) = (file.clone(), self.read(&file.manifest_path).await?);
        let manifest = blocking("read", &file.manifest_path, move || parse_manifest(&entry, bytes)).await?;
        let manifest = Arc::new(manifest);
        self.inner.manifests.insert(file.manifest_path.clone(), manifest.clone()).await;
        Ok(manifest)
    }

    /// Creates a file with these bytes: whole and durable when this returns, or not there. It must not exist, unless
    /// with these very bytes: an object store may have taken a write whose answer was lost.
    pub async fn write_new(&self, location: &str, bytes: Bytes) -> Result<()> {
        let path = self.object_path(location)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.inner.store.put_opts(&path, bytes.clone().into(), options).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) if self.read(location).await? == bytes => {}
            Err(error) => return Err(LakehouseError::object("write", location, error)),
        }
        let synced = sync(location).await;
        if synced.is_err() {
            self.discard(&[location.to_owned()]).await;
        }
        synced
    }

    /// The files under a folder, with the store's time of their last change.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let found = self.inner.store.list(Some(&self.object_path(folder)?));
        let found: Vec<_> = found.try_collect().await.map_err(|e| LakehouseError::object("list", folder, e))?;
        Ok(found.into_iter().map(|meta| Listed { path: meta.location, modified: meta.last_modified.into() }).collect())
    }

    /// Deletes a file by its path in the object store; a missing one is fine.
    pub(crate) async fn delete_path(&self, path: &object_store::path::Path) -> Result<()> {
        deleted(path.as_ref(), self.inner.store.delete(path).await)
    }

    /// Deletes files that nothing refers to, as far as that works: what stays is an orphan and goes with those.
    pub async fn discard(&self, locations: &[String]) {
        for location in locations {
            if let Err(error) = self.delete(location).await {
                tracing::debug!(%error, location, "orphan left");
            }
        }
    }

    /// Deletes a file; a missing one is fine.
    pub async fn delete(&self, location: &str) -> Result<()> {
        deleted(location, self.inner.store.delete(&self.object_path(location)?).await)
    }
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path in the object store, comparable with [`Store::object_path`].
    pub path: object_store::path::Path,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

fn deleted(location: &str, result: object_store::Result<()>) -> Result<()> {
    match result {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(LakehouseError::object("delete", location, error)),
    }
}

/// A location as a local path.
pub fn local_path(location: &str) -> PathBuf {
    let path = location.strip_prefix("file://").or_else(|| location.strip_prefix("file:")).unwrap_or(location);
    Path::new(path).to_path_buf()
}

/// Puts a local file and its name on disk: the object store leaves that to the system.
async fn sync(location: &str) -> Result<()> {
    let place = location.to_owned();
    let work = move || {
        let synced = File::open(local_path(&place)).and_then(|file| file.sync_all());
        synced.map_err(|e| LakehouseError::file("write", place.as_str(), e))?;
        sync_folder(&place)
    };
    blocking("write", location, work).await
}

/// Opens a file that must not be there yet, making its folder if need be.
pub(crate) fn create_new(location: &str) -> Result<File> {
    let path = local_path(location);
    let open = || std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let made = open().or_else(|e| match (e.kind(), path.parent()) {
        (std::io::ErrorKind::NotFound, Some(folder)) => std::fs::create_dir_all(folder).and_then(|()| open()),
        _ => Err(e),
    });
    made.map_err(|e| LakehouseError::file("create", location, e))
}

/// Makes the names in a file's folder durable.
pub(crate) fn sync_folder(location: &str) -> Result<()> {
    let path = local_path(location);
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| LakehouseError::file("sync the folder of", location, e))
}

/// A manifest with inherited values. iceberg-rust only inherits them on its way from a file of its own store.
fn parse_manifest(entry: &ManifestFile, bytes: Bytes) -> Result<Manifest> {
    let memory = FileIO::new_with_memory();
    let load = async {
        memory.new_output(&entry.manifest_path)?.write(bytes).await?;
        entry.load_manifest(&memory).await
    };
    futures::executor::block_on(load).map_err(|e| LakehouseError::Corrupt {
        path: entry.manifest_path.clone(),
        expected: "a manifest",
        source: Box::new(e),
    })
}

/// Runs file work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| LakehouseError::file(operation, path, std::io::Error::other(e)))?
}

/// Roughly the bytes of parsed metadata, most of which are snapshots with their summaries. However many, a few versions
/// are kept.
fn metadata_weight(metadata: &TableMetadata) -> u32 {
    let bytes = 16_384 + 3_072 * metadata.snapshots().len() as u64;
    u32::try_from(bytes.min(METADATA_CACHE_BYTES / 8)).unwrap_or(u32::MAX)
}

/// Roughly the bytes of a parsed manifest: entries carry maps of column metrics.
fn weight(manifest: &Manifest) -> u32 {
    let entry = manifest.entries().first().map_or(0, |e| 512 + 64 * e.data_file().value_counts().len());
    u32::try_from(1024 + entry * manifest.entries().len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::testing::{Lake, rows};

    #[tokio::test]
    async fn metadata_is_kept_by_its_weight() {
        let lake = Lake::new().await;
        let table = lake.append(&lake.table("t").await, rows(0..1)).await;
        let table = lake
            .rewritten(&table, |json| {
                let snapshots = json["snapshots"].as_array_mut().unwrap();
                let first = snapshots[0].clone();
                snapshots.extend((1..600).map(|id| {
                    let mut snapshot = first.clone();
                    snapshot["snapshot-id"] = id.into();
                    snapshot
                }));
            })
            .await;
        let kept = &table.store().inner.metadata;
        for version in 0..200 {
            table.store().remember_metadata(&format!("file:///{version}"), table.metadata()).await;
        }
        kept.run_pending_tasks().await;
        assert!((8..40).contains(&kept.entry_count()), "600 snapshots each: {}", kept.entry_count());
    }
}
