//! `unnest` gives all rows of a batch's lists at once. Here it is given few rows at a time, and what it gives is cut
//! into batches of the usual size, so that no later operator makes a value for more rows than a batch has.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

/// Rows whose lists are opened at a time.
const OPENED: usize = 64;

/// Puts each `unnest` of a plan between pieces.
#[derive(Debug)]
pub struct UnnestInPieces;

impl PhysicalOptimizerRule for UnnestInPieces {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = config.execution.batch_size;
        plan.transform_up(|plan| {
            if plan.downcast_ref::<UnnestExec>().is_none() {
                return Ok(Transformed::no(plan));
            }
            let inputs = plan.children().into_iter().map(|input| PiecesExec::of(Arc::clone(input), OPENED)).collect();
            Ok(Transformed::yes(PiecesExec::of(plan.with_new_children(inputs)?, rows)))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "unnest_in_pieces"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The same rows in batches of at most so many.
#[derive(Debug)]
struct PiecesExec {
    input: Arc<dyn ExecutionPlan>,
    rows: usize,
}

impl PiecesExec {
    fn of(input: Arc<dyn ExecutionPlan>, rows: usize) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, rows })
    }
}

impl DisplayAs for PiecesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PiecesExec: rows={}", self.rows)
    }
}

impl ExecutionPlan for PiecesExec {
    fn name(&self) -> &'static str {
        "PiecesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Self::of(Arc::clone(input), self.rows)),
            _ => internal_err!("pieces are of one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        // One batch of the input may be millions here: tasks that wait must get their turn in between.
        Ok(make_cooperative(Box::pin(Pieces { input, rows: self.rows.max(1), rest: None })))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }
}

struct Pieces {
    input: SendableRecordBatchStream,
    rows: usize,
    rest: Option<RecordBatch>,
}

impl Stream for Pieces {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match ready!(self.input.poll_next_unpin(context)) {
                Some(Ok(batch)) => batch,
                other => return Poll::Ready(other),
            },
        };
        let piece = batch.slice(0, self.rows.min(batch.num_rows()));
        if batch.num_rows() > piece.num_rows() {
            self.rest = Some(batch.slice(piece.num_rows(), batch.num_rows() - piece.num_rows()));
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

impl RecordBatchStream for Pieces {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn lists_are_opened_few_rows_at_a_time() {
        let builder = SessionStateBuilder::new().with_default_features();
        let state = builder.with_physical_optimizer_rule(Arc::new(UnnestInPieces)).build();
        let context = SessionContext::new_with_state(state);
        let ones = vec!["1"; 300].join(", ");
        let values: String = (0..200).map(|i| format!("({i})")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT n, unnest([{ones}]) AS one FROM (VALUES {values}) AS t(n)");
        let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
        let sizes: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 60_000);
        assert!(sizes.iter().all(|rows| *rows <= 8192), "{sizes:?}");
        let counted = format!("SELECT count(*), sum(n) FROM (SELECT n, unnest([{ones}]) FROM ({sql}))");
        let batches = context.sql(&counted).await.unwrap().collect().await.unwrap();
        let value = |i| arrow::util::display::array_value_to_string(batches[0].column(i), 0).unwrap();
        assert_eq!((value(0), value(1)), ("18000000".to_owned(), (300 * 300 * 19_900).to_string()));
    }
}
