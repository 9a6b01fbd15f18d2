//! Committed offsets: in memory to answer, in a compacted log of their own to survive.
//!
//! In: commits and deletions. Out: the last committed offset of a group and partition, before and after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, RwLock};

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record, RecordBatchDecoder,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use serde::{Deserialize, Serialize};

use crate::LocalBusError;
use crate::log::batch::BatchHeader;
use crate::log::partition::{AppendError, Partition, ReadError};
use crate::log::{lock, now_ms, read, write};
use crate::topics::settings::{Overrides, Settings};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// How far a group has read a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// The key of a stored commit.
#[derive(Debug, Serialize, Deserialize)]
struct Key {
    group: String,
    #[serde(flatten)]
    place: Place,
}

type Groups = HashMap<String, BTreeMap<Place, Committed>>;

/// The committed offsets of all groups.
#[derive(Debug)]
pub(crate) struct Offsets {
    pub(crate) log: Partition,
    pub(crate) settings: Settings,
    groups: RwLock<Groups>,
    /// Log and memory change in the same order.
    writing: Mutex<()>,
}

impl Offsets {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, LocalBusError> {
        let overrides =
            [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("max.message.bytes", "104857600")];
        let overrides: Overrides = overrides.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let unreadable = |source| LocalBusError::Folder { action: "read", path: folder.clone(), source };
        let settings = Settings::new(&overrides).map_err(|e| unreadable(std::io::Error::other(e)))?;
        let log = Partition::open(folder.clone())?;
        let groups = replay(&log).map_err(unreadable)?;
        Ok(Self { log, settings, groups: RwLock::new(groups), writing: Mutex::new(()) })
    }

    pub(crate) fn group_ids(&self) -> BTreeSet<String> {
        read(&self.groups).keys().cloned().collect()
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        read(&self.groups).contains_key(group)
    }

    pub(crate) fn get(&self, group: &str, place: &Place) -> Option<Committed> {
        read(&self.groups).get(group).and_then(|offsets| offsets.get(place)).cloned()
    }

    pub(crate) fn all_of(&self, group: &str) -> BTreeMap<Place, Committed> {
        read(&self.groups).get(group).cloned().unwrap_or_default()
    }

    /// Stores commits; `None` takes one back. Answers whether the log began a segment.
    pub(crate) fn store(&self, group: &str, changes: Vec<(Place, Option<Committed>)>) -> std::io::Result<bool> {
        if changes.is_empty() {
            return Ok(false);
        }
        let _writing = lock(&self.writing);
        let rolled = self.append(group, &changes)?;
        let mut groups = write(&self.groups);
        apply(&mut groups, group, changes);
        Ok(rolled)
    }

    /// Forgets a group, or what all groups read of a topic.
    pub(crate) fn forget(&self, group: Option<&str>, topic: Option<&str>) -> std::io::Result<()> {
        let about = |place: &Place| topic.is_none_or(|topic| place.topic == topic);
        let mut found: Vec<(String, Vec<_>)> = Vec::new();
        for (id, offsets) in read(&self.groups).iter().filter(|(id, _)| group.is_none_or(|group| group == *id)) {
            found.push((id.clone(), offsets.keys().filter(|place| about(place)).map(|p| (p.clone(), None)).collect()));
        }
        found.into_iter().try_for_each(|(id, changes)| self.store(&id, changes).map(|_| ()))
    }

    fn append(&self, group: &str, changes: &[(Place, Option<Committed>)]) -> std::io::Result<bool> {
        let now = now_ms();
        let records =
            changes.iter().enumerate().map(|(at, (place, committed))| record(at, now, group, place, committed));
        let records = records.collect::<std::io::Result<Vec<_>>>()?;
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, &records, &options).map_err(|e| std::io::Error::other(e.to_string()))?;
        let batch = batch.freeze();
        let header = BatchHeader::verify(&batch).map_err(|bad| std::io::Error::other(format!("{bad:?}")))?;
        match self.log.append(&batch, header, &self.settings) {
            Ok(appended) => Ok(appended.rolled),
            Err(AppendError::Io(error)) => Err(error),
            Err(refused) => Err(std::io::Error::other(format!("{refused:?}"))),
        }
    }
}

fn record(at: usize, now: i64, group: &str, place: &Place, committed: &Option<Committed>) -> std::io::Result<Record> {
    let key = serde_json::to_vec(&Key { group: group.to_owned(), place: place.clone() })?;
    let value = committed.as_ref().map(serde_json::to_vec).transpose()?;
    let sequence = i32::try_from(at).map_err(std::io::Error::other)?;
    Ok(Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(sequence),
        sequence,
        timestamp: now,
        key: Some(Bytes::from(key)),
        value: value.map(Bytes::from),
        headers: Default::default(),
    })
}

fn apply(groups: &mut Groups, group: &str, changes: impl IntoIterator<Item = (Place, Option<Committed>)>) {
    let offsets = groups.entry(group.to_owned()).or_default();
    for (place, committed) in changes {
        match committed {
            Some(committed) => offsets.insert(place, committed),
            None => offsets.remove(&place),
        };
    }
    if offsets.is_empty() {
        groups.remove(group);
    }
}

fn replay(log: &Partition) -> std::io::Result<Groups> {
    const CHUNK: usize = 1024 * 1024;
    let mut groups = Groups::new();
    let mut offset = log.log_start();
    loop {
        let mut bytes = match log.read(offset, CHUNK, true) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::OutOfRange) => return Err(std::io::Error::other("the log of offsets has no start")),
        };
        if bytes.is_empty() {
            return Ok(groups);
        }
        let sets = RecordBatchDecoder::decode_all(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
        for record in sets.into_iter().flat_map(|set| set.records) {
            offset = record.offset + 1;
            let key: Key = serde_json::from_slice(&record.key.unwrap_or_default())?;
            let value = record.value.map(|value| serde_json::from_slice(&value)).transpose()?;
            apply(&mut groups, &key.group, [(key.place, value)]);
        }
    }
}
