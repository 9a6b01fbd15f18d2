//! What quality counts.

use mesh_runtime::Metrics;
use mesh_runtime::metrics::{Counter, Family, Gauge, Histogram, LabelSet};

/// The outcome of a verdict as a label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) outcome: String,
}

/// The service's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct QualityMetrics {
    pub(crate) verdicts: Family<OutcomeLabel, Counter>,
    pub(crate) open_incidents: Gauge,
    pub(crate) tables: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) unreadable_contracts: Counter,
    pub(crate) rows_measured: Counter,
    pub(crate) judging: Histogram,
}

impl QualityMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            verdicts: metrics.counters("quality_verdicts", "Verdicts emitted, by outcome"),
            open_incidents: metrics.gauge("quality_open_incidents", "Checks that have an open incident"),
            tables: metrics.gauge("quality_tables", "Tables of active contracts"),
            waiting: metrics.gauge("quality_waiting_tables", "Tables that moved and are not judged yet"),
            unreadable_contracts: metrics
                .counter("quality_unreadable_contracts", "Active contracts that could not be read"),
            rows_measured: metrics.counter("quality_rows_measured", "Rows that row checks have looked at"),
            judging: metrics.seconds("quality_judging_seconds", "Time from taking up a table to its verdicts"),
        }
    }

    /// Counts an emitted verdict.
    pub(crate) fn verdict(&self, outcome: &str) {
        self.verdicts.get_or_create(&OutcomeLabel { outcome: outcome.to_owned() }).inc();
    }
}
