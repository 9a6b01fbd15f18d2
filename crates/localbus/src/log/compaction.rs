//! Compaction: of the records with one key, only the last stays. Offsets never change.
//!
//! In: the sealed segments of a compacted topic. Out: fewer, smaller ones, swapped in by a rename; a crash at any
//! step leaves a log with the same latest record for every key: what is called `.swap` replaces all it overlaps with
//! (see `recovery`). A tombstone stays readable for
//! `delete.retention.ms` after everything before it was compacted.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Gzip, Lz4, Snappy, Zstd};

use super::batch::{BatchHeader, CRC_FROM, HEADER, PREFIX};
use super::lock;
use super::partition::Partition;
use super::records::{RecordSlice, records};
use super::recovery::SWAP;
use super::segment::{Index, Segment, segment_path};
use super::state::{PartitionState, Tombstones};
use crate::topics::settings::Settings;

/// One pass maps at most so many keys; the rest waits for the next pass.
const MAX_KEYS: usize = 1_000_000;

/// Compacts what is due. Answers when to look again, in milliseconds since 1970.
pub(crate) fn enforce(
    partition: &Partition,
    settings: &Settings,
    now: i64,
    delay_ms: i64,
) -> std::io::Result<Option<i64>> {
    if !settings.compacts {
        return Ok(None);
    }
    let due = due(partition, settings, delay_ms);
    if due.is_none_or(|due| due > now) {
        return Ok(due);
    }
    Pass::new(partition, settings, now).run()?;
    // Whatever is left, another pass at once would not see anything new.
    Ok(self::due(partition, settings, delay_ms).map(|due| due.max(now.saturating_add(delay_ms))))
}

fn due(partition: &Partition, settings: &Settings, delay_ms: i64) -> Option<i64> {
    let segments = partition.segments();
    let (_, sealed) = segments.split_last()?;
    let state = lock(&partition.writer).state.clone();
    let of_tombstones = state.tombstones.map(|t| t.since_ms.saturating_add(settings.delete_retention_ms));
    let dirty = || sealed.iter().filter(|segment| segment.next_offset() > state.cleaned_to);
    let Some(newest) = dirty().map(|segment| segment.index().last_write_ms).max() else {
        return of_tombstones;
    };
    let dirty_bytes: u64 = dirty().map(|segment| segment.size()).sum();
    let all_bytes: u64 = sealed.iter().map(|segment| segment.size()).sum();
    let enough = dirty_bytes as f64 >= settings.min_cleanable_dirty_ratio * all_bytes as f64;
    let oldest = dirty().map(|segment| segment.index().first_write_ms).min().unwrap_or(newest);
    let settled = newest.saturating_add(delay_ms.max(settings.min_compaction_lag_ms));
    let of_dirt = if enough { settled } else { settled.max(oldest.saturating_add(settings.max_compaction_lag_ms)) };
    Some(of_tombstones.map_or(of_dirt, |tombstones| tombstones.min(of_dirt)))
}

/// One run over the sealed segments.
struct Pass<'a> {
    partition: &'a Partition,
    settings: &'a Settings,
    now: i64,
    /// Key → offset of its last record among the dirty ones.
    last: HashMap<Box<[u8]>, i64>,
    /// Tombstones before this offset go.
    drop_tombstones_before: i64,
    tombstones_left: bool,
}

impl<'a> Pass<'a> {
    fn new(partition: &'a Partition, settings: &'a Settings, now: i64) -> Self {
        let over = |t: &Tombstones| now >= t.since_ms.saturating_add(settings.delete_retention_ms);
        let due = lock(&partition.writer).state.tombstones.clone().filter(over);
        Self {
            partition,
            settings,
            now,
            last: HashMap::new(),
            drop_tombstones_before: due.map_or(i64::MIN, |t| t.before),
            tombstones_left: false,
        }
    }

    fn run(mut self) -> std::io::Result<()> {
        let segments = self.partition.segments();
        let Some((active, sealed)) = segments.split_last() else { return Ok(()) };
        let cleaned_to = lock(&self.partition.writer).state.cleaned_to;
        let lag = self.now - self.settings.min_compaction_lag_ms;
        let old_enough =
            |segment: &&Arc<Segment>| segment.index().max_timestamp <= lag || self.settings.min_compaction_lag_ms == 0;
        let sealed = &sealed[..sealed.iter().take_while(old_enough).count()];
        let covered = self.map_keys(sealed, cleaned_to)?;
        let cleaned = &sealed[..covered];
        let clean_end = segments.get(covered).map_or(active.base_offset, |segment| segment.base_offset);
        for group in groups(cleaned, self.settings.segment_bytes) {
            self.rewrite(group)?;
        }
        self.finish(clean_end)
    }

    /// Fills the map; answers how many of `sealed` it covers.
    fn map_keys(&mut self, sealed: &[Arc<Segment>], cleaned_to: i64) -> std::io::Result<usize> {
        for (at, segment) in sealed.iter().enumerate() {
            if segment.next_offset() <= cleaned_to {
                continue;
            }
            if self.last.len() >= MAX_KEYS {
                return Ok(at);
            }
            each_batch(segment, |_, _, slices| {
                for record in slices.iter().filter(|record| record.offset >= cleaned_to) {
                    if let Some(key) = &record.key {
                        self.last.insert(key.as_ref().into(), record.offset);
                    }
                }
                Ok(())
            })?;
        }
        Ok(sealed.len())
    }

    fn keeps(&self, record: &RecordSlice) -> bool {
        let Some(key) = &record.key else { return false };
        let is_last = self.last.get(key.as_ref()).is_none_or(|last| record.offset >= *last);
        is_last && !(record.tombstone && record.offset < self.drop_tombstones_before)
    }

    /// Writes the survivors of `group` to one file and swaps it in.
    fn rewrite(&mut self, group: &[Arc<Segment>]) -> std::io::Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        let path = segment_path(&self.partition.folder, first.base_offset);
        let mut output = Output::create(path.with_extension("cleaned"), first.base_offset)?;
        let mut dropped = false;
        let mut tombstones = false;
        for segment in group {
            each_batch(segment, |header, batch, slices| {
                let kept: Vec<_> = slices.iter().filter(|record| self.keeps(record)).collect();
                tombstones |= kept.iter().any(|record| record.tombstone);
                dropped |= kept.len() < slices.len();
                if kept.len() == slices.len() {
                    output.put(header, batch, segment.index().last_write_ms)
                } else if kept.is_empty() {
                    Ok(())
                } else {
                    let smaller = rebuild(header, batch, &kept)?;
                    let header = BatchHeader::verify(&smaller).map_err(unreadable)?;
                    output.put(&header, &smaller, segment.index().last_write_ms)
                }
            })?;
        }
        self.tombstones_left |= tombstones;
        if !dropped && group.len() == 1 {
            return std::fs::remove_file(&output.path);
        }
        self.swap(group, output, path)
    }

    fn swap(&self, group: &[Arc<Segment>], output: Output, path: PathBuf) -> std::io::Result<()> {
        let temporary = output.path.clone();
        let new = output.finish(path.clone())?;
        let _writer = lock(&self.partition.writer);
        if !self.partition.contains_all(group) {
            return std::fs::remove_file(temporary);
        }
        let swap = path.with_extension(SWAP);
        match &new {
            Some(_) => std::fs::rename(&temporary, &swap)?,
            None => std::fs::remove_file(&temporary)?,
        }
        self.partition.replace(group, new.clone());
        for segment in group {
            match std::fs::remove_file(&segment.path) {
                // An earlier pass failed between here and its end.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        if new.is_some() { std::fs::rename(&swap, &path) } else { Ok(()) }
    }

    fn finish(self, clean_end: i64) -> std::io::Result<()> {
        let mut writer = lock(&self.partition.writer);
        if self.partition.is_deleted() {
            return Ok(());
        }
        let waiting = writer.state.tombstones.clone().filter(|t| t.before > self.drop_tombstones_before);
        let tombstones = match (self.tombstones_left, waiting) {
            (false, _) => None,
            (true, Some(waiting)) => Some(waiting),
            (true, None) => Some(Tombstones { before: clean_end, since_ms: self.now }),
        };
        tracing::debug!(folder = %self.partition.folder.display(), clean_end, "log compacted");
        let state = PartitionState { cleaned_to: clean_end, tombstones, ..writer.state.clone() };
        self.partition.store_state(&mut writer, state)
    }
}

/// Splits into runs of neighbours that together fit into one segment.
fn groups(segments: &[Arc<Segment>], segment_bytes: u64) -> Vec<&[Arc<Segment>]> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut size = 0;
    for (at, segment) in segments.iter().enumerate() {
        if at > from && size + segment.size() > segment_bytes {
            out.push(&segments[from..at]);
            (from, size) = (at, 0);
        }
        size += segment.size();
    }
    if from < segments.len() {
        out.push(&segments[from..]);
    }
    out
}

fn each_batch(
    segment: &Segment,
    mut visit: impl FnMut(&BatchHeader, &Bytes, &[RecordSlice]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut position = 0;
    while let Some(header) = segment.header_at(position)? {
        let batch = segment.batch_at(position, &header)?;
        visit(&header, &batch, &records(&batch, &header).map_err(unreadable)?)?;
        position += header.size as u64;
    }
    Ok(())
}

fn unreadable(bad: super::batch::BadBatch) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("unreadable batch: {bad:?}"))
}

/// A batch of some of its records, with its former offsets, times, producer and codec.
fn rebuild(header: &BatchHeader, batch: &Bytes, kept: &[&RecordSlice]) -> std::io::Result<Bytes> {
    let mut out = BytesMut::from(&batch[..HEADER]);
    let copy = |buf: &mut BytesMut| {
        kept.iter().for_each(|record| buf.put_slice(&record.raw));
        Ok(())
    };
    match header.attributes & 7 {
        1 => Gzip::compress(&mut out, copy),
        2 => Snappy::compress(&mut out, copy),
        3 => Lz4::compress(&mut out, copy),
        4 => Zstd::compress(&mut out, copy),
        _ => copy(&mut out),
    }
    .map_err(|error| std::io::Error::other(error.to_string()))?;
    let length = i32::try_from(out.len() - PREFIX).map_err(std::io::Error::other)?;
    let count = i32::try_from(kept.len()).map_err(std::io::Error::other)?;
    let newest = kept.iter().map(|record| record.timestamp).max().unwrap_or(header.max_timestamp);
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[35..43].copy_from_slice(&newest.to_be_bytes());
    out[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(out.freeze())
}

/// A segment in the making.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
    index: Index,
}

impl Output {
    fn create(path: PathBuf, base_offset: i64) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        Ok(Self { path, file: BufWriter::new(file), size: 0, index: Index::new(base_offset) })
    }

    fn put(&mut self, header: &BatchHeader, batch: &Bytes, written_ms: i64) -> std::io::Result<()> {
        self.file.write_all(batch)?;
        self.index.note(header, self.size, written_ms);
        self.size += header.size as u64;
        Ok(())
    }

    /// The finished segment, which will be found at `path`; `None` if nothing survived.
    fn finish(self, path: PathBuf) -> std::io::Result<Option<Arc<Segment>>> {
        let written = self.file.into_inner().map_err(|error| error.into_error())?;
        written.sync_data()?;
        if self.size == 0 {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        let base_offset = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let base_offset = base_offset.unwrap_or(self.index.next_offset);
        Ok(Some(Arc::new(Segment::opened(base_offset, path, file, self.size, self.index))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use kafka_protocol::records::Compression;
    use proptest::prelude::*;

    use super::super::partition::ReadError;
    use super::super::testing::{Batch, append, keys, open, read_all, settings};
    use super::*;

    const NOW: i64 = i64::MAX / 4;

    fn compacted(extra: &[(&str, &str)]) -> Settings {
        settings(
            &[&[("cleanup.policy", "compact"), ("segment.bytes", "300"), ("min.cleanable.dirty.ratio", "0")], extra]
                .concat(),
        )
    }

    fn key_list(log: &Partition) -> Vec<String> {
        keys(log).into_iter().map(|(_, key)| key).collect()
    }

    /// Latest value of each key that has one, as a reader of the whole log ends up with.
    fn view(log: &Partition) -> BTreeMap<Bytes, (i64, Bytes)> {
        let mut view = BTreeMap::new();
        for record in read_all(log) {
            let key = record.key.clone().unwrap();
            if record.tombstone {
                view.remove(&key);
            } else {
                view.insert(key, (record.timestamp, record.raw.slice(record.raw.len() - 2..)));
            }
        }
        view
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn a_reader_of_the_compacted_log_sees_the_same_as_before(
            batches in prop::collection::vec(
                (prop::collection::vec((0u8..8, prop::option::of(0u8..250)), 1..6), 0usize..5),
                1..40,
            ),
            passes in 1i64..4,
        ) {
            let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
            let folder = tempfile::tempdir().unwrap();
            let log = open(&folder);
            let settings = compacted(&[("delete.retention.ms", "10")]);
            for (at, (records, codec)) in batches.iter().enumerate() {
                let records: Vec<_> = records.iter().map(|(k, v)| (format!("k{k}"), v.map(|v| format!("{v:03}")))).collect();
                let records: Vec<_> = records.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
                append(&log, &Batch::of(&records).at(1000 + at as i64 * 10).compressed(codecs[*codec]), &settings);
            }
            let (before, end) = (view(&log), log.end());
            for pass in 0..passes {
                enforce(&log, &settings, NOW + pass * 1000, 0).unwrap();
                prop_assert_eq!(&view(&log), &before);
                let reopened = open(&folder);
                prop_assert_eq!(&view(&reopened), &before);
                prop_assert_eq!(reopened.end(), end);
            }
            let sealed_to = log.segments().last().unwrap().base_offset;
            let mut distinct = std::collections::BTreeSet::new();
            for (offset, key) in keys(&log).into_iter().filter(|(offset, _)| *offset < sealed_to) {
                prop_assert!(distinct.insert(key.clone()), "{} twice before {}, again at {}", key, sealed_to, offset);
            }
        }
    }

    #[test]
    fn readers_of_a_log_that_is_written_compacted_and_cut_meet_no_error_and_no_older_value() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let settings = compacted(&[]);
        let (log, settings, written) = (&log, &settings, 600);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..written {
                    append(log, &Batch::of(&[(&format!("k{}", n % 7), Some(&format!("{n:03}")))]), settings);
                }
            });
            let keeper = scope.spawn(move || {
                for pass in 0.. {
                    enforce(log, settings, NOW + pass, 0).unwrap();
                    if pass % 10 == 9 {
                        log.delete_before(log.end() / 3).unwrap();
                    }
                    if log.end() == written {
                        return;
                    }
                }
            });
            let mut offset = 0;
            while !keeper.is_finished() || offset < log.end() {
                offset = match log.read(offset, 1000, true) {
                    // Deleted while it was being reached: a consumer goes on at the start.
                    Err(ReadError::OutOfRange) => log.log_start(),
                    Err(error) => panic!("{error:?}"),
                    Ok(bytes) if bytes.is_empty() => offset,
                    Ok(bytes) => {
                        let header = BatchHeader::parse(&bytes).unwrap();
                        assert!(header.last_offset() >= offset);
                        header.last_offset() + 1
                    }
                };
            }
        });
        enforce(log, settings, 2 * NOW, 0).unwrap();
        let newest = view(log);
        assert_eq!((newest.len(), log.end()), (7, written));
        for n in written - 7..written {
            // The last digit, and that there are no headers.
            let value = &newest[format!("k{}", n % 7).as_bytes()].1;
            assert_eq!(value[..], [b'0' + (n % 10) as u8, 0], "{n}");
        }
        assert_eq!(view(&open(&folder)), newest);
    }

    #[test]
    fn only_sealed_segments_are_compacted_and_offsets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let settings = compacted(&[]);
        for value in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            append(&log, &Batch::of(&[("a", Some(value))]), &settings);
        }
        let active = log.segments().last().unwrap().base_offset;
        enforce(&log, &settings, NOW, 0).unwrap();
        let expected: Vec<_> = (active - 1..8).map(|offset| (offset, "a".to_owned())).collect();
        assert_eq!(keys(&log), expected);
    }

    #[test]
    fn a_tombstone_stays_readable_for_its_time_and_then_goes() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let settings = compacted(&[("delete.retention.ms", "1000")]);
        append(&log, &Batch::of(&[("a", Some("1"))]), &settings);
        append(&log, &Batch::of(&[("a", None)]), &settings);
        for _ in 0..4 {
            append(&log, &Batch::of(&[("b", Some("1"))]), &settings);
        }
        let due = enforce(&log, &settings, NOW, 0).unwrap().unwrap();
        assert_eq!((due, key_list(&log)[0].as_str()), (NOW + 1000, "a"));
        enforce(&log, &settings, NOW + 999, 0).unwrap();
        assert_eq!(key_list(&log)[0], "a");
        assert_eq!(enforce(&log, &settings, NOW + 1000, 0).unwrap(), None);
        assert!(!key_list(&log).contains(&"a".to_owned()));
    }

    #[test]
    fn it_waits_for_enough_dirt_or_for_the_longest_lag() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let policy = [("cleanup.policy", "compact"), ("segment.bytes", "300"), ("max.compaction.lag.ms", "50000")];
        let settings = settings(&policy);
        let fill = |from: usize, to: usize| {
            for at in from..to {
                append(&log, &Batch::of(&[(&format!("k{at}"), Some("v"))]), &settings);
            }
        };
        let due_in = || {
            let now = super::super::now_ms();
            enforce(&log, &settings, now, 10_000).unwrap().map(|due| (due - now) / 10_000)
        };
        assert_eq!(due_in(), None, "nothing is sealed");
        fill(0, 100);
        assert!(due_in().is_some_and(|delays| delays <= 1), "all is dirty");
        enforce(&log, &settings, NOW, 0).unwrap();
        assert_eq!(due_in(), None, "all is clean");
        fill(100, 110);
        assert!(due_in().is_some_and(|delays| delays >= 4), "a little is dirty");
    }
}
