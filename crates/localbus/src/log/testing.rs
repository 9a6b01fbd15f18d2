//! Builders for tests of the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::batch::BatchHeader;
use super::partition::{AppendError, Appended, Partition};
use super::records::{RecordSlice, records};
use crate::topics::settings::{Overrides, Settings};

/// A batch in the making.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) records: Vec<(Option<Bytes>, Option<Bytes>)>,
    pub(crate) timestamp: i64,
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) compression: Compression,
}

impl Batch {
    pub(crate) fn of(records: &[(&str, Option<&str>)]) -> Self {
        let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Self {
            records: records.iter().map(|(key, value)| (Some(own(key)), value.map(own))).collect(),
            timestamp: super::now_ms(),
            producer: None,
            compression: Compression::None,
        }
    }

    pub(crate) fn at(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    pub(crate) fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: Some((id, epoch, sequence)), ..self }
    }

    pub(crate) fn compressed(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// The batch as a producer sends it; record n has timestamp + n.
    pub(crate) fn bytes(&self) -> Bytes {
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or((-1, -1, 0));
        let record = |(at, (key, value)): (usize, &(Option<Bytes>, Option<Bytes>))| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset: at as i64,
            sequence: base_sequence + at as i32,
            timestamp: self.timestamp + at as i64,
            key: key.clone(),
            value: value.clone(),
            headers: Default::default(),
        };
        let records: Vec<_> = self.records.iter().enumerate().map(record).collect();
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: self.compression };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        out.freeze()
    }
}

pub(crate) fn settings(overrides: &[(&str, &str)]) -> Settings {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Settings::new(&overrides.iter().map(own).collect::<Overrides>()).unwrap()
}

pub(crate) fn open(folder: &tempfile::TempDir) -> Partition {
    Partition::open(folder.path().join("0")).unwrap()
}

pub(crate) fn try_append(log: &Partition, batch: &Batch, settings: &Settings) -> Result<Appended, AppendError> {
    let bytes = batch.bytes();
    log.append(&bytes, BatchHeader::verify(&bytes).unwrap(), settings)
}

pub(crate) fn append(log: &Partition, batch: &Batch, settings: &Settings) -> i64 {
    try_append(log, batch, settings).unwrap().base_offset
}

/// Every record from the start on, read as a consumer reads.
pub(crate) fn read_all(log: &Partition) -> Vec<RecordSlice> {
    let mut out: Vec<RecordSlice> = Vec::new();
    let mut offset = log.log_start();
    loop {
        let mut bytes = log.read(offset, 1000, true).unwrap();
        if bytes.is_empty() {
            return out;
        }
        while !bytes.is_empty() {
            let size = BatchHeader::parse(&bytes).unwrap().size;
            let batch = bytes.split_to(size);
            let header = BatchHeader::verify(&batch).unwrap();
            out.extend(records(&batch, &header).unwrap().into_iter().filter(|record| record.offset >= offset));
            offset = header.last_offset() + 1;
        }
    }
}

/// (offset, key) of every record.
pub(crate) fn keys(log: &Partition) -> Vec<(i64, String)> {
    let key = |record: &RecordSlice| String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
    read_all(log).iter().map(|record| (record.offset, key(record))).collect()
}
