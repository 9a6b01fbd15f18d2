//! In: a table's metadata and one of its snapshots. Out: the product-changed message that describes it. Pure.
//! Never: a number that is guessed. What a snapshot of a foreign writer does not say stays 0 or empty; a time that no
//! reader can read.

use std::collections::BTreeMap;

use iceberg::spec::{Operation, Schema, Snapshot, TableMetadata};
use mesh_lakehouse::Table;
use mesh_lakehouse::summary;
use mesh_proto::v1::{ProductChanged, SchemaDiff, SourceRange, TableRef};

use super::chain::{HeadMove, History, Link, Past};

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

impl Past for TableMetadata {
    fn head(&self) -> Option<i64> {
        self.current_snapshot_id()
    }

    fn link(&self, id: i64) -> Option<Link> {
        self.snapshot_by_id(id).map(|snapshot| self::link(snapshot))
    }

    fn newest_moves(&self) -> impl Iterator<Item = HeadMove> {
        self.history().iter().rev().map(|to| HeadMove { to: Some(to.snapshot_id), at: to.timestamp_ms() })
    }

    fn whole(&self) -> History {
        let snapshots = self.snapshots().map(|snapshot| (snapshot.snapshot_id(), self::link(snapshot))).collect();
        let log = self.history().iter().map(|to| HeadMove { to: Some(to.snapshot_id), at: to.timestamp_ms() });
        History { head: self.current_snapshot_id(), log: log.collect(), snapshots }
    }
}

fn link(snapshot: &Snapshot) -> Link {
    Link { id: snapshot.snapshot_id(), parent: snapshot.parent_snapshot_id(), sequence: snapshot.sequence_number() }
}

/// One snapshot as its event describes it.
pub fn changed(table: &Table, snapshot: &Snapshot, owner: &Owner) -> ProductChanged {
    let metadata = table.metadata();
    let written = Summary(&snapshot.summary().additional_properties);
    let parent = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
    let revision = written.text(summary::CONTRACT_REVISION).or_else(|| table.property(summary::CONTRACT_REVISION));
    ProductChanged {
        table: Some(table_ref(table)),
        product: owner.product.clone(),
        major: owner.major,
        contract_revision: revision.and_then(|text| text.parse().ok()).unwrap_or_default(),
        snapshot_id: snapshot.snapshot_id(),
        parent_snapshot_id: snapshot.parent_snapshot_id(),
        sequence_number: snapshot.sequence_number(),
        operation: operation(&snapshot.summary().operation).to_owned(),
        added_rows: written.number("added-records"),
        removed_rows: written.number("deleted-records"),
        added_files: written.number("added-data-files"),
        removed_files: written.number("deleted-data-files"),
        total_rows: written.number("total-records"),
        schema_id: snapshot.schema_id().unwrap_or_else(|| metadata.current_schema_id()),
        schema_diff: parent.and_then(|parent| schema_diff(metadata, parent, snapshot)),
        source: source(&written, owner),
        watermark: written.text(summary::WATERMARK).and_then(|text| micros(text.parse().ok()?)),
        committed_at: micros(snapshot.timestamp_ms().saturating_mul(1000)),
        traceparent: written.text(summary::TRACEPARENT).filter(|text| is_trace(text)).unwrap_or_default().to_owned(),
        dead_letters: written.number(summary::DEAD_LETTERS),
    }
}

/// What a snapshot's summary says.
struct Summary<'a>(&'a std::collections::HashMap<String, String>);

impl<'a> Summary<'a> {
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
    readable(chrono::DateTime::from_timestamp_micros(at)?)
}

/// A time that every reader of the event can read. Writers may put any number into a table; an event, or a record of
/// `mesh.announced`, with a year of five digits is one that nothing reads again.
pub fn readable(at: chrono::DateTime<chrono::Utc>) -> Option<pbjson_types::Timestamp> {
    use chrono::Datelike as _;
    (1..=9999).contains(&at.year()).then(|| mesh_proto::timestamp(at))
}

fn is_trace(text: &str) -> bool {
    text.parse::<mesh_proto::trace::TraceContext>().is_ok()
}

/// How the snapshot's schema differs from its parent's; none where it is the same.
fn schema_diff(metadata: &TableMetadata, parent: &Snapshot, snapshot: &Snapshot) -> Option<SchemaDiff> {
    if parent.schema_id() == snapshot.schema_id() {
        return None;
    }
    let diff = diff(&*parent.schema(metadata).ok()?, &*snapshot.schema(metadata).ok()?);
    (diff != SchemaDiff::default()).then_some(diff)
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
fn source(summary_of: &Summary<'_>, owner: &Owner) -> Vec<SourceRange> {
    type Range = (String, String, i32, i64, i64);
    let ranges = summary_of.text(summary::RANGES).and_then(|text| serde_json::from_str::<Vec<Range>>(text).ok());
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
    use crate::announce::chain::LastAnnounced;

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
        let changed_event = changed(&table, snapshot, &owner());
        let range = |topic: &str, topic_id: &str, end| SourceRange {
            cluster_id: "c".into(),
            topic: topic.into(),
            topic_id: topic_id.into(),
            partition: 2,
            start: 1,
            end,
        };
        let mut source = changed_event.source.clone();
        source.sort_by_key(|range| range.end);
        assert_eq!(
            source,
            [range("t", "topic-id", 5), range("", "another-id", 7)],
            "a topic of unknown name has its id"
        );
        assert_eq!(
            (changed_event.product.as_str(), changed_event.major, changed_event.contract_revision),
            ("operations.flights", 1, 2)
        );
        assert_eq!((changed_event.snapshot_id, changed_event.parent_snapshot_id), (snapshot.snapshot_id(), None));
        assert_eq!(
            (changed_event.sequence_number, changed_event.operation.as_str(), changed_event.dead_letters),
            (1, "append", 4)
        );
        assert_eq!((changed_event.traceparent.as_str(), changed_event.schema_diff), (TRACE, None));
        assert_eq!(changed_event.watermark.map(|at| (at.seconds, at.nanos)), Some((1, 500_000_000)));
        assert_eq!(changed_event.committed_at.map(|at| at.seconds), Some(snapshot.timestamp_ms() / 1000));
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
        let changed_event = changed(&after, after.current_snapshot().unwrap(), &owner());
        let diff = SchemaDiff { added: vec!["tail".into()], ..SchemaDiff::default() };
        assert_eq!(changed_event.schema_diff, Some(diff));
        assert_eq!(changed_event.parent_snapshot_id, before.current_snapshot().map(|parent| parent.snapshot_id()));
        assert_eq!(
            (
                changed_event.source.len(),
                changed_event.traceparent.as_str(),
                changed_event.dead_letters,
                changed_event.added_rows
            ),
            (0, "", 0, 0)
        );
    }

    /// Snapshots of foreign writers carry any time, and every subscriber must be able to read what is written of them.
    #[tokio::test]
    async fn an_event_can_be_read_whatever_time_a_writer_claims() {
        let folder = tempfile::tempdir().unwrap();
        let (_, table) = table(folder.path()).await;
        let head = table.current_snapshot().unwrap();
        let powers = (0..63).flat_map(|bits| [1i64 << bits, -(1i64 << bits)]);
        let edges = [0, i64::MIN, i64::MAX, 253_402_300_799_999, 253_402_300_800_000, -62_135_596_800_001];
        for at in powers.chain(edges) {
            let mut summary = head.summary().clone();
            summary.additional_properties.insert(summary::WATERMARK.to_owned(), at.to_string());
            let snapshot = Snapshot::builder()
                .with_snapshot_id(head.snapshot_id())
                .with_sequence_number(head.sequence_number())
                .with_timestamp_ms(at)
                .with_manifest_list(head.manifest_list())
                .with_summary(summary)
                .with_schema_id(head.schema_id().unwrap())
                .build();
            let changed = changed(&table, &snapshot, &owner());
            let written = serde_json::to_string(&changed).unwrap();
            assert_eq!(serde_json::from_str::<ProductChanged>(&written).ok(), Some(changed), "{at}: {written}");
            let last = LastAnnounced { id: 7, sequence: 7, since: Some(at) };
            let announced = crate::announce::announced(&table, Some(last));
            let written = serde_json::to_string(&announced).unwrap();
            let read = serde_json::from_str::<mesh_proto::v1::Announced>(&written).ok();
            assert_eq!(read.as_ref(), Some(&announced), "{at}: {written}");
            let since = crate::announce::last_of(&read.unwrap()).unwrap().since;
            assert!(since.is_none_or(|since| since == at), "{at} became {since:?}");
        }
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
