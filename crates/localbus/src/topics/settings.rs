//! A topic's settings: Kafka's names, defaults and checks, for what this bus does.
//!
//! In: names and values as clients send them. Out: typed settings, or why a value is refused. A name that Kafka knows
//! and a single node has no use for is kept and described, nothing more; an unknown name is refused.

use std::collections::BTreeMap;

/// Values that differ from the defaults, as clients set them.
pub(crate) type Overrides = BTreeMap<String, String>;

/// What the log does with a topic.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Old records go by age and size.
    pub(crate) deletes: bool,
    /// Records go when a newer one has their key.
    pub(crate) compacts: bool,
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) segment_ms: i64,
    pub(crate) segment_bytes: u64,
    pub(crate) max_message_bytes: usize,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    pub(crate) delete_retention_ms: i64,
}

/// Whose clock a record's timestamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The bus's, at the append.
    LogAppendTime,
}

/// Which values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    /// A whole number of at least this.
    Number(i64),
    /// A number that no other can replace here: promising what is not kept would be worse than refusing.
    Only(&'static str),
    /// Between 0 and 1.
    Ratio,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A comma-separated set of these.
    Set(&'static [&'static str]),
    Text,
}

/// A setting: its name, the default, which values it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
}

const fn setting(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    Setting { name, default, kind }
}

const FOREVER: &str = "9223372036854775807";

/// Every topic setting, sorted by name.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("cleanup.policy", "delete", Kind::Set(&["delete", "compact"])),
    // Batches are stored as received, so no other value can be honoured.
    setting("compression.type", "producer", Kind::Choice(&["producer"])),
    setting("delete.retention.ms", "86400000", Kind::Number(0)),
    setting("file.delete.delay.ms", "60000", Kind::Number(0)),
    // The log is flushed when the system sees fit, and timestamps are the producer's word.
    setting("flush.messages", FOREVER, Kind::Only(FOREVER)),
    setting("flush.ms", FOREVER, Kind::Only(FOREVER)),
    setting("follower.replication.throttled.replicas", "", Kind::Text),
    setting("index.interval.bytes", "4096", Kind::Number(0)),
    setting("leader.replication.throttled.replicas", "", Kind::Text),
    setting("max.compaction.lag.ms", FOREVER, Kind::Number(1)),
    setting("max.message.bytes", "1048588", Kind::Number(0)),
    setting("message.timestamp.after.max.ms", FOREVER, Kind::Only(FOREVER)),
    setting("message.timestamp.before.max.ms", FOREVER, Kind::Only(FOREVER)),
    setting("message.timestamp.type", "CreateTime", Kind::Choice(&["CreateTime", "LogAppendTime"])),
    setting("min.cleanable.dirty.ratio", "0.5", Kind::Ratio),
    setting("min.compaction.lag.ms", "0", Kind::Number(0)),
    setting("min.insync.replicas", "1", Kind::Number(1)),
    setting("preallocate", "false", Kind::Boolean),
    setting("retention.bytes", "-1", Kind::Number(-1)),
    setting("retention.ms", "604800000", Kind::Number(-1)),
    setting("segment.bytes", "67108864", Kind::Number(14)),
    setting("segment.index.bytes", "10485760", Kind::Number(4)),
    setting("segment.jitter.ms", "0", Kind::Number(0)),
    setting("segment.ms", "604800000", Kind::Number(1)),
    setting("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// Why a setting was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SettingError {
    #[error("unknown topic config name: {0}")]
    Unknown(String),
    #[error("invalid value {value} for configuration {name}: {wanted}")]
    Value { name: String, value: String, wanted: String },
}

/// The setting of that name.
pub(crate) fn find(name: &str) -> Result<&'static Setting, SettingError> {
    SETTINGS.iter().find(|s| s.name == name).ok_or_else(|| SettingError::Unknown(name.to_owned()))
}

/// Whether `value` is one that the setting of that name takes.
pub(crate) fn check(name: &str, value: &str) -> Result<(), SettingError> {
    let setting = find(name)?;
    let (fits, wanted) = match setting.kind {
        Kind::Boolean => (matches!(value, "true" | "false"), "true or false".to_owned()),
        Kind::Number(min) => (value.parse().is_ok_and(|n: i64| n >= min), format!("a whole number of at least {min}")),
        Kind::Only(number) => (value == number, format!("{number}, all that the local bus can do")),
        Kind::Ratio => (value.parse().is_ok_and(|n: f64| (0.0..=1.0).contains(&n)), "between 0 and 1".to_owned()),
        Kind::Choice(of) => (of.contains(&value), format!("one of {}", of.join(", "))),
        Kind::Set(of) => (items(value).all(|item| of.contains(&item)), format!("a list of {}", of.join(", "))),
        Kind::Text => (true, String::new()),
    };
    let refused = || SettingError::Value { name: name.to_owned(), value: value.to_owned(), wanted };
    if fits { Ok(()) } else { Err(refused()) }
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

impl Settings {
    /// Checks `overrides` and lays them over the defaults.
    pub(crate) fn new(overrides: &Overrides) -> Result<Self, SettingError> {
        overrides.iter().try_for_each(|(name, value)| check(name, value))?;
        let text = |name: &str| {
            let default = || find(name).map_or("", |setting| setting.default);
            overrides.get(name).map_or_else(default, String::as_str)
        };
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
        let size = |name: &str| u64::try_from(number(name)).unwrap_or(u64::MAX);
        let policy: Vec<_> = items(text("cleanup.policy")).collect();
        Ok(Self {
            deletes: policy.contains(&"delete"),
            compacts: policy.contains(&"compact"),
            retention_ms: Some(number("retention.ms")).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(number("retention.bytes")).ok(),
            segment_ms: number("segment.ms"),
            segment_bytes: size("segment.bytes"),
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(usize::MAX),
            timestamp_type: match text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            delete_retention_ms: number("delete.retention.ms"),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        for (name, value, fits) in [
            ("retention.ms", "-1", true),
            ("retention.ms", "-2", false),
            ("retention.ms", "soon", false),
            ("cleanup.policy", "compact,delete", true),
            ("cleanup.policy", "compress", false),
            ("compression.type", "producer", true),
            ("compression.type", "gzip", false),
            ("min.cleanable.dirty.ratio", "0.3", true),
            ("min.cleanable.dirty.ratio", "1.3", false),
            ("preallocate", "TRUE", false),
            ("flush.messages", "1", false),
            ("flush.messages", FOREVER, true),
            ("retention.hours", "1", false),
        ] {
            assert_eq!(check(name, value).is_ok(), fits, "{name}={value}");
        }
    }

    #[test]
    fn every_default_is_a_value_that_its_own_setting_takes() {
        for setting in SETTINGS {
            assert_eq!(check(setting.name, setting.default), Ok(()), "{}", setting.name);
        }
        let defaults = Settings::new(&Overrides::new()).unwrap();
        assert_eq!((defaults.deletes, defaults.compacts, defaults.retention_bytes), (true, false, None));
    }
}
