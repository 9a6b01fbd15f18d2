//! `[bus]`: where Kafka is and how to talk to it.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::{Deserialize, Serialize};

/// Properties that the mesh's guarantees rest on; a configuration that sets one is refused.
const OURS: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "enable.auto.commit",
    "auto.offset.reset",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "partitioner",
    "transactional.id",
    "allow.auto.create.topics",
];

/// How to reach Kafka.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// `host:port`, several with commas.
    pub bootstrap: String,
    /// Further librdkafka properties, such as `security.protocol`: every client of the process takes them, over what the
    /// mesh prefers. Those that its guarantees rest on are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

impl BusConfig {
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into(), properties: BTreeMap::new() }
    }

    /// Adds a librdkafka property.
    #[must_use]
    pub fn with(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(property.into(), value.into());
        self
    }

    /// The first property that is not the configuration's to set.
    pub(crate) fn refused_property(&self) -> Option<&str> {
        self.properties.keys().map(String::as_str).find(|key| OURS.contains(key))
    }

    /// What every client starts from; the configured properties are laid over each client's own at its creation.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", "meshwork")
            // A broker that restarts is found again at once, not after librdkafka's default of up to 10 s.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Nagle's delay would be most of a small request's latency.
            .set("socket.nagle.disable", "true")
            .set_log_level(RDKafkaLogLevel::Warning);
        client
    }
}

/// Names only: among the values are passwords.
impl std::fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("BusConfig").field("bootstrap", &self.bootstrap).field("properties", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_in_what_is_printed() {
        let printed = format!("{:?}", BusConfig::new("a:1").with("sasl.password", "secret"));
        assert!(printed.contains("sasl.password") && !printed.contains("secret"), "{printed}");
    }
}
