//! Which segments a log may forget by age or size, and when to look again.

use std::sync::Arc;

use super::lock;
use super::partition::Partition;
use super::segment::Segment;
use crate::topics::settings::Settings;

/// Drops what the topic no longer keeps. Answers when to look again, in milliseconds since 1970.
pub(crate) fn enforce(
    partition: &Partition,
    settings: &Settings,
    now: i64,
    delay_ms: i64,
) -> std::io::Result<Option<i64>> {
    if !settings.deletes {
        return Ok(None);
    }
    let mut writer = lock(&partition.writer);
    if partition.is_deleted() {
        return Ok(None);
    }
    let segments = partition.segments();
    let expired = expired(&segments, settings, now, delay_ms);
    if expired == 0 {
        return Ok(due(&segments, settings, delay_ms));
    }
    if expired == segments.len() {
        partition.begin_segment()?;
    }
    let offset = segments[expired - 1].next_offset();
    tracing::debug!(folder = %partition.folder.display(), offset, "records expired");
    partition.advance_start(&mut writer, offset)?;
    Ok(due(&partition.segments(), settings, delay_ms))
}

fn expired(segments: &[Arc<Segment>], settings: &Settings, now: i64, delay_ms: i64) -> usize {
    let mut left: u64 = segments.iter().map(|segment| segment.size()).sum();
    let mut count = 0;
    for segment in segments {
        if segment.size() == 0 || due_at(segment, left, settings, delay_ms).is_none_or(|due| due > now) {
            break;
        }
        left -= segment.size();
        count += 1;
    }
    count
}

/// When the oldest segment's time is over.
fn due(segments: &[Arc<Segment>], settings: &Settings, delay_ms: i64) -> Option<i64> {
    let total: u64 = segments.iter().map(|segment| segment.size()).sum();
    segments.first().filter(|oldest| oldest.size() > 0).and_then(|oldest| due_at(oldest, total, settings, delay_ms))
}

/// When `segment`, the oldest of `total` bytes, may go: never within `delay_ms` of its last write.
fn due_at(segment: &Segment, total: u64, settings: &Settings, delay_ms: i64) -> Option<i64> {
    let index = segment.index();
    let settled = index.last_write_ms.saturating_add(delay_ms);
    if settings.retention_bytes.is_some_and(|keep| total - segment.size() >= keep) {
        return Some(settled);
    }
    let newest = if index.max_timestamp >= 0 { index.max_timestamp } else { index.last_write_ms };
    settings.retention_ms.map(|keep| newest.saturating_add(keep).max(settled))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::now_ms;
    use super::super::testing::{Batch, append, open, settings};
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    /// Five segments of one record each, with timestamps 0, 1, 2, 3, 4 days after `since`; where the log then starts.
    fn check(overrides: &[(&str, &str)], since: i64, now: i64, delay_ms: i64, expected: i64) {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let settings = settings(&[&[("segment.bytes", "100")], overrides].concat());
        for day in 0..5 {
            append(&log, &Batch::of(&[("k", Some("v"))]).at(since + day * DAY), &settings);
        }
        enforce(&log, &settings, now, delay_ms).unwrap();
        assert_eq!((log.log_start(), log.end()), (expected, 5), "{overrides:?}");
        let again = open(&folder);
        assert_eq!((again.log_start(), again.end()), (expected, 5), "{overrides:?} after a restart");
        assert_eq!(append(&again, &Batch::of(&[("k", None)]), &settings), 5);
    }

    #[test]
    fn age_and_size_decide_and_offsets_go_on() {
        let now = now_ms() + 10_000;
        let two_days = (2 * DAY + 1).to_string();
        let size = Batch::of(&[("k", Some("v"))]).bytes().len();
        check(&[], now - 4 * DAY, now, 0, 0);
        check(&[("retention.ms", &two_days)], now - 4 * DAY, now, 0, 2);
        check(&[("retention.ms", "1000")], now - 9 * DAY, now, 0, 5);
        check(&[("retention.ms", "-1")], now - 900 * DAY, now, 0, 0);
        check(&[("retention.bytes", &(2 * size).to_string())], now - 4 * DAY, now, 0, 3);
        check(&[("retention.bytes", "0")], now - 4 * DAY, now, 0, 5);
        check(&[("cleanup.policy", "compact"), ("retention.ms", "1")], now - 900 * DAY, now, 0, 0);
    }

    #[test]
    fn what_was_just_written_stays_for_the_delay() {
        let now = now_ms();
        check(&[("retention.ms", "1000")], now - 900 * DAY, now, 60_000, 0);
    }
}
