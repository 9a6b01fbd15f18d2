//! One partition: its segments, its one writer, its readers, and who waits for it.
//!
//! In: verified batches, in order per producer; reads by offset and time. Out: offsets; whole batches. Appends take
//! the partition's own lock, reads take none but the list of segments.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;

use super::batch::{BatchHeader, stamp_append_time};
use super::producers::{Admission, Producers, Refusal};
use super::records::records;
use super::recovery::recover;
use super::segment::Segment;
use super::state::{self, PartitionState, state_path};
use super::waiters::Waiters;
use super::{lock, now_ms, read, write};
use crate::topics::settings::{Settings, TimestampType};
use crate::{Durability, Error};

/// One partition's log.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) folder: PathBuf,
    durability: Durability,
    segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) writer: Mutex<Writer>,
    log_start: AtomicI64,
    end: AtomicI64,
    deleted: AtomicBool,
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
    /// The topic is gone.
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
    /// The file system refused.
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
    pub(crate) fn open(index: i32, folder: PathBuf, durability: Durability) -> Result<Self, Error> {
        let state: PartitionState = state::load(&state_path(&folder))?.unwrap_or_default();
        let recovered = recover(&folder)?;
        let end = recovered.segments.last().map_or(state.log_start, |segment| segment.next_offset());
        Ok(Self {
            index,
            folder,
            durability,
            segments: RwLock::new(recovered.segments),
            log_start: AtomicI64::new(state.log_start),
            end: AtomicI64::new(end.max(state.log_start)),
            deleted: AtomicBool::new(false),
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
    pub(crate) fn append(&self, batch: &Bytes, header: BatchHeader, settings: &Settings) -> Result<Appended, AppendError> {
        let mut writer = lock(&self.writer);
        if self.deleted.load(Ordering::Acquire) {
            return Err(AppendError::Deleted);
        }
        let now = now_ms();
        let (batch, header, append_time) = match settings.timestamp_type {
            TimestampType::CreateTime => (batch.clone(), header, -1),
            TimestampType::LogAppendTime => {
                (stamp_append_time(batch, now), BatchHeader { max_timestamp: now, ..header }, now)
            }
        };
        match writer.producers.admit(&header).map_err(AppendError::Refused)? {
            Admission::Duplicate { base_offset } => return Ok(Appended { base_offset, append_time, rolled: false }),
            Admission::Append => {}
        }
        let base_offset = self.end();
        let (segment, rolled) = self.active_for(&mut writer, &header, settings, now).map_err(AppendError::Io)?;
        segment.append(&batch, header, base_offset).map_err(AppendError::Io)?;
        if self.durability == Durability::PowerLoss {
            segment.sync().map_err(AppendError::Io)?;
        }
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
        }
        writer.producers.expire(now);
        Ok((self.begin_segment()?, true))
    }

    /// Seals the active segment and begins an empty one. The caller holds the writer.
    pub(super) fn begin_segment(&self) -> std::io::Result<Arc<Segment>> {
        std::fs::create_dir_all(&self.folder)?;
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
        if offset > self.end() {
            return Err(ReadError::OutOfRange);
        }
        if offset > self.log_start() {
            self.advance_start(&mut writer, offset).map_err(ReadError::Io)?;
        }
        Ok(self.log_start())
    }

    /// Moves the start, on disk first, then drops the sealed segments that lie wholly before it.
    pub(super) fn advance_start(&self, writer: &mut Writer, offset: i64) -> std::io::Result<()> {
        writer.state.log_start = offset;
        self.store_state(writer)?;
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

    pub(super) fn store_state(&self, writer: &Writer) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        state::store(&state_path(&self.folder), &writer.state)
    }

    /// Whether all of `group` are still sealed segments of this log. The caller holds the writer.
    pub(super) fn contains_all(&self, group: &[Arc<Segment>]) -> bool {
        let segments = read(&self.segments);
        let there = |wanted: &Arc<Segment>| segments.iter().any(|segment| Arc::ptr_eq(segment, wanted));
        !self.deleted.load(Ordering::Acquire) && group.iter().all(there)
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

    /// Refuses further appends and lets waiting fetches find out; the caller removes the files.
    pub(crate) fn mark_deleted(&self) {
        let writer = lock(&self.writer);
        self.deleted.store(true, Ordering::Release);
        drop(writer);
        self.waiters.wake();
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
    let all = records(&batch, header).map_err(|bad| std::io::Error::other(format!("unreadable batch: {bad:?}")))?;
    let found = all.iter().find(|record| wanted(record));
    Ok(found.map(|record| TimedOffset { timestamp: record.timestamp, offset: record.offset }))
}
