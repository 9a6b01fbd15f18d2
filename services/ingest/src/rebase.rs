//! A new start for a table whose topic was recreated, cut or moved, or began without its first records.
//!
//! In: a product, and where to start. Out: an empty commit that records the new start (`mesh.rebase` in its summary says
//! who, why and from what), fenced on all that was recorded when it was decided; before that a record on `mesh.audit`.
//! The table's task, wherever it runs, loads the table again and reads on from there.
//! Must never happen: a start without the name of a principal; dead letters of before that get lost; records of one log read
//! twice into the table.

use std::collections::BTreeMap;

use mesh_bus::{Bus, Producer};
use mesh_lakehouse::offsets::TopicSource;
use mesh_lakehouse::{Catalog, Change, LakehouseError, OffsetRanges, SourceOffsets, Table, summary};
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, AuditRecord, Decision, Principal};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::IngestError;
use crate::pipeline::dead_letters::PendingDeadLetters;
use crate::pipeline::dead_letters::pending::{Gap, complete};
use crate::pipeline::plan::table_ident;
use crate::pipeline::progress::load;

/// Where to start in partitions that the request does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// At what the log has and the table does not.
    #[default]
    Beginning,
    /// After what the log has now.
    End,
}

/// A request for a new start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebaseRequest {
    /// `domain.name`.
    pub product: String,
    /// The newest active one if there is none.
    pub major: Option<u32>,
    pub from: From,
    /// Offsets by partition.
    pub at: BTreeMap<i32, i64>,
    /// For the record.
    pub reason: String,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A partition's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionStart {
    pub partition: i32,
    /// What the table records of this topic; `None`: nothing.
    pub recorded: Option<i64>,
    /// What the log holds: `[low, high)`.
    pub low: i64,
    pub high: i64,
    /// Where reading goes on.
    pub start: i64,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct Rebased {
    pub product: String,
    pub table: String,
    pub topic: String,
    pub topic_id: String,
    /// False: it is where it should be already, or this was a dry run.
    pub rebased: bool,
    pub snapshot_id: Option<i64>,
    pub audit_id: Option<String>,
    pub partitions: Vec<PartitionStart>,
}

/// What a new start needs.
#[derive(Debug, Clone)]
pub struct Rebaser {
    pub bus: Bus,
    pub catalog: Catalog,
    pub producer: Producer,
}

/// A table and its topic as they are now.
struct RebaseContext {
    table: Table,
    dead_letters: Table,
    topic: String,
    source: TopicSource,
    /// What the table records; `None`: its offsets are lost.
    seen: Option<SourceOffsets>,
    /// The pending dead letters that were settled, as the table's summary holds them.
    settled: Option<String>,
    /// The dead-letter table lacks some: the new start accepts that.
    lost: bool,
    partitions: Vec<PartitionStart>,
}

impl Rebaser {
    /// Gives a contract's table a new start, in the name of `principal`.
    pub async fn rebase(
        &self,
        active: &ActiveContract,
        request: &RebaseRequest,
        principal: &Principal,
    ) -> Result<Rebased, IngestError> {
        let context = self.context(active, request).await?;
        let mut offsets = SourceOffsets::default();
        context.partitions.iter().for_each(|p| offsets.set(&context.source, p.partition, p.start));
        let mut done = context.describe(active);
        if request.dry_run || (context.seen.as_ref() == Some(&offsets) && !context.lost) {
            return Ok(done);
        }
        let statement = statement(active, request, &context, &offsets);
        let id = self.audit(&active.product, principal, &statement, Ok(())).await?;
        self.lower_dead_letters(&context, &offsets).await?;
        let why = serde_json::json!({
            "principal": principal.name, "reason": request.reason, "audit": id, "from": context.seen, "to": offsets,
        });
        let append = Change::append(&context.table, Vec::new()).with(summary::REBASE, why.to_string());
        let ranges = OffsetRanges::rebase(context.seen, offsets).with_settled(context.settled);
        let append = append.with_offsets(if context.lost { ranges.forgetting_dead_letters() } else { ranges });
        let committed = self.catalog.apply(&context.table, &append).await.into_result()?;
        tracing::info!(table = done.table, principal = principal.name, statement, "table rebased");
        (done.rebased, done.snapshot_id, done.audit_id) = (true, committed.snapshot_id, Some(id));
        Ok(done)
    }

    /// Records who requested a new start, and whether they may.
    pub async fn audit(
        &self,
        product: &str,
        principal: &Principal,
        statement: &str,
        verdict: Result<(), &'static str>,
    ) -> Result<String, IngestError> {
        let id = Uuid::now_v7().to_string();
        let decision = if verdict.is_ok() { Decision::Allowed } else { Decision::Denied };
        let record = AuditRecord {
            query_id: id.clone(),
            principal: principal.name.clone(),
            roles: principal.roles.clone(),
            statement: statement.to_owned(),
            decision: decision.into(),
            reason: verdict.err().unwrap_or_default().to_owned(),
            at: Some(mesh_proto::timestamp(chrono::Utc::now())),
            ..AuditRecord::default()
        };
        let event = Event::new(types::AUDIT, &self.bus.source("ingest"), &id, chrono::Utc::now(), &record)?;
        self.producer.publish(topics::AUDIT, &event.keyed(product)).await?;
        Ok(id)
    }

    async fn context(&self, active: &ActiveContract, request: &RebaseRequest) -> Result<RebaseContext, IngestError> {
        let mut table = load(&self.catalog, active).await?;
        let mut dead_letters = self.catalog.load(&table_ident(active.dead_letters.as_ref())).await?;
        let name = active.topic.as_ref().map_or("", |topic| topic.name.as_str());
        let topic = self.bus.describe_topic(name).await?;
        let source = TopicSource { cluster: self.bus.cluster_id().to_owned(), topic: topic.id.to_string() };
        let recorded = match table.recorded().await {
            Ok(recorded) => Some(recorded),
            Err(LakehouseError::OffsetsLost { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        // The new start says nothing of the dead letters of before: they come first.
        if let (false, Some(recorded)) = (request.dry_run, &recorded)
            && let Some(pending) = PendingDeadLetters::of(&table, &recorded.summary)?
        {
            dead_letters = pending.settle(&self.catalog, &dead_letters, Gap::Accept).await?;
            table = self.catalog.load(table.ident()).await?;
        }
        let lost = match (&recorded, dead_letters.recorded().await) {
            (Some(recorded), Ok(of)) => complete(&dead_letters, &of.offsets, &recorded.summary).is_err(),
            _ => false,
        };
        let settled =
            recorded.as_ref().and_then(|recorded| recorded.summary.get(summary::DEAD_LETTERS_PENDING).cloned());
        let seen = recorded.map(|recorded| recorded.offsets);
        let mut partitions = Vec::new();
        for partition in 0..topic.partitions {
            let (low, high) = self.bus.watermarks(&topic.name, partition).await?;
            let recorded = seen.as_ref().and_then(|seen| seen.get(&source, partition));
            partitions.push(PartitionStart { partition, recorded, low, high, start: low });
        }
        let topic = topic.name;
        let mut context = RebaseContext { table, dead_letters, topic, source, seen, settled, lost, partitions };
        context.decide(request)?;
        Ok(context)
    }

    /// A dead-letter table that is ahead of the new start would take the next dead letters for ones that it has.
    async fn lower_dead_letters(&self, context: &RebaseContext, offsets: &SourceOffsets) -> Result<(), IngestError> {
        let seen = context.dead_letters.recorded().await?.offsets;
        let mut lowered = seen.clone();
        let mut ahead = false;
        for (source, partition, start) in offsets.iter() {
            if seen.get(&source, partition).is_some_and(|at| at > start) {
                lowered.set(&source, partition, start);
                ahead = true;
            }
        }
        if ahead {
            let append = Change::append(&context.dead_letters, Vec::new())
                .with_offsets(OffsetRanges::rebase(Some(seen), lowered));
            self.catalog.apply(&context.dead_letters, &append).await.into_result()?;
        }
        Ok(())
    }
}

impl RebaseContext {
    /// Where each partition starts.
    fn decide(&mut self, request: &RebaseRequest) -> Result<(), IngestError> {
        let refused = |why| IngestError::Start { table: self.table.ident().to_string(), why };
        let count = self.partitions.len();
        if let Some(none) =
            request.at.keys().find(|partition| !self.partitions.iter().any(|p| p.partition == **partition))
        {
            return Err(refused(format!("`{}` has {count} partitions and no partition {none}", self.topic)));
        }
        for partition in &mut self.partitions {
            let named = request.at.get(&partition.partition).copied();
            let lost = self.seen.is_none() && request.from == From::Beginning;
            partition.start = partition
                .start(named, request.from, lost)
                .map_err(|why| IngestError::Start { table: self.table.ident().to_string(), why })?;
        }
        Ok(())
    }

    fn describe(&self, active: &ActiveContract) -> Rebased {
        Rebased {
            product: active.product.clone(),
            table: self.table.ident().to_string(),
            topic: self.topic.clone(),
            topic_id: self.source.topic.clone(),
            rebased: false,
            snapshot_id: None,
            audit_id: None,
            partitions: self.partitions.clone(),
        }
    }
}

impl PartitionStart {
    /// The offset to start at, or why it cannot be that.
    fn start(&self, named: Option<i64>, from: From, lost: bool) -> Result<i64, String> {
        let Self { partition, recorded, low, high, .. } = *self;
        match (named, from) {
            (Some(at), _) if at < low || at > high => {
                Err(format!("partition {partition} holds [{low}, {high}), and {at} is not within; name one that is"))
            }
            // Beyond the log's end the table holds records that the log lost: what comes there now are others.
            (Some(at), _) => match recorded {
                Some(has) if at < has && has <= high => Err(format!(
                    "the table has partition {partition} up to {has} already, so rows would be in it twice; start there or later"
                )),
                _ => Ok(at),
            },
            (None, From::End) => Ok(high),
            (None, From::Beginning) if lost => Err(format!(
                "what it holds of partition {partition} is not known; name where to start with `--at {partition}=OFFSET` (the highest offset among its rows and dead letters, plus one), or take `--from end`"
            )),
            (None, From::Beginning) => Ok(recorded.map_or(low, |has| has.clamp(low, high))),
        }
    }
}

/// What is done, for the audit.
fn statement(active: &ActiveContract, request: &RebaseRequest, context: &RebaseContext, to: &SourceOffsets) -> String {
    let from = context.seen.as_ref().map_or_else(|| "offsets that are lost".to_owned(), SourceOffsets::encode);
    let reason = if request.reason.is_empty() { String::new() } else { format!(" ({})", request.reason) };
    format!("ingest rebase {} v{}: {from} -> {}{reason}", active.product, active.major, to.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recorded: Option<i64>, named: Option<i64>, from: From, expected: Option<i64>) {
        let partition = PartitionStart { partition: 0, recorded, low: 10, high: 20, start: 0 };
        assert_eq!(partition.start(named, from, false).ok(), expected, "{recorded:?} {named:?} {from:?}");
    }

    #[test]
    fn a_start_is_what_the_log_has_and_the_table_does_not() {
        check(None, None, From::Beginning, Some(10));
        check(Some(3), None, From::Beginning, Some(10));
        check(Some(15), None, From::Beginning, Some(15));
        check(Some(25), None, From::Beginning, Some(20));
        check(Some(15), None, From::End, Some(20));
        check(None, None, From::End, Some(20));
    }

    #[test]
    fn a_named_start_is_in_the_log_and_reads_nothing_twice() {
        check(None, Some(9), From::Beginning, None);
        check(None, Some(21), From::Beginning, None);
        check(None, Some(12), From::End, Some(12));
        check(Some(15), Some(12), From::Beginning, None);
        check(Some(15), Some(17), From::Beginning, Some(17));
        // The log was cut: offsets below are of other records now.
        check(Some(25), Some(12), From::Beginning, Some(12));
    }

    #[test]
    fn lost_offsets_are_not_guessed() {
        let partition = PartitionStart { partition: 0, recorded: None, low: 10, high: 20, start: 0 };
        assert!(partition.start(None, From::Beginning, true).is_err());
        assert_eq!(partition.start(Some(12), From::Beginning, true), Ok(12));
        assert_eq!(partition.start(None, From::End, false), Ok(20));
    }
}
