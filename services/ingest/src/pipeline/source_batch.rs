//! Records of one topic for one table, copied out of librdkafka's memory into one buffer.
//!
//! In: fetched messages, and up to where partitions were read beyond their last record. Out: records that borrow the
//! buffer: no allocation of their own each.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, Utc};
use mesh_bus::Message;
use mesh_proto::trace::TraceContext;

const TRACEPARENT: &str = "traceparent";

/// Some records.
#[derive(Debug, Clone, Default)]
pub struct SourceBatch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    reached: BTreeMap<i32, i64>,
}

#[derive(Debug, Clone)]
struct Entry {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
    trace: Option<TraceContext>,
}

/// One record of a batch.
#[derive(Debug, Clone, Copy)]
pub struct SourceRecord<'a> {
    batch: &'a SourceBatch,
    entry: &'a Entry,
}

impl SourceBatch {
    /// Copies a message.
    pub fn push(&mut self, message: &Message<'_>) {
        let place = (message.partition(), message.offset(), message.timestamp_ms().unwrap_or_default());
        self.add(place, message.key(), message.payload(), message.headers());
    }

    /// Copies a record: partition, offset and timestamp, key, value, headers.
    pub fn add<'a>(
        &mut self,
        (partition, offset, timestamp_ms): (i32, i64, i64),
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        let key = key.map(|key| self.copy(key));
        let value = value.map(|value| self.copy(value));
        let first = self.headers.len();
        let mut trace = None;
        for (name, value) in headers {
            if name == TRACEPARENT {
                trace = value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            }
            let name = self.copy(name.as_bytes());
            let value = value.map(|value| self.copy(value));
            self.headers.push((name, value));
        }
        let headers = first..self.headers.len();
        self.entries.push(Entry { partition, offset, timestamp_ms, key, value, headers, trace });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Everything of a partition before this offset is in this batch or an earlier one.
    pub fn reach(&mut self, partition: i32, next: i64) {
        self.reached.insert(partition, next);
    }

    /// Up to where partitions were read beyond their last record.
    pub fn reached(&self) -> &BTreeMap<i32, i64> {
        &self.reached
    }

    /// Forgets the records from this index on.
    pub fn truncate(&mut self, index: u32) {
        self.entries.truncate(index as usize);
        self.reached.clear();
    }

    /// At least one record: a batch may also say only how far a partition was read.
    pub fn has_records(&self) -> bool {
        !self.entries.is_empty()
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Neither records nor an offset that was reached.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.reached.is_empty()
    }

    /// The record with an index.
    pub fn record(&self, index: u32) -> SourceRecord<'_> {
        SourceRecord { batch: self, entry: &self.entries[index as usize] }
    }

    /// The records with their indices, in the order they were fetched.
    pub fn records(&self) -> impl Iterator<Item = (u32, SourceRecord<'_>)> {
        (0u32..).zip(self.entries.iter().map(|entry| SourceRecord { batch: self, entry }))
    }
}

impl<'a> SourceRecord<'a> {
    /// Its partition.
    pub fn partition(self) -> i32 {
        self.entry.partition
    }

    /// Its offset.
    pub fn offset(self) -> i64 {
        self.entry.offset
    }

    /// Microseconds since 1970, on the calendar: a producer may claim any number, and one that no calendar has would break
    /// every reader of the table.
    pub fn timestamp_us(self) -> i64 {
        let calendar = (DateTime::<Utc>::MIN_UTC.timestamp_millis(), DateTime::<Utc>::MAX_UTC.timestamp_millis());
        self.entry.timestamp_ms.clamp(calendar.0, calendar.1) * 1000
    }

    /// Its key.
    pub fn key(self) -> Option<&'a [u8]> {
        self.entry.key.clone().map(|at| &self.batch.bytes[at])
    }

    /// Its value; `None` is a tombstone.
    pub fn value(self) -> Option<&'a [u8]> {
        self.entry.value.clone().map(|at| &self.batch.bytes[at])
    }

    /// Its headers in their order.
    pub fn headers(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        self.batch.headers[self.entry.headers.clone()].iter().map(move |(name, value)| {
            // Names came in as text.
            let name = std::str::from_utf8(&self.batch.bytes[name.clone()]).unwrap_or_default();
            (name, value.clone().map(|at| &self.batch.bytes[at]))
        })
    }

    /// The producer's place in its trace.
    pub fn trace(self) -> Option<TraceContext> {
        self.entry.trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_some_day() {
        let mut batch = SourceBatch::default();
        for timestamp in [i64::MIN, -1, 0, 1_357_016_400_123, i64::MAX] {
            batch.add((0, 0, timestamp), None, None, []);
        }
        let found: Vec<i64> = batch.records().map(|(_, record)| record.timestamp_us()).collect();
        assert_eq!(found[1..4], [-1000, 0, 1_357_016_400_123_000]);
        assert!(found.iter().all(|us| DateTime::from_timestamp_micros(*us).is_some()), "{found:?}");
    }
}
