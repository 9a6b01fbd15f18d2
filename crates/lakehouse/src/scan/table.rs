//! An Iceberg table at one snapshot as a DataFusion table.
//!
//! In: a loaded table and a snapshot. Out: a plan over its Parquet files, pruned by the filters, with statistics.
//! A filter only prunes here (`Inexact`): DataFusion evaluates it again on the rows.
//! Never: a look at the catalog after the table was pinned.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use iceberg::spec::SnapshotRef;
use object_store::ObjectMeta;
use tokio::sync::OnceCell;

use super::adapter::FieldIdAdapterFactory;
use super::added::{SnapshotRange, snapshots_of};
use super::error::ScanError;
use super::files::{FileSet, ScanFile};
use super::{contract, groups, name_mapping, prune, statistics};
use crate::table::Table;

/// Bytes read from a file's end in the hope that the whole footer is in them.
const FOOTER_HINT: usize = 64 << 10;

/// Which files are read.
#[derive(Clone, Debug)]
enum Pinned {
    /// A table without a snapshot has no rows.
    Empty,
    /// All live files of a snapshot.
    Snapshot(SnapshotRef),
    /// The files that these snapshots added.
    Added(Vec<SnapshotRef>),
}

/// A table at a pinned snapshot. Cheap to make: manifests are read when it is scanned.
#[derive(Clone, Debug)]
pub struct MeshTable {
    table: Table,
    pinned: Pinned,
    schema: SchemaRef,
    /// Whether a value may not fit the schema.
    narrows: bool,
    /// Values of columns in files that were written before the column was added, by field id.
    defaults: HashMap<i32, ScalarValue>,
    files: Arc<OnceCell<FileSet>>,
}

impl MeshTable {
    /// The table at the head of `main`, with its current schema.
    pub fn at_head(table: &Table) -> Result<Self, ScanError> {
        let pinned = table.current_snapshot().map_or(Pinned::Empty, |s| Pinned::Snapshot(s.clone()));
        Self::new(table, pinned, table.schema())
    }

    /// The table as it was at a snapshot, with the schema of that time.
    pub fn at(table: &Table, snapshot_id: i64) -> Result<Self, ScanError> {
        let no_such = || ScanError::NoSuchSnapshot { table: table.ident().to_string(), snapshot_id };
        let snapshot = table.metadata().snapshot_by_id(snapshot_id).ok_or_else(no_such)?;
        let schema = snapshot
            .schema(table.metadata())
            .map_err(|source| ScanError::Schema { table: table.ident().to_string(), source: Box::new(source) })?;
        Self::new(table, Pinned::Snapshot(snapshot.clone()), &schema)
    }

    /// Only the rows that a range of snapshots added, with the table's current schema.
    pub fn added(table: &Table, range: &SnapshotRange) -> Result<Self, ScanError> {
        Self::new(table, Pinned::Added(snapshots_of(table, range)?), table.schema())
    }

    fn new(table: &Table, pinned: Pinned, schema: &iceberg::spec::Schema) -> Result<Self, ScanError> {
        let arrow = iceberg::arrow::schema_to_arrow_schema(schema)
            .map_err(|source| ScanError::Schema { table: table.ident().to_string(), source: Box::new(source) })?;
        let defaults = statistics::initial_defaults(schema, &arrow);
        let narrows = contract::narrows(table, schema);
        Ok(Self { table: table.clone(), pinned, schema: Arc::new(arrow), narrows, defaults, files: Arc::default() })
    }

    /// The same rows under another schema of the table's fields, such as [`super::contract_schema`].
    pub fn with_schema(self, schema: &iceberg::spec::Schema) -> Result<Self, ScanError> {
        Self::new(&self.table, self.pinned, schema)
    }

    /// The table that is read.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The snapshot that is read; `None` for an empty table and for a range.
    pub fn snapshot(&self) -> Option<&SnapshotRef> {
        match &self.pinned {
            Pinned::Snapshot(snapshot) => Some(snapshot),
            Pinned::Empty | Pinned::Added(_) => None,
        }
    }

    /// Whether reading a column can fail on a value: another engine widened it beyond its contract's type.
    pub fn can_fail_on_values(&self) -> bool {
        self.narrows
    }

    /// The Arrow schema, with field ids in its fields' metadata.
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The files to read, before pruning. Looked up once.
    pub async fn files(&self) -> Result<&FileSet, ScanError> {
        let look_up = || async {
            match &self.pinned {
                Pinned::Empty => Ok(FileSet::default()),
                Pinned::Snapshot(snapshot) => FileSet::of_snapshot(&self.table, snapshot).await,
                Pinned::Added(snapshots) => FileSet::added_by(&self.table, snapshots).await,
            }
        };
        self.files.get_or_try_init(look_up).await
    }

    /// The rows, from manifests alone. Exact.
    pub async fn row_count(&self) -> Result<u64, ScanError> {
        Ok(self.files().await?.rows())
    }

    fn partitioned_file(&self, file: &ScanFile) -> Result<PartitionedFile, ScanError> {
        let data_file = file.data_file();
        let meta = ObjectMeta {
            location: self.table.store().object_path(data_file.file_path())?,
            // Data files never change, so any constant is right for caches.
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: data_file.file_size_in_bytes(),
            e_tag: None,
            version: None,
        };
        let mut partitioned = PartitionedFile::new_from_meta(meta);
        // DataFusion puts the one value of a column in its place: there is none in the file.
        if let Some(constants) = statistics::constants(self.table.metadata(), file, &self.schema) {
            partitioned = partitioned.with_statistics(Arc::new(constants));
        }
        Ok(partitioned)
    }

    fn source(&self, state: &dyn Session) -> ParquetSource {
        let options =
            TableParquetOptions { global: state.config_options().execution.parquet.clone(), ..Default::default() };
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let readers = CachedParquetFileReaderFactory::new(Arc::clone(self.table.store().object_store()), footers);
        ParquetSource::new(TableSchema::new(Arc::clone(&self.schema), vec![]))
            .with_table_parquet_options(options)
            .with_metadata_size_hint(FOOTER_HINT)
            .with_parquet_file_reader_factory(Arc::new(readers))
    }

    fn config(
        &self,
        state: &dyn Session,
        files: &FileSet,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        statistics: Statistics,
    ) -> DfResult<FileScanConfig> {
        let sizes: Vec<u64> = files.files().iter().map(|f| f.data_file().file_size_in_bytes()).collect();
        let group = |indices: Vec<usize>| -> Result<FileGroup, ScanError> {
            let files = indices.into_iter().map(|i| self.partitioned_file(&files.files()[i]));
            Ok(FileGroup::new(files.collect::<Result<_, _>>()?))
        };
        let groups = groups::by_size(&sizes, state.config_options().execution.target_partitions);
        let groups = groups.into_iter().map(group).collect::<Result<Vec<_>, _>>()?;
        let url = ObjectStoreUrl::parse(self.table.store().store_url())?;
        Ok(FileScanConfigBuilder::new(url, Arc::new(self.source(state)))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(self.adapter(files)?)))
            .build())
    }

    fn adapter(&self, files: &FileSet) -> Result<FieldIdAdapterFactory, ScanError> {
        let without_nan = statistics::without_nan(files, &self.schema);
        Ok(FieldIdAdapterFactory::new(name_mapping::of(&self.table)?, self.defaults.clone(), without_nan))
    }
}

#[async_trait]
impl TableProvider for MeshTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut files = self.files().await?.clone();
        prune::prune(state, self.table.metadata(), &self.schema, &mut files, filters)?;
        let columns = statistics::columns_of(&self.schema);
        let is_read = |index: usize| projection.is_none_or(|projection| projection.contains(&index));
        let mut known = statistics::of_table(self.table.metadata(), &files, &columns, is_read);
        if !filters.is_empty() {
            known = known.to_inexact();
        }
        let config = self.config(state, &files, projection, limit, known)?;
        Ok(DataSourceExec::from_data_source(config))
    }
}
