//! The fixed part of a record batch (magic 2): 61 bytes that say everything the log needs without decompressing.

use bytes::{Bytes, BytesMut};

/// Length of the fixed part.
pub(crate) const HEADER: usize = 61;
/// Base offset and length: the part that the length field does not count.
pub(crate) const PREFIX: usize = 12;
/// Where the bytes covered by the checksum start.
pub(crate) const CRC_FROM: usize = 21;

const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
const ATTRIBUTE_CONTROL: i16 = 1 << 5;

/// The header of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Size of the whole batch, this header and its prefix included.
    pub(crate) size: usize,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

/// Why bytes are not one whole, sound batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadBatch {
    /// Fewer bytes than the header or than the header promises.
    Truncated,
    /// An older or unknown format.
    Magic,
    /// The checksum does not match.
    Checksum,
    /// Counts and lengths contradict each other.
    Inconsistent,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header; says nothing about the checksum.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadBatch> {
        if bytes.len() < HEADER {
            return Err(BadBatch::Truncated);
        }
        let magic = i8::from_be_bytes(array(bytes, 16));
        if magic != 2 {
            return Err(BadBatch::Magic);
        }
        let length = usize::try_from(i32::from_be_bytes(array(bytes, 8))).map_err(|_| BadBatch::Inconsistent)?;
        if length < HEADER - PREFIX {
            return Err(BadBatch::Inconsistent);
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size: length + PREFIX,
            magic,
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            count: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    /// Reads the header of `bytes`, which must be exactly one whole batch with a matching checksum.
    pub(crate) fn verify(bytes: &[u8]) -> Result<Self, BadBatch> {
        let header = Self::parse(bytes)?;
        if bytes.len() < header.size {
            return Err(BadBatch::Truncated);
        }
        if bytes.len() > header.size {
            return Err(BadBatch::Inconsistent);
        }
        if crc32c::crc32c(&bytes[CRC_FROM..]) != header.crc {
            return Err(BadBatch::Checksum);
        }
        Ok(header)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; sequences wrap to 0 after `i32::MAX`.
    pub(crate) fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// Adds to a sequence number, wrapping to 0 after `i32::MAX`.
pub(crate) fn add_sequence(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    i32::try_from(sum % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}

/// The same batch stamped with the time of its append, which changes attributes, maximum timestamp and checksum.
pub(crate) fn stamp_append_time(batch: &[u8], now: i64) -> Bytes {
    let mut bytes = BytesMut::from(batch);
    let attributes = i16::from_be_bytes(array(&bytes, 21)) | ATTRIBUTE_LOG_APPEND_TIME;
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[35..43].copy_from_slice(&now.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// The first 16 bytes under which a batch is stored: its offset in this log, its length, leader epoch 0.
/// The checksum covers none of them, so the rest is stored as received.
pub(crate) fn placed_prefix(batch: &[u8], base_offset: i64) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
    prefix[8..12].copy_from_slice(&batch[8..12]);
    prefix
}
