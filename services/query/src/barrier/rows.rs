//! What comes out of the barrier: rows in the barrier's own schema, errors without their words.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use uuid::Uuid;

/// What a reader is told of a failure within the barrier. The log has the cause, under the same id.
#[derive(Debug, thiserror::Error)]
#[error("a protected table could not be read; give its owner the error id {id}")]
pub struct Sealed {
    /// Under which the log has what happened.
    pub id: Uuid,
}

impl Sealed {
    /// The code of every sealed error: which one it was would say something about hidden rows.
    pub const CODE: &'static str = "MESH-QUERY-0030";

    /// Logs the cause and hides it.
    pub fn seal(table: &str, cause: &DataFusionError) -> DataFusionError {
        let id = Uuid::now_v7();
        tracing::error!(%id, table, error = %mesh_runtime::report::chain(cause), "a protected table could not be read");
        DataFusionError::External(Box::new(Self { id }))
    }
}

/// Rows of the plan within, under the barrier's schema.
pub(super) struct Rows {
    pub(super) table: Arc<str>,
    pub(super) schema: SchemaRef,
    pub(super) within: SendableRecordBatchStream,
}

impl Rows {
    fn outside(&self, batch: Result<RecordBatch>) -> Result<RecordBatch> {
        let rebuilt = batch.and_then(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            // The plan within has one column more when none is asked for.
            let columns = batch.columns().iter().take(self.schema.fields().len()).cloned().collect();
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
        });
        rebuilt.map_err(|cause| Sealed::seal(&self.table, &cause))
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.within.poll_next_unpin(context).map(|next| next.map(|batch| self.outside(batch)))
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
