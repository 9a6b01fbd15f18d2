//! Names and shapes of the control topics: the one list that provisioning, AsyncAPI and ACLs are made from.

/// How long a control topic keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest record of each key.
    Compacted,
    /// Everything.
    Forever,
    /// Records younger than this many days.
    Days(u32),
}

/// One control topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTopic {
    pub name: &'static str,
    pub partitions: i32,
    pub keep: Keep,
    /// What the record key is.
    pub key: &'static str,
    /// Whose records these are.
    pub writer: &'static str,
    pub what: &'static str,
}

pub const SUBMISSIONS: &str = "mesh.submissions";
pub const CONTRACTS: &str = "mesh.contracts";
pub const POLICIES: &str = "mesh.policies";
pub const PRINCIPALS: &str = "mesh.principals";
pub const SCHEMAS: &str = "mesh.schemas";
pub const CONTRACT_EVENTS: &str = "mesh.contract-events";
pub const PRODUCT_CHANGES: &str = "mesh.product-changes";
pub const PLATFORM_CHANGES: &str = "mesh.platform-changes";
pub const ANNOUNCED: &str = "mesh.announced";
pub const INGEST_SHARDS: &str = "mesh.ingest-shards";
pub const QUALITY: &str = "mesh.quality";
pub const INCIDENTS: &str = "mesh.incidents";
pub const AUDIT: &str = "mesh.audit";
pub const LINEAGE: &str = "mesh.lineage";
pub const USAGE: &str = "mesh.usage";
pub const SPANS: &str = "mesh.spans";

/// Partitions of `mesh.ingest-shards`: how finely the work of ingest can be shared out.
pub const SHARDS: i32 = 256;

/// Every control topic. Changes keep their order per key, so partition counts are part of the contract.
pub const CONTROL_TOPICS: &[ControlTopic] = &[
    topic(SUBMISSIONS, 1, Keep::Forever, "product", "publisher", "documents to admit; revision = offset"),
    topic(CONTRACTS, 1, Keep::Compacted, "contract id + major", "publisher", "the active contracts"),
    topic(POLICIES, 1, Keep::Compacted, "policy id", "publisher", "Rego modules"),
    topic(PRINCIPALS, 1, Keep::Compacted, "name", "publisher", "who exists, with roles and key hashes"),
    topic(SCHEMAS, 1, Keep::Forever, "subject + fingerprint", "publisher", "registry schemas; id = offset + 1"),
    topic(CONTRACT_EVENTS, 1, Keep::Days(90), "contract id", "publisher", "verdicts on submissions"),
    topic(PRODUCT_CHANGES, 4, Keep::Days(90), "table uuid", "publisher", "one event per snapshot"),
    topic(PLATFORM_CHANGES, 1, Keep::Days(7), "table uuid", "publisher", "snapshots of platform tables"),
    topic(ANNOUNCED, 1, Keep::Compacted, "table uuid", "publisher", "last announced snapshot"),
    topic(INGEST_SHARDS, SHARDS, Keep::Days(1), "–", "–", "empty: its consumer group hands out ingest's work"),
    topic(QUALITY, 4, Keep::Days(90), "product", "quality", "verdicts"),
    topic(INCIDENTS, 4, Keep::Days(365), "product", "quality", "incidents and what became of them"),
    topic(AUDIT, 4, Keep::Days(365), "product", "query, ingest", "who read what; who gave a table a new start"),
    topic(LINEAGE, 4, Keep::Days(90), "product", "query", "OpenLineage run events"),
    topic(USAGE, 4, Keep::Days(90), "product", "query", "what queries cost"),
    topic(SPANS, 4, Keep::Days(7), "trace id", "all", "spans, from which lineage is drawn"),
];

const fn topic(
    name: &'static str,
    partitions: i32,
    keep: Keep,
    key: &'static str,
    writer: &'static str,
    what: &'static str,
) -> ControlTopic {
    ControlTopic { name, partitions, keep, key, writer, what }
}

impl ControlTopic {
    /// The topic's Kafka configuration.
    pub fn config(&self) -> Vec<(&'static str, String)> {
        match self.keep {
            Keep::Compacted => vec![("cleanup.policy", "compact".to_owned())],
            Keep::Forever => vec![("retention.ms", "-1".to_owned()), ("retention.bytes", "-1".to_owned())],
            Keep::Days(days) => vec![("retention.ms", (u64::from(days) * 86_400_000).to_string())],
        }
    }
}

/// Key of `mesh.contracts`.
pub fn contract_key(contract_id: &str, major: u32) -> String {
    format!("{contract_id}@{major}")
}
