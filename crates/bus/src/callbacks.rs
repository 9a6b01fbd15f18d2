//! What librdkafka reports only to callbacks: why a connection fails.
//!
//! In: errors and log lines of one client. Out: the last reason, for the error that a call returns, and log lines.
//! A process has many clients and each reconnects several times a second: that Kafka is lost is logged once for all of
//! them, and once that it is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::is_connection;

/// So long after Kafka came back, reports of other clients about the time before are not news.
const SETTLING: Duration = Duration::from_secs(5);

/// The callbacks of one client; clones share what was heard.
#[derive(Clone, Debug)]
pub(crate) struct Callbacks {
    heard: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
    cluster: Arc<Cluster>,
}

/// What a process knows of one address: all clients of it share this.
#[derive(Debug)]
struct Cluster {
    address: String,
    connection: Mutex<Connection>,
}

/// Lost or not, and since when.
#[derive(Debug, Default)]
struct Connection {
    lost: Option<Instant>,
    back: Option<Instant>,
}

impl Connection {
    /// True if that is news.
    fn lose(&mut self, now: Instant) -> bool {
        let settling = self.back.is_some_and(|back| now.duration_since(back) < SETTLING);
        let news = self.lost.is_none() && !settling;
        if news {
            self.lost = Some(now);
        }
        news
    }

    /// How long it was lost, if that is news.
    fn come_back(&mut self, now: Instant) -> Option<Duration> {
        let lost = self.lost.take()?;
        self.back = Some(now);
        Some(now.duration_since(lost))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    fn at(address: &str) -> Arc<Self> {
        static CLUSTERS: Mutex<BTreeMap<String, Arc<Cluster>>> = Mutex::new(BTreeMap::new());
        let fresh = || Arc::new(Self { address: address.to_owned(), connection: Mutex::default() });
        lock(&CLUSTERS).entry(address.to_owned()).or_insert_with(fresh).clone()
    }

    fn lose(&self, reason: &str) {
        if lock(&self.connection).lose(Instant::now()) {
            tracing::warn!(address = self.address, reason, "kafka lost");
        }
    }

    fn come_back(&self) {
        if let Some(lost) = lock(&self.connection).come_back(Instant::now()) {
            tracing::info!(address = self.address, lost_ms = lost.as_millis() as u64, "kafka back");
        }
    }
}

impl Callbacks {
    pub(crate) fn of(address: &str) -> Self {
        Self { heard: Arc::default(), cluster: Cluster::at(address) }
    }

    /// The most telling reason heard since the last success.
    pub(crate) fn heard(&self) -> Option<(RDKafkaErrorCode, String)> {
        lock(&self.heard).clone()
    }

    /// The connection works: what was heard before explains nothing any more.
    pub(crate) fn succeeded(&self) {
        *lock(&self.heard) = None;
        self.cluster.come_back();
    }

    /// A call found no broker.
    pub(crate) fn unreachable(&self, reason: &str) {
        self.cluster.lose(reason);
    }

    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let reason = without_thread(reason);
        let mut heard = lock(&self.heard);
        match (code, heard.as_ref()) {
            // It follows the reason why, which it must not replace; it turns one broker's failure into the cluster's.
            (RDKafkaErrorCode::AllBrokersDown, Some((_, why))) => self.cluster.lose(why),
            (RDKafkaErrorCode::AllBrokersDown, None) => {
                self.cluster.lose(reason);
                *heard = Some((code, reason.to_owned()));
            }
            _ => {
                tracing::debug!(reason, "kafka connection failed");
                *heard = Some((code, reason.to_owned()));
            }
        }
    }
}

/// librdkafka begins reasons with its thread's name: `[thrd:127.0.0.1:1/bootstrap]: …`.
fn without_thread(reason: &str) -> &str {
    match reason.starts_with("[thrd:") {
        true => reason.split_once("]: ").map_or(reason, |(_, rest)| rest),
        false => reason,
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Connection failures come as errors too, and are logged there.
        if matches!(facility, "FAIL" | "ERROR") {
            return;
        }
        // The same properties go to producers and consumers, and each ignores what is meant for the other.
        let of_the_others = facility == "CONFWARN" && message.contains("will be ignored by this");
        match level {
            _ if of_the_others => tracing::debug!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code().filter(|code| is_connection(*code)) {
            // A listener that hangs up on a handshake is a matter of TLS, whichever way it hangs up.
            let handshake = reason.contains("in state SSL_HANDSHAKE");
            self.note(if handshake { RDKafkaErrorCode::SSL } else { code }, reason);
        }
    }
}

impl ConsumerContext for Callbacks {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_survives_the_report_that_all_brokers_are_down() {
        let callbacks = Callbacks::of("127.0.0.1:1");
        let refused = "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        callbacks.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), refused);
        callbacks.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let (code, reason) = callbacks.heard().unwrap();
        assert_eq!(code, RDKafkaErrorCode::BrokerTransportFailure);
        assert!(reason.starts_with("127.0.0.1:1/bootstrap: Connect to"), "{reason}");
        callbacks.succeeded();
        assert!(callbacks.heard().is_none());
    }

    #[test]
    fn a_loss_and_a_return_are_news_once() {
        let mut connection = Connection::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(connection.come_back(start), None, "it was never lost");
        assert!(connection.lose(start));
        assert!(!connection.lose(start), "another client reports the same");
        assert_eq!(connection.come_back(at(9)), Some(Duration::from_secs(9)));
        assert_eq!(connection.come_back(at(9)), None);
        assert!(!connection.lose(at(10)), "a client that hears late of what is over");
        assert!(connection.lose(at(15)));
    }
}
