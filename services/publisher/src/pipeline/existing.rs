//! What is there of a product at one moment: its tables and its topic. Pure; the provisioner fills it in.
//!
//! In: loaded tables, or what a table is going to be made by. Out: the facts that a decision rests on.
//! Never: a table known by its name alone. Its uuid says whether it is the one that the mesh made.

use std::sync::Arc;

use iceberg::spec::{SchemaRef, Transform};
use mesh_lakehouse::{RecordedColumns, Table, TableSpec, summary};
use mesh_proto::v1::TableRef;

/// The parts of a product that a decision looks at.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    pub table: Option<TableFacts>,
    pub dead_letters: Option<TableFacts>,
    pub has_topic: bool,
    /// The revision that the next submission gets: no table of this mesh has it or a higher one.
    pub next_revision: i64,
}

/// A table, as far as decisions look at it.
#[derive(Debug, Clone)]
pub struct TableFacts {
    pub reference: TableRef,
    /// `domain.name` of the product that the table says it belongs to.
    pub product: Option<String>,
    /// The contract revision that it was last changed by; an error is the text that is no number.
    pub revision: Option<Result<i64, String>>,
    pub schema: SchemaRef,
    pub last_column_id: i32,
    /// Source field and transform of each partition field.
    pub partition: Vec<(i32, Transform)>,
    /// The contract's columns by field id; none where no revision recorded them, an error is why they cannot be read.
    pub columns: Result<Option<RecordedColumns>, String>,
}

impl TableFacts {
    /// Of a table that is there.
    pub fn of(table: &Table) -> Self {
        let ident = table.ident();
        let spec = table.metadata().default_partition_spec();
        let revision = table.property(summary::CONTRACT_REVISION);
        Self {
            reference: TableRef {
                namespace: ident.namespace().join("."),
                name: ident.name().to_owned(),
                uuid: table.uuid().to_string(),
            },
            product: table.property(summary::PRODUCT).map(str::to_owned),
            revision: revision.map(|text| text.parse().map_err(|_| text.to_owned())),
            schema: table.schema().clone(),
            last_column_id: table.metadata().last_column_id(),
            partition: spec.fields().iter().map(|field| (field.source_id, field.transform)).collect(),
            columns: RecordedColumns::read(table).map_err(|problem| mesh_runtime::report::chain(&problem)),
        }
    }

    /// Of a table that is going to be made: it has no uuid yet.
    pub fn planned(spec: &TableSpec) -> Self {
        let ident = &spec.ident;
        let partition = spec.partition_spec.iter().flat_map(|spec| spec.fields());
        let revision = spec.properties.get(summary::CONTRACT_REVISION);
        Self {
            reference: TableRef {
                namespace: ident.namespace().join("."),
                name: ident.name().to_owned(),
                uuid: String::new(),
            },
            product: spec.properties.get(summary::PRODUCT).cloned(),
            revision: revision.map(|text| text.parse().map_err(|_| text.clone())),
            last_column_id: spec.schema.highest_field_id(),
            partition: partition.map(|field| (field.source_id, field.transform)).collect(),
            schema: Arc::new(spec.schema.clone()),
            columns: RecordedColumns::parse(spec.properties.get(summary::CONTRACT_COLUMNS).map(String::as_str))
                .map_err(|problem| problem.to_string()),
        }
    }

    /// `namespace.name`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.reference.namespace, self.reference.name)
    }
}
