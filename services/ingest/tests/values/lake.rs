//! A catalog in a folder; records on their way into its tables, and what our scan reads of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use datafusion::prelude::SessionContext;
use mesh_contract::{ProductContract, ValueFormat};
use mesh_ingest::pipeline::decode::avro::{SchemaId, Schemas};
use mesh_ingest::pipeline::plan::TablePlan;
use mesh_ingest::pipeline::source_batch::SourceBatch;
use mesh_ingest::pipeline::transform::transform;
use mesh_lakehouse::scan::MeshTable;
use mesh_lakehouse::schema::{ident, partition_spec, table_schema};
use mesh_lakehouse::writer::{can_write, write_sample};
use mesh_lakehouse::{Catalog, CatalogConfig, Change, Table, TableSpec, TableWriter, WriterOptions};
use mesh_proto::v1::{ActiveContract, TableRef};
use tempfile::TempDir;
use uuid::Uuid;

use crate::Rows;
use crate::cells::Cell;
use crate::python::Python;

pub struct Lake {
    catalog: Catalog,
    folder: TempDir,
    python: Mutex<Python>,
}

impl Lake {
    /// `None` only if `MESH_SKIP=python`.
    pub async fn new() -> Option<Self> {
        let python = Mutex::new(Python::start()?);
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap();
        catalog.create_namespace(&iceberg::NamespaceIdent::new("testing".to_owned())).await.unwrap();
        Some(Self { catalog, folder, python })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes the cell's samples and a null the whole way; the rows that must then be there.
    pub async fn feed(
        &self,
        contract: &ProductContract,
        cell: &Cell,
        transform_of: Option<&str>,
    ) -> Result<Rows, String> {
        let table = self.create(contract).await?;
        let active = ActiveContract {
            contract_id: contract.id().to_string(),
            major: 1,
            product: contract.product().to_string(),
            document: contract.contract().to_json(),
            table: Some(TableRef {
                namespace: table.ident().namespace().to_url_string(),
                name: table.ident().name().to_owned(),
                uuid: table.uuid().to_string(),
            }),
            ..ActiveContract::default()
        };
        let plan = TablePlan::new(&active, &table).map_err(|error| format!("no plan: {error}"))?;
        let schemas = Schemas::from([(SchemaId(1), Arc::from(contract.avro_schema().to_string()))]);
        let done = transform(&self.records(contract, cell)?, &plan, &schemas).map_err(|error| error.to_string())?;
        let mut rows: Rows =
            cell.accepted(transform_of).map(|(id, sample)| (id, Some(sample.shown.to_owned()))).collect();
        rows.insert(i64::try_from(cell.samples.len()).unwrap(), None);
        let refused: Vec<_> = done.refusals.iter().map(|(at, refusal)| (at, refusal.clone())).collect();
        if refused.len() + rows.len() != cell.samples.len() + 1
            || refused.iter().any(|(at, _)| rows.contains_key(&i64::from(*at)))
        {
            return Err(format!("dead letters {refused:?}"));
        }
        let commit_id = Uuid::now_v7();
        let shown = |error: mesh_lakehouse::LakehouseError| format!("{error:?}");
        let mut writer = TableWriter::new(&table, commit_id, WriterOptions::default()).map_err(shown)?;
        for batch in done.batches {
            writer.write(batch).await.map_err(shown)?;
        }
        let files = writer.close().await.map_err(shown)?.files;
        let change = Change::append(&table, files).with_commit_id(commit_id);
        self.catalog.apply(&table, &change).await.into_result().map_err(|error| format!("{error:?}"))?;
        Ok(rows)
    }

    async fn create(&self, contract: &ProductContract) -> Result<Table, String> {
        let schema = table_schema(&contract.iceberg_schema(None)).map_err(|error| error.to_string())?;
        let partition_spec =
            partition_spec(contract.partition_spec(), &schema).map_err(|error| format!("admitted, but {error}"))?;
        can_write(&schema, partition_spec.as_ref()).map_err(|error| format!("admitted, but {error}"))?;
        let sample = write_sample(&Arc::new(schema.clone()), partition_spec.as_ref());
        sample.map_err(|error| format!("the sample row: {error:?}"))?;
        let spec = TableSpec { ident: ident(&contract.table()), schema, partition_spec, properties: BTreeMap::new() };
        self.catalog.create_table(spec).await.map_err(|error| format!("{error:?}"))
    }

    fn records(&self, contract: &ProductContract, cell: &Cell) -> Result<SourceBatch, String> {
        let schema = contract.avro_schema();
        let covered = contract.covers(&schema.to_string()).map_err(|error| error.to_string())?;
        if !covered.covered {
            return Err(format!("the registry refuses the contract's own schema: {:?}", covered.problems));
        }
        let mut records = SourceBatch::default();
        let samples = cell.samples.iter().map(|sample| sample.json).chain(["null"]);
        for (id, json) in (0..).zip(samples) {
            let record = format!("{{\"id\":{id},\"v\":{json}}}");
            let value = match contract.value_format() {
                ValueFormat::Json => record.into_bytes(),
                ValueFormat::Avro => {
                    [&[0, 0, 0, 0, 1][..], &self.python.lock().unwrap().encode(&schema, &record)].concat()
                }
            };
            records.add((0, id, 1_000), None, Some(&value), []);
        }
        Ok(records)
    }

    /// What SQL over our scan reads.
    pub async fn read(&self, contract: &ProductContract, cell: &Cell) -> Result<Rows, String> {
        let table = self.catalog.load(&ident(&contract.table())).await.unwrap();
        let context = SessionContext::new();
        context.register_table("t", Arc::new(MeshTable::at_head(&table).unwrap())).unwrap();
        let sql = format!("select id, arrow_cast({}, 'Utf8') as shown from t", cell.sql);
        let frame = context.sql(&sql).await.map_err(|error| error.to_string())?;
        let mut rows = Rows::new();
        for batch in frame.collect().await.map_err(|error| error.to_string())? {
            let (ids, shown) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
            rows.extend(
                (0..ids.len()).map(|at| (ids.value(at), shown.is_valid(at).then(|| shown.value(at).to_owned()))),
            );
        }
        Ok(rows)
    }
}
