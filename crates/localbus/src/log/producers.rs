//! What a partition remembers of idempotent producers: the last few batches of each, so that a retry is recognised.
//!
//! In: batch headers before and after they are appended. Out: append, or the offset the batch already has, or why
//! it cannot be next. A batch is never appended twice while its producer is remembered.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::batch::{BatchHeader, add_sequence};

/// Kafka's clients keep at most five requests in flight, so a retry is among the last five batches.
const REMEMBERED: usize = 5;
/// A producer that was silent this long is forgotten.
const EXPIRY_MS: i64 = 24 * 60 * 60 * 1000;

/// One appended batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
}

/// A producer's epoch and its last batches, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Appended>,
    seen_ms: i64,
}

/// All producers of one partition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Producers(HashMap<i64, Producer>);

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is next.
    Append,
    /// It is there already.
    Duplicate { base_offset: i64, timestamp: i64 },
}

/// Why a batch cannot be next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A newer instance of this producer exists.
    StaleEpoch,
    /// A batch before it is missing.
    OutOfOrder,
    /// It was appended so long ago that its offset is forgotten.
    OldDuplicate,
}

impl Producers {
    pub(crate) fn admit(&self, header: &BatchHeader) -> Result<Admission, Refusal> {
        if !header.is_idempotent() {
            return Ok(Admission::Append);
        }
        let Some(producer) = self.0.get(&header.producer_id) else {
            return Ok(Admission::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(Refusal::StaleEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 { Ok(Admission::Append) } else { Err(Refusal::OutOfOrder) };
        }
        let first = header.base_sequence;
        let last = header.last_sequence();
        let known = producer.batches.iter().find(|batch| batch.first_sequence == first && batch.last_sequence == last);
        if let Some(batch) = known {
            return Ok(Admission::Duplicate { base_offset: batch.base_offset, timestamp: batch.timestamp });
        }
        let Some(newest) = producer.batches.back() else {
            return Ok(Admission::Append);
        };
        if first == add_sequence(newest.last_sequence, 1) {
            Ok(Admission::Append)
        } else if last <= newest.last_sequence && newest.last_sequence - last < i32::MAX / 2 {
            Err(Refusal::OldDuplicate)
        } else {
            Err(Refusal::OutOfOrder)
        }
    }

    pub(crate) fn record(&mut self, header: &BatchHeader, base_offset: i64, now: i64) {
        if !header.is_idempotent() {
            return;
        }
        let fresh = Producer { epoch: header.producer_epoch, batches: VecDeque::new(), seen_ms: now };
        let producer = self.0.entry(header.producer_id).or_insert(fresh);
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.seen_ms = now;
        producer.batches.push_back(Appended {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            timestamp: header.max_timestamp,
        });
        if producer.batches.len() > REMEMBERED {
            producer.batches.pop_front();
        }
    }

    /// Forgets those silent for a day; called when a segment is sealed, so the map is bounded by recent producers.
    pub(crate) fn expire(&mut self, now: i64) {
        self.0.retain(|_, producer| now - producer.seen_ms < EXPIRY_MS);
    }

    /// The highest producer id in the log.
    pub(crate) fn highest_id(&self) -> Option<i64> {
        self.0.keys().max().copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::batch::BatchHeader;
    use super::super::testing::Batch;
    use super::*;

    fn header(epoch: i16, sequence: i32, count: usize) -> BatchHeader {
        let records = vec![("k", None); count];
        let header = BatchHeader::parse(&Batch::of(&records).by(7, epoch, 0).bytes()).unwrap();
        BatchHeader { base_sequence: sequence, ..header }
    }

    /// What a partition says to `next` after it took `before`.
    fn check(before: &[BatchHeader], next: BatchHeader, expected: Result<Admission, Refusal>) {
        let mut producers = Producers::default();
        let mut offset = 100;
        for header in before {
            assert_eq!(producers.admit(header), Ok(Admission::Append), "{header:?}");
            producers.record(header, offset, 1);
            offset += i64::from(header.count);
        }
        let verdict = producers.admit(&next).map(|admission| match admission {
            Admission::Duplicate { base_offset, .. } => Admission::Duplicate { base_offset, timestamp: 0 },
            Admission::Append => Admission::Append,
        });
        assert_eq!(verdict, expected);
    }

    #[test]
    fn sequences_decide() {
        use Admission::{Append, Duplicate};
        use Refusal::{OldDuplicate, OutOfOrder, StaleEpoch};
        let one_each = |count: i32| (0..count).map(|n| header(0, n, 1)).collect::<Vec<_>>();
        check(&[], header(0, 0, 3), Ok(Append));
        check(&[], header(0, 9, 3), Ok(Append));
        check(&[header(0, 0, 3)], header(0, 3, 1), Ok(Append));
        check(&[header(0, 0, 3)], header(0, 0, 3), Ok(Duplicate { base_offset: 100, timestamp: 0 }));
        check(&[header(0, 0, 3)], header(0, 4, 1), Err(OutOfOrder));
        check(&one_each(6), header(0, 1, 1), Ok(Duplicate { base_offset: 101, timestamp: 0 }));
        check(&one_each(6), header(0, 0, 1), Err(OldDuplicate));
        check(&[header(1, 0, 1)], header(0, 1, 1), Err(StaleEpoch));
        check(&[header(0, 0, 1)], header(1, 0, 1), Ok(Append));
        check(&[header(0, 0, 1)], header(1, 1, 1), Err(OutOfOrder));
        check(&[header(0, i32::MAX - 1, 2)], header(0, 0, 1), Ok(Append));
        check(&[header(0, i32::MAX, 2)], header(0, 1, 1), Ok(Append));
    }

    #[test]
    fn a_producer_silent_for_a_day_is_forgotten() {
        let mut producers = Producers::default();
        producers.record(&header(0, 0, 1), 0, 0);
        producers.expire(EXPIRY_MS - 1);
        assert_eq!(producers.highest_id(), Some(7));
        producers.expire(EXPIRY_MS);
        assert_eq!(producers.highest_id(), None);
    }
}
