//! The catalog's promises to people and to other engines.

use iceberg::spec::{Transform, UnboundPartitionField, UnboundPartitionSpec};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::testing::{Lake, ident, rows, schema};
use crate::{Catalog, CatalogConfig, LakehouseError, TableSpec};

async fn open(uri: &str, warehouse: &str) -> Result<Catalog, LakehouseError> {
    Catalog::open(CatalogConfig { uri: uri.into(), warehouse: warehouse.into(), name: "mesh".into() }).await
}

/// A database of another maker.
async fn database(folder: &std::path::Path, statements: &[&str]) -> CatalogConfig {
    let options = SqliteConnectOptions::new().filename(folder.join("catalog.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    for statement in statements {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    CatalogConfig::in_folder(folder)
}

#[tokio::test]
async fn a_table_keeps_the_field_ids_it_was_given() {
    let lake = Lake::new().await;
    let field = UnboundPartitionField {
        source_id: 100,
        field_id: None,
        name: "id_bucket".into(),
        transform: Transform::Bucket(4),
    };
    let spec = UnboundPartitionSpec::builder().add_partition_fields([field]).unwrap().build();
    let spec =
        TableSpec { ident: ident("t"), schema: schema(), partition_spec: Some(spec), properties: Default::default() };
    let table = lake.catalog.create_table(spec).await.unwrap();
    assert_eq!(table.schema().field_id_by_name("name"), Some(101));
    assert_eq!(table.metadata().last_column_id(), 101);
    assert_eq!(table.metadata().default_partition_spec().fields()[0].source_id, 100);
    assert_eq!((table.metadata().schemas_iter().len(), table.metadata().partition_specs_iter().len()), (1, 1));
}

#[tokio::test]
async fn pointers_name_every_table_and_change_with_each_commit() {
    let lake = Lake::new().await;
    let (a, _) = (lake.table("a").await, lake.table("b").await);
    let before = lake.catalog.pointers().await.unwrap();
    let table = lake.append(&a, rows(0..1)).await;
    let after = lake.catalog.pointers().await.unwrap();
    let changed: Vec<_> = after.iter().filter(|p| !before.contains(p)).collect();
    assert_eq!(before.iter().map(|p| p.ident.name()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(changed.len(), 1);
    assert_eq!((&changed[0].ident, changed[0].metadata_location.as_str()), (&ident("a"), table.metadata_location()));
    assert_eq!(lake.catalog.load_at(changed[0]).await.unwrap().metadata(), table.metadata());
}

#[tokio::test]
async fn a_name_is_taken_once_and_free_after_a_drop() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let spec =
        || TableSpec { ident: ident("t"), schema: schema(), partition_spec: None, properties: Default::default() };
    let error = lake.catalog.create_table(spec()).await.unwrap_err();
    assert_eq!(error.code(), "MESH-LAKEHOUSE-0012");
    let newer = lake.append(&table, rows(0..1)).await;
    assert!(
        matches!(lake.catalog.drop_table(&table).await, Err(LakehouseError::Conflict { .. })),
        "not a version unseen"
    );
    lake.catalog.drop_table(&newer).await.unwrap();
    assert_eq!(lake.catalog.load(&ident("t")).await.unwrap_err().code(), "MESH-LAKEHOUSE-0010");
    assert!(lake.catalog.find(&ident("t")).await.unwrap().is_none());
    let again = lake.catalog.create_table(spec()).await.unwrap();
    assert_ne!(again.metadata().location(), table.metadata().location(), "no folder shared with the dropped one");
}

#[tokio::test]
async fn a_table_needs_its_namespace() {
    let lake = Lake::new().await;
    let ident = iceberg::TableIdent::from_strs(["nowhere", "t"]).unwrap();
    let spec = TableSpec { ident, schema: schema(), partition_spec: None, properties: Default::default() };
    assert_eq!(lake.catalog.create_table(spec).await.unwrap_err().code(), "MESH-LAKEHOUSE-0011");
}

#[tokio::test]
async fn addresses_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let code = |result: Result<Catalog, LakehouseError>| result.unwrap_err().code();
    let (uri, warehouse) = (format!("sqlite:///{path}/c.db"), format!("file://{path}/w"));
    assert_eq!(code(open("postgres://x", &warehouse).await), "MESH-LAKEHOUSE-0001");
    assert_eq!(code(open("sqlite://", &warehouse).await), "MESH-LAKEHOUSE-0001");
    assert_eq!(code(open(&uri, "s3://bucket").await), "MESH-LAKEHOUSE-0001");
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let under_a_file = open(&uri, &format!("file://{path}/file/w")).await.unwrap_err();
    assert!(under_a_file.to_string().contains("/file/w"), "{under_a_file}");
    assert!(open(&uri, &warehouse).await.is_ok());
}

#[tokio::test]
async fn a_database_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = database(folder.path(), &["CREATE TABLE iceberg_tables (id INTEGER)"]).await;
    let error = Catalog::open(config).await.unwrap_err();
    assert_eq!(error.code(), "MESH-LAKEHOUSE-0009");
    let pool =
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(folder.path().join("catalog.db"))).await.unwrap();
    let tables: Vec<(String,)> = sqlx::query_as("SELECT name FROM sqlite_master").fetch_all(&pool).await.unwrap();
    assert_eq!(tables.len(), 1, "nothing was added to it");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("catalog.db"), b"not a database, but long enough to look like one at first")
        .unwrap();
    let error = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap_err();
    assert_eq!(error.code(), "MESH-LAKEHOUSE-0006", "{error}");
}

#[tokio::test]
async fn the_layout_that_pyiceberg_makes_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let tables =
        "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL,
        table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000),
        PRIMARY KEY (catalog_name, table_namespace, table_name))";
    let row = "INSERT INTO iceberg_tables VALUES ('mesh', 'a', 't', 'file:///m', NULL), ('other', 'a', 'u', 'file:///n', NULL)";
    let catalog = Catalog::open(database(folder.path(), &[tables, row]).await).await.unwrap();
    let pointers = catalog.pointers().await.unwrap();
    assert_eq!(pointers.len(), 1, "another catalog's tables are not ours");
    assert_eq!(pointers[0].metadata_location, "file:///m");
    assert_eq!(catalog.namespaces().await.unwrap().len(), 1);
}

#[tokio::test]
async fn missing_and_broken_metadata_are_told_apart() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    let path = crate::store::local_path(table.metadata_location());
    let code = |lake: &Lake| {
        // Another process's catalog has nothing cached.
        let config = lake.catalog.config().clone();
        async move { Catalog::open(config).await.unwrap().load(&ident("t")).await.unwrap_err().code() }
    };
    std::fs::write(&path, b"{\"format-version\": 2").unwrap();
    assert_eq!(code(&lake).await, "MESH-LAKEHOUSE-0006");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(&lake).await, "MESH-LAKEHOUSE-0005");
}

#[tokio::test]
async fn processes_share_the_database_while_one_reads() {
    let lake = Lake::new().await;
    let table = lake.table("t").await;
    // A reader in the middle of its transaction does not hold up a commit: WAL.
    let options = SqliteConnectOptions::new().filename(lake.folder.path().join("catalog.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("SELECT * FROM iceberg_tables").fetch_all(&mut *reader).await.unwrap();
    lake.append(&table, rows(0..1)).await;
    reader.rollback().await.unwrap();
    assert_eq!(lake.count("t").await, 1);
}
