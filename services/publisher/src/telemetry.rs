//! What the publisher counts.

use mesh_proto::v1::ContractState;
use mesh_runtime::Metrics;
use mesh_runtime::metrics::{Counter, Family, Gauge, LabelSet};

#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, LabelSet)]
struct Kind {
    event: &'static str,
}

/// The publisher's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct PublisherMetrics {
    judged: Family<State, Counter>,
    announced: Family<Kind, Counter>,
    tables: Gauge,
    unreadable: Gauge,
}

impl PublisherMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            judged: metrics.counters("publisher_verdicts", "Verdicts given, by state"),
            announced: metrics.counters("publisher_announced", "Events about tables (ANNOUNCED), by type"),
            tables: metrics.gauge("publisher_tables", "Tables whose changes are announced"),
            unreadable: metrics
                .gauge("publisher_unreadable_tables", "Of these, tables that cannot be read (ANNOUNCED)"),
        }
    }

    pub(crate) fn judged(&self, state: ContractState) {
        let state = state.as_str_name().trim_start_matches("CONTRACT_STATE_").to_ascii_lowercase();
        self.judged.get_or_create(&State { state }).inc();
    }

    pub(crate) fn announced(&self, event: &'static str) {
        self.announced.get_or_create(&Kind { event }).inc();
    }

    pub(crate) fn tables(&self, count: usize, unreadable: usize) {
        self.tables.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.unreadable.set(i64::try_from(unreadable).unwrap_or(i64::MAX));
    }
}
