//! Tables as they lie in the catalog, past every service.

use mesh_lakehouse::{Catalog, CatalogConfig, Table};

use super::Mesh;

/// What makes a table what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) uuid: String,
    /// Snapshot ids of `main`, oldest first.
    pub(crate) snapshots: Vec<i64>,
}

impl Mesh {
    pub(crate) async fn catalog(&self) -> Catalog {
        let catalog = self.endpoints().catalog;
        let (uri, warehouse, name) = (catalog.uri, catalog.warehouse, catalog.name);
        Catalog::open(CatalogConfig { uri, warehouse, name }).await.unwrap()
    }

    /// Where each table's metadata lies now: a commit moves it.
    pub(crate) fn metadata_locations(&self) -> Vec<(String, String)> {
        let pointers = self.wait_for(async { self.catalog().await.pointers().await.unwrap() });
        let mut places: Vec<_> = pointers.into_iter().map(|p| (p.ident.to_string(), p.metadata_location)).collect();
        places.sort();
        places
    }

    /// The history of `namespace.table`.
    pub(crate) fn history(&self, name: &str) -> History {
        let table = self.wait_for(async {
            let catalog = self.catalog().await;
            let pointers = catalog.pointers().await.unwrap();
            let pointer = pointers.iter().find(|p| p.ident.to_string() == name).unwrap();
            catalog.load_at(pointer).await.unwrap()
        });
        history(&table)
    }
}

fn history(table: &Table) -> History {
    let mut snapshots: Vec<_> = table.ancestors().map(|snapshot| snapshot.snapshot_id()).collect();
    snapshots.reverse();
    History { uuid: table.uuid().to_string(), snapshots }
}
