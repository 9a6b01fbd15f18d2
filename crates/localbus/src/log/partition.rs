//! One partition: its segments, its one writer, its readers, and who waits for it.
//!
//! In: verified batches, in order per producer; reads by offset and time. Out: offsets; whole batches. Appends take
//! the partition's own lock, reads take none but the list of segments.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::batch::{BatchHeader, stamp_append_time};
use super::producers::{Admission, Producers, Refusal};
use super::records::records;
use super::recovery::recover;
use super::segment::Segment;
use super::state::{self, PartitionState, state_path};
use super::waiters::Waiters;
use super::{lock, now_ms, read, write};
use crate::LocalBusError;
use crate::topics::settings::{Settings, TimestampType};

/// One partition's log.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) folder: PathBuf,
    segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) writer: Mutex<Writer>,
    log_start: AtomicI64,
    end: AtomicI64,
    deleted: AtomicBool,
    /// Its damage was logged: clients ask again and again.
    damage_known: AtomicBool,
    pub(crate) waiters: Waiters,
}

/// What only the writer may touch.
#[derive(Debug)]
pub(super) struct Writer {
    producers: Producers,
    pub(super) state: PartitionState,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// The time of the append if the topic stamps it, else -1.
    pub(crate) append_time: i64,
    /// Whether a segment was begun or sealed, so that there is more or sooner housekeeping to do.
    pub(crate) rolled: bool,
}

/// Why a batch was not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The topic is deleted.
    Deleted,
    /// The producer's sequence does not fit.
    Refused(Refusal),
    /// The file system refused.
    Io(std::io::Error),
}

/// Why nothing was read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The offset is before the start or after the end.
    OutOfRange,
    /// The file system refused, or gave back other bytes than it was given.
    Io(std::io::Error),
}

/// A timestamp and the offset of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    pub(crate) timestamp: i64,
    pub(crate) offset: i64,
}

impl Partition {
    /// Opens or recovers the partition in `folder`, which appears with the first append.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, LocalBusError> {
        let state: PartitionState = state::load(&state_path(&folder))?.unwrap_or_default();
        let recovered = recover(&folder)?;
        let end = recovered.segments.last().map_or(state.log_start, |segment| segment.next_offset());
        Ok(Self {
            folder,
            segments: RwLock::new(recovered.segments),
            log_start: AtomicI64::new(state.log_start),
            end: AtomicI64::new(end.max(state.log_start)),
            deleted: AtomicBool::new(false),
            damage_known: AtomicBool::new(false),
            waiters: Waiters::default(),
            writer: Mutex::new(Writer { producers: recovered.producers, state }),
        })
    }

    /// The first offset that can be read.
    pub(crate) fn log_start(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// The offset that the next record gets; on one node also the high watermark.
    pub(crate) fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        read(&self.segments).clone()
    }

    pub(crate) fn highest_producer_id(&self) -> Option<i64> {
        lock(&self.writer).producers.highest_id()
    }

    /// Appends a verified batch, or finds that it is there already.
    pub(crate) fn append(
        &self,
        batch: &Bytes,
        header: BatchHeader,
        settings: &Settings,
    ) -> Result<Appended, AppendError> {
        let mut writer = lock(&self.writer);
        if self.is_deleted() {
            return Err(AppendError::Deleted);
        }
        let now = now_ms();
        let (batch, header, append_time) = match settings.timestamp_type {
            TimestampType::CreateTime => (batch.clone(), header, -1),
            TimestampType::LogAppendTime => {
                (stamp_append_time(batch, now), BatchHeader { max_timestamp: now, ..header }, now)
            }
        };
        if let Admission::Duplicate { base_offset, timestamp } =
            writer.producers.admit(&header).map_err(AppendError::Refused)?
        {
            let append_time = if append_time < 0 { append_time } else { timestamp };
            return Ok(Appended { base_offset, append_time, rolled: false });
        }
        let base_offset = self.end();
        let (segment, rolled) = self.active_for(&mut writer, &header, settings, now).map_err(AppendError::Io)?;
        segment.append(&batch, header, base_offset).map_err(AppendError::Io)?;
        writer.producers.record(&header, base_offset, now);
        self.end.store(base_offset + i64::from(header.last_offset_delta) + 1, Ordering::Release);
        drop(writer);
        self.waiters.wake();
        Ok(Appended { base_offset, append_time, rolled })
    }

    /// The segment that takes the next batch, a new one if the last is full or old; and whether it is new.
    fn active_for(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        settings: &Settings,
        now: i64,
    ) -> std::io::Result<(Arc<Segment>, bool)> {
        if let Some(active) = read(&self.segments).last() {
            let full = active.size() + header.size as u64 > settings.segment_bytes;
            let old = now - active.index().first_write_ms >= settings.segment_ms;
            if active.size() == 0 || !(full || old) {
                return Ok((Arc::clone(active), active.size() == 0));
            }
            active.mend()?;
        }
        writer.producers.expire(now);
        Ok((self.begin_segment()?, true))
    }

    /// Seals the active segment and begins an empty one. The caller holds the writer.
    pub(super) fn begin_segment(&self) -> std::io::Result<Arc<Segment>> {
        self.ensure_folder()?;
        let segment = Arc::new(Segment::create(&self.folder, self.end())?);
        write(&self.segments).push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Whole batches from `offset` on; see [`Segment::read_from`]. Empty at the end.
    pub(crate) fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Result<Bytes, ReadError> {
        if offset < self.log_start() || offset > self.end() {
            return Err(ReadError::OutOfRange);
        }
        if offset == self.end() {
            return Ok(Bytes::new());
        }
        let segments = read(&self.segments).clone();
        let first = segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
        for segment in &segments[first..] {
            // Compaction leaves gaps: what follows `offset` may be in a later segment.
            if let Some(bytes) = segment.read_from(offset, max_bytes, at_least_one).map_err(ReadError::Io)? {
                return Ok(bytes);
            }
        }
        Ok(Bytes::new())
    }

    /// The first record with a timestamp of at least `timestamp`.
    pub(crate) fn find_time(&self, timestamp: i64) -> std::io::Result<Option<TimedOffset>> {
        let log_start = self.log_start();
        for segment in self.segments() {
            if segment.index().max_timestamp < timestamp || segment.next_offset() <= log_start {
                continue;
            }
            let Some((mut position, mut header)) = segment.find_time(timestamp)? else { continue };
            loop {
                let found = first_record(&segment, position, &header, |record| {
                    record.timestamp >= timestamp && record.offset >= log_start
                })?;
                if found.is_some() {
                    return Ok(found);
                }
                position += header.size as u64;
                let Some(next) = segment.header_at(position)? else { break };
                header = next;
            }
        }
        Ok(None)
    }

    /// The record with the highest timestamp.
    pub(crate) fn find_max_timestamp(&self) -> std::io::Result<Option<TimedOffset>> {
        let best = self
            .segments()
            .into_iter()
            .filter(|segment| segment.next_offset() > self.log_start() && segment.size() > 0)
            .max_by_key(|segment| segment.index().max_timestamp);
        let Some(segment) = best else { return Ok(None) };
        let max = segment.index().max_timestamp;
        let Some((position, header)) = segment.find_time(max)? else { return Ok(None) };
        first_record(&segment, position, &header, |record| record.timestamp >= max)
    }

    /// Gives up all records before `offset`; answers the new start.
    pub(crate) fn delete_before(&self, offset: i64) -> Result<i64, ReadError> {
        let mut writer = lock(&self.writer);
        if offset > self.end() || self.is_deleted() {
            return Err(ReadError::OutOfRange);
        }
        if offset > self.log_start() {
            self.advance_start(&mut writer, offset).map_err(ReadError::Io)?;
        }
        Ok(self.log_start())
    }

    /// Moves the start, on disk first, then drops the sealed segments that lie wholly before it.
    pub(super) fn advance_start(&self, writer: &mut Writer, offset: i64) -> std::io::Result<()> {
        let state = PartitionState { log_start: offset, ..writer.state.clone() };
        self.store_state(writer, state)?;
        self.log_start.store(offset, Ordering::Release);
        let segments = self.segments();
        let sealed = segments.len().saturating_sub(1);
        let dead = segments[..sealed].iter().take_while(|segment| segment.next_offset() <= offset).count();
        write(&self.segments).drain(..dead);
        for segment in &segments[..dead] {
            std::fs::remove_file(&segment.path)?;
        }
        Ok(())
    }

    /// On the disk first: what cannot be kept there does not hold here either.
    pub(super) fn store_state(&self, writer: &mut Writer, state: PartitionState) -> std::io::Result<()> {
        self.ensure_folder()?;
        state::store(&state_path(&self.folder), &state)?;
        writer.state = state;
        Ok(())
    }

    /// Not with its parents: a deleted topic's folder must not come back.
    fn ensure_folder(&self) -> std::io::Result<()> {
        match std::fs::create_dir(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether all of `group` are still sealed segments of this log. The caller holds the writer.
    pub(super) fn contains_all(&self, group: &[Arc<Segment>]) -> bool {
        let segments = read(&self.segments);
        let there = |wanted: &Arc<Segment>| segments.iter().any(|segment| Arc::ptr_eq(segment, wanted));
        !self.is_deleted() && group.iter().all(there)
    }

    /// Puts `new`, if any, in the place of `group`. The caller holds the writer.
    pub(super) fn replace(&self, group: &[Arc<Segment>], new: Option<Arc<Segment>>) {
        let mut segments = write(&self.segments);
        let is_old = |segment: &Arc<Segment>| group.iter().any(|old| Arc::ptr_eq(old, segment));
        let at = segments.iter().position(is_old).unwrap_or(0);
        segments.retain(|segment| !is_old(segment));
        if let Some(new) = new {
            segments.insert(at, new);
        }
    }

    /// A deleted partition refuses appends and keeps its hands off its folder.
    pub(crate) fn set_deleted(&self, deleted: bool) {
        let _writer = lock(&self.writer);
        self.deleted.store(deleted, Ordering::Release);
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The answer to a client whose read failed; the log has it once.
    pub(crate) fn unreadable(&self, error: &std::io::Error) -> ResponseError {
        let damaged = error.kind() == std::io::ErrorKind::InvalidData;
        if !damaged || !self.damage_known.swap(true, Ordering::Relaxed) {
            let code = if damaged { "MESH-LOCALBUS-0005" } else { "MESH-LOCALBUS-0012" };
            tracing::error!(code, folder = %self.folder.display(), %error, "log read failed");
        }
        if damaged { ResponseError::CorruptMessage } else { ResponseError::KafkaStorageError }
    }

    /// Writes everything to the disk itself.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.segments().last().map_or(Ok(()), |segment| segment.sync())
    }
}

fn first_record(
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    wanted: impl Fn(&super::records::RecordSlice) -> bool,
) -> std::io::Result<Option<TimedOffset>> {
    let batch = segment.batch_at(position, header)?;
    let all = records(&batch, header)
        .map_err(|bad| std::io::Error::new(ErrorKind::InvalidData, format!("unreadable batch: {bad:?}")))?;
    let found = all.iter().find(|record| wanted(record));
    Ok(found.map(|record| TimedOffset { timestamp: record.timestamp, offset: record.offset }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::segment::segment_path;
    use super::super::testing::{Batch, append, keys, open, settings, try_append};
    use super::*;

    #[test]
    fn a_batch_is_stored_as_received_but_for_offset_and_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        append(&log, &Batch::of(&[("a", None), ("b", None)]), &settings(&[]));
        let batch = Batch::of(&[("c", Some("x"))]).compressed(kafka_protocol::records::Compression::Zstd);
        append(&log, &batch, &settings(&[]));
        let stored = log.read(2, 10_000, true).unwrap();
        assert_eq!(stored[..8], 2i64.to_be_bytes());
        assert_eq!(stored[8..12], batch.bytes()[8..12]);
        assert_eq!(stored[16..], batch.bytes()[16..]);
    }

    #[test]
    fn a_retry_after_a_restart_gets_its_old_offset() {
        let folder = tempfile::tempdir().unwrap();
        let batch = |sequence| Batch::of(&[("k", None)]).by(7, 0, sequence);
        let log = open(&folder);
        assert_eq!((append(&log, &batch(0), &settings(&[])), append(&log, &batch(1), &settings(&[]))), (0, 1));
        drop(log);
        let log = open(&folder);
        assert_eq!((append(&log, &batch(1), &settings(&[])), append(&log, &batch(2), &settings(&[]))), (1, 2));
        assert!(matches!(try_append(&log, &batch(9), &settings(&[])), Err(AppendError::Refused(Refusal::OutOfOrder))));
        assert_eq!(log.end(), 3);
    }

    #[test]
    fn append_time_is_stamped_and_the_checksum_still_holds() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let stamped = settings(&[("message.timestamp.type", "LogAppendTime")]);
        let before = now_ms();
        let appended = try_append(&log, &Batch::of(&[("k", None)]).at(5), &stamped).unwrap();
        assert!(appended.append_time >= before);
        let read = super::super::testing::read_all(&log);
        assert_eq!(read[0].timestamp, appended.append_time);
    }

    #[test]
    fn reads_give_whole_batches_within_the_limit_and_one_if_it_must_be() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let size = Batch::of(&[("k", Some("v"))]).bytes().len();
        (0..10).for_each(|_| {
            append(&log, &Batch::of(&[("k", Some("v"))]), &settings(&[]));
        });
        let read = |offset, max, one| log.read(offset, max, one).unwrap().len() / size;
        assert_eq!(read(0, size * 3 + 1, true), 3);
        assert_eq!(read(8, size * 3 + 1, true), 2);
        assert_eq!(read(0, 1, true), 1);
        assert_eq!(read(0, 1, false), 0);
        assert_eq!(read(10, 1000, true), 0);
        assert!(matches!(log.read(11, 1000, true), Err(ReadError::OutOfRange)));
        log.delete_before(4).unwrap();
        assert!(matches!(log.read(3, 1000, true), Err(ReadError::OutOfRange)));
        assert_eq!(keys(&open(&folder))[0].0, 4);
    }

    #[test]
    fn times_are_found_in_the_middle_of_batches_and_across_segments() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let small = settings(&[("segment.bytes", "200")]);
        for batch in 0..10 {
            append(&log, &Batch::of(&[("a", None), ("b", None), ("c", None)]).at(1000 + batch * 100), &small);
        }
        let find = |at| log.find_time(at).unwrap().map(|found| (found.offset, found.timestamp));
        assert_eq!(find(0), Some((0, 1000)));
        assert_eq!(find(1001), Some((1, 1001)));
        assert_eq!(find(1003), Some((3, 1100)));
        assert_eq!(find(1902), Some((29, 1902)));
        assert_eq!(find(1903), None);
        assert_eq!(log.find_max_timestamp().unwrap(), Some(TimedOffset { timestamp: 1902, offset: 29 }));
        log.delete_before(2).unwrap();
        assert_eq!(find(0), Some((2, 1002)));
    }

    #[test]
    fn a_write_that_fails_leaves_the_log_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        append(&log, &Batch::of(&[("a", None)]), &settings(&[]));
        let path = segment_path(&log.folder, 0);
        // A file opened only for reading refuses writes as a full disk does.
        let index = log.segments()[0].index().clone();
        let file = std::fs::File::open(&path).unwrap();
        let broken = Arc::new(Segment::opened(0, path.clone(), file, log.segments()[0].size(), index));
        let sound = std::mem::replace(&mut write(&log.segments)[0], broken);
        assert!(matches!(try_append(&log, &Batch::of(&[("b", None)]), &settings(&[])), Err(AppendError::Io(_))));
        assert_eq!((log.end(), keys(&log).len()), (1, 1));
        write(&log.segments)[0] = sound;
        assert_eq!(append(&log, &Batch::of(&[("b", None)]), &settings(&[])), 1);
        assert_eq!(keys(&open(&folder)).len(), 2);
    }

    #[test]
    fn a_deleted_partition_takes_nothing_and_makes_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        log.set_deleted(true);
        assert!(matches!(try_append(&log, &Batch::of(&[("a", None)]), &settings(&[])), Err(AppendError::Deleted)));
        assert!(!log.folder.exists());
    }
}
