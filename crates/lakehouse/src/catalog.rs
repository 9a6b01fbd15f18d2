//! The SQL catalog: which tables there are and where each one's metadata is, in a SQLite file that several
//! processes, JDBC catalogs and pyiceberg share (`iceberg_tables`, `iceberg_namespace_properties`).
//! What must never happen: a pointer changed otherwise than from the value its writer read.

mod commit;
mod config;
mod create;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod layouts;
mod sql;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

use iceberg::{NamespaceIdent, TableIdent};
use uuid::Uuid;

pub use commit::{Requirement, Taken};
pub use config::CatalogConfig;
pub use create::TableSpec;
#[cfg(test)]
pub(crate) use sql::faults::{Faults, SwapFault};

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
        let store = Store::local();
        config.probe_warehouse(&store).await?;
        let sql = sql::Sql::open(&database, &config.name).await?;
        Ok(Self { config, store, sql })
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

    /// Loads the very table that a contract, a plan or an announcement means. `LakehouseError::OtherTable` if the name
    /// has gone to another one: its rows are not the product's, and nothing meant for the product belongs there.
    pub async fn load_table(&self, ident: &TableIdent, uuid: Uuid) -> Result<Table> {
        let table = self.load(ident).await?;
        if table.uuid() == uuid { Ok(table) } else { Err(LakehouseError::other_table(&table, uuid)) }
    }

    /// Loads a table if there is one.
    pub async fn find(&self, ident: &TableIdent) -> Result<Option<Table>> {
        let mut pointer = self.pointer(ident).await?;
        while let Some(at) = pointer {
            match self.load_at(&at).await {
                Ok(table) => return Ok(Some(table)),
                // A slow reader may find a version retired and deleted that was the newest when it looked.
                Err(error @ LakehouseError::MissingFile { .. }) => {
                    pointer = self.pointer(ident).await?;
                    if pointer.as_ref() == Some(&at) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What its swaps come to.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> &Faults {
        &self.sql.faults
    }

    /// Points a table at other metadata, as a foreign engine does.
    #[cfg(test)]
    pub(crate) async fn point(&self, ident: &TableIdent, from: &str, to: &str) -> Result<()> {
        match self.sql.swap(ident, from, to).await? {
            sql::Swap::Done => Ok(()),
            sql::Swap::Lost => Err(LakehouseError::Conflict { table: ident.clone(), attempts: 1 }),
        }
    }

    /// Where the catalog has a table's metadata now.
    async fn pointer(&self, ident: &TableIdent) -> Result<Option<Pointer>> {
        let location = self.sql.pointer(ident).await?;
        Ok(location.map(|metadata_location| Pointer { ident: ident.clone(), metadata_location }))
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
}
