//! In: a table's metadata and one of its snapshots. Out: the product-changed message that describes it. Pure.
//! Must never happen: a number that is guessed. What a snapshot of a foreign writer does not say stays 0 or empty.

use std::collections::BTreeMap;

use iceberg::spec::{Operation, Schema, Snapshot, TableMetadata};
use mesh_lakehouse::Table;
use mesh_lakehouse::summary;
use mesh_proto::v1::{ProductChanged, SchemaDiff, SourceRange, TableRef};

use super::chain::{History, Link};

/// Whose table it is, and by which names its sources go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// `domain.name`.
    pub product: String,
    pub major: u32,
    /// The topic's id and name.
    pub topic: Option<(String, String)>,
}

/// The table as events name it.
pub fn table_ref(table: &Table) -> TableRef {
    let ident = table.ident();
    TableRef { namespace: ident.namespace().join("."), name: ident.name().to_owned(), uuid: table.uuid().to_string() }
}

/// The snapshots that the metadata holds.
pub fn history(metadata: &TableMetadata) -> History {
    let link =
        |s: &Snapshot| Link { id: s.snapshot_id(), parent: s.parent_snapshot_id(), sequence: s.sequence_number() };
    let snapshots = metadata.snapshots().map(|snapshot| (snapshot.snapshot_id(), link(snapshot))).collect();
    History { head: metadata.current_snapshot_id(), snapshots }
}

/// One snapshot as its event tells it.
pub fn changed(table: &Table, snapshot: &Snapshot, owner: &Owner) -> ProductChanged {
    let metadata = table.metadata();
    let said = Said(&snapshot.summary().additional_properties);
    let parent = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
    let schema_of = |s: &Snapshot| s.schema(metadata).ok();
    let schemas = (parent.and_then(|parent| schema_of(parent)), schema_of(snapshot));
    let revision = said.text(summary::CONTRACT_REVISION).or_else(|| table.property(summary::CONTRACT_REVISION));
    ProductChanged {
        table: Some(table_ref(table)),
        product: owner.product.clone(),
        major: owner.major,
        contract_revision: revision.and_then(|text| text.parse().ok()).unwrap_or_default(),
        snapshot_id: snapshot.snapshot_id(),
        parent_snapshot_id: snapshot.parent_snapshot_id(),
        sequence_number: snapshot.sequence_number(),
        operation: operation(&snapshot.summary().operation).to_owned(),
        added_rows: said.number("added-records"),
        removed_rows: said.number("deleted-records"),
        added_files: said.number("added-data-files"),
        removed_files: said.number("deleted-data-files"),
        total_rows: said.number("total-records"),
        schema_id: snapshot.schema_id().unwrap_or_else(|| metadata.current_schema_id()),
        schema_diff: match &schemas {
            (Some(old), Some(new)) => Some(diff(old, new)).filter(|diff| *diff != SchemaDiff::default()),
            _ => None,
        },
        source: source(&said, owner),
        watermark: said.text(summary::WATERMARK).and_then(|text| micros(text.parse().ok()?)),
        committed_at: micros(snapshot.timestamp_ms().saturating_mul(1000)),
        traceparent: said.text(summary::TRACEPARENT).unwrap_or_default().to_owned(),
        dead_letters: said.number(DEAD_LETTERS),
    }
}

/// Snapshot summary: how many records of the range went to the dead-letter table.
const DEAD_LETTERS: &str = "mesh.dead-letters";

/// What a snapshot's summary says.
struct Said<'a>(&'a std::collections::HashMap<String, String>);

impl<'a> Said<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> i64 {
        self.text(key).and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

fn operation(operation: &Operation) -> &'static str {
    match operation {
        Operation::Append => "append",
        Operation::Replace => "replace",
        Operation::Overwrite => "overwrite",
        Operation::Delete => "delete",
    }
}

fn micros(at: i64) -> Option<pbjson_types::Timestamp> {
    chrono::DateTime::from_timestamp_micros(at).map(mesh_proto::timestamp)
}

/// By field id, so that a rename is a change and not a removal.
fn diff(old: &Schema, new: &Schema) -> SchemaDiff {
    let fields = |schema: &Schema| -> BTreeMap<i32, (String, String)> {
        let top = schema.as_struct().fields().iter();
        top.map(|f| (f.id, (f.name.clone(), format!("{} {}", f.field_type, f.required)))).collect()
    };
    let (old, new) = (fields(old), fields(new));
    let missing_in = |from: &BTreeMap<i32, (String, String)>, of: &BTreeMap<i32, (String, String)>| -> Vec<String> {
        of.iter().filter(|(id, _)| !from.contains_key(id)).map(|(_, (name, _))| name.clone()).collect()
    };
    let changed = new.iter().filter(|(id, field)| old.get(id).is_some_and(|before| before != *field));
    SchemaDiff {
        added: missing_in(&old, &new),
        removed: missing_in(&new, &old),
        changed: changed.map(|(_, (name, _))| name.clone()).collect(),
    }
}

/// The source ranges that the snapshot moved, as its commit wrote them down.
fn source(said: &Said<'_>, owner: &Owner) -> Vec<SourceRange> {
    type Range = (String, String, i32, i64, i64);
    let ranges = said.text(summary::RANGES).and_then(|text| serde_json::from_str::<Vec<Range>>(text).ok());
    let ranges = ranges.unwrap_or_default().into_iter().map(|(cluster_id, topic_id, partition, start, end)| {
        let named = owner.topic.as_ref().filter(|(id, _)| *id == topic_id);
        let topic = named.map(|(_, name)| name.clone()).unwrap_or_default();
        SourceRange { cluster_id, topic, topic_id, partition, start, end }
    });
    ranges.collect()
}
