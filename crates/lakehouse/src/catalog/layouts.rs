//! Catalogs of other makers: every layout that JDBC's versions and pyiceberg leave is taken over, by several processes at
//! once, and takes commits. Locations are what they are, byte for byte.

use futures::future::join_all;
use iceberg::spec::{FormatVersion, SortOrder, TableMetadataBuilder, UnboundPartitionSpec};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::testing::{Lake, ident, rows, schema};
use crate::{Catalog, CatalogConfig, Change, CommitOutcome, LakehouseError, TableSpec};

/// How another maker left the database: is there the column `iceberg_type`, and what is in it for a table.
#[derive(Clone, Copy, Debug)]
struct Layout {
    column: bool,
    value: Option<&'static str>,
    previous: bool,
}

const LAYOUTS: [Layout; 6] = [
    Layout { column: false, value: None, previous: true },
    Layout { column: false, value: None, previous: false },
    Layout { column: true, value: None, previous: true },
    Layout { column: true, value: None, previous: false },
    Layout { column: true, value: Some("TABLE"), previous: true },
    Layout { column: true, value: Some("TABLE"), previous: false },
];

async fn foreign(config: &CatalogConfig, folder: &std::path::Path, layout: Layout) {
    let options = SqliteConnectOptions::new().filename(folder.join("catalog.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let kind = if layout.column { ", iceberg_type VARCHAR(5)" } else { "" };
    let table = format!(
        "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL,
         table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000){kind},
         PRIMARY KEY (catalog_name, table_namespace, table_name))"
    );
    sqlx::query(&table).execute(&pool).await.unwrap();
    let location = format!("{}/tests/theirs", config.warehouse);
    let metadata = TableMetadataBuilder::new(
        schema(),
        UnboundPartitionSpec::builder().build(),
        SortOrder::unsorted_order(),
        location.clone(),
        FormatVersion::V2,
        Default::default(),
    );
    let metadata = metadata.unwrap().build().unwrap().metadata;
    // As JDBC names it.
    let file = format!("{location}/metadata/00000-{}.metadata.json", uuid::Uuid::new_v4());
    let bytes = serde_json::to_vec(&metadata).unwrap();
    crate::Store::local().write_new(&file, bytes.into()).await.unwrap();
    let insert = format!(
        "INSERT INTO iceberg_tables VALUES ('mesh', 'tests', 'theirs', ?, ?{})",
        if layout.column { ", ?" } else { "" }
    );
    let mut insert = sqlx::query(&insert).bind(&file).bind(layout.previous.then_some("file:///before"));
    if layout.column {
        insert = insert.bind(layout.value);
    }
    insert.execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_layout_is_taken_over_by_processes_at_once_and_takes_commits() {
    for layout in LAYOUTS {
        let folder = tempfile::tempdir().unwrap();
        let config = CatalogConfig::in_folder(folder.path());
        foreign(&config, folder.path(), layout).await;
        let opened = join_all((0..6).map(|_| Catalog::open(config.clone()))).await;
        for catalog in opened {
            let catalog = catalog.unwrap_or_else(|error| panic!("{layout:?}: {error} {error:?}"));
            let table = catalog.load(&ident("theirs")).await.unwrap();
            let outcome = catalog.apply(&table, &Change::append(&table, vec![])).await;
            assert!(matches!(outcome, CommitOutcome::Stands(_)), "{layout:?}: {outcome:?}");
            assert_eq!(catalog.pointers().await.unwrap().len(), 1, "{layout:?}");
        }
    }
}

#[tokio::test]
async fn a_view_is_neither_a_table_nor_a_free_name() {
    let lake = Lake::new().await;
    let pool =
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(lake.folder.path().join("catalog.db"))).await;
    let view = "INSERT INTO iceberg_tables VALUES ('mesh', 'tests', 'v', 'file:///v', NULL, 'VIEW')";
    sqlx::query(view).execute(&pool.unwrap()).await.unwrap();
    assert!(lake.catalog.find(&ident("v")).await.unwrap().is_none());
    assert!(lake.catalog.pointers().await.unwrap().is_empty());
    let spec = TableSpec { ident: ident("v"), schema: schema(), partition_spec: None, properties: Default::default() };
    assert!(matches!(lake.catalog.create_table(spec).await, Err(LakehouseError::TableExists { .. })));
}

/// Folder names with what shells, URIs and object stores treat in their own ways.
const FOLDERS: [&str; 10] = [
    "plain",
    "two words",
    "per%20cent",
    "100%",
    "hash#1",
    "plus+",
    "umlaut-äöü",
    "emoji-🦆",
    "query?x=1",
    "brackets[1]",
];

/// Each file lies under the very path that metadata names, also where the warehouse's address ends in slashes.
#[tokio::test]
async fn what_metadata_names_is_where_the_bytes_are() {
    for folder in FOLDERS {
        for end in ["", "/", "//"] {
            let root = tempfile::tempdir().unwrap();
            let home = root.path().join(folder);
            let mut config = CatalogConfig::in_folder(root.path());
            config.warehouse = format!("file://{}{end}", home.display());
            let catalog = Catalog::open(config).await.unwrap_or_else(|error| panic!("{folder}: {error} {error:?}"));
            catalog.create_namespace(ident("t").namespace()).await.unwrap();
            let spec =
                TableSpec { ident: ident("t"), schema: schema(), partition_spec: None, properties: Default::default() };
            let table = catalog.create_table(spec).await.unwrap();
            let lake = Lake { catalog, folder: root };
            let table = lake.append(&table, rows(0..3)).await;
            let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap();
            let manifest = table.store().manifest(&manifests[0]).await.unwrap();
            let names = [
                table.metadata_location(),
                table.current_snapshot().unwrap().manifest_list(),
                &manifests[0].manifest_path,
                manifest.entries()[0].file_path(),
            ];
            for name in names {
                let path = name.strip_prefix("file://").unwrap();
                assert!(std::path::Path::new(path).is_file(), "{folder}: {name}");
                assert!(!path.contains("//"), "{folder}: {name}");
                assert!(name.starts_with(table.metadata().location()), "{name}");
            }
            let listed = table.store().list(table.metadata().location()).await.unwrap();
            assert_eq!(listed.len(), 5, "{folder}: {listed:?}");
            for file in &listed {
                assert!(
                    names.iter().any(|name| table.store().object_path(name).unwrap() == file.path)
                        || file.path.as_ref().contains("00000-"),
                    "{folder}: {file:?}"
                );
            }
        }
    }
}

/// A file that is not there is an error that names it, whichever kind it is, and found again it is no error any more.
#[tokio::test]
async fn a_missing_file_is_an_error_that_names_it_until_it_is_back() {
    let lake = Lake::new().await;
    let table = lake.append(&lake.table("t").await, rows(0..3)).await;
    let manifests = table.manifests(table.current_snapshot().unwrap()).await.unwrap();
    let list = table.current_snapshot().unwrap().manifest_list().to_owned();
    let fresh = || async { Catalog::open(lake.catalog.config().clone()).await.unwrap() };
    for missing in [table.metadata_location().to_owned(), list, manifests[0].manifest_path.clone()] {
        let path = crate::store::local_path(&missing);
        let away = path.with_extension("away");
        std::fs::rename(&path, &away).unwrap();
        let catalog = fresh().await;
        let read = || async {
            let table = catalog.load(&ident("t")).await?;
            let manifests = table.manifests(table.current_snapshot().unwrap()).await?;
            table.store().manifest(&manifests[0]).await.map(|_| ())
        };
        let error = read().await.unwrap_err();
        assert_eq!(error.code(), "MESH-LAKEHOUSE-0005", "{error}");
        assert!(error.to_string().contains(&missing), "{error}");
        std::fs::rename(&away, &path).unwrap();
        read().await.unwrap();
    }
}
