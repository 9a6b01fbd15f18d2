//! What ingest counts, by product.

use mesh_runtime::Metrics;
use mesh_runtime::metrics::{Counter, Family, Gauge, LabelSet};

/// The product that a count belongs to.
#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]
pub struct Of {
    /// `domain.name`.
    pub product: String,
}

/// The table that a state belongs to: a product has one for each major version.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, LabelSet)]
pub struct OfTable {
    /// `domain.name`.
    pub product: String,
    /// `namespace.name`.
    pub table: String,
}

/// A dead letter's product and reason.
#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]
pub struct Refused {
    /// `domain.name`.
    pub product: String,
    /// The reason code.
    pub reason: &'static str,
}

/// Handles on the metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    /// Rows committed.
    pub rows: Family<Of, Counter>,
    /// Dead letters committed.
    pub dead_letters: Family<Of, Counter>,
    /// Records refused, by reason; those of commits that were given up count too.
    pub refused: Family<Refused, Counter>,
    /// Commits made.
    pub commits: Family<Of, Counter>,
    /// Commits given up to another writer.
    pub fenced: Family<Of, Counter>,
    /// Fields that writers have and contracts lack, once per schema.
    pub unknown_fields: Family<Of, Counter>,
    /// Records between the last commit and the log's end.
    pub lag: Family<OfTable, Gauge>,
    /// 1 while a table is stopped by an error.
    pub stopped: Family<OfTable, Gauge>,
    /// Snapshots that upkeep expired.
    pub expired_snapshots: Family<OfTable, Counter>,
    /// Files that upkeep deleted.
    pub deleted_files: Family<OfTable, Counter>,
    /// 1 while a table's upkeep fails.
    pub upkeep_failed: Family<OfTable, Gauge>,
}

impl IngestMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            rows: metrics.counters("ingest_rows", "Rows committed"),
            dead_letters: metrics.counters("ingest_dead_letters", "Dead letters committed"),
            refused: metrics.counters("ingest_refused", "Records refused, by reason"),
            commits: metrics.counters("ingest_commits", "Commits made"),
            fenced: metrics.counters("ingest_fenced", "Commits given up because another writer moved the table"),
            unknown_fields: metrics.counters("ingest_unknown_fields", "Fields of writers' schemas that contracts lack"),
            lag: metrics.gauges("ingest_lag_records", "Records not committed yet"),
            stopped: metrics.gauges("ingest_stopped", "1 while the table is stopped by an error"),
            expired_snapshots: metrics.counters("ingest_expired_snapshots", "Snapshots expired by upkeep"),
            deleted_files: metrics.counters("ingest_deleted_files", "Metadata files deleted by upkeep"),
            upkeep_failed: metrics.gauges("ingest_upkeep_failed", "1 while the table's upkeep fails"),
        }
    }
}
