//! The way of a submission, stage by stage: admit → read → decide → provision → publish → verdict.
//!
//! In: `mesh.submissions`, in order, one at a time. Out: topics, tables, `mesh.contracts`, `mesh.policies`,
//! `mesh.principals`, and one verdict per document on `mesh.contract-events`.
//! Never: two verdicts on one document; a verdict that the dry run (`preview`) would not give.
//!
//! A crash anywhere: the submissions after the last one with a verdict are taken again, and every stage finds its own
//! work done. What was decided is remembered as the `proposed` event, so a document is never judged against its own
//! outcome; the verdict's id comes from the submission's offset, so it is one however often it is written. Two publishers
//! at once are the same: the second finds the proposal or the verdict.

pub mod admit;
pub mod decide;
pub mod existing;
pub mod fit;
pub mod preview;
pub mod provision;
pub mod publish;
pub mod read;
pub mod verdict;

use std::time::Duration;

use mesh_proto::topics;
use mesh_proto::v1::{ContractState, Submission};
use mesh_runtime::{Shutdown, fault};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::active_state::ActiveState;
use crate::error::{PublisherError, bus};
use crate::finding::{self, of_error};
use crate::log::Log;
use crate::memory::{Memory, proposal_id, verdict_id};
use crate::progress::Progress;
use crate::telemetry::PublisherMetrics;
use decide::{Admission, Case, Decision, ProvisionPlan};
use existing::Existing;
use provision::{Provisioned, Provisioner};
use read::Part;

/// How long to wait after a failure.
const BACKOFF: Duration = Duration::from_millis(500);

/// Everything the pipeline works with; cheap to clone.
#[derive(Debug, Clone)]
pub struct AdmissionPipeline {
    pub log: Log,
    pub memory: Memory,
    pub provisioner: Provisioner,
    /// How long a document may take to be provisioned.
    pub patience: Duration,
    pub progress: Progress,
    pub telemetry: PublisherMetrics,
}

/// A submission at its place.
#[derive(Debug, Clone)]
pub struct Submitted {
    pub revision: i64,
    pub submission: Submission,
    /// Its documents; never none.
    pub parts: Vec<Part>,
}

impl AdmissionPipeline {
    /// Takes submissions until the shutdown.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), PublisherError> {
        let submissions = admit::open(&self).await?;
        loop {
            publish::heal(&self).await?;
            let submitted = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = overwritten(&self.memory) => continue,
                submitted = submissions.next() => submitted?,
            };
            for submitted in submitted {
                if shutdown.is_requested() {
                    // The rest is taken at the next start.
                    return Ok(());
                }
                self.progress.begins(submitted.revision);
                self.take(&submitted).await.inspect_err(|error| self.progress.fails(&of_error(error)))?;
                self.progress.ends();
            }
        }
    }

    async fn take(&self, submitted: &Submitted) -> Result<(), PublisherError> {
        fault::point("publisher.admit.received");
        let span = tracing::info_span!(
            "publisher.submission",
            mesh.revision = submitted.revision,
            mesh.principal = submitted.submission.principal,
            mesh.file = submitted.submission.file_name
        );
        async {
            for (at, part) in submitted.parts.iter().enumerate() {
                self.judge(submitted, at, part).await?;
            }
            Ok(())
        }
        .instrument(span)
        .await
    }

    /// One document, from the decision to its verdict.
    async fn judge(&self, submitted: &Submitted, at: usize, part: &Part) -> Result<(), PublisherError> {
        let revision = submitted.revision;
        // In this order: if another publisher's outcome is in this state, then its proposal is known as well.
        let active_state = self.memory.active_state();
        self.catch_up().await?;
        if self.memory.verdicts(|verdicts| verdicts.get(&verdict_id(revision, at)).is_some()) {
            return Ok(());
        }
        // One document does not hold up those behind it for ever.
        let until = Instant::now() + self.patience;
        let event = match self.decide(submitted, at, part, &active_state, until).await? {
            Decision::Refused(findings) => verdict::refused(submitted, part, findings),
            Decision::Unchanged(warnings) => verdict::unchanged(submitted, part, warnings),
            Decision::Admitted(admission) => self.carry_out(submitted, part, &admission, until).await?,
        };
        let delivered = verdict::publish(&self.log, &verdict_id(revision, at), &event).await?;
        fault::point("publisher.verdict.published");
        self.telemetry.judged(event.state());
        log_verdict(&event, revision);
        self.memory.has_read(topics::CONTRACT_EVENTS, delivered.offset).await;
        Ok(())
    }

    /// What was proposed before, or else the decision on what is active and there now.
    async fn decide(
        &self,
        submitted: &Submitted,
        at: usize,
        part: &Part,
        active_state: &ActiveState,
        until: Instant,
    ) -> Result<Decision, PublisherError> {
        let (revision, submission) = (submitted.revision, &submitted.submission);
        let proposed =
            self.memory.verdicts(|verdicts| verdicts.proposed(revision, at).map(|event| event.changes.clone()));
        let existing = match &proposed {
            Some(_) => Ok(Existing::default()),
            None => self.existing(part, revision, until).await,
        };
        let existing = match existing {
            Ok(existing) => existing,
            Err(failure) => return Ok(Decision::Refused(vec![gave_up(&failure)])),
        };
        let case = Case {
            active_state,
            principal: &submission.principal,
            file: &submission.file_name,
            existing: &existing,
            revision,
        };
        if let Some(changes) = proposed {
            return Ok(decide::resume(part, changes, &case));
        }
        // A long document takes a while, and other tasks need the thread.
        let decision = tokio::task::block_in_place(|| decide::decide(part, &case));
        if let Decision::Admitted(admission) = &decision {
            let event = verdict::proposed(submitted, part, admission);
            verdict::publish(&self.log, &proposal_id(revision, at), &event).await?;
            fault::point("publisher.judge.proposed");
        }
        Ok(decision)
    }

    /// What is there of a document's product; an error is why that cannot be learned in time.
    async fn existing(&self, part: &Part, revision: i64, until: Instant) -> Result<Existing, String> {
        let Some(contract) = part.contract() else { return Ok(Existing::default()) };
        self.retrying(revision, until, || self.provisioner.existing(&contract)).await
    }

    /// Waits until every verdict that is written is known, another publisher's too.
    async fn catch_up(&self) -> Result<(), PublisherError> {
        let topic = topics::CONTRACT_EVENTS;
        let (low, end) = self.log.bus().watermarks(topic, 0).await.map_err(bus("read the verdicts"))?;
        if low < end {
            self.memory.has_read(topic, end - 1).await;
        }
        Ok(())
    }

    /// What was admitted becomes so: provisioned first, active after.
    async fn carry_out(
        &self,
        submitted: &Submitted,
        part: &Part,
        admission: &Admission,
        until: Instant,
    ) -> Result<mesh_proto::v1::ContractEvent, PublisherError> {
        let revision = submitted.revision;
        let refused = |found| verdict::refused(submitted, part, [vec![found], admission.warnings.clone()].concat());
        match self.provision(&admission.plan, revision, until).await {
            Provisioned::Impossible(finding) => Ok(refused(*finding)),
            Provisioned::Superseded { by } => {
                tracing::warn!(revision, by, "submission superseded by a later publisher");
                Ok(verdict::admitted(submitted, part, admission))
            }
            provisioned => match publish::publish(self, submitted, &admission.plan, provisioned).await {
                Ok(()) => Ok(verdict::admitted(submitted, part, admission)),
                // Kafka refuses every try in the same way.
                Err(error) if error.is_too_large() => {
                    Ok(refused(finding::error(error.code(), of_error(&error), finding::page(error.code()))))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Tries until it is made or the time is over. What was made by then is found when the document is submitted again.
    async fn provision(&self, plan: &ProvisionPlan, revision: i64, until: Instant) -> Provisioned {
        let made = self.retrying(revision, until, || async {
            match plan {
                ProvisionPlan::Activate(contract, _) => self.provisioner.provision(contract, revision).await,
                ProvisionPlan::Retire(contract) => self.provisioner.retire(contract, revision).await,
                ProvisionPlan::Note | ProvisionPlan::Policy(_) | ProvisionPlan::Principals(_) => {
                    Ok(Provisioned::Nothing)
                }
            }
        });
        made.await.unwrap_or_else(|failure| Provisioned::Impossible(Box::new(gave_up(&failure))))
    }

    /// Tries until it succeeds or the time is over; then the error is the last failure.
    async fn retrying<T, F>(&self, revision: i64, until: Instant, mut attempt: impl FnMut() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, PublisherError>>,
    {
        let mut failure = "it takes too long".to_owned();
        let tries = async {
            loop {
                match attempt().await {
                    Ok(done) => return done,
                    Err(error) => failure = of_error(&error),
                }
                tracing::warn!(revision, error = failure, "provisioning failed");
                self.progress.fails(&failure);
                tokio::time::sleep(BACKOFF).await;
            }
        };
        tokio::time::timeout_at(until, tries).await.map_err(|_| failure)
    }
}

/// The refusal of a document whose product could not be looked at, or made, in time.
pub(crate) fn gave_up(failure: &str) -> mesh_proto::v1::Finding {
    let message = format!("topic, table or schema could not be made in time, so nothing is active: {failure}");
    finding::error(finding::GAVE_UP, message, "bring back what the message names, then submit it again")
}

/// Resolves when a record of ours was overwritten by a sleeper's.
async fn overwritten(memory: &Memory) {
    let mut changes = memory.changes();
    while !memory.has_overwritten() {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn log_verdict(event: &mesh_proto::v1::ContractEvent, revision: i64) {
    let (state, subject) = (event.state().as_str_name(), event.subject.as_str());
    match event.state() {
        ContractState::Refused => {
            let code = event.findings.first().map_or("", |finding| finding.code.as_str());
            tracing::info!(revision, subject, state, code, findings = event.findings.len(), "submission refused");
        }
        _ => tracing::info!(revision, subject, state, "submission judged"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use mesh_bus::{Bus, BusConfig};
    use mesh_lakehouse::{Catalog, CatalogConfig};
    use mesh_localbus::{LocalBus, LocalBusConfig};
    use mesh_runtime::Metrics;

    use super::*;
    use crate::log;

    /// Another publisher has given its verdict, and this one, which has not read it yet, would give another.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_verdict_that_is_written_but_not_read_yet_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let kafka = LocalBus::start(LocalBusConfig::new("127.0.0.1:0".parse().unwrap(), folder.path().join("bus")))
            .await
            .unwrap();
        let bus = Bus::connect(BusConfig::new(kafka.bootstrap())).await.unwrap();
        bus.ensure_control_topics().await.unwrap();
        let (log, memory) = (Log::new(&bus).unwrap(), Memory::default());
        let catalog = Catalog::open(CatalogConfig::in_folder(folder.path())).await.unwrap();
        let provisioner = Provisioner { log: log.clone(), memory: memory.clone(), catalog, partitions: 1 };
        let pipeline = AdmissionPipeline {
            log: log.clone(),
            memory: memory.clone(),
            provisioner,
            patience: Duration::from_secs(10),
            progress: Progress::default(),
            telemetry: PublisherMetrics::new(&Metrics::new()),
        };
        let submission = Submission { principal: "nobody".into(), document: "kind: [".into(), ..Submission::default() };
        let submitted = Submitted { revision: 0, parts: read::read(&submission), submission };
        let given = verdict::unchanged(&submitted, &submitted.parts[0], Vec::new());
        verdict::publish(&log, &verdict_id(0, 0), &given).await.unwrap();

        let taking = tokio::spawn(async move { pipeline.take(&submitted).await });
        let (reader, _) = log::open(&bus).await.unwrap();
        let stop = Shutdown::new(Duration::from_secs(10));
        let (followed, until) = (memory.clone(), stop.clone());
        let following = tokio::spawn(async move { log::follow(&reader, &followed, &until).await });
        taking.await.unwrap().unwrap();
        assert_eq!(bus.watermarks(topics::CONTRACT_EVENTS, 0).await.unwrap(), (0, 1), "two verdicts");
        stop.request();
        following.await.unwrap().unwrap();
        kafka.shutdown().await;
    }
}
