//! Which segments a log may forget by age or size, and when to look again.

use std::sync::Arc;

use super::lock;
use super::partition::Partition;
use super::segment::Segment;
use crate::topics::settings::Settings;

/// Drops what the topic no longer keeps. Answers when to look again, in milliseconds since 1970.
pub(crate) fn enforce(partition: &Partition, settings: &Settings, now: i64, delay_ms: i64) -> std::io::Result<Option<i64>> {
    if !settings.deletes {
        return Ok(None);
    }
    let mut writer = lock(&partition.writer);
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
