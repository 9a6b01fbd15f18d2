//! How many rows a table has, and how many of them are null in a column, from manifests.
//!
//! In: a table and what was known at an earlier head. Out: the same at its head now, from the files that were added
//! since, so that a commit costs what it brought and not what the table holds.
//! Never: numbers carried over a snapshot that removed rows.

use std::collections::BTreeMap;

use iceberg::spec::Operation;
use mesh_lakehouse::Table;
use mesh_lakehouse::scan::{FileSet, MeshTable, ScanError, SnapshotRange};

/// Numbers up to a snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) snapshot_id: i64,
    pub(crate) rows: u64,
    /// Nulls by field id, where all manifests have them.
    pub(crate) nulls: BTreeMap<i32, u64>,
    /// Manifest entries that were read for this: what it cost.
    pub(crate) entries_read: usize,
}

impl Totals {
    /// At the head of `table`; `fields` are those whose nulls are wanted.
    pub(crate) async fn at_head(table: &Table, known: Option<&Self>, fields: &[i32]) -> Result<Self, ScanError> {
        let Some(head) = table.current_snapshot().map(|head| head.snapshot_id()) else { return Ok(Self::default()) };
        let known = known.filter(|known| fields.iter().all(|id| known.nulls.contains_key(id)));
        let since = known.and_then(|known| Some((known, rows_added_since(table, known.snapshot_id)?)));
        let (base, rows) = match since {
            Some((known, range)) => (known.clone(), MeshTable::added(table, &range)?),
            None => (Self::default(), MeshTable::at_head(table)?),
        };
        let is_whole = since.is_none();
        Ok(base.and(head, rows.files().await?, fields, is_whole))
    }

    fn and(self, snapshot_id: i64, files: &FileSet, fields: &[i32], is_whole: bool) -> Self {
        let nulls = fields.iter().filter_map(|id| {
            let before = if is_whole { 0 } else { *self.nulls.get(id)? };
            Some((*id, before + files.null_count(*id)?))
        });
        Self { snapshot_id, rows: self.rows + files.rows(), nulls: nulls.collect(), entries_read: files.entries_read() }
    }
}

/// The range from an earlier head to this one, if rows were only added in it (compaction moves rows and changes no
/// count).
pub(crate) fn rows_added_since(table: &Table, snapshot_id: i64) -> Option<SnapshotRange> {
    let to = table.current_snapshot()?.snapshot_id();
    for snapshot in table.ancestors() {
        if snapshot.snapshot_id() == snapshot_id {
            return Some(SnapshotRange { from: Some(snapshot_id), to });
        }
        if matches!(snapshot.summary().operation, Operation::Overwrite | Operation::Delete) {
            return None;
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::{
        DataContentType, DataFile, DataFileBuilder, DataFileFormat, NestedField, PrimitiveType, Schema, Struct, Type,
    };
    use iceberg::{NamespaceIdent, TableIdent};
    use mesh_lakehouse::{Catalog, CatalogConfig, Change, TableSpec};

    use super::*;

    const FIELD: i32 = 100;

    async fn table(folder: &std::path::Path) -> (Catalog, Table) {
        let catalog = Catalog::open(CatalogConfig::in_folder(folder)).await.unwrap();
        let namespace = NamespaceIdent::new("d".to_owned());
        catalog.create_namespace(&namespace).await.unwrap();
        let field = NestedField::optional(FIELD, "a", Type::Primitive(PrimitiveType::Long));
        let schema = Schema::builder().with_fields([Arc::new(field)]).build().unwrap();
        let ident = TableIdent::new(namespace, "t".to_owned());
        let spec = TableSpec { ident, schema, partition_spec: None, properties: BTreeMap::new() };
        let table = catalog.create_table(spec).await.unwrap();
        (catalog, table)
    }

    /// A file that is never read: only its numbers count here.
    fn file(table: &Table, number: u64) -> DataFile {
        let mut file = DataFileBuilder::default();
        file.content(DataContentType::Data).file_format(DataFileFormat::Parquet).partition(Struct::empty());
        file.file_path(format!("{}/data/{number}.parquet", table.metadata().location())).partition_spec_id(0);
        file.null_value_counts([(FIELD, number % 3)].into());
        file.record_count(3).file_size_in_bytes(10).build().unwrap()
    }

    /// `MESH_COMMITS` takes more of them.
    #[tokio::test]
    async fn a_commit_costs_what_it_brought_and_not_what_the_table_holds() {
        let commits = std::env::var("MESH_COMMITS").map_or(250, |text| text.parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (catalog, mut table) = table(folder.path()).await;
        let mut known: Option<Totals> = None;
        for number in 0..commits {
            let append = Change::append(&table, vec![file(&table, number)]);
            table = catalog.apply(&table, &append).await.into_result().unwrap().table;
            let totals = Totals::at_head(&table, known.as_ref(), &[FIELD]).await.unwrap();
            // A commit that merges manifests writes its own file into the merged one.
            let is_merge = table.manifests(table.current_snapshot().unwrap()).await.unwrap().len() == 1;
            assert!(totals.entries_read <= 1 || is_merge, "commit {number} read {} entries", totals.entries_read);
            known = Some(totals);
        }
        let counted = known.unwrap();
        let whole = Totals::at_head(&table, None, &[FIELD]).await.unwrap();
        assert_eq!((counted.rows, &counted.nulls), (whole.rows, &whole.nulls));
        assert_eq!(counted.rows, 3 * commits);
    }
}
