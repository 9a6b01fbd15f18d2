//! What comes out of the barrier: rows in the barrier's own schema, errors without their words.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::{Array, ArrayRef, MutableArrayData, make_array};
use arrow::compute::BatchCoalescer;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use uuid::Uuid;

/// What a reader gets of a failure within the barrier. The log has the cause, under the same id.
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
        tracing::error!(%id, table, error = %mesh_runtime::report::chain(cause), "protected table not read");
        DataFusionError::External(Box::new(Self { id }))
    }
}

/// Rows of the plan within, under the barrier's schema and in batches of a fixed size (DataFusion's own coalescer lets
/// large batches pass as they are): where batches end within tells how many rows lay between.
pub(super) struct Rows {
    table: Arc<str>,
    schema: SchemaRef,
    within: SendableRecordBatchStream,
    even: BatchCoalescer,
    ended: bool,
}

impl Rows {
    pub(super) fn new(
        table: Arc<str>,
        schema: SchemaRef,
        within: SendableRecordBatchStream,
        batch_rows: usize,
    ) -> Self {
        let even = BatchCoalescer::new(Arc::clone(&schema), batch_rows);
        Self { table, schema, within, even, ended: false }
    }

    fn outside(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        // The plan within has one column more when the query reads none.
        let columns = batch.columns().iter().take(self.schema.fields().len()).cloned().collect();
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// Takes in what the plan within gave; its end is the end of the last batch.
    fn fill(&mut self, next: Option<Result<RecordBatch>>) -> Result<()> {
        match next {
            Some(batch) => {
                let batch = self.outside(&batch?)?;
                Ok(self.even.push_batch(batch)?)
            }
            None => {
                self.ended = true;
                Ok(self.even.finish_buffered_batch()?)
            }
        }
    }
}

/// The same rows in buffers of their own. What comes from within may be a slice of larger ones, and how large they are
/// tells how rows lay between hidden ones: the reader's own operators count the bytes that they hold.
fn exact(batch: &RecordBatch) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().iter().map(copied).collect();
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn copied(array: &ArrayRef) -> ArrayRef {
    let data = array.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.extend(0, 0, data.len());
    make_array(copy.freeze())
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(batch) = self.even.next_completed_batch() {
                return Poll::Ready(Some(exact(&batch)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let next = ready!(self.within.poll_next_unpin(context));
            if let Err(cause) = self.fill(next) {
                self.ended = true;
                return Poll::Ready(Some(Err(Sealed::seal(&self.table, &cause))));
            }
        }
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
