//! One file of a log and its sparse index. The index lives in memory; the file holds nothing but batches.
//!
//! In: placed batches to append; offsets and times to find. Out: whole batches. A reader never sees bytes that an
//! append has not finished, nor bytes that changed after it.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use super::batch::{BatchHeader, HEADER, placed_prefix};
use super::{now_ms, read, write};

/// One index entry at least every so many bytes.
const INDEX_INTERVAL: u64 = 4096;

/// A batch boundary in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: i64,
    position: u64,
    /// The highest timestamp of all batches before this one.
    max_timestamp_before: i64,
}

/// What is known of a segment's content.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    indexed_to: u64,
    pub(crate) next_offset: i64,
    pub(crate) max_timestamp: i64,
    /// Base offset of the batch with the highest timestamp.
    pub(crate) max_timestamp_offset: i64,
    /// When the first and the last batch were written, by this machine's clock.
    pub(crate) first_write_ms: i64,
    pub(crate) last_write_ms: i64,
}

impl Index {
    pub(crate) fn new(base_offset: i64) -> Self {
        Self {
            entries: Vec::new(),
            indexed_to: 0,
            next_offset: base_offset,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            first_write_ms: 0,
            last_write_ms: 0,
        }
    }

    /// Notes a batch that starts at `position`.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64, now: i64) {
        if self.entries.is_empty() {
            self.first_write_ms = now;
        }
        if self.entries.is_empty() || position >= self.indexed_to + INDEX_INTERVAL {
            let entry = Entry { offset: header.base_offset, position, max_timestamp_before: self.max_timestamp };
            self.entries.push(entry);
            self.indexed_to = position;
        }
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = header.base_offset;
        }
        self.next_offset = header.last_offset() + 1;
        self.last_write_ms = now;
    }

    fn before_offset(&self, offset: i64) -> u64 {
        let at = self.entries.partition_point(|entry| entry.offset <= offset);
        at.checked_sub(1).map_or(0, |at| self.entries[at].position)
    }

    fn before_time(&self, timestamp: i64) -> u64 {
        let at = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
        at.checked_sub(1).map_or(0, |at| self.entries[at].position)
    }
}

/// One file of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    pub(crate) path: PathBuf,
    file: File,
    size: AtomicU64,
    /// The file is longer than `size`: an append failed halfway and could not be undone yet.
    torn: AtomicBool,
    index: RwLock<Index>,
}

/// The file of the segment that starts at `base_offset`.
pub(crate) fn segment_path(folder: &Path, base_offset: i64) -> PathBuf {
    folder.join(format!("{base_offset:020}.log"))
}

impl Segment {
    /// A new, empty segment.
    pub(crate) fn create(folder: &Path, base_offset: i64) -> std::io::Result<Self> {
        let path = segment_path(folder, base_offset);
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        file.set_len(0)?;
        let mut index = Index::new(base_offset);
        index.first_write_ms = now_ms();
        index.last_write_ms = index.first_write_ms;
        Ok(Self::opened(base_offset, path, file, 0, index))
    }

    /// A segment whose content is known.
    pub(crate) fn opened(base_offset: i64, path: PathBuf, file: File, size: u64, index: Index) -> Self {
        let size = AtomicU64::new(size);
        let torn = AtomicBool::new(false);
        Self { base_offset, path, file, size, torn, index: RwLock::new(index) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        read(&self.index)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.index().next_offset
    }

    /// Appends one batch at `base_offset`. Only the partition's writer calls this. On an error the file is as before.
    pub(crate) fn append(&self, batch: &Bytes, mut header: BatchHeader, base_offset: i64) -> std::io::Result<()> {
        header.base_offset = base_offset;
        let position = self.size();
        self.mend()?;
        self.torn.store(true, Ordering::Release);
        if let Err(error) = self.write_whole(&placed_prefix(batch, base_offset), &batch[16..]) {
            self.torn.store(self.file.set_len(position).is_err(), Ordering::Release);
            return Err(error);
        }
        self.torn.store(false, Ordering::Release);
        write(&self.index).note(&header, position, now_ms());
        self.size.store(position + header.size as u64, Ordering::Release);
        Ok(())
    }

    /// Cuts off what a failed append left: it must precede neither the next batch nor the next segment.
    pub(crate) fn mend(&self) -> std::io::Result<()> {
        if self.torn.load(Ordering::Acquire) {
            self.file.set_len(self.size())?;
            self.torn.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn write_whole(&self, prefix: &[u8], rest: &[u8]) -> std::io::Result<()> {
        let mut file = &self.file;
        let written = file.write_vectored(&[IoSlice::new(prefix), IoSlice::new(rest)])?;
        if written < prefix.len() {
            file.write_all(&prefix[written..])?;
            return file.write_all(rest);
        }
        file.write_all(&rest[written - prefix.len()..])
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    /// The header at `position`, if there is one.
    pub(crate) fn header_at(&self, position: u64) -> std::io::Result<Option<BatchHeader>> {
        if position + HEADER as u64 > self.size() {
            return Ok(None);
        }
        let mut bytes = [0; HEADER];
        self.file.read_exact_at(&mut bytes, position)?;
        BatchHeader::parse(&bytes).map(Some).map_err(|_| self.damaged(position))
    }

    fn bytes_at(&self, position: u64, length: usize) -> std::io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut bytes, position)?;
        Ok(bytes.freeze())
    }

    /// The whole batch with that header.
    pub(crate) fn batch_at(&self, position: u64, header: &BatchHeader) -> std::io::Result<Bytes> {
        let bytes = self.bytes_at(position, header.size)?;
        BatchHeader::verify(&bytes).map_err(|_| self.damaged(position))?;
        Ok(bytes)
    }

    /// Whole batches from the one that holds `offset` on, at most `max_bytes`, but at least one if `at_least_one`.
    /// `None` if nothing here is at or after `offset`.
    pub(crate) fn read_from(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> std::io::Result<Option<Bytes>> {
        let start = self.index().before_offset(offset);
        let Some((position, first)) = self.find(start, |h| h.last_offset() >= offset)? else {
            return Ok(None);
        };
        if first.size > max_bytes {
            return if at_least_one { self.batch_at(position, &first).map(Some) } else { Ok(Some(Bytes::new())) };
        }
        let there = usize::try_from(self.size() - position).unwrap_or(usize::MAX);
        let mut bytes = self.bytes_at(position, there.min(max_bytes))?;
        // What is sound before the damage is served; a read of what comes next is an error.
        let whole = whole_batches(&bytes).or_else(|at| if at > 0 { Ok(at) } else { Err(self.damaged(position)) })?;
        bytes.truncate(whole);
        Ok(Some(bytes))
    }

    /// The first batch with a timestamp of at least `timestamp`.
    pub(crate) fn find_time(&self, timestamp: i64) -> std::io::Result<Option<(u64, BatchHeader)>> {
        let start = self.index().before_time(timestamp);
        self.find(start, |h| h.max_timestamp >= timestamp)
    }

    fn find(
        &self,
        mut position: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> std::io::Result<Option<(u64, BatchHeader)>> {
        while let Some(header) = self.header_at(position)? {
            if wanted(&header) {
                return Ok(Some((position, header)));
            }
            position += header.size as u64;
        }
        Ok(None)
    }

    fn damaged(&self, position: u64) -> std::io::Error {
        let what = format!("no sound record batch at byte {position} of {}", self.path.display());
        std::io::Error::new(std::io::ErrorKind::InvalidData, what)
    }
}

/// Length of the whole batches at the start of `bytes`, or where one is not sound.
fn whole_batches(bytes: &[u8]) -> Result<usize, usize> {
    let mut end = 0;
    while bytes.len() - end >= HEADER {
        let header = BatchHeader::parse(&bytes[end..]).map_err(|_| end)?;
        let Some(batch) = bytes.get(end..end + header.size) else { break };
        BatchHeader::verify(batch).map_err(|_| end)?;
        end += header.size;
    }
    Ok(end)
}
