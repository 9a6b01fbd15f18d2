//! In: a plan. Out: its rows, the first batch already there, all within the deadline. Never: a row before the audit
//! record is on the bus (the stage before), work that goes on after the reader went away or the deadline passed.

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow_schema::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::QueryPipeline;
use super::plan::{Planned, failed};
use crate::engine::Limit;
use crate::error::QueryError;

/// Rows of a batch that leaves: where batches end must not tell how many rows were filtered away.
const BATCH_ROWS: usize = 8192;
/// Batches that wait for the reader.
const WAITING: usize = 2;

/// The rows of a running query. Dropped, the query stops.
#[derive(Debug)]
pub struct QueryRows {
    schema: SchemaRef,
    first: Option<RecordBatch>,
    batches: mpsc::Receiver<RowsMessage>,
    limit: Limit,
    ended: bool,
    _task: SpawnedTask<()>,
}

/// What a running query sends to its reader.
#[derive(Debug)]
enum RowsMessage {
    Starts(SchemaRef),
    Batch(RecordBatch),
    Ends,
    Fails(QueryError),
}

/// Starts a query and waits for its first batch, so that what fails at once is answered with its status.
pub async fn start(
    pipeline: &QueryPipeline,
    planned: Planned,
    limit: Limit,
    permit: OwnedSemaphorePermit,
) -> Result<QueryRows, QueryError> {
    let megabytes = pipeline.limits.memory_bytes >> 20;
    let (to_reader, mut batches) = mpsc::channel(WAITING);
    let task = pipeline.engine.spawn(async move {
        // Also while the reader does not read: its place is for others.
        let ended = tokio::time::timeout_at(limit.at, run(planned, &to_reader, megabytes)).await;
        drop(permit);
        let last = match ended {
            Err(_) => RowsMessage::Fails(limit.passed()),
            Ok(Err(error)) => RowsMessage::Fails(error),
            Ok(Ok(())) => RowsMessage::Ends,
        };
        // A reader that went away needs no last word.
        let _ = to_reader.send(last).await;
    });
    let schema = match next(&mut batches, limit).await? {
        RowsMessage::Starts(schema) => schema,
        RowsMessage::Fails(error) => return Err(error),
        RowsMessage::Batch(_) | RowsMessage::Ends => return Err(QueryError::Crashed),
    };
    let mut rows = QueryRows { schema, first: None, batches, limit, ended: false, _task: task };
    rows.first = rows.read().await?;
    mesh_runtime::fault::point("query.execute.after_first_batch");
    Ok(rows)
}

/// Runs a plan to its end, no faster than its reader reads.
async fn run(planned: Planned, to_reader: &mpsc::Sender<RowsMessage>, megabytes: usize) -> Result<(), QueryError> {
    let fails = |error| with_limit(failed(&error), megabytes);
    let frame = planned.session.execute_logical_plan(planned.plan).await.map_err(fails)?;
    let mut stream = frame.execute_stream().await.map_err(fails)?;
    let mut even = BatchCoalescer::new(stream.schema(), BATCH_ROWS);
    let mut reader_left = to_reader.send(RowsMessage::Starts(stream.schema())).await.is_err();
    while !reader_left {
        let next = stream.next().await;
        let ended = next.is_none();
        match next {
            Some(batch) => batch.and_then(|batch| Ok(even.push_batch(batch)?)),
            None => even.finish_buffered_batch().map_err(Into::into),
        }
        .map_err(fails)?;
        while let Some(batch) = even.next_completed_batch() {
            reader_left |= to_reader.send(RowsMessage::Batch(batch)).await.is_err();
        }
        if ended {
            break;
        }
    }
    Ok(())
}

async fn next(batches: &mut mpsc::Receiver<RowsMessage>, limit: Limit) -> Result<RowsMessage, QueryError> {
    match tokio::time::timeout_at(limit.at, batches.recv()).await {
        Err(_) => Err(limit.passed()),
        // It ended without a last word.
        Ok(None) => Err(QueryError::Crashed),
        Ok(Some(message)) => Ok(message),
    }
}

impl QueryRows {
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The next batch; `None` only after the last one.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if self.ended {
            return Ok(None);
        }
        match next(&mut self.batches, self.limit).await? {
            RowsMessage::Batch(batch) => Ok(Some(batch)),
            RowsMessage::Ends => {
                self.ended = true;
                Ok(None)
            }
            RowsMessage::Fails(error) => Err(error),
            RowsMessage::Starts(_) => Err(QueryError::Crashed),
        }
    }
}

/// A lack of memory with the amount there was.
pub(super) fn with_limit(error: QueryError, megabytes: usize) -> QueryError {
    match error {
        QueryError::Memory { .. } => QueryError::Memory { megabytes },
        other => other,
    }
}
