//! One judgement of one table, from the catalog to the incidents: the order of the stages.
//! In: what is kept of the table. Out: the same, further on. Never: a table given up because one check failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use datafusion::logical_expr::Expr;
use datafusion::object_store::ObjectStoreExt as _;
use iceberg::spec::{Operation, Schema, SnapshotRef};
use mesh_lakehouse::scan::{MeshTable, ScanError, SnapshotRange, adapter, check_identity, contract_schema};
use mesh_lakehouse::{Table, summary};
use mesh_proto::v1::{Trigger, Verdict};
use mesh_runtime::{fault, telemetry};
use tracing::{Instrument as _, Span};

use super::checks::{Check, CheckKind, RowRule, Subject};
use super::freshness::LastCommit;
use super::incident::derived_id;
use super::judge::{self, Finding};
use super::measure::{Engine, Uncounted};
use super::memory::LastVerdict;
use super::table::{Stage, TableState, Tally};
use super::totals::{Totals, rows_added_since};
use super::{Parts, condition, emit};
use crate::error::QualityError;

/// Judges what is due, and emits it.
pub(crate) async fn run(parts: &Parts, engine: &Engine, state: &mut TableState) -> Result<(), QualityError> {
    let begun = Instant::now();
    let mut verdicts = impossible(state);
    let looks = match state.stage() {
        Stage::Due => true,
        Stage::Judged => !state.wide_next.is_empty(),
        Stage::Retired | Stage::Closed => false,
    };
    if looks {
        verdicts.extend(look(parts, engine, state).await);
    }
    verdicts.extend(on_the_clock(state, Utc::now()));
    if !verdicts.is_empty() {
        emit::verdicts(parts, &mut state.memory, verdicts).await?;
        parts.metrics.judging.observe(begun.elapsed().as_secs_f64());
    }
    emit::incidents(parts, &mut state.memory, &state.subject.checks).await?;
    state.end_round();
    Ok(())
}

/// Verdicts on checks that no table can satisfy.
fn impossible(state: &TableState) -> Vec<LastVerdict> {
    let verdicts = state.impossible_checks().into_iter().map(|(check, why)| {
        let subject = &state.subject;
        let id = derived_id(&[&check.id, &subject.table.uuid, &subject.revision.to_string(), "impossible", &why]);
        let verdict = with(emit::blank(subject, &check), Finding::error(why), Trigger::Clock);
        LastVerdict { verdict, id, trace: None }
    });
    verdicts.collect()
}

fn with(verdict: Verdict, finding: Finding, trigger: Trigger) -> Verdict {
    Verdict {
        outcome: finding.outcome.into(),
        actual: finding.actual,
        detail: finding.detail,
        trigger: trigger.into(),
        ..verdict
    }
}

/// The verdict on freshness, if the clock or a commit changed it.
fn on_the_clock(state: &TableState, now: DateTime<Utc>) -> Option<LastVerdict> {
    state.freshness(now).map(|(check, finding)| without_snapshot(state, check, finding))
}

/// A verdict that is not about a snapshot. Its id follows from its content and the one before it: the same may come
/// again after something else was.
fn without_snapshot(state: &TableState, check: &Check, finding: Finding) -> LastVerdict {
    let subject = &state.subject;
    let before = state.memory.verdicts.get(&check.id).map_or("", |last| &last.id);
    let revision = subject.revision.to_string();
    let outcome = finding.outcome.as_str_name();
    let id = derived_id(&[&check.id, &subject.table.uuid, &revision, outcome, &finding.detail, before]);
    LastVerdict { verdict: with(emit::blank(subject, check), finding, Trigger::Clock), id, trace: None }
}

/// Loads the table and judges its head.
async fn look(parts: &Parts, engine: &Engine, state: &mut TableState) -> Vec<LastVerdict> {
    let found = parts.catalog.find(&state.subject.ident()).await;
    let now = Instant::now();
    let next = now + parts.judge.interval;
    match found {
        Ok(Some(table)) => match check_identity(&table, &state.subject.table.uuid) {
            Ok(()) => {
                state.loaded(next);
                judge_head(parts, engine, state, &table).await
            }
            Err(other) => missing(state, next, format!("[{}] {other}", other.code())),
        },
        Ok(None) => {
            let why = "the table is not in the catalog: another program dropped it; apply the contract again, which \
                       makes it again";
            missing(state, next, why.to_owned())
        }
        Err(error) => {
            tracing::warn!(code = error.code(), %error, product = state.subject.product, "table not loaded");
            match state.not_loaded(now) {
                true => {
                    let finding = Finding::error(format!("[{}] {error}", error.code()));
                    all_alike(state, state.about_the_table(), &finding)
                }
                false => Vec::new(),
            }
        }
    }
}

/// The verdicts where the contract's table is not there.
fn missing(state: &mut TableState, not_before: Instant, why: String) -> Vec<LastVerdict> {
    state.missing(not_before);
    all_alike(state, state.about_the_table(), &Finding::error(why))
}

/// The same verdict on each of these checks that does not say it already.
fn all_alike<'a>(state: &TableState, checks: impl Iterator<Item = &'a Check>, finding: &Finding) -> Vec<LastVerdict> {
    let news = checks.filter(|check| !state.says(check, finding));
    news.map(|check| without_snapshot(state, check, finding.clone())).collect()
}

async fn judge_head(parts: &Parts, engine: &Engine, state: &mut TableState, table: &Table) -> Vec<LastVerdict> {
    state.last_commit = last_commit(table).await;
    let Some(head) = table.current_snapshot() else {
        state.without_head();
        return all_alike(state, state.looks_at_table(), &Finding::no_data("nothing was committed yet"));
    };
    let snapshot_id = head.snapshot_id();
    let sequence = head.sequence_number();
    state.judged_sequence = Some(sequence);
    let due = due(parts, state, snapshot_id);
    if due.is_empty() {
        return Vec::new();
    }
    let span = span(state, table, head);
    let trace = telemetry::trace_context(&span);
    let findings = findings(parts, engine, state, table, &due).instrument(span).await;
    state.read(!findings.values().any(|finding| finding.again), Instant::now());
    let subject = &state.subject;
    let place = place(table, snapshot_id);
    let verdicts = due.iter().filter_map(|check| {
        let finding = findings.get(&check.id)?.clone();
        if finding.again {
            return (!state.says(check, &finding)).then(|| without_snapshot(state, check, finding));
        }
        let id = derived_id(&[&check.id, &subject.table.uuid, &subject.revision.to_string(), &place]);
        let mut verdict = with(emit::blank(subject, check), finding, Trigger::Snapshot);
        verdict.to_snapshot_id = Some(snapshot_id);
        verdict.to_sequence_number = sequence;
        Some(LastVerdict { verdict, id, trace })
    });
    verdicts.collect()
}

/// The head, and how often it became the head, if more than once: after a rollback its verdicts are emitted again.
fn place(table: &Table, snapshot_id: i64) -> String {
    match table.metadata().history().iter().filter(|moved| moved.snapshot_id == snapshot_id).count() {
        0 | 1 => snapshot_id.to_string(),
        times => format!("{snapshot_id}\n{times}"),
    }
}

/// One span for each judged head, linked to the commit that made it.
fn span(state: &TableState, table: &Table, head: &SnapshotRef) -> Span {
    let span = tracing::info_span!(
        "quality.judge",
        "mesh.product" = state.subject.product,
        "mesh.table" = %table.ident(),
        "mesh.snapshot_id" = head.snapshot_id(),
    );
    let commit = head.summary().additional_properties.get(summary::TRACEPARENT);
    if let Some(commit) = commit.and_then(|text| text.parse().ok()) {
        telemetry::link(&span, &commit);
    }
    span
}

async fn findings(
    parts: &Parts,
    engine: &Engine,
    state: &mut TableState,
    table: &Table,
    due: &[Check],
) -> BTreeMap<String, Finding> {
    fault::point("quality.measure.before");
    let findings = match Round::new(engine, state, table).await {
        Ok(round) => {
            state.totals = Some(round.totals.clone());
            round.findings(parts, state, due).await
        }
        Err(error) => {
            let finding = Finding::unread(format!("[{}] {error}", error.code()));
            due.iter().map(|check| (check.id.clone(), finding.clone())).collect()
        }
    };
    fault::point("quality.measure.after");
    findings
}

/// The checks to judge now: those of the whole table only once their interval is over.
fn due(parts: &Parts, state: &mut TableState, snapshot_id: i64) -> Vec<Check> {
    let now = Instant::now();
    let unjudged = state.unjudged(snapshot_id);
    state.wide_next.retain(|id, next| *next > now || unjudged.iter().any(|check| check.id == *id));
    let mut due = Vec::new();
    for check in unjudged {
        if let CheckKind::Duplicates { interval, .. } = &check.kind {
            let next = state.wide_next.get(&check.id).copied();
            if next.is_some_and(|next| next > now) {
                continue;
            }
            state.wide_next.insert(check.id.clone(), now + interval.unwrap_or(parts.judge.table_wide_interval));
        }
        due.push(check);
    }
    due
}

/// When rows were last committed; compaction commits none. A time in the future is held against the manifest list's.
async fn last_commit(table: &Table) -> Option<LastCommit> {
    let data = table.ancestors().find(|snapshot| snapshot.summary().operation != Operation::Replace)?;
    let commit = LastCommit::noticed(DateTime::from_timestamp_millis(data.timestamp_ms())?, Utc::now());
    if !commit.is_from_the_future() {
        return Some(commit);
    }
    let store = table.store();
    let path = store.object_path(data.manifest_list()).ok()?;
    match store.object_store().head(&path).await {
        Ok(file) => Some(commit.written(file.last_modified)),
        Err(error) => {
            tracing::warn!(%error, table = %table.ident(), "commit time not found");
            Some(commit)
        }
    }
}

/// What one judgement of a head reads.
struct Round<'a> {
    engine: &'a Engine,
    table: &'a Table,
    /// How its columns are read: as the contract names and types them.
    schema: Schema,
    head: MeshTable,
    totals: Totals,
    /// What was added since the last tally, if that can be added to it.
    since: Option<SnapshotRange>,
}

impl<'a> Round<'a> {
    async fn new(engine: &'a Engine, state: &TableState, table: &'a Table) -> Result<Self, ScanError> {
        let subject = &state.subject;
        let head = MeshTable::at_head(table)?;
        let schema = match &subject.columns {
            Some(columns) => contract_schema(table, columns, subject.revision)?,
            None => table.schema().as_ref().clone(),
        };
        let head = head.with_schema(&schema)?;
        let fields = null_fields(subject, &head);
        let totals = Totals::at_head(table, state.totals.as_ref(), &fields).await?;
        let tally = state.tally.as_ref().filter(|tally| tally.revision == subject.revision);
        let since = tally.and_then(|tally| rows_added_since(table, tally.snapshot_id));
        Ok(Self { engine, table, schema, head, totals, since })
    }

    async fn findings(&self, parts: &Parts, state: &mut TableState, due: &[Check]) -> BTreeMap<String, Finding> {
        let mut findings = self.row_checks(parts, state, due).await;
        let mut looked_up: BTreeMap<Vec<String>, Result<u64, Uncounted>> = BTreeMap::new();
        for check in due {
            match &check.kind {
                CheckKind::RowCount { operator } => {
                    findings.insert(check.id.clone(), judge::rows(operator, self.totals.rows));
                }
                CheckKind::Duplicates { columns, operator, unit, .. } => {
                    if !looked_up.contains_key(columns) {
                        let found = self.engine.duplicates(Arc::new(self.head.clone()), columns).await;
                        looked_up.insert(columns.clone(), found);
                    }
                    let finding = match &looked_up[columns] {
                        Ok(found) => judge::part(operator, *unit, *found, self.totals.rows),
                        Err(why) => why.clone().into(),
                    };
                    findings.insert(check.id.clone(), finding);
                }
                CheckKind::Rows { .. } | CheckKind::Latency(_) | CheckKind::Impossible(_) => {}
            }
        }
        findings
    }

    /// Row checks: nulls from manifests where they say, the rest in one pass over what was added.
    async fn row_checks(&self, parts: &Parts, state: &mut TableState, due: &[Check]) -> BTreeMap<String, Finding> {
        let mut counts: BTreeMap<String, Result<u64, Uncounted>> = BTreeMap::new();
        let mut conditions: BTreeMap<String, Expr> = BTreeMap::new();
        for check in due {
            let CheckKind::Rows { rule, .. } = &check.kind else { continue };
            if let Some(nulls) = self.nulls_of_manifests(rule, &check.column) {
                counts.insert(check.id.clone(), Ok(nulls));
                continue;
            }
            let built = condition::of(rule, &check.column, self.head.arrow_schema());
            match built.and_then(|built| self.engine.accepts(self.head.arrow_schema(), &built).map(|()| built)) {
                Ok(built) => drop(conditions.insert(check.id.clone(), built)),
                Err(why) => drop(counts.insert(check.id.clone(), Err(Uncounted::Unfit(why)))),
            }
        }
        match self.count(parts, state, &conditions).await {
            Ok(found) => counts.extend(found.into_iter().map(|(id, count)| (id, Ok(count)))),
            Err(why) => counts.extend(conditions.into_keys().map(|id| (id, Err(why.clone())))),
        }
        let finding = |check: &Check| match (&check.kind, counts.get(&check.id)?) {
            (CheckKind::Rows { operator, unit, .. }, Ok(count)) => {
                Some(judge::part(operator, *unit, *count, self.totals.rows))
            }
            (_, Err(why)) => Some(why.clone().into()),
            _ => None,
        };
        due.iter().filter_map(|check| Some((check.id.clone(), finding(check)?))).collect()
    }

    fn nulls_of_manifests(&self, rule: &RowRule, column: &str) -> Option<u64> {
        let RowRule::Null = rule else { return None };
        let field = self.head.arrow_schema().field_with_name(column).ok()?;
        self.totals.nulls.get(&adapter::field_id(field)?).copied()
    }

    /// Counts up to the head: those of the tally and of what was added since, or of all rows.
    async fn count(
        &self,
        parts: &Parts,
        state: &mut TableState,
        conditions: &BTreeMap<String, Expr>,
    ) -> Result<BTreeMap<String, u64>, Uncounted> {
        // A round of table-wide checks alone leaves the counts of the others as they are.
        if conditions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let unread = |error: ScanError| Uncounted::Unread(format!("[{}] {error}", error.code()));
        let tally = state.tally.take();
        let known = tally.filter(|tally| conditions.keys().all(|id| tally.counts.contains_key(id)));
        let added = self.since.filter(|_| known.is_some());
        let rows = match &added {
            Some(range) => {
                let added = MeshTable::added(self.table, range).map_err(unread)?;
                added.with_schema(&self.schema).map_err(unread)?
            }
            None => self.head.clone(),
        };
        let looked_at = rows.row_count().await.map_err(unread)?;
        let mut counts = self.engine.count(Arc::new(rows), conditions).await?;
        parts.metrics.rows_measured.inc_by(looked_at);
        if let (Some(known), Some(_)) = (known, added) {
            for (id, count) in &mut counts {
                *count += known.counts.get(id).copied().unwrap_or(0);
            }
        }
        let revision = state.subject.revision;
        let snapshot_id = self.totals.snapshot_id;
        state.tally = Some(Tally { revision, snapshot_id, counts: counts.clone() });
        Ok(counts)
    }
}

/// The fields whose nulls some check counts.
fn null_fields(subject: &Subject, head: &MeshTable) -> Vec<i32> {
    let of = |check: &Check| match &check.kind {
        CheckKind::Rows { rule: RowRule::Null, .. } => {
            adapter::field_id(head.arrow_schema().field_with_name(&check.column).ok()?)
        }
        _ => None,
    };
    subject.checks.iter().filter_map(of).collect()
}
