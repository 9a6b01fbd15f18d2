//! A contract that a mesh can run.
//! In: a valid ODCS document. Out: one product, one table, one topic, every type resolved.
//! Never: a default where the document says something the mesh does not understand.

mod columns;
mod refusals;
mod settings;

use std::time::Duration;

use self::columns::Columns;
use self::refusals::Refusals;
pub(crate) use self::refusals::Stage;
use crate::error::ContractError;
use crate::finding::Finding;
use crate::model::hard::{HardConstraint, hard_constraints};
use crate::model::{Column, Contract, SchemaObject};
use crate::names::{ContractId, Major, Product, TableName};
use crate::partition::PartitionSpec;
use crate::quality::QualityRule;
use crate::types::avro::{self, AvroVerdict};
use crate::types::iceberg::IcebergSchema;
use crate::types::{Field, Type, TypeError, arrow};

/// How a topic's values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueFormat {
    /// Avro with Confluent's registry framing.
    Avro,
    /// One JSON object.
    Json,
}

/// Where a table's first offsets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StartFrom {
    /// At the topic's very first record. A topic whose head is already deleted is refused.
    #[default]
    WholeLog,
    /// At the first record that the topic still has.
    EarliestAvailable,
}

/// How an object's table is fed and kept: custom properties of the schema object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct UpkeepSettings {
    /// `commitInterval`, from 100 ms to 1 h; the service's own where there is none.
    pub commit_interval: Option<Duration>,
    /// `startFrom`.
    pub start_from: StartFrom,
    /// `minSnapshotsToKeep`, 1 or more: the table property `history.expire.min-snapshots-to-keep`.
    pub min_snapshots_to_keep: Option<u32>,
}

impl UpkeepSettings {
    /// Snapshots that a table keeps where its contract does not say.
    pub const SNAPSHOTS_TO_KEEP: u32 = 600;

    /// How many snapshots the table keeps at least.
    pub fn snapshots_to_keep(&self) -> u32 {
        self.min_snapshots_to_keep.unwrap_or(Self::SNAPSHOTS_TO_KEEP)
    }
}

/// One product's contract: exactly one schema object.
#[derive(Debug, Clone)]
pub struct ProductContract {
    contract: Contract,
    product: Product,
    object: SchemaObject,
    object_name: String,
    major: Major,
    topic: String,
    format: ValueFormat,
    partition: PartitionSpec,
    event_time: Option<String>,
    upkeep: UpkeepSettings,
}

/// All that a mesh must know of a contract.
struct Settings {
    object: SchemaObject,
    object_name: String,
    product: Product,
    major: Major,
    topic: String,
    format: ValueFormat,
    partition: PartitionSpec,
    event_time: Option<String>,
    upkeep: UpkeepSettings,
}

/// Reads every setting, so that every one that is wrong is found.
fn read(contract: &Contract, refusals: &mut Refusals<'_>) -> Option<Settings> {
    settings::id(contract, refusals);
    settings::promises(contract, refusals);
    let format = settings::value_format(contract, refusals);
    let major = settings::major(contract, refusals);
    let object = settings::object(contract, refusals)?;
    let object_name = settings::object_name(object, refusals);
    let product = settings::product(contract, object, refusals);
    let derived = product.as_ref().zip(major).map(|(product, major)| format!("{product}.v{major}"));
    let topic = settings::topic(object, derived, refusals);
    let partition = Columns { contract, object, format }.check(refusals);
    let event_time = settings::event_time(contract, object, refusals);
    let upkeep = settings::upkeep(contract, object, refusals);
    settings::misplaced(contract, object, refusals);
    Some(Settings {
        object: object.clone(),
        object_name: object_name?,
        product: product?,
        major: major?,
        topic: topic?,
        format,
        partition,
        event_time,
        upkeep,
    })
}

/// Why a mesh would not run a valid contract, each reason at its place; empty if it would.
pub(crate) fn findings(contract: &Contract) -> Vec<Finding> {
    let mut refusals = Refusals::new(contract, Stage::Admission);
    read(contract, &mut refusals);
    refusals.findings()
}

impl ProductContract {
    /// Checks that a mesh can run the contract: what admission asks.
    pub fn new(contract: Contract) -> Result<Self, ContractError> {
        Self::at(contract, Stage::Admission)
    }

    /// Reads the settings of a contract.
    pub(crate) fn at(contract: Contract, stage: Stage) -> Result<Self, ContractError> {
        let mut refusals = Refusals::new(&contract, stage);
        let settings = read(&contract, &mut refusals);
        refusals.result()?;
        match settings {
            Some(Settings { object, object_name, product, major, topic, format, partition, event_time, upkeep }) => {
                Ok(Self { contract, product, object, object_name, major, topic, format, partition, event_time, upkeep })
            }
            // Each setting that is not there has its finding.
            None => Err(ContractError::NotRunnable { id: contract.id.to_string(), findings: Vec::new() }),
        }
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
        &self.object
    }
    /// The object's folded name: the table's name without its version.
    pub fn object_name(&self) -> &str {
        &self.object_name
    }
    /// The first number of the version.
    pub fn major(&self) -> Major {
        self.major
    }
    /// `<domain>.<object>_v<major>`.
    pub fn table(&self) -> TableName {
        TableName::of(&self.product.domain, &self.object_name, self.major)
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
        let mut keys: Vec<&Column> = self.columns().iter().filter(|c| c.primary_key_position.is_some()).collect();
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
        hard_constraints(self.columns())
    }
    fn promise(&self, property: &str) -> Option<Duration> {
        self.contract.sla.iter().find(|sla| sla.is(property))?.duration()
    }
    /// The `latency` promise: how old the last commit may be.
    pub fn freshness(&self) -> Option<Duration> {
        self.promise("latency")
    }
    /// The `retention` promise.
    pub fn retention(&self) -> Option<Duration> {
        self.promise("retention")
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
    /// Object customProperties `commitInterval`, `startFrom`, `minSnapshotsToKeep`.
    pub fn upkeep(&self) -> UpkeepSettings {
        self.upkeep
    }
    /// The team's owner.
    pub fn owner(&self) -> Option<&str> {
        self.contract.team.owner()
    }
    /// The table's columns in Arrow (without `_mesh` and without ids): what decoding yields and checks see.
    pub fn arrow_schema(&self) -> arrow_schema::Schema {
        arrow::schema(&self.fields())
    }
    /// The table's columns as an Iceberg schema (without `_mesh`); ids kept from `previous` by path.
    pub fn iceberg_schema(&self, previous: Option<&IcebergSchema>) -> IcebergSchema {
        let keys = self.record_key_columns();
        IcebergSchema::assign(self.fields(), previous).with_identifiers(keys.iter().map(|c| c.name.as_str()))
    }
    /// The fields of the topic's records: as [`Self::fields`], but under the names that records use.
    pub fn record_fields(&self) -> Vec<Field> {
        self.columns().iter().map(record_field).collect()
    }
    /// The Avro schema of the topic's records: what `mesh produce` writes and the registry subject starts with.
    pub fn avro_schema(&self) -> serde_json::Value {
        avro::schema(self.product.domain.as_str(), &self.object_name, &self.record_fields())
    }
    /// Whether records of this Avro schema can be read by the contract: what the registry door asks.
    pub fn covers(&self, schema: &str) -> Result<AvroVerdict, TypeError> {
        avro::covers(&self.record_fields(), schema)
    }
}

/// A column under the name that records use.
fn record_field(column: &Column) -> Field {
    let inside: Vec<Field> = column.children.iter().map(record_field).collect();
    let ty = match (&column.ty, inside.as_slice()) {
        (Type::Struct(_), _) => Type::Struct(inside),
        (Type::List(_), [element]) => Type::List(Box::new(element.clone())),
        (Type::Map(..), [key, value]) => Type::Map(Box::new(key.clone()), Box::new(value.clone())),
        (primitive, _) => primitive.clone(),
    };
    Field { name: column.record_name().to_owned(), ty, required: column.required, doc: column.description.clone() }
}
