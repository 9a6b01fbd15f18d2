//! In: a table's metadata and one of its snapshots. Out: the product-changed message that describes it. Pure.
//! Must never happen: a number that is guessed. What a snapshot of a foreign writer does not say stays 0 or empty.

use std::collections::BTreeMap;

use iceberg::spec::{Operation, Schema, Snapshot, TableMetadata};
use mesh_lakehouse::Table;
use mesh_lakehouse::summary;
use mesh_proto::v1::{ProductChanged, SchemaDiff, SourceRange, TableRef};

use super::chain::{HeadMove, History, Link};

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

/// The snapshots that the metadata holds, and where `main` went among them.
pub fn history(metadata: &TableMetadata) -> History {
    let link =
        |s: &Snapshot| Link { id: s.snapshot_id(), parent: s.parent_snapshot_id(), sequence: s.sequence_number() };
    let snapshots = metadata.snapshots().map(|snapshot| (snapshot.snapshot_id(), link(snapshot))).collect();
    let log = metadata.history().iter().map(|to| HeadMove { to: Some(to.snapshot_id), at: to.timestamp_ms() });
    History { head: metadata.current_snapshot_id(), log: log.collect(), snapshots }
}

/// One snapshot as its event tells it.
pub fn changed(table: &Table, snapshot: &Snapshot, owner: &Owner) -> ProductChanged {
    let metadata = table.metadata();
    let said = LastAnnounced(&snapshot.summary().additional_properties);
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
        traceparent: said.text(summary::TRACEPARENT).filter(|text| is_trace(text)).unwrap_or_default().to_owned(),
        dead_letters: said.number(summary::DEAD_LETTERS),
    }
}

/// What a snapshot's summary says.
struct LastAnnounced<'a>(&'a std::collections::HashMap<String, String>);

impl<'a> LastAnnounced<'a> {
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

fn is_trace(text: &str) -> bool {
    text.parse::<mesh_proto::trace::TraceContext>().is_ok()
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
fn source(said: &LastAnnounced<'_>, owner: &Owner) -> Vec<SourceRange> {
    type Range = (String, String, i32, i64, i64);
    let ranges = said.text(summary::RANGES).and_then(|text| serde_json::from_str::<Vec<Range>>(text).ok());
    let ranges = ranges.unwrap_or_default().into_iter().map(|(cluster_id, topic_id, partition, start, end)| {
        let named = owner.topic.as_ref().filter(|(id, _)| *id == topic_id);
        let topic = named.map(|(_, name)| name.clone()).unwrap_or_default();
        SourceRange { cluster_id, topic, topic_id, partition, start, end }
    });
    ranges.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use mesh_contract::{ProductContract, TableName};
    use mesh_lakehouse::offsets::TopicSource;
    use mesh_lakehouse::{Catalog, CatalogConfig, Change, OffsetRanges, RangeStart, TableSpec, schema};
    use pretty_assertions::assert_eq;

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn columns(properties: &str) -> mesh_contract::types::iceberg::IcebergSchema {
        let text = format!(
            "apiVersion: v3.1.0\nkind: DataContract\nid: urn:f\nname: f\nversion: 1.0.0\nstatus: active\n\
             domain: operations\ndataProduct: flights\nservers:\n  - {{server: mesh, type: kafka, host: \"mesh:9092\", \
             format: json}}\nschema:\n  - name: flights\n    physicalName: t\n    physicalType: topic\n    \
             logicalType: object\n    properties:\n{properties}"
        );
        ProductContract::parse("f", &text).unwrap().iceberg_schema(None)
    }

    fn owner() -> Owner {
        Owner { product: "operations.flights".into(), major: 1, topic: Some(("topic-id".into(), "t".into())) }
    }

    /// A table with one snapshot that moved offsets.
    async fn table(folder: &std::path::Path) -> (Catalog, Table) {
        let catalog = Catalog::open(CatalogConfig::in_folder(folder)).await.unwrap();
        let ident = schema::ident(&TableName::new("operations", "flights_v1"));
        catalog.create_namespace(ident.namespace()).await.unwrap();
        let schema = schema::table_schema(&columns("      - {name: id, logicalType: integer}\n")).unwrap();
        let properties = BTreeMap::from([(summary::CONTRACT_REVISION.to_owned(), "3".to_owned())]);
        let spec = TableSpec { ident, schema, partition_spec: None, properties };
        let table = catalog.create_table(spec).await.unwrap();
        let mut offset_ranges = OffsetRanges::default();
        for (topic, next) in [("topic-id", 5), ("another-id", 7)] {
            offset_ranges
                .add(&TopicSource { cluster: "c".into(), topic: topic.into() }, 2, RangeStart::First(1), next)
                .unwrap();
        }
        let append = Change::append(&table, Vec::new()).with_offsets(offset_ranges).with(summary::TRACEPARENT, TRACE);
        let append = append.with(summary::WATERMARK, "1500000").with(summary::DEAD_LETTERS, "4");
        let append = append.with(summary::CONTRACT_REVISION, "2");
        let table = catalog.apply(&table, &append).await.into_result().unwrap().table;
        (catalog, table)
    }

    #[tokio::test]
    async fn a_snapshot_is_told_as_its_commit_wrote_it_down() {
        let folder = tempfile::tempdir().unwrap();
        let (_, table) = table(folder.path()).await;
        let snapshot = table.current_snapshot().unwrap();
        let told = changed(&table, snapshot, &owner());
        let range = |topic: &str, topic_id: &str, end| SourceRange {
            cluster_id: "c".into(),
            topic: topic.into(),
            topic_id: topic_id.into(),
            partition: 2,
            start: 1,
            end,
        };
        let mut source = told.source.clone();
        source.sort_by_key(|range| range.end);
        assert_eq!(
            source,
            [range("t", "topic-id", 5), range("", "another-id", 7)],
            "a topic of unknown name has its id"
        );
        assert_eq!((told.product.as_str(), told.major, told.contract_revision), ("operations.flights", 1, 2));
        assert_eq!((told.snapshot_id, told.parent_snapshot_id), (snapshot.snapshot_id(), None));
        assert_eq!((told.sequence_number, told.operation.as_str(), told.dead_letters), (1, "append", 4));
        assert_eq!((told.traceparent.as_str(), told.schema_diff), (TRACE, None));
        assert_eq!(told.watermark.map(|at| (at.seconds, at.nanos)), Some((1, 500_000_000)));
        assert_eq!(told.committed_at.map(|at| at.seconds), Some(snapshot.timestamp_ms() / 1000));
    }

    #[tokio::test]
    async fn a_foreign_snapshot_says_what_its_schema_changed_and_guesses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, before) = table(folder.path()).await;
        let wider = columns("      - {name: id, logicalType: integer}\n      - {name: tail, logicalType: string}\n");
        let schema = Some(schema::evolve(&before, &wider).unwrap());
        let evolved =
            catalog.apply(&before, &Change { schema, ..Change::revision(9) }).await.into_result().unwrap().table;
        let after = catalog.apply(&evolved, &Change::append(&evolved, Vec::new())).await.into_result().unwrap().table;
        let told = changed(&after, after.current_snapshot().unwrap(), &owner());
        let diff = SchemaDiff { added: vec!["tail".into()], ..SchemaDiff::default() };
        assert_eq!(told.schema_diff, Some(diff));
        assert_eq!(told.parent_snapshot_id, before.current_snapshot().map(|parent| parent.snapshot_id()));
        assert_eq!((told.source.len(), told.traceparent.as_str(), told.dead_letters, told.added_rows), (0, "", 0, 0));
    }

    #[test]
    fn a_schema_s_fields_are_the_same_by_id() {
        use iceberg::spec::{NestedField, PrimitiveType, Type};
        let schema = |fields: &[(i32, &str, PrimitiveType)]| {
            let field = |(id, name, of): &(i32, &str, PrimitiveType)| {
                std::sync::Arc::new(NestedField::optional(*id, *name, Type::Primitive(of.clone())))
            };
            Schema::builder().with_fields(fields.iter().map(field)).build().unwrap()
        };
        let old = schema(&[(1, "a", PrimitiveType::Int), (2, "b", PrimitiveType::Int), (3, "c", PrimitiveType::Int)]);
        let new = schema(&[(1, "z", PrimitiveType::Int), (2, "b", PrimitiveType::Long), (4, "c", PrimitiveType::Int)]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = SchemaDiff { added: names(&["c"]), removed: names(&["c"]), changed: names(&["z", "b"]) };
        assert_eq!(diff(&old, &new), expected);
    }
}
