//! What a range of snapshots added: the plain read that quality checks run on.
//!
//! In: a range (from, to]. Out: the rows of the files that its snapshots added, each file once. Compaction rewrites
//! rows but adds none, so its snapshots are passed over. Never: an expired snapshot of the range passed over.

use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, ident};
use datafusion::prelude::SessionContext;
use iceberg::spec::{Operation, SnapshotRef};
use std::sync::Arc;

use super::error::ScanError;
use super::table::MeshTable;
use crate::table::Table;

/// Snapshots (from, to] of one line of descent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRange {
    /// Exclusive; `None` is the table's start.
    pub from: Option<i64>,
    /// Inclusive.
    pub to: i64,
}

/// The snapshots of a range that added rows, oldest first.
pub(super) fn snapshots_of(table: &Table, range: &SnapshotRange) -> Result<Vec<SnapshotRef>, ScanError> {
    let metadata = table.metadata();
    let name = || table.ident().to_string();
    let mut found = Vec::new();
    let mut next = Some(range.to);
    while let Some(id) = next.filter(|id| Some(*id) != range.from) {
        let snapshot = metadata.snapshot_by_id(id).ok_or_else(|| match range.from {
            Some(from) if id != range.to => ScanError::BrokenRange { table: name(), from, to: range.to },
            _ => ScanError::NoSuchSnapshot { table: name(), snapshot_id: id },
        })?;
        next = snapshot.parent_snapshot_id();
        if snapshot.summary().operation != Operation::Replace {
            found.push(snapshot.clone());
        }
    }
    match range.from {
        // The walk came to the table's start without meeting `from`.
        Some(from) if next.is_none() => Err(ScanError::BrokenRange { table: name(), from, to: range.to }),
        _ => {
            found.reverse();
            Ok(found)
        }
    }
}

/// The rows that a range of snapshots added, of these columns (all if empty), where `predicate` is true.
pub async fn read_added(
    table: &Table,
    range: &SnapshotRange,
    columns: &[&str],
    predicate: Option<Expr>,
) -> Result<SendableRecordBatchStream, ScanError> {
    let provider = MeshTable::added(table, range)?;
    if let Some(column) = columns.iter().find(|c| provider.arrow_schema().field_with_name(c).is_err()) {
        return Err(ScanError::NoSuchColumn { table: table.ident().to_string(), column: (*column).to_owned() });
    }
    let engine =
        |source: DataFusionError| ScanError::Engine { table: table.ident().to_string(), source: Box::new(source) };
    let plan = |context: &SessionContext| -> Result<DataFrame, DataFusionError> {
        let mut frame = context.read_table(Arc::new(provider))?;
        if let Some(predicate) = predicate {
            frame = frame.filter(predicate)?;
        }
        if columns.is_empty() { Ok(frame) } else { frame.select(columns.iter().map(|c| ident(*c)).collect::<Vec<_>>()) }
    };
    let frame = plan(&SessionContext::new()).map_err(engine)?;
    frame.execute_stream().await.map_err(engine)
}
