//! In: a plan. Out: its rows, the first batch already there, each within the deadline. Never: a row before the audit
//! record is on the bus (the stage before), work that goes on after the reader went away (the stream is dropped).

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::coalesce::LimitedBatchCoalescer;
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::plan::{Planned, failed};
use super::{Asked, Pipeline};
use crate::error::QueryError;

/// Rows of a batch that leaves: where batches end must not tell how many rows were filtered away.
const BATCH_ROWS: usize = 8192;

/// The rows of a running query.
pub struct Rows {
    stream: SendableRecordBatchStream,
    whole: LimitedBatchCoalescer,
    ended: bool,
    deadline: Instant,
    allowed: Duration,
    megabytes: usize,
    first: Option<RecordBatch>,
    /// The query's place among those that run.
    _permit: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

/// Starts a query and waits for its first batch, so that what fails at once is answered with its status.
pub async fn start(
    pipeline: &Pipeline,
    asked: &Asked,
    planned: Planned,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Rows, QueryError> {
    let allowed = pipeline.limits.deadline;
    let megabytes = pipeline.limits.memory_bytes >> 20;
    let deadline = Instant::from_std(asked.started) + allowed;
    let run = async {
        let frame = planned.session.execute_logical_plan(planned.plan).await?;
        frame.execute_stream().await
    };
    let stream = match tokio::time::timeout_at(deadline, run).await {
        Err(_) => return Err(QueryError::Deadline { after: allowed }),
        Ok(stream) => stream.map_err(|error| with_limit(failed(&error), megabytes))?,
    };
    let whole = LimitedBatchCoalescer::new(stream.schema(), BATCH_ROWS, None);
    let mut rows = Rows { stream, whole, ended: false, deadline, allowed, megabytes, first: None, _permit: permit };
    rows.first = rows.read().await?;
    mesh_runtime::fault::point("query.execute.after_first_batch");
    Ok(rows)
}

impl Rows {
    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    /// The next batch.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        loop {
            if let Some(batch) = self.whole.next_completed_batch() {
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            let next = tokio::time::timeout_at(self.deadline, self.stream.next()).await;
            let fill = match next.map_err(|_| QueryError::Deadline { after: self.allowed })? {
                Some(Ok(batch)) => self.whole.push_batch(batch).map(|_| ()),
                Some(Err(error)) => Err(error),
                None => {
                    self.ended = true;
                    self.whole.finish()
                }
            };
            fill.map_err(|error| with_limit(failed(&error), self.megabytes))?;
        }
    }
}

fn with_limit(error: QueryError, megabytes: usize) -> QueryError {
    match error {
        QueryError::Memory { .. } => QueryError::Memory { megabytes },
        other => other,
    }
}
