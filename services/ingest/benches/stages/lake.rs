//! A table for the records in a folder of its own, and what its contract asks of them.

use std::collections::BTreeMap;

use mesh_contract::{ProductContract, TableName};
use mesh_ingest::pipeline::commit::Base;
use mesh_ingest::pipeline::plan::TablePlan;
use mesh_ingest::pipeline::positions::Positions;
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::schema::{dead_letter_schema, ident, table_schema};
use mesh_lakehouse::{Catalog, CatalogConfig, Table, TableSpec};
use mesh_proto::v1::{ActiveContract, TableRef};
use tempfile::TempDir;

use crate::Failure;
use crate::records::Encoding;

/// 16 columns; 16 times `required`, 12 bounds, 5 lengths, a pattern, a uuid and an address: 36 checks.
const CONTRACT: &str = "
apiVersion: v3.1.0
kind: DataContract
id: urn:bench:events
version: 1.0.0
status: active
domain: bench
dataProduct: events
servers:
  - {server: mesh, type: kafka, host: 'mesh:9092', format: FORMAT}
schema:
  - name: events
    physicalName: bench.events.v1
    physicalType: topic
    logicalType: object
    customProperties: [{property: eventTime, value: event_time}]
    properties:
      - {name: event_id, logicalType: integer, required: true, logicalTypeOptions: {minimum: 0}}
      - {name: user_id, logicalType: integer, required: true, logicalTypeOptions: {minimum: 0}}
      - {name: event_time, logicalType: timestamp, required: true}
      - {name: price, logicalType: number, required: true, logicalTypeOptions: {minimum: 0, maximum: 1000}}
      - {name: lat, logicalType: number, required: true, logicalTypeOptions: {minimum: -90, maximum: 90}}
      - {name: lon, logicalType: number, required: true, logicalTypeOptions: {minimum: -180, maximum: 180}}
      - {name: quantity, logicalType: integer, required: true, logicalTypeOptions: {format: i32, minimum: 1, maximum: 100}}
      - {name: status_code, logicalType: integer, required: true, logicalTypeOptions: {format: i32, minimum: 100, maximum: 599}}
      - {name: is_mobile, logicalType: boolean, required: true}
      - {name: country, logicalType: string, required: true, logicalTypeOptions: {pattern: '^[A-Z]{2}$'}}
      - {name: device, logicalType: string, required: true, logicalTypeOptions: {maxLength: 20}}
      - {name: city, logicalType: string, required: true, logicalTypeOptions: {minLength: 1, maxLength: 100}}
      - {name: session_id, logicalType: string, required: true, logicalTypeOptions: {format: uuid}}
      - {name: url, logicalType: string, required: true, logicalTypeOptions: {format: uri}}
      - {name: user_agent, logicalType: string, required: true, logicalTypeOptions: {maxLength: 300}}
      - {name: message, logicalType: string, required: true, logicalTypeOptions: {maxLength: 2000}}
";

/// An empty table with its dead-letter table, and its plan. The folder goes when this is dropped.
pub(crate) struct Lake {
    pub(crate) catalog: Catalog,
    pub(crate) base: Base,
    pub(crate) positions: Positions,
    pub(crate) dead_letters: Table,
    pub(crate) plan: TablePlan,
    _folder: TempDir,
}

impl Lake {
    pub(crate) async fn new(encoding: Encoding) -> Result<Self, Failure> {
        let contract = ProductContract::parse("bench.yaml", &CONTRACT.replace("FORMAT", encoding.name()))?;
        let folder = tempfile::tempdir()?;
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await?;
        let (table, dead) = (contract.table(), contract.dead_letter_table());
        catalog.create_namespace(ident(&table).namespace()).await?;
        let schema = table_schema(&contract.iceberg_schema(None))?;
        let spec = |ident, schema| TableSpec { ident, schema, partition_spec: None, properties: BTreeMap::new() };
        let rows = catalog.create_table(spec(ident(&table), schema)).await?;
        let dead_letters = catalog.create_table(spec(ident(&dead), dead_letter_schema()?)).await?;
        let active = ActiveContract {
            contract_id: contract.id().to_string(),
            major: 1,
            product: contract.product().to_string(),
            document: contract.contract().to_json(),
            table: Some(reference(&table, &rows)),
            dead_letters: Some(reference(&dead, &dead_letters)),
            ..ActiveContract::default()
        };
        let plan = TablePlan::new(&active, &rows)?;
        let source = TopicSource { cluster: "bench".into(), topic: "events".into() };
        let base = Base::load(rows, source.clone()).await?;
        let positions = Positions::new(source, &base.recorded.offsets, 1);
        Ok(Self { catalog, base, positions, dead_letters, plan, _folder: folder })
    }
}

fn reference(name: &TableName, table: &Table) -> TableRef {
    TableRef { namespace: name.namespace.clone(), name: name.table.clone(), uuid: table.uuid().to_string() }
}
