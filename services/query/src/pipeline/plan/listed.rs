//! Tables that a statement does not name, for `information_schema`: what their contracts say of them, without a look
//! at the catalog or at files. So a listing costs nothing, and one broken table does not spoil it.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use mesh_lakehouse::schema::dead_letter_schema;

use crate::barrier::shown_schema;
use crate::catalog_view::TableKind;
use crate::pipeline::authorise::Authorised;

/// A table that can be listed, and not read.
#[derive(Debug)]
pub(super) struct Listed {
    schema: SchemaRef,
}

impl Listed {
    /// The table as its reader would see it.
    pub(super) fn new(table: &Authorised) -> Self {
        let all = match table.kind {
            TableKind::Rows => Arc::clone(&table.entry.columns),
            TableKind::DeadLetters => dead_letters(),
        };
        let reading = &table.reading;
        let schema = match reading.is_restricted() {
            true => shown_schema(&all, |column| reading.column_masks.contains_key(column)),
            false => all,
        };
        Self { schema }
    }
}

fn dead_letters() -> SchemaRef {
    let schema = dead_letter_schema().ok().and_then(|schema| iceberg::arrow::schema_to_arrow_schema(&schema).ok());
    Arc::new(schema.unwrap_or_else(Schema::empty))
}

#[async_trait]
impl TableProvider for Listed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("a table was read that its statement does not name")
    }
}
