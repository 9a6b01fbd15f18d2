//! In: `mesh.submissions`. Out: submissions in the order of their offsets, from the first without a verdict.
//! Never: a submission passed over. Where to begin follows from our own verdicts, nothing else is kept.

use mesh_bus::{Message, Partitions, ReadOptions, Start, TopicPartition};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::Submission;

use super::{AdmissionPipeline, Submitted, read};
use crate::error::{PublisherError, bus};
use crate::finding::{self, of_error};
use crate::log::READER;
use crate::memory::Memory;

/// Verdicts are kept for 90 days: of a submission older than that, a missing verdict says nothing.
const VERDICTS_KEPT: chrono::Duration = chrono::Duration::days(90);

/// The submissions that are still to be judged.
#[derive(Debug)]
pub struct Submissions {
    reader: Partitions,
    /// Verdicts were there and are expired, all of them.
    verdicts_expired: bool,
}

/// Begins with the newest submission that has a verdict: it may have documents without one.
pub async fn open(pipeline: &AdmissionPipeline) -> Result<Submissions, PublisherError> {
    let failed = bus("read mesh.submissions");
    let source = pipeline.log.bus();
    let (low, high) = source.watermarks(topics::SUBMISSIONS, 0).await.map_err(&failed)?;
    let (_, verdicts) = source.watermarks(topics::CONTRACT_EVENTS, 0).await.map_err(&failed)?;
    let last = pipeline.memory.verdicts(|verdicts| verdicts.last());
    let verdicts_expired = last.is_none() && verdicts > 0;
    let first = match last {
        Some(last) => last,
        None if verdicts_expired => newest_active(&pipeline.memory) + 1,
        None => 0,
    };
    let reader = source.partitions(READER, ReadOptions::default()).map_err(&failed)?;
    let start = first.clamp(low, high);
    reader.add(&[(TopicPartition::new(topics::SUBMISSIONS, 0), Start::At(start))]).map_err(&failed)?;
    tracing::info!(from = start, end = high, "submissions opened");
    Ok(Submissions { reader, verdicts_expired })
}

/// The highest revision that anything active has.
fn newest_active(memory: &Memory) -> i64 {
    let active_state = memory.active_state();
    let contracts = active_state.contracts.values().map(|contract| contract.revision);
    let policies = active_state.policies.values().map(|policy| policy.revision);
    let principals = active_state.principals.values().map(|principal| principal.revision);
    contracts.chain(policies).chain(principals).max().unwrap_or(-1)
}

impl Submissions {
    /// Waits for the next ones. Cancellation safe.
    pub async fn next(&self) -> Result<Vec<Submitted>, PublisherError> {
        let batch = self.reader.next(16).await.map_err(bus("read mesh.submissions"))?;
        let read = || batch.iter().map(submitted).filter(|submitted| !self.is_expired(submitted)).collect();
        Ok(tokio::task::block_in_place(read))
    }

    /// Its verdict was given, and is expired with all others.
    fn is_expired(&self, submitted: &Submitted) -> bool {
        let is_expired = self.verdicts_expired
            && submitted
                .submission
                .submitted_at
                .as_ref()
                .is_some_and(|at| at.seconds < (chrono::Utc::now() - VERDICTS_KEPT).timestamp());
        if is_expired {
            tracing::warn!(revision = submitted.revision, "submission skipped: older than the verdicts that are kept");
        }
        is_expired
    }
}

/// What is no submission gets its verdict as well: refused, for those who watch the verdicts.
fn submitted(message: &Message<'_>) -> Submitted {
    let revision = message.offset();
    match message.event().and_then(|event| event.decode_as::<Submission>(types::SUBMITTED)) {
        Ok(submission) => Submitted { revision, parts: read::read(&submission), submission },
        Err(source) => {
            let error = PublisherError::Foreign { topic: topics::SUBMISSIONS, offset: revision, source };
            let found = finding::error(error.code(), of_error(&error), finding::page(error.code()));
            Submitted { revision, parts: vec![read::unreadable(vec![found])], submission: Submission::default() }
        }
    }
}
