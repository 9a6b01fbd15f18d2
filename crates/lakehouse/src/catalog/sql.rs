//! The catalog's statements on SQLite. Each is one autocommit statement, so an error leaves nothing half done;
//! whether a swap with an error took effect is for the caller to look up.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod faults;

use std::path::Path;
use std::time::Duration;

use iceberg::{NamespaceIdent, TableIdent};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, Sqlite};

use super::Pointer;
use crate::error::{LakehouseError, Result};

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
    metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name))";
const PROPERTIES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL,
    property_value VARCHAR(1000) NOT NULL, PRIMARY KEY (catalog_name, namespace, property_key))";
/// JDBC's version 1 marks views in this column; tables of older writers and of pyiceberg have NULL.
const IS_TABLE: &str = "(iceberg_type IS NULL OR iceberg_type = 'TABLE')";

/// How a swap ended, if that is sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// The pointer is ours.
    Done,
    /// Another writer was first; nothing happened.
    Lost,
}

/// The database.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    pool: SqlitePool,
    path: String,
    catalog: String,
    #[cfg(test)]
    pub(super) faults: faults::Faults,
}

impl Sql {
    pub(super) async fn open(path: &Path, catalog: &str) -> Result<Self> {
        let shown = path.display().to_string();
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|e| LakehouseError::file("create", folder.display().to_string(), e))?;
        }
        // FULL: a pointer that was announced must outlive a power cut, which NORMAL does not promise in WAL mode.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new().max_connections(4).acquire_timeout(BUSY * 2).connect_with(options).await;
        let pool = pool.map_err(|e| failed(&shown, "open", e))?;
        let sql = Self {
            pool,
            path: shown,
            catalog: catalog.to_owned(),
            #[cfg(test)]
            faults: faults::Faults::default(),
        };
        sql.lay_out().await?;
        Ok(sql)
    }

    /// Makes what is missing; touches nothing where the layout is another.
    async fn lay_out(&self) -> Result<()> {
        let tables = self.columns("iceberg_tables").await?;
        let wanted =
            ["catalog_name", "table_namespace", "table_name", "metadata_location", "previous_metadata_location"];
        self.require("iceberg_tables", &tables, &wanted)?;
        let properties = self.columns("iceberg_namespace_properties").await?;
        let wanted = ["catalog_name", "namespace", "property_key", "property_value"];
        self.require("iceberg_namespace_properties", &properties, &wanted)?;
        for statement in [TABLES, PROPERTIES] {
            self.run(sqlx::query(statement), "create its tables").await?;
        }
        if !tables.is_empty() && !tables.iter().any(|c| c == "iceberg_type") {
            // What pyiceberg and JDBC version 0 create; JDBC migrates the same way.
            let add = sqlx::query("ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)");
            let added = self.run(add, "add the column iceberg_type").await;
            // Another process may have been quicker.
            if !self.columns("iceberg_tables").await?.iter().any(|c| c == "iceberg_type") {
                added?;
            }
        }
        Ok(())
    }

    /// A table that is there (has columns) must have these.
    fn require(&self, table: &str, columns: &[String], wanted: &[&str]) -> Result<()> {
        match wanted.iter().find(|w| !columns.is_empty() && !columns.iter().any(|c| c == *w)) {
            Some(missing) => Err(LakehouseError::ForeignLayout {
                path: self.path.clone(),
                why: format!("the table {table} has no column {missing}"),
            }),
            None => Ok(()),
        }
    }

    async fn columns(&self, table: &str) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT name FROM pragma_table_info(?)").bind(table).fetch_all(&self.pool).await;
        let rows = rows.map_err(|e| failed(&self.path, "read its layout", e))?;
        rows.iter().map(|row| row.try_get(0).map_err(|e| failed(&self.path, "read its layout", e))).collect()
    }

    pub(super) async fn pointers(&self) -> Result<Vec<Pointer>> {
        let text = format!(
            "SELECT table_namespace, table_name, metadata_location FROM iceberg_tables
             WHERE catalog_name = ? AND metadata_location IS NOT NULL AND {IS_TABLE}
             ORDER BY table_namespace, table_name"
        );
        let rows = sqlx::query_as(&text).bind(&self.catalog).fetch_all(&self.pool).await;
        let rows: Vec<(String, String, String)> = rows.map_err(|e| failed(&self.path, "list tables", e))?;
        let pointer = |(namespace, name, metadata_location): (String, String, String)| {
            Some(Pointer { ident: TableIdent::new(namespace_ident(&namespace)?, name), metadata_location })
        };
        Ok(rows.into_iter().filter_map(pointer).collect())
    }

    pub(super) async fn pointer(&self, ident: &TableIdent) -> Result<Option<String>> {
        #[cfg(test)]
        self.look_with_faults().await?;
        let text = format!(
            "SELECT metadata_location FROM iceberg_tables
             WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND {IS_TABLE}"
        );
        let row = sqlx::query_as(&text).bind(&self.catalog).bind(name_of(ident.namespace())).bind(ident.name());
        let row: Option<(Option<String>,)> =
            row.fetch_optional(&self.pool).await.map_err(|e| failed(&self.path, "find a table", e))?;
        Ok(row.and_then(|(location,)| location))
    }

    pub(super) async fn namespaces(&self) -> Result<Vec<NamespaceIdent>> {
        let text = "SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ?1
                    UNION SELECT table_namespace FROM iceberg_tables WHERE catalog_name = ?1 ORDER BY 1";
        let rows = sqlx::query_as(text).bind(&self.catalog).fetch_all(&self.pool).await;
        let rows: Vec<(String,)> = rows.map_err(|e| failed(&self.path, "list namespaces", e))?;
        Ok(rows.iter().filter_map(|(name,)| namespace_ident(name)).collect())
    }

    pub(super) async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let text = "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value)
                    VALUES (?, ?, 'exists', 'true') ON CONFLICT DO NOTHING";
        let insert = sqlx::query(text).bind(&self.catalog).bind(name_of(namespace));
        self.run(insert, "create a namespace").await.map(|_| ())
    }

    /// A new table's row; `Lost` if there is one already.
    pub(super) async fn insert(&self, ident: &TableIdent, location: &str) -> Result<Swap> {
        let text = "INSERT INTO iceberg_tables
                    (catalog_name, table_namespace, table_name, metadata_location, iceberg_type)
                    VALUES (?, ?, ?, ?, 'TABLE') ON CONFLICT DO NOTHING";
        let insert =
            sqlx::query(text).bind(&self.catalog).bind(name_of(ident.namespace())).bind(ident.name()).bind(location);
        Ok(if self.run(insert, "create a table").await? == 1 { Swap::Done } else { Swap::Lost })
    }

    /// The one compare-and-swap: the row goes from `from` to `to`, or stays.
    pub(super) async fn swap(&self, ident: &TableIdent, from: &str, to: &str) -> Result<Swap> {
        #[cfg(test)]
        return self.swap_with_faults(ident, from, to).await;
        #[cfg(not(test))]
        self.swap_now(ident, from, to).await
    }

    async fn swap_now(&self, ident: &TableIdent, from: &str, to: &str) -> Result<Swap> {
        let text = "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ?
                    WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ?";
        let update = sqlx::query(text).bind(to).bind(from).bind(&self.catalog);
        let update = update.bind(name_of(ident.namespace())).bind(ident.name()).bind(from);
        Ok(if self.run(update, "commit").await? == 1 { Swap::Done } else { Swap::Lost })
    }

    pub(super) async fn drop(&self, ident: &TableIdent, location: &str) -> Result<()> {
        let text = "DELETE FROM iceberg_tables
                    WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ?";
        let delete =
            sqlx::query(text).bind(&self.catalog).bind(name_of(ident.namespace())).bind(ident.name()).bind(location);
        match self.run(delete, "drop a table").await? {
            1 => Ok(()),
            _ if self.pointer(ident).await?.is_some() => {
                Err(LakehouseError::Conflict { table: ident.clone(), attempts: 1 })
            }
            _ => Err(LakehouseError::NoSuchTable { table: ident.clone() }),
        }
    }

    async fn run<'q>(&self, query: Query<'q, Sqlite, SqliteArguments<'q>>, what: &'static str) -> Result<u64> {
        let done = query.execute(&self.pool).await.map_err(|e| failed(&self.path, what, e))?;
        Ok(done.rows_affected())
    }
}

/// As JDBC and pyiceberg write a namespace: levels joined by dots.
pub(super) fn name_of(namespace: &NamespaceIdent) -> String {
    namespace.join(".")
}

fn namespace_ident(name: &str) -> Option<NamespaceIdent> {
    NamespaceIdent::from_strs(name.split('.')).ok()
}

/// SQLite's error as something a person can act on.
fn failed(path: &str, operation: &'static str, error: sqlx::Error) -> LakehouseError {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<u32>().ok());
    let (path, source) = (path.to_owned(), Box::new(error));
    // Primary result codes; the upper bytes only refine them.
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => LakehouseError::CatalogLocked { path, source },
        Some(8 | 14 | 23) => LakehouseError::Unwritable { path, source },
        Some(13) => LakehouseError::DiskFull { path, source },
        Some(11 | 26) => LakehouseError::Corrupt { path, expected: "a SQLite database", source },
        _ if matches!(*source, sqlx::Error::PoolTimedOut) => LakehouseError::CatalogLocked { path, source },
        _ => LakehouseError::Catalog { path, operation, source },
    }
}
