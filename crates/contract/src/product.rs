//! A contract that a mesh can run.
//! In: a valid ODCS document. Out: one product, one table, one topic, every type resolved.
//! Never: a default where the document says something the mesh does not understand.

use std::time::Duration;

use crate::constraints::HardConstraint;
use crate::error::ContractError;
use crate::model::{Column, Contract, SchemaObject};
use crate::names::{ContractId, Major, Product, TableName};
use crate::partition::PartitionSpec;
use crate::quality::QualityRule;
use crate::types::Field;
use crate::types::avro::AvroVerdict;
use crate::types::iceberg::IcebergSchema;

/// How a topic's values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueFormat {
    /// Avro with Confluent's registry framing.
    Avro,
    /// One JSON object.
    Json,
}

/// One product's contract: exactly one schema object.
#[derive(Debug, Clone)]
pub struct ProductContract {
    contract: Contract,
    product: Product,
    object: String,
    major: Major,
    topic: String,
    format: ValueFormat,
    partition: PartitionSpec,
    event_time: Option<String>,
}

impl ProductContract {
    /// Checks that a mesh can run the contract.
    pub fn new(_contract: Contract) -> Result<Self, ContractError> {
        todo!()
    }
    /// Reads exactly one ODCS document.
    pub fn parse(_file: &str, _text: &str) -> Result<Self, ContractError> {
        todo!()
    }
    /// The document.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }
    /// The contract's id.
    pub fn id(&self) -> &ContractId {
        &self.contract.id
    }
    /// `domain.name`; the name is `dataProduct`, else the object's.
    pub fn product(&self) -> &Product {
        &self.product
    }
    /// The schema object.
    pub fn object(&self) -> &SchemaObject {
        &self.contract.objects[0]
    }
    /// The object's folded name: the table's name without its version.
    pub fn object_name(&self) -> &str {
        &self.object
    }
    /// The first number of the version.
    pub fn major(&self) -> Major {
        self.major
    }
    /// `<domain>.<object>_v<major>`.
    pub fn table(&self) -> TableName {
        TableName::of(&self.product.domain, &self.object, self.major)
    }
    /// `<domain>.<object>_v<major>_dead_letters`.
    pub fn dead_letter_table(&self) -> TableName {
        self.table().dead_letters()
    }
    /// The object's `physicalName` if its `physicalType` is `topic`, else `<domain>.<product>.v<major>`.
    pub fn topic(&self) -> &str {
        &self.topic
    }
    /// From the Kafka server's `format`; Avro if nothing says otherwise.
    pub fn value_format(&self) -> ValueFormat {
        self.format
    }
    /// The registry subject: `<topic>-value`.
    pub fn schema_subject(&self) -> String {
        format!("{}-value", self.topic)
    }
    /// From `partitioned`, `partitionKeyPosition` and the customProperty `partitionTransform`.
    pub fn partition_spec(&self) -> &PartitionSpec {
        &self.partition
    }
    /// The columns of the primary key, by position: the record key (one: its text; several: a JSON array).
    pub fn record_key_columns(&self) -> Vec<&Column> {
        let mut keys: Vec<&Column> =
            self.object().columns.iter().filter(|c| c.primary_key_position.is_some()).collect();
        keys.sort_by_key(|c| c.primary_key_position);
        keys
    }
    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.object().columns
    }
    /// A top-level column by folded name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns().iter().find(|c| c.name == name)
    }
    /// The columns as fields of the type table.
    pub fn fields(&self) -> Vec<Field> {
        self.columns().iter().map(Column::field).collect()
    }
    /// The quality rules, the columns' included.
    pub fn quality(&self) -> &[QualityRule] {
        &self.object().quality
    }
    /// Every hard constraint at its place, nested ones too.
    pub fn hard_constraints(&self) -> Vec<HardConstraint<'_>> {
        todo!()
    }
    /// The `latency` promise: how old the last commit may be.
    pub fn freshness(&self) -> Option<Duration> {
        todo!()
    }
    /// The `retention` promise.
    pub fn retention(&self) -> Option<Duration> {
        todo!()
    }
    /// Folded name of the column that holds event time: object customProperty `eventTime`, else the element of `latency`.
    pub fn event_time_column(&self) -> Option<&str> {
        self.event_time.as_deref()
    }
    /// Object customProperty `closed: true`: a writer's unknown field pauses the partition.
    pub fn is_closed(&self) -> bool {
        self.object().custom_properties.flag("closed")
    }
    /// Object customProperty `writeMode: upsert`: a tombstone deletes.
    pub fn is_upsert(&self) -> bool {
        self.object().custom_properties.text("writeMode") == Some("upsert")
    }
    /// The team's owner.
    pub fn owner(&self) -> Option<&str> {
        self.contract.team.owner()
    }
    /// The table's columns in Arrow (without `_mesh`), ids as a fresh Iceberg schema would give them.
    pub fn arrow_schema(&self) -> arrow_schema::Schema {
        todo!()
    }
    /// The table's columns as an Iceberg schema; ids kept from `previous` by name.
    pub fn iceberg_schema(&self, _previous: Option<&IcebergSchema>) -> Result<IcebergSchema, ContractError> {
        todo!()
    }
    /// The record schema of the topic: original field names, what `mesh produce` writes.
    pub fn avro_schema(&self) -> serde_json::Value {
        todo!()
    }
    /// Whether records of this Avro schema can be read by the contract: what the registry door asks.
    pub fn covers(&self, _schema: &str) -> Result<AvroVerdict, ContractError> {
        todo!()
    }
}
