//! Whether a contract fits what is there, and what becomes of its table. Pure: the dry run, the judgement and the
//! provisioning all decide by these functions.
//!
//! In: a contract, the facts about its tables, what is active. Out: the next schema, or the finding that refuses it.
//! Never: a column that changes its type under files that were written with the old one; a table of somebody else taken
//! over; a refusal because another engine added what the contract does not name.

mod columns;

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{Schema, UnboundPartitionSpec};
use mesh_contract::ProductContract;
use mesh_lakehouse::writer::write_sample;
use mesh_lakehouse::{LakehouseError, RecordedColumns, TableSpec, schema, summary};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, Finding, TableRef};

use super::existing::{Existing, TableFacts};
use crate::finding::{at, error, page};
use columns::Clash;

/// Table property of a dead-letter table: the product's table.
const DEAD_LETTERS_OF: &str = "mesh.dead-letters-of";

/// Iceberg's own property: how many snapshots expiry leaves.
const SNAPSHOTS: &str = "history.expire.min-snapshots-to-keep";
/// Metadata files that a table keeps; the others go once everything in them is announced.
const METADATA_FILES: (&str, &str) = ("write.metadata.previous-versions-max", "5");

/// Why the contract cannot be provisioned, by what is there. `revision` is the one that it would get.
pub fn check(
    contract: &ProductContract,
    active: Option<&ActiveContract>,
    existing: &Existing,
    revision: i64,
) -> Result<(), Box<Finding>> {
    let spec = table_spec(contract, revision)?;
    if let Some(dead_letters) = &existing.dead_letters {
        is_ours(dead_letters, active.and_then(|active| active.dead_letters.as_ref()), contract, active)?;
    }
    let Some(table) = &existing.table else { return writable(spec.schema, contract) };
    is_ours(table, active.and_then(|active| active.table.as_ref()), contract, active)?;
    is_of_this_mesh(table, existing.next_revision.max(revision + 1))?;
    let next = next_schema(table, contract, active)?;
    if table.revision == Some(Ok(revision)) && next.as_struct() != table.schema.as_struct() {
        return Err(twice(table));
    }
    writable(next, contract)
}

/// The table can take the contract's rows: sample rows go through the writer that ingest uses, into memory.
fn writable(schema: Schema, contract: &ProductContract) -> Result<(), Box<Finding>> {
    let partition_spec = partition_spec(contract, &schema)?;
    write_sample(&Arc::new(schema), partition_spec.as_ref()).map_err(refused)
}

/// The table that the contract asks for, where there is none.
pub fn table_spec(contract: &ProductContract, revision: i64) -> Result<TableSpec, Box<Finding>> {
    let schema = schema::table_schema(&contract.iceberg_schema(None)).map_err(refused)?;
    let partition_spec = partition_spec(contract, &schema)?;
    let mut properties = properties(contract, revision);
    properties.extend(settings(contract, &schema));
    Ok(TableSpec { ident: schema::ident(&contract.table()), schema, partition_spec, properties })
}

/// The dead-letter table beside it.
pub fn dead_letter_spec(contract: &ProductContract, revision: i64) -> Result<TableSpec, Box<Finding>> {
    let schema = schema::dead_letter_schema().map_err(refused)?;
    let mut properties = properties(contract, revision);
    properties.insert(DEAD_LETTERS_OF.to_owned(), contract.table().to_string());
    let ident = schema::ident(&contract.dead_letter_table());
    Ok(TableSpec { ident, schema, partition_spec: None, properties })
}

/// Table properties that follow the contract's newest revision.
pub fn settings(contract: &ProductContract, schema: &Schema) -> BTreeMap<String, String> {
    let (files, kept) = METADATA_FILES;
    BTreeMap::from([
        (summary::CONTRACT_COLUMNS.to_owned(), columns_of(contract, schema).to_property()),
        (SNAPSHOTS.to_owned(), contract.upkeep().snapshots_to_keep().to_string()),
        (files.to_owned(), kept.to_owned()),
    ])
}

/// The contract's columns in a schema that holds all of them.
pub fn columns_of(contract: &ProductContract, schema: &Schema) -> RecordedColumns {
    RecordedColumns::of(schema, &contract.iceberg_schema(None))
}

fn properties(contract: &ProductContract, revision: i64) -> BTreeMap<String, String> {
    let (files, kept) = METADATA_FILES;
    BTreeMap::from([
        (summary::PRODUCT.to_owned(), contract.product().to_string()),
        (summary::CONTRACT_REVISION.to_owned(), revision.to_string()),
        (files.to_owned(), kept.to_owned()),
    ])
}

fn partition_spec(contract: &ProductContract, schema: &Schema) -> Result<Option<UnboundPartitionSpec>, Box<Finding>> {
    schema::partition_spec(contract.partition_spec(), schema).map_err(refused)
}

/// A table that the mesh made for this product, and no other under its name.
pub fn is_ours(
    table: &TableFacts,
    expected: Option<&TableRef>,
    contract: &ProductContract,
    active: Option<&ActiveContract>,
) -> Result<(), Box<Finding>> {
    if let (Some(expected), Some(active)) = (expected.filter(|expected| is_other(expected, table)), active) {
        // A restoration that was cut off has made it: its revision is higher than the active one.
        let is_newer = matches!(table.revision, Some(Ok(revision)) if revision > active.revision);
        if !(is_newer && table.product.as_ref() == Some(&active.product)) {
            return Err(other_table(table, expected, contract));
        }
    }
    if table.product.as_deref() == Some(contract.product().to_string().as_str()) {
        return Ok(());
    }
    let whose = table.product.as_ref().map_or("no product of this mesh".to_owned(), |owner| format!("product {owner}"));
    let message = format!("the table {} exists already and belongs to {whose}", table.name());
    let remedy = "drop or rename that table, or give the schema object another name";
    Err(Box::new(at("/schema/0/name", error("MESH-PUBLISHER-0023", message, remedy))))
}

/// Whether the table is not the one that is meant.
pub fn is_other(expected: &TableRef, table: &TableFacts) -> bool {
    expected.uuid != table.reference.uuid
}

fn other_table(table: &TableFacts, expected: &TableRef, contract: &ProductContract) -> Box<Finding> {
    let name = table.name();
    let message = format!(
        "the table {name} is not the contract's: its uuid is {}, and that of the contract's table is {}; another engine \
         dropped the one and created the other",
        table.reference.uuid, expected.uuid
    );
    let remedy = format!(
        "drop or rename that table, then apply the contract again, which makes a new one; or apply it as version \
         {}.0.0, which has a table of its own",
        contract.major().0 + 1
    );
    Box::new(at("/schema/0/name", error("MESH-PUBLISHER-0035", message, remedy)))
}

/// No submission of this mesh has that number yet: another Kafka's mesh made the table.
pub fn is_of_this_mesh(table: &TableFacts, next_revision: i64) -> Result<(), Box<Finding>> {
    let by = match &table.revision {
        Some(Ok(by)) if *by >= next_revision => by.to_string(),
        Some(Err(text)) => format!("`{text}`"),
        _ => return Ok(()),
    };
    let message = format!(
        "the table {} is of contract revision {by}, which {} has not given yet: another Kafka's mesh made it",
        table.name(),
        topics::SUBMISSIONS,
    );
    let remedy = "start the mesh on the Kafka that the table was fed from, or drop the table, or use another catalog";
    Err(Box::new(at("/schema/0/name", error("MESH-PUBLISHER-0024", message, remedy))))
}

fn twice(table: &TableFacts) -> Box<Finding> {
    let message = format!("the file changes the table {} twice, and a revision changes a table once", table.name());
    Box::new(error(
        "MESH-PUBLISHER-0036",
        message,
        "put the two documents into files of their own, and apply one after the other",
    ))
}

/// The schema that a table that is there has by the contract: what it has is kept, also what another engine added.
pub fn next_schema(
    table: &TableFacts,
    contract: &ProductContract,
    active: Option<&ActiveContract>,
) -> Result<Schema, Box<Finding>> {
    let before = active.and_then(|active| ProductContract::parse(&active.contract_id, &active.document).ok());
    let known = known_columns(table, before.as_ref())?;
    let next = columns::next(table, contract, known.as_ref(), before.is_none());
    let next = next.map_err(|clash| other_shape(table, contract, &clash))?;
    let next = next.map_err(refused)?;
    let wanted = partition_spec(contract, &next)?;
    let wanted = wanted.iter().flat_map(|spec| spec.fields()).map(|field| (field.source_id, field.transform));
    // A contract keeps its partitioning within a major version, so a table that differs was changed by another engine.
    if before.is_none() && !wanted.eq(table.partition.iter().copied()) {
        let clash = Clash::of("it is partitioned in another way".to_owned());
        return Err(other_shape(table, contract, &clash));
    }
    Ok(next)
}

/// The contract's columns as the last revision left them. A table of an earlier version has them by name only.
fn known_columns(
    table: &TableFacts,
    before: Option<&ProductContract>,
) -> Result<Option<RecordedColumns>, Box<Finding>> {
    let recorded = table.columns.clone().map_err(|why| {
        let message = format!("the table {} cannot be changed: {why}", table.name());
        let remedy = format!("remove the table property {}; it is written again", summary::CONTRACT_COLUMNS);
        Box::new(error("MESH-PUBLISHER-0017", message, remedy))
    })?;
    Ok(recorded.or_else(|| before.map(|before| RecordedColumns::of(&table.schema, &before.iceberg_schema(None)))))
}

fn other_shape(table: &TableFacts, contract: &ProductContract, clash: &Clash) -> Box<Finding> {
    let message = format!("the table {} is there with other columns: {}", table.name(), clash.what);
    let undo = clash.undo.as_ref().map(|undo| format!("{undo}; or ")).unwrap_or_default();
    let remedy = format!(
        "{undo}apply it as version {}.0.0, which has a table of its own; a table keeps its columns, also of a retired \
         contract",
        contract.major().0 + 1
    );
    Box::new(at("/schema/0", error("MESH-PUBLISHER-0017", message, remedy)))
}

/// What the lakehouse does not take, whenever it is tried.
pub fn refused(problem: LakehouseError) -> Box<Finding> {
    Box::new(at("/schema/0", error(problem.code(), mesh_runtime::report::chain(&problem), page(problem.code()))))
}
