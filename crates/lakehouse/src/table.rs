//! A table as loaded: identifier, metadata, and where that metadata was found. Immutable; a commit gives a new one.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{ManifestFile, SchemaRef, SnapshotRef, TableMetadataRef};
use uuid::Uuid;

use crate::error::{LakehouseError, Result};
use crate::store::Store;

/// A table at one version of its metadata.
#[derive(Clone, Debug)]
pub struct Table {
    ident: TableIdent,
    metadata: TableMetadataRef,
    metadata_location: Arc<str>,
    store: Store,
}

impl Table {
    /// Puts a loaded version together.
    pub(crate) fn new(ident: TableIdent, metadata: TableMetadataRef, location: &str, store: Store) -> Self {
        Self { ident, metadata, metadata_location: location.into(), store }
    }

    /// Namespace and name in the catalog.
    pub fn ident(&self) -> &TableIdent {
        &self.ident
    }

    /// The Iceberg metadata.
    pub fn metadata(&self) -> &TableMetadataRef {
        &self.metadata
    }

    /// The metadata file's location: changes with every commit, so it is a version for caches.
    pub fn metadata_location(&self) -> &str {
        &self.metadata_location
    }

    /// Access to the table's files.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The table's uuid.
    pub fn uuid(&self) -> Uuid {
        self.metadata.uuid()
    }

    /// The schema that writers use now.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.current_schema()
    }

    /// Head of `main`; `None` for a table without a snapshot.
    pub fn current_snapshot(&self) -> Option<&SnapshotRef> {
        self.metadata.current_snapshot()
    }

    /// A table property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.metadata.properties().get(key).map(String::as_str)
    }

    /// Manifests of a snapshot, cached.
    pub async fn manifests(&self, snapshot: &SnapshotRef) -> Result<Arc<Vec<ManifestFile>>> {
        self.store.manifest_list(&self.metadata, snapshot).await
    }

    /// Snapshots of `main` from head to the oldest still there.
    pub fn ancestors(&self) -> impl Iterator<Item = &SnapshotRef> {
        let metadata = &self.metadata;
        std::iter::successors(metadata.current_snapshot(), move |s| {
            s.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id))
        })
    }

    /// Snapshots that branches and tags name.
    pub(crate) fn ref_snapshots(&self) -> Result<Vec<i64>> {
        // iceberg keeps the refs private: the metadata's own JSON has them.
        let corrupt = |e| LakehouseError::Corrupt {
            path: self.metadata_location.to_string(),
            expected: "Iceberg table metadata",
            source: Box::new(e),
        };
        let json = serde_json::to_value(self.metadata.as_ref()).map_err(corrupt)?;
        let refs = json.get("refs").and_then(|refs| refs.as_object());
        let id = |r: &serde_json::Value| r.get("snapshot-id").and_then(serde_json::Value::as_i64);
        Ok(refs.into_iter().flat_map(|refs| refs.values()).filter_map(id).collect())
    }
}
