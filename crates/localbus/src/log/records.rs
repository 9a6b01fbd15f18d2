//! The records inside a batch, as ranges of its bytes: enough for keys, times and compaction, without copies.

use bytes::{Buf, Bytes};

use super::batch::{BadBatch, BatchHeader, HEADER};
use super::compression::unpack;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct RecordSlice {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) tombstone: bool,
    /// The record as encoded, its length included.
    pub(crate) raw: Bytes,
}

/// All records of a verified batch.
pub(crate) fn records(batch: &Bytes, header: &BatchHeader) -> Result<Vec<RecordSlice>, BadBatch> {
    let mut out = Vec::new();
    each_record(batch, header, |record| out.push(record))?;
    Ok(out)
}

/// Hands each record of a verified batch to `visit`; an error if there are more or fewer than the header counts.
pub(crate) fn each_record(
    batch: &Bytes,
    header: &BatchHeader,
    mut visit: impl FnMut(RecordSlice),
) -> Result<(), BadBatch> {
    let mut body = unpack(batch.slice(HEADER..), header.attributes)?;
    for _ in 0..header.count {
        visit(record(&mut body, header).ok_or(BadBatch::Inconsistent)?);
    }
    if body.has_remaining() { Err(BadBatch::Inconsistent) } else { Ok(()) }
}

fn record(body: &mut Bytes, header: &BatchHeader) -> Option<RecordSlice> {
    let mut rest = body.clone();
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let prefix = body.len() - rest.len();
    if rest.len() < length {
        return None;
    }
    let raw = body.split_to(prefix + length);
    let mut fields = rest.split_to(length);
    if fields.is_empty() {
        return None;
    }
    fields.advance(1);
    let timestamp = header.base_timestamp.wrapping_add(varint(&mut fields)?);
    let offset = header.base_offset.wrapping_add(varint(&mut fields)?);
    let key = nullable(&mut fields)?;
    let tombstone = varint(&mut fields)? < 0;
    let timestamp = if header.is_log_append_time() { header.max_timestamp } else { timestamp };
    Some(RecordSlice { offset, timestamp, key, tombstone, raw })
}

fn nullable(fields: &mut Bytes) -> Option<Option<Bytes>> {
    match usize::try_from(varint(fields)?) {
        Err(_) => Some(None),
        Ok(length) if length <= fields.len() => Some(Some(fields.split_to(length))),
        Ok(_) => None,
    }
}

/// A zigzag variable-length integer.
fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        if bytes.is_empty() {
            return None;
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use kafka_protocol::records::Compression;
    use proptest::prelude::*;

    use super::super::testing::Batch;
    use super::*;

    fn codec() -> impl Strategy<Value = Compression> {
        prop::sample::select(vec![
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ])
    }

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
    }

    proptest! {
        #[test]
        fn slices_are_what_was_encoded(
            records_in in prop::collection::vec((bytes(), bytes()), 1..40),
            compression in codec(),
            timestamp in 0..i64::MAX / 2,
        ) {
            let batch = Batch { records: records_in.clone(), timestamp, producer: None, compression }.bytes();
            let header = BatchHeader::verify(&batch).unwrap();
            let slices = records(&batch, &header).unwrap();
            prop_assert_eq!(slices.len(), records_in.len());
            for (at, (slice, (key, value))) in slices.iter().zip(&records_in).enumerate() {
                prop_assert_eq!(slice.offset, at as i64);
                prop_assert_eq!(slice.timestamp, timestamp + at as i64);
                prop_assert_eq!(&slice.key, key);
                prop_assert_eq!(slice.tombstone, value.is_none());
            }
        }

        #[test]
        fn garbage_is_refused_not_trusted(
            body in prop::collection::vec(any::<u8>(), 0..200),
            codec in 0i16..8,
            count in any::<i32>(),
        ) {
            let mut header = BatchHeader::verify(&Batch::of(&[("k", None)]).bytes()).unwrap();
            header.attributes = codec;
            header.count = count;
            let batch = Bytes::from([vec![0; HEADER], body].concat());
            if let Ok(slices) = records(&batch, &header) {
                prop_assert_eq!(slices.len() as i64, i64::from(count.max(0)));
            }
        }
    }
}
