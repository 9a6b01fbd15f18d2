//! From a folder of segment files to a log, after a clean stop or a crash.
//!
//! In: files. Out: segments with their indexes, and the producers that wrote them. A torn last write is cut off;
//! damage anywhere else is an error, never a silently shorter log.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{BatchHeader, CRC_FROM, HEADER};
use super::millis;
use super::producers::Producers;
use super::segment::{Index, Segment};
use crate::LocalBusError;

/// What was found in a folder.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) producers: Producers,
}

/// A finished compaction's result, until it has taken the place of what it replaces.
pub(super) const SWAP: &str = "swap";

/// Reads all segments of `folder`, which need not exist.
pub(crate) fn recover(folder: &Path) -> Result<Recovered, LocalBusError> {
    finish_compaction(folder)?;
    let mut out = Recovered::default();
    let files = files(folder, "log")?;
    let ends = files.iter().skip(1).map(|(base_offset, _)| Some(*base_offset)).chain([None]);
    for ((base_offset, path), end) in files.iter().cloned().zip(ends) {
        out.segments.push(Arc::new(recover_segment(base_offset, path, end, &mut out.producers)?));
    }
    Ok(out)
}

/// What a crash left of a compaction: unfinished results go, a finished one takes the place of what it overlaps with.
fn finish_compaction(folder: &Path) -> Result<(), LocalBusError> {
    let remove = |path: &Path| std::fs::remove_file(path).map_err(|source| folder_error("remove", path, source));
    files(folder, "cleaned")?.iter().try_for_each(|(_, path)| remove(path))?;
    for (base_offset, swap) in files(folder, SWAP)? {
        let end = recover_segment(base_offset, swap.clone(), Some(i64::MAX), &mut Producers::default())?.next_offset();
        let replaced = files(folder, "log")?.into_iter().filter(|(base, _)| (base_offset..end).contains(base));
        replaced.map(|(_, path)| path).try_for_each(|path| remove(&path))?;
        let log = swap.with_extension("log");
        std::fs::rename(&swap, &log).map_err(|source| folder_error("rename", &swap, source))?;
        tracing::info!(file = %log.display(), "compaction finished after a crash");
    }
    Ok(())
}

fn folder_error(action: &'static str, path: &Path, source: std::io::Error) -> LocalBusError {
    LocalBusError::Folder { action, path: path.to_owned(), source }
}

/// The files of one kind, by the offset that they begin with.
fn files(folder: &Path, kind: &str) -> Result<Vec<(i64, PathBuf)>, LocalBusError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(folder_error("read", folder, source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| folder_error("read", folder, source))?.path();
        let base = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(base) = base.filter(|_| path.extension().is_some_and(|ext| ext == kind)) {
            files.push((base, path));
        }
    }
    files.sort();
    Ok(files)
}

/// `end` is where the next segment begins; the last one has none, and only there may a write be unfinished.
fn recover_segment(
    base_offset: i64,
    path: PathBuf,
    end: Option<i64>,
    producers: &mut Producers,
) -> Result<Segment, LocalBusError> {
    let fail = |source| folder_error("read", &path, source);
    let file = OpenOptions::new().read(true).append(true).open(&path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let modified = metadata.modified().map(millis).map_err(fail)?;
    let created = metadata.created().map_or(modified, millis);
    let mut scan = Scan { index: Index::new(base_offset), end: 0, next_segment: end };
    if !scan.run(&file, modified, producers).map_err(fail)? {
        let position = scan.end;
        if end.is_some() || sound_batch_after(&file, position, scan.index.next_offset).map_err(fail)? {
            return Err(LocalBusError::Damaged { path, position, size: metadata.len() });
        }
        tracing::warn!(file = %path.display(), position, size = metadata.len(), "unfinished write cut off");
        file.set_len(position).map_err(|source| folder_error("truncate", &path, source))?;
    }
    scan.index.first_write_ms = created.min(modified);
    scan.index.last_write_ms = modified;
    Ok(Segment::opened(base_offset, path, file, scan.end, scan.index))
}

/// A walk over a file, batch by batch.
struct Scan {
    index: Index,
    /// Where the sound batches end.
    end: u64,
    next_segment: Option<i64>,
}

impl Scan {
    /// Whether the sound batches end where the file ends.
    fn run(&mut self, file: &File, now: i64, producers: &mut Producers) -> std::io::Result<bool> {
        let mut input = BufReader::with_capacity(256 * 1024, file);
        let mut batch = Vec::new();
        loop {
            match next_batch(&mut input, &mut batch)? {
                Next::End => return Ok(true),
                Next::Batch(header) if self.fits(&header) => {
                    self.index.note(&header, self.end, now);
                    producers.record(&header, header.base_offset, now);
                    self.end += header.size as u64;
                }
                Next::Batch(_) | Next::Bad => return Ok(false),
            }
        }
    }

    /// No checksum covers a batch's offset, but its neighbours tell: only compaction, which leaves the last segment
    /// alone, makes gaps.
    fn fits(&self, header: &BatchHeader) -> bool {
        let expected = self.index.next_offset;
        match self.next_segment {
            None => header.base_offset == expected,
            Some(next) => header.base_offset >= expected && header.last_offset() < next,
        }
    }
}

enum Next {
    End,
    Bad,
    Batch(BatchHeader),
}

fn next_batch(input: &mut impl Read, batch: &mut Vec<u8>) -> std::io::Result<Next> {
    batch.clear();
    input.take(HEADER as u64).read_to_end(batch)?;
    if batch.is_empty() {
        return Ok(Next::End);
    }
    let Ok(header) = BatchHeader::parse(batch) else {
        return Ok(Next::Bad);
    };
    // `take` rather than a buffer of the promised size: a damaged length must not decide how much is allocated.
    input.take((header.size - HEADER) as u64).read_to_end(batch)?;
    let whole = batch.len() == header.size && crc32c::crc32c(&batch[CRC_FROM..]) == header.crc;
    Ok(if whole { Next::Batch(header) } else { Next::Bad })
}

/// Whether a sound batch lies anywhere after the bad one at `position`: then it was not a torn write, which ends the
/// file. The bad one's own length may be what is damaged, so every place is tried.
fn sound_batch_after(mut file: &File, position: u64, offset: i64) -> std::io::Result<bool> {
    file.seek(SeekFrom::Start(position))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let plausible = offset..offset.saturating_add(i64::from(i32::MAX));
    let sound = |at: usize| {
        let header = BatchHeader::parse(&rest[at..]).ok().filter(|header| plausible.contains(&header.base_offset));
        header.and_then(|header| rest.get(at..at + header.size)).is_some_and(|batch| BatchHeader::verify(batch).is_ok())
    };
    Ok((1..rest.len()).any(sound))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::partition::Partition;
    use super::super::segment::segment_path;
    use super::super::testing::{Batch, append, keys, open, settings};
    use super::*;

    /// A log of three batches; its file and where each batch ends.
    fn three_batches(folder: &tempfile::TempDir) -> (PathBuf, Vec<u64>) {
        let log = open(folder);
        let path = segment_path(&log.folder, 0);
        let add = |keys: &[(&str, Option<&str>)]| {
            append(&log, &Batch::of(keys), &settings(&[]));
            std::fs::metadata(&path).unwrap().len()
        };
        let ends = vec![add(&[("a", Some("1"))]), add(&[("b", Some("2")), ("c", Some("3"))]), add(&[("d", None)])];
        (path, ends)
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_every_whole_batch() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = three_batches(&folder);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let log = open(&folder);
            let batches = ends.iter().filter(|end| **end <= cut as u64).count();
            let next = [0, 1, 3, 4][batches];
            assert_eq!(log.end(), next, "cut at byte {cut} of {}", whole.len());
            assert_eq!(keys(&log).len() as i64, next, "cut at byte {cut}");
            assert_eq!(append(&log, &Batch::of(&[("next", None)]), &settings(&[])), next, "cut at byte {cut}");
            assert_eq!(keys(&open(&folder)).last().unwrap().1, "next", "cut at byte {cut}");
        }
    }

    #[test]
    fn random_garbage_after_the_last_batch_is_cut_off() {
        use rand::{Rng, SeedableRng};
        let seed: u64 = rand::random();
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for round in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let (path, ends) = three_batches(&folder);
            let mut bytes = std::fs::read(&path).unwrap();
            let from = random.random_range(ends[1] as usize + 1..bytes.len());
            random.fill(&mut bytes[from..]);
            bytes.extend(std::iter::repeat_with(|| random.random::<u8>()).take(100));
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(open(&folder).end(), 3, "seed {seed}, round {round}");
        }
    }

    #[test]
    fn damage_before_sound_batches_is_an_error_that_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = three_batches(&folder);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[ends[1] as usize - 1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = recover(path.parent().unwrap()).unwrap_err();
        assert!(matches!(&error, LocalBusError::Damaged { position, .. } if *position == ends[0]), "{error:?}");
        assert_eq!(error.code(), "MESH-LOCALBUS-0005");
    }

    #[test]
    fn damage_in_a_sealed_segment_is_an_error_even_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let small = settings(&[("segment.bytes", "100")]);
        append(&log, &Batch::of(&[("a", Some("1"))]), &small);
        append(&log, &Batch::of(&[("b", Some("1"))]), &small);
        let path = segment_path(&log.folder, 0);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        assert!(matches!(recover(&log.folder), Err(LocalBusError::Damaged { .. })));
    }

    #[test]
    fn no_flipped_bit_is_ever_served() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let small = settings(&[("segment.bytes", "200")]);
        for key in ["a", "b", "c", "d", "e"] {
            append(&log, &Batch::of(&[(key, Some("1"))]), &small);
        }
        let before = keys(&log);
        let paths: Vec<_> = log.segments().iter().map(|segment| segment.path.clone()).collect();
        assert_eq!(paths.len(), 3);
        // The last batch of all may be what a crash tore, and is cut off; anywhere else, damage is an error.
        let last_batch = log.segments()[2].base_offset;
        drop(log);
        for (at, path) in paths.iter().enumerate() {
            let bytes = std::fs::read(path).unwrap();
            // Bytes 12 to 15 of a batch are an epoch that means nothing here.
            let size = bytes.len() / if at < 2 { 2 } else { 1 };
            for bit in (0..bytes.len() * 8).filter(|bit| !(12..16).contains(&(bit / 8 % size))) {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(path, flipped).unwrap();
                match Partition::open(path.parent().unwrap().to_owned()) {
                    Ok(log) => {
                        assert_eq!((at, log.end()), (2, last_batch), "bit {bit} of {}", path.display());
                        assert_eq!(keys(&log), before[..4], "bit {bit} of {}", path.display());
                    }
                    Err(error) => assert!(matches!(error, LocalBusError::Damaged { .. }), "{error:?}"),
                }
                std::fs::write(path, &bytes).unwrap();
            }
        }
        assert_eq!(keys(&open(&folder)), before);
    }

    #[test]
    fn a_damaged_length_before_sound_batches_does_not_pass_for_a_torn_write() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = three_batches(&folder);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[ends[0] as usize + 9] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = recover(path.parent().unwrap()).unwrap_err();
        assert!(matches!(&error, LocalBusError::Damaged { position, .. } if *position == ends[0]), "{error:?}");
    }

    #[test]
    fn a_segment_whose_records_an_unfinished_compaction_already_holds_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let small = settings(&[("segment.bytes", "100")]);
        append(&log, &Batch::of(&[("a", Some("1"))]), &small);
        append(&log, &Batch::of(&[("b", Some("1"))]), &small);
        append(&log, &Batch::of(&[("c", Some("1"))]), &small);
        // Segments 0 and 1 merged, and then the crash: before or after the first of them was removed.
        let (first, second) = (segment_path(&log.folder, 0), segment_path(&log.folder, 1));
        let merged = [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()].concat();
        for removed in [false, true] {
            std::fs::write(first.with_extension(SWAP), &merged).unwrap();
            if removed {
                std::fs::remove_file(&first).unwrap();
            }
            let log = open(&folder);
            assert_eq!(keys(&log), [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())]);
            assert!(!second.exists() && !first.with_extension(SWAP).exists());
        }
    }
}
