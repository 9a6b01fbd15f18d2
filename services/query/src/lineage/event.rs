//! OpenLineage run events of a query: START, COMPLETE, FAIL, with the answer's column lineage and trace ids both ways:
//! the run carries the query's traceparent and those of the commits that it read; the spans carry the run's id.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{SecondsFormat, Utc};
use mesh_runtime::telemetry::current;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::columns::Lineage;
use super::dependency::Dependencies;
use crate::catalog_view::ReadTable;
use crate::pipeline::QueryRequest;
use crate::pipeline::plan::Planned;

const PRODUCER: &str = concat!("https://meshwork.org/query/", env!("CARGO_PKG_VERSION"));
const RUN_EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const COLUMN_LINEAGE: &str =
    "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet";
const SQL_JOB: &str = "https://openlineage.io/spec/facets/1-1-0/SQLJobFacet.json#/$defs/SQLJobFacet";
const ERROR_MESSAGE: &str =
    "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet";
const DATASET_VERSION: &str =
    "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet";
const SCHEMA: &str = "https://openlineage.io/spec/facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet";
/// Our own facets have no published schema; the standard asks for a URL all the same.
const OWN: &str = "https://meshwork.org/facets/1-0-0/TraceFacet.json";

/// One query as an OpenLineage run.
#[derive(Debug, Clone)]
pub struct Run {
    id: Uuid,
    namespace: String,
    statement: String,
    traceparent: Option<String>,
    tables: Vec<ReadTable>,
    lineage: Lineage,
    types: Vec<(String, String)>,
}

impl Run {
    pub fn new(namespace: String, request: &QueryRequest, planned: &Planned) -> Self {
        let fields = planned.plan.schema().fields().iter();
        Self {
            id: request.id,
            namespace,
            statement: request.sql.clone(),
            traceparent: current().map(|trace| trace.to_string()),
            tables: planned.tables.clone(),
            lineage: planned.lineage.clone(),
            types: fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
        }
    }

    pub fn start(&self) -> Value {
        self.event("START", None)
    }

    pub fn complete(&self) -> Value {
        self.event("COMPLETE", None)
    }

    pub fn fail(&self, code: &str, message: &str) -> Value {
        let facet = json!({
            "_producer": PRODUCER, "_schemaURL": ERROR_MESSAGE,
            "message": format!("[{code}] {message}"), "programmingLanguage": "SQL",
        });
        self.event("FAIL", Some(facet))
    }

    fn event(&self, event_type: &str, error: Option<Value>) -> Value {
        let mut run_facets = Map::new();
        if let Some(traceparent) = &self.traceparent {
            let facet = json!({"_producer": PRODUCER, "_schemaURL": OWN, "traceparent": traceparent});
            run_facets.insert("meshwork_trace".to_owned(), facet);
        }
        if let Some(error) = error {
            run_facets.insert("errorMessage".to_owned(), error);
        }
        json!({
            "eventType": event_type,
            "eventTime": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            "producer": PRODUCER,
            "schemaURL": RUN_EVENT,
            "run": {"runId": self.id.to_string(), "facets": run_facets},
            "job": {
                "namespace": self.namespace, "name": "query",
                "facets": {"sql": {"_producer": PRODUCER, "_schemaURL": SQL_JOB, "query": self.statement, "dialect": "datafusion"}},
            },
            "inputs": self.tables.iter().map(|table| self.input(table)).collect::<Vec<_>>(),
            "outputs": [self.output()],
        })
    }

    fn input(&self, table: &ReadTable) -> Value {
        let commits: Vec<Value> = table
            .commits
            .iter()
            .map(|(snapshot, trace)| json!({"snapshotId": snapshot.to_string(), "traceparent": trace.to_string()}))
            .collect();
        let mut facets = Map::new();
        if let Some(snapshot) = table.snapshot_id {
            let version =
                json!({"_producer": PRODUCER, "_schemaURL": DATASET_VERSION, "datasetVersion": snapshot.to_string()});
            facets.insert("version".to_owned(), version);
        }
        let product = json!({
            "_producer": PRODUCER, "_schemaURL": OWN, "product": table.product, "major": table.major, "commits": commits,
        });
        facets.insert("meshwork_product".to_owned(), product);
        json!({"namespace": self.namespace, "name": table.table, "facets": facets})
    }

    fn output(&self) -> Value {
        let types = self.types.iter().map(|(name, of)| json!({"name": name, "type": of}));
        let mut fields: BTreeMap<&str, Value> = BTreeMap::new();
        for column in &self.lineage.columns {
            fields.insert(&column.name, json!({"inputFields": self.sources(&column.sources)}));
        }
        json!({
            "namespace": self.namespace,
            "name": format!("answers/{}", self.id),
            "facets": {
                "schema": {"_producer": PRODUCER, "_schemaURL": SCHEMA, "fields": types.collect::<Vec<_>>()},
                "columnLineage": {
                    "_producer": PRODUCER, "_schemaURL": COLUMN_LINEAGE,
                    "fields": fields, "dataset": self.sources(&self.lineage.rows),
                },
            },
        })
    }

    fn sources(&self, of: &Dependencies) -> Vec<Value> {
        let one = |(source, kinds): (&super::ColumnSource, &BTreeSet<super::DependencyKind>)| {
            let table = self.tables.iter().find(|table| table.named == source.table);
            let masked = table.is_some_and(|table| table.masked.contains(&source.column));
            let kind = |kind: &super::DependencyKind| {
                let direct = if kind.is_direct() { "DIRECT" } else { "INDIRECT" };
                json!({"type": direct, "subtype": kind.subtype(), "description": "", "masking": masked})
            };
            json!({
                "namespace": self.namespace,
                "name": table.map_or(&source.table, |table| &table.table),
                "field": source.column,
                "transformations": kinds.iter().map(kind).collect::<Vec<_>>(),
            })
        };
        of.iter().map(one).collect()
    }
}
