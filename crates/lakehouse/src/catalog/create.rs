//! New tables: metadata with the field ids it was given, then one row.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::{FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, UnboundPartitionSpec};
use iceberg::{MetadataLocation, TableIdent};
use uuid::Uuid;

use super::Catalog;
use super::sql::Swap;
use crate::error::{LakehouseError, Result};
use crate::summary;
use crate::table::Table;

/// What a new table is to be.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Its name; the namespace must exist.
    pub ident: TableIdent,
    /// Its schema, field ids kept as they are (see [`crate::schema`]).
    pub schema: Schema,
    /// Its partition spec, by the schema's field ids; `None` is unpartitioned.
    pub partition_spec: Option<UnboundPartitionSpec>,
    /// Table properties.
    pub properties: BTreeMap<String, String>,
}

impl Catalog {
    /// Creates a table. `LakehouseError::TableExists` when another writer was first.
    pub async fn create_table(&self, spec: TableSpec) -> Result<Table> {
        let ident = spec.ident.clone();
        if !self.namespaces().await?.contains(ident.namespace()) {
            return Err(LakehouseError::NoSuchNamespace { namespace: ident.namespace().join(".") });
        }
        let metadata = self.new_metadata(spec).map_err(|e| LakehouseError::invalid(&ident, "create the table", e))?;
        let location = MetadataLocation::new_with_metadata(metadata.location(), &metadata).to_string();
        let bytes =
            serde_json::to_vec(&metadata).map_err(|e| LakehouseError::invalid(&ident, "write its metadata", e))?;
        self.store.write_new(&location, bytes.into()).await?;
        match self.sql.insert(&ident, &location).await? {
            Swap::Done => self.load_at(&super::Pointer { ident, metadata_location: location }).await,
            Swap::Lost => {
                self.store.delete(&location).await?;
                Err(LakehouseError::TableExists { table: ident })
            }
        }
    }

    /// `TableMetadataBuilder::new` gives every field a new id; ours are reserved, so they come in as a second schema.
    fn new_metadata(&self, spec: TableSpec) -> iceberg::Result<TableMetadata> {
        let uuid = Uuid::now_v7();
        let location = self.config.table_location(&spec.ident, uuid);
        let nothing =
            (Schema::builder().build()?, UnboundPartitionSpec::builder().build(), SortOrder::unsorted_order());
        let mut properties: HashMap<String, String> = spec.properties.into_iter().collect();
        properties.entry(summary::METADATA_VERSIONS.to_owned()).or_insert_with(|| summary::KEPT_METADATA.to_owned());
        let builder =
            TableMetadataBuilder::new(nothing.0, nothing.1, nothing.2, location, FormatVersion::V2, properties)?;
        let mut builder = builder.assign_uuid(uuid).add_current_schema(spec.schema)?.remove_schemas(&[0])?;
        if let Some(partition_spec) = spec.partition_spec {
            builder = builder.add_default_partition_spec(partition_spec)?.remove_partition_specs(&[0])?;
        }
        Ok(builder.build()?.metadata)
    }
}
