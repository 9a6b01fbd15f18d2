//! What librdkafka says only to callbacks: why a connection fails.
//!
//! In: errors and log lines of one client. Out: the last reason, for the error that a call returns, and log lines.
//! The same reason is logged once, not at each reconnect.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::is_connection;

/// The callbacks of one client; clones share what was heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callbacks {
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<(RDKafkaErrorCode, String)>,
    logged: Option<String>,
}

impl Callbacks {
    /// The most telling reason heard since the last success.
    pub(crate) fn heard(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.lock().last.clone()
    }

    /// The connection works: what was heard before explains nothing any more.
    pub(crate) fn succeeded(&self) {
        let mut heard = self.lock();
        if heard.last.take().is_some() && heard.logged.take().is_some() {
            tracing::info!("connected to kafka again");
        }
    }

    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut heard = self.lock();
        // "All brokers are down" follows the reason why; it must not replace it.
        if code != RDKafkaErrorCode::AllBrokersDown || heard.last.is_none() {
            heard.last = Some((code, without_thread(reason).to_owned()));
        }
        let stable = without_numbers(reason);
        if heard.logged.as_ref() != Some(&stable) && code != RDKafkaErrorCode::AllBrokersDown {
            tracing::warn!(reason = without_thread(reason), "kafka connection trouble");
            heard.logged = Some(stable);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// librdkafka begins reasons with its thread's name: `[thrd:127.0.0.1:1/bootstrap]: …`.
fn without_thread(reason: &str) -> &str {
    match reason.starts_with("[thrd:") {
        true => reason.split_once("]: ").map_or(reason, |(_, rest)| rest),
        false => reason,
    }
}

/// The reason without the durations that make each repetition look new: `after 3ms in state CONNECT`.
fn without_numbers(reason: &str) -> String {
    without_thread(reason).split(" (after ").next().unwrap_or_default().to_owned()
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Connection failures come as errors too, and are logged there.
        if matches!(facility, "FAIL" | "ERROR") {
            return;
        }
        match level {
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
        let callbacks = Callbacks::default();
        let refused = "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        callbacks.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), refused);
        callbacks.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let (code, reason) = callbacks.heard().unwrap();
        assert_eq!(code, RDKafkaErrorCode::BrokerTransportFailure);
        assert!(reason.starts_with("127.0.0.1:1/bootstrap: Connect to"), "{reason}");
        callbacks.succeeded();
        assert!(callbacks.heard().is_none());
    }
}
