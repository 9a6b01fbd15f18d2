//! In: a statement and what its reader may see. Out: a logical plan over tables at pinned snapshots, each behind its
//! barrier if the reading is restricted, and the plan's lineage. Never: a table that was not authorised, a filter or
//! mask that cannot be applied and is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use iceberg::{NamespaceIdent, TableIdent};
use mesh_lakehouse::scan::{MeshTable, ScanError, check_identity, contract_schema, with_foreign_columns};
use mesh_lakehouse::{Catalog, Table, summary};
use mesh_proto::record::cut_at_chars;
use mesh_proto::trace::TraceContext;

use listed::Listed;

use super::QueryPipeline;
use super::authorise::{Authorisation, Authorised, CATALOG};
use super::execute::with_limit;
use super::parse::Statement;
use crate::barrier::{GovernedTable, MaskKeys, Restriction, Sealed, observed};
use crate::catalog_view::{ReadTable, TableKind};
use crate::error::QueryError;
use crate::functions::{self, Constants, UnnestInPieces};
use crate::lineage::{self, Lineage};

mod listed;
mod names;

/// Commits of one table that a query's span links to.
const LINKED_COMMITS: usize = 32;

/// Of an error's words.
const MESSAGE_CHARS: usize = 1000;

/// A query that may run.
pub struct Planned {
    pub session: SessionContext,
    pub plan: LogicalPlan,
    pub lineage: Lineage,
    /// The tables that the statement names (not those that only the catalog tells of).
    pub tables: Vec<ReadTable>,
    pub policy_revision: i64,
    /// Its constants' place in memory.
    _constants: Arc<Constants>,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planned").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Planned {
    /// The columns that are read of a table.
    pub fn columns_of(&self, table: &ReadTable) -> BTreeSet<String> {
        let values = self.lineage.columns.iter().flat_map(|column| column.sources.iter());
        let all = values.chain(self.lineage.rows.iter());
        all.filter(|(source, _)| source.table == table.named).map(|(source, _)| source.column.clone()).collect()
    }
}

/// Plans a statement.
pub async fn plan(
    pipeline: &QueryPipeline,
    statement: Statement,
    authorised: Authorisation,
) -> Result<Planned, QueryError> {
    let state = session(pipeline).map_err(|error| failed(&error))?;
    let catalog = MemoryCatalogProvider::new();
    let mut schemas: BTreeMap<String, Arc<MemorySchemaProvider>> = BTreeMap::new();
    let keys = MaskKeys::new(Arc::clone(&pipeline.key), rand::random());
    let named: BTreeSet<String> = statement.tables.iter().map(ToString::to_string).collect();
    let mut heads = Heads::new(pipeline);
    let mut tables = Vec::new();
    for table in &authorised.tables {
        let schema = schemas.entry(table.schema.clone()).or_default();
        let known = schema.table_exist(&table.name);
        let provider: Arc<dyn TableProvider> = match named.contains(&table.reference) {
            true => {
                let (provider, read) = open(&mut heads, &state, table, &keys).await?;
                tables.push(read);
                provider
            }
            false => Arc::new(Listed::new(table)),
        };
        // What is named comes before what is listed.
        if !known {
            schema.register_table(table.name.clone(), provider).map_err(|error| failed(&error))?;
        }
    }
    for (name, schema) in schemas {
        catalog.register_schema(&name, schema).map_err(|error| failed(&error))?;
    }
    let session = SessionContext::new_with_state(state);
    session.register_catalog(CATALOG, Arc::new(catalog));
    let plan = session.state().statement_to_plan(statement.statement).await.map_err(|error| failed(&error))?;
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads.verify_plan(&plan).map_err(|error| QueryError::Refused { what: error.strip_backtrace() })?;
    let plan = names::distinct(plan).map_err(|error| failed(&error))?;
    let session = match authorised.tables.iter().any(|table| table.reading.is_restricted()) {
        true => observed(&session, &plan),
        false => session,
    };
    let lineage = lineage::of_plan(&plan).map_err(|error| failed(&error))?;
    tables.sort_by(|a, b| a.named.cmp(&b.named));
    tables.dedup_by(|a, b| a.named == b.named);
    let (plan, constants) = functions::guard(plan, &session.runtime_env().memory_pool)
        .map_err(|error| with_limit(failed(&error), pipeline.limits.memory_bytes >> 20))?;
    Ok(Planned { session, plan, lineage, tables, policy_revision: authorised.policy_revision, _constants: constants })
}

/// A session of one query: its own memory and room on disk, the shared footers.
fn session(pipeline: &QueryPipeline) -> Result<SessionState, DataFusionError> {
    let config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, "public");
    let pool = Arc::new(FairSpillPool::new(pipeline.limits.memory_bytes));
    let disk = DiskManagerBuilder::default().with_max_temp_directory_size(pipeline.limits.spill_bytes);
    let runtime =
        RuntimeEnv { memory_pool: pool, disk_manager: Arc::new(disk.build()?), ..pipeline.runtime.as_ref().clone() };
    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(Arc::new(runtime));
    let builder = builder.with_default_features().with_physical_optimizer_rule(Arc::new(UnnestInPieces));
    let mut state = builder.build();
    functions::restrict(&mut state)?;
    Ok(state)
}

/// The heads of tables, each looked up once: a table has two names, and one snapshot in one query.
struct Heads<'a> {
    catalog: &'a Catalog,
    known: HashMap<String, Table>,
}

impl<'a> Heads<'a> {
    fn new(pipeline: &'a QueryPipeline) -> Self {
        Self { catalog: &pipeline.catalog_view.catalog, known: HashMap::new() }
    }

    async fn of(&mut self, ident: &TableIdent) -> Result<Table, mesh_lakehouse::LakehouseError> {
        let name = ident.to_string();
        if let Some(table) = self.known.get(&name) {
            return Ok(table.clone());
        }
        let table = self.catalog.load(ident).await?;
        self.known.insert(name, table.clone());
        Ok(table)
    }
}

async fn open(
    heads: &mut Heads<'_>,
    state: &SessionState,
    table: &Authorised,
    keys: &MaskKeys,
) -> Result<(Arc<dyn TableProvider>, ReadTable), QueryError> {
    let physical = match (table.kind, &table.entry.dead_letters) {
        (TableKind::DeadLetters, Some(name)) => name,
        _ => &table.entry.table,
    };
    let full = format!("{}.{physical}", table.entry.domain);
    let unreadable =
        |source: Box<dyn std::error::Error + Send + Sync>| QueryError::Table { table: full.clone(), source };
    let ident = TableIdent::new(NamespaceIdent::new(table.entry.domain.clone()), physical.clone());
    let loaded = heads.of(&ident).await.map_err(|error| unreadable(Box::new(error)))?;
    let rows = rows(&loaded, table)?;
    let trace = |text: &String| text.parse::<TraceContext>().ok();
    let commits = loaded.ancestors().take(LINKED_COMMITS).filter_map(|snapshot| {
        let commit = snapshot.summary().additional_properties.get(summary::TRACEPARENT).and_then(trace)?;
        Some((snapshot.snapshot_id(), commit))
    });
    let read = ReadTable {
        product: table.entry.product.clone(),
        major: table.entry.major,
        table: full.clone(),
        named: table.reference.clone(),
        snapshot_id: rows.snapshot().map(|snapshot| snapshot.snapshot_id()),
        masked: table.reading.column_masks.keys().cloned().collect(),
        row_filtered: !table.reading.row_filters.is_empty(),
        commits: commits.collect(),
    };
    if !table.reading.is_restricted() {
        return Ok((Arc::new(rows), read));
    }
    let bound = Restriction::bind(
        state,
        &full,
        rows.arrow_schema(),
        &table.reading.row_filters,
        &table.reading.column_masks,
        keys,
    );
    let restriction = bound.map_err(|source| {
        tracing::error!(table = full, error = %mesh_runtime::report::chain(&source), "policy not applied");
        QueryError::Restriction { product: table.entry.product.clone(), source: Box::new(source) }
    })?;
    let count = rows.row_count().await.map_err(|error| unreadable(Box::new(error)))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let can_fail = rows.can_fail_on_values();
    let governed = GovernedTable::new(&table.reference, Arc::new(rows), restriction, count);
    Ok((Arc::new(governed.failing_on_values(can_fail)), read))
}

/// The table's rows, once it is sure that it is the contract's table and which of its fields are the contract's columns.
/// Columns that other engines added are shown to readers without restrictions only: no policy knows of them.
fn rows(loaded: &Table, table: &Authorised) -> Result<MeshTable, QueryError> {
    let entry = &table.entry;
    let differs = |source: ScanError| QueryError::Differs { source: Box::new(source) };
    let uuid = match table.kind {
        TableKind::Rows => &entry.uuid,
        TableKind::DeadLetters => &entry.dead_letters_uuid,
    };
    check_identity(loaded, uuid).map_err(differs)?;
    let head = MeshTable::at_head(loaded).map_err(differs)?;
    let Some(columns) = entry.contract_columns.as_ref().filter(|_| table.kind == TableKind::Rows) else {
        return Ok(head);
    };
    let schema = contract_schema(loaded, columns, entry.revision).map_err(differs)?;
    let shown = match table.reading.is_restricted() {
        true => schema,
        false => with_foreign_columns(loaded, &schema).map_err(differs)?,
    };
    head.with_schema(&shown).map_err(differs)
}

/// What DataFusion says of a statement or of rows, in the mesh's words.
pub(super) fn failed(error: &DataFusionError) -> QueryError {
    let root = error.find_root();
    if let DataFusionError::External(external) = root {
        if let Some(sealed) = external.downcast_ref::<Sealed>() {
            return QueryError::Sealed { id: sealed.id };
        }
        return QueryError::Execution { message: short(external.to_string()) };
    }
    match root {
        // Who holds how much memory depends on rows that the reader may not see.
        DataFusionError::ResourcesExhausted(_) => QueryError::Memory { megabytes: 0 },
        DataFusionError::Plan(_) | DataFusionError::SchemaError(_, _) | DataFusionError::NotImplemented(_) => {
            QueryError::Plan { message: short(root.strip_backtrace()) }
        }
        _ => QueryError::Execution { message: short(root.strip_backtrace()) },
    }
}

/// Values in an error may be as long as rows are.
fn short(message: String) -> String {
    cut_at_chars(&message, MESSAGE_CHARS)
}
