//! The SQL catalog: which tables there are and where each one's metadata is, in a SQLite file that several
//! processes, JDBC catalogs and pyiceberg share (`iceberg_tables`, `iceberg_namespace_properties`).
//! What must never happen: a pointer changed otherwise than from the value its writer read.

mod config;
mod create;
mod sql;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

use iceberg::{NamespaceIdent, TableIdent};

pub use config::CatalogConfig;
pub use create::TableSpec;
pub(crate) use sql::Swap;

use crate::error::{LakehouseError, Result};
use crate::store::Store;
use crate::table::Table;

/// One row of the catalog: a table and its metadata's location. A changed location is a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// The table.
    pub ident: TableIdent,
    /// Where its current metadata is.
    pub metadata_location: String,
}

/// The SQL catalog. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    config: CatalogConfig,
    store: Store,
    sql: sql::Sql,
}

impl Catalog {
    /// Opens the catalog, creating the database and its two tables if need be; refuses a foreign layout
    /// and a warehouse that cannot be written.
    pub async fn open(config: CatalogConfig) -> Result<Self> {
        let database = config.database()?;
        config.probe_warehouse().await?;
        let sql = sql::Sql::open(&database, &config.name).await?;
        Ok(Self { config, store: Store::local(), sql })
    }

    /// What it was opened with.
    pub fn config(&self) -> &CatalogConfig {
        &self.config
    }

    /// Access to the warehouse's files.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All tables with their metadata locations, in one query.
    pub async fn pointers(&self) -> Result<Vec<Pointer>> {
        self.sql.pointers().await
    }

    /// All namespaces, those that only a table shows included.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceIdent>> {
        self.sql.namespaces().await
    }

    /// The tables of a namespace.
    pub async fn tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let pointers = self.pointers().await?;
        Ok(pointers.into_iter().map(|p| p.ident).filter(|ident| ident.namespace() == namespace).collect())
    }

    /// Creates a namespace; one that exists is fine.
    pub async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.sql.create_namespace(namespace).await
    }

    /// Loads a table; `LakehouseError::NoSuchTable` if the catalog does not have it.
    pub async fn load(&self, ident: &TableIdent) -> Result<Table> {
        self.find(ident).await?.ok_or_else(|| LakehouseError::NoSuchTable { table: ident.clone() })
    }

    /// Loads a table if there is one.
    pub async fn find(&self, ident: &TableIdent) -> Result<Option<Table>> {
        match self.sql.pointer(ident).await? {
            Some(location) => {
                self.load_at(&Pointer { ident: ident.clone(), metadata_location: location }).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Loads the metadata that a pointer names (immutable, so never stale for that pointer).
    pub async fn load_at(&self, pointer: &Pointer) -> Result<Table> {
        let metadata = self.store.table_metadata(&pointer.metadata_location).await?;
        Ok(Table::new(pointer.ident.clone(), metadata, &pointer.metadata_location, self.store.clone()))
    }

    /// Removes this version of the table from the catalog (not a later one); its files stay.
    pub async fn drop_table(&self, table: &Table) -> Result<()> {
        self.sql.drop(table.ident(), table.metadata_location()).await
    }

    /// The one compare-and-swap: the pointer goes from `from` to `to`, or stays.
    pub(crate) async fn swap(&self, ident: &TableIdent, from: &str, to: &str) -> Result<Swap> {
        self.sql.swap(ident, from, to).await
    }

    /// Where the catalog says a table's metadata is now.
    pub(crate) async fn pointer(&self, ident: &TableIdent) -> Result<Option<String>> {
        self.sql.pointer(ident).await
    }
}
