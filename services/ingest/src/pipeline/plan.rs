//! An active contract, compiled for one version of its table.
//!
//! In: an active contract and the table it names. Out: everything that a batch needs on its way.
//! Must never happen: rows shaped by another schema than the one that the commit will assert.

use std::time::Duration;

use mesh_contract::{ProductContract, StartFrom, TableName, ValueFormat};
use mesh_lakehouse::Table;
use mesh_lakehouse::schema::{MESH_COLUMN, ident, table_schema};
use mesh_lakehouse::writer::{Partitioner, arrow_schema};
use mesh_proto::v1::{ActiveContract, TableRef};

use crate::error::IngestError;
use crate::pipeline::check::Checks;
use crate::pipeline::decode::json::Wire;
use crate::pipeline::resolve::TargetColumn;

/// How values are decoded.
#[derive(Debug)]
pub enum RecordFormat {
    /// Avro in the registry's framing.
    Avro,
    /// JSON objects.
    Json(Wire),
}

/// What is done with a table's records.
#[derive(Debug)]
pub struct TablePlan {
    /// `domain.name`.
    pub product: String,
    /// `namespace.name`.
    pub table: String,
    /// The topic's name.
    pub topic: String,
    /// Of the contract.
    pub revision: i64,
    /// How values are decoded.
    pub format: RecordFormat,
    /// The table's own columns.
    pub target: TargetColumn,
    /// The contract's constraints.
    pub checks: Checks,
    /// The column that holds event time.
    pub event_time: Option<String>,
    /// Whether a writer's unknown field stops the table.
    pub closed: bool,
    /// How long after its first record a commit is made at the latest; `None` leaves it to the service.
    pub commit_interval: Option<Duration>,
    /// Whether a partition without a recorded offset is read from the first record that its log has, instead of from 0.
    pub from_earliest: bool,
}

impl TablePlan {
    /// Compiles a contract for its table.
    pub fn new(active: &ActiveContract, table: &Table) -> Result<Self, IngestError> {
        let name = table_name(active.table.as_ref());
        let unreadable = |source| IngestError::Contract {
            contract: format!("{} revision {}", active.contract_id, active.revision),
            table: name.to_string(),
            source: Box::new(source),
        };
        let contract = ProductContract::parse(&active.contract_id, &active.document).map_err(unreadable)?;
        if contract.is_upsert() {
            return Err(IngestError::Unsupported { table: name.to_string(), what: "writeMode upsert" });
        }
        if let Some(column) = lacking(&contract, table)? {
            return Err(IngestError::ColumnMissing { table: name.to_string(), column, revision: active.revision });
        }
        let arrow = arrow_schema(table.schema())?;
        let (closed, upkeep) = (contract.is_closed(), contract.upkeep());
        Ok(Self {
            product: active.product.clone(),
            table: name.to_string(),
            topic: topic_name(active).to_owned(),
            revision: active.revision,
            format: match contract.value_format() {
                ValueFormat::Avro => RecordFormat::Avro,
                ValueFormat::Json => RecordFormat::Json(Wire::new(contract.columns(), closed)),
            },
            target: TargetColumn::new(arrow.fields().iter().filter(|field| field.name() != MESH_COLUMN))
                .within(&contract.arrow_schema()),
            checks: Checks::compile(&contract.hard_constraints())?.partitioned(Partitioner::of(table)?),
            event_time: contract.event_time_column().map(str::to_owned),
            closed,
            commit_interval: upkeep.commit_interval,
            from_earliest: upkeep.start_from == StartFrom::EarliestAvailable,
        })
    }
}

/// A column of the contract that the table does not have, nested ones included: its values would be left out, and its
/// constraints not run.
fn lacking(contract: &ProductContract, table: &Table) -> Result<Option<String>, IngestError> {
    let wanted = table_schema(&contract.iceberg_schema(None))?;
    let mut names: Vec<&String> = wanted.field_id_to_name_map().values().collect();
    names.sort_unstable();
    Ok(names.into_iter().find(|name| table.schema().field_by_name(name).is_none()).cloned())
}

/// The topic of a contract; only contracts with one are ingested.
pub fn topic_name(active: &ActiveContract) -> &str {
    active.topic.as_ref().map_or("", |topic| topic.name.as_str())
}

/// The name that a reference stands for.
pub fn table_name(table: Option<&TableRef>) -> TableName {
    let (namespace, name) = table.map_or(("", ""), |table| (table.namespace.as_str(), table.name.as_str()));
    TableName::new(namespace, name)
}

/// The catalog's identifier that a reference stands for.
pub fn table_ident(table: Option<&TableRef>) -> iceberg::TableIdent {
    ident(&table_name(table))
}
