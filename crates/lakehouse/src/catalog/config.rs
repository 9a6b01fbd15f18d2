//! Where catalog and warehouse are, and whether that can be used.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{LakehouseError, Result};
use crate::store::Store;

/// Where catalog and warehouse are.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// `sqlite:////absolute/path/catalog.db`: four slashes, as SQLAlchemy (pyiceberg) wants it; three are taken as well.
    pub uri: String,
    /// `file:///absolute/path/warehouse`
    pub warehouse: String,
    /// The catalog's name in the shared tables.
    #[serde(default = "default_name")]
    pub name: String,
}

fn default_name() -> String {
    "mesh".to_owned()
}

impl CatalogConfig {
    /// Catalog and warehouse in one data folder, as `mesh up --data DIR` lays it out. `folder` must be absolute.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            uri: format!("sqlite:///{}", folder.join("catalog.db").display()),
            warehouse: format!("file://{}", folder.join("warehouse").display()),
            name: default_name(),
        }
    }

    /// The database file.
    pub(super) fn database(&self) -> Result<PathBuf> {
        let path = self.uri.strip_prefix("sqlite://").map(|rest| rest.trim_start_matches('/'));
        match path {
            Some(path) if !path.is_empty() => Ok(Path::new("/").join(path)),
            _ => Err(LakehouseError::Config {
                what: "catalog.uri",
                value: self.uri.clone(),
                why: "it names no SQLite file",
                example: "sqlite:////srv/mesh/catalog.db",
            }),
        }
    }

    /// Where a table lives: its name, and a part of its uuid so that a recreated table shares no folder with the dropped one.
    pub(super) fn table_location(&self, table: &iceberg::TableIdent, uuid: uuid::Uuid) -> String {
        let unique = uuid.simple().to_string();
        let (_, unique) = unique.split_at(24);
        format!("{}/{}/{}-{unique}", self.warehouse.trim_end_matches('/'), table.namespace().join("/"), table.name())
    }

    /// Makes the warehouse's folder and tries to write in it, so that an unwritable one is known at start.
    pub(super) async fn probe_warehouse(&self, store: &Store) -> Result<()> {
        if !self.warehouse.starts_with("file:///") {
            return Err(LakehouseError::Config {
                what: "catalog.warehouse",
                value: self.warehouse.clone(),
                why: "only local folders are supported",
                example: "file:///srv/mesh/warehouse",
            });
        }
        let probe = format!("{}/.probe-{}", self.warehouse.trim_end_matches('/'), uuid::Uuid::now_v7());
        store.write_new(&probe, Bytes::new()).await?;
        store.delete(&probe).await
    }
}
