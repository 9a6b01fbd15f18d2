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
use crate::Error;

/// What was found in a folder.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) producers: Producers,
}

/// Reads all segments of `folder`, which need not exist.
pub(crate) fn recover(folder: &Path) -> Result<Recovered, Error> {
    let mut out = Recovered::default();
    let files = segment_files(folder)?;
    let last = files.len().saturating_sub(1);
    for (at, (base_offset, path)) in files.into_iter().enumerate() {
        let follows_on = out.segments.last().map_or(i64::MIN, |segment| segment.next_offset());
        if base_offset < follows_on {
            // A crash between the two steps of a compaction: its result, before this file, holds what this one holds.
            tracing::info!(file = %path.display(), "compacted segment removed after a crash");
            std::fs::remove_file(&path).map_err(|source| folder_error("remove", &path, source))?;
            continue;
        }
        let segment = recover_segment(base_offset, path, at == last, &mut out.producers)?;
        out.segments.push(Arc::new(segment));
    }
    Ok(out)
}

fn folder_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Folder { action, path: path.to_owned(), source }
}

fn segment_files(folder: &Path) -> Result<Vec<(i64, PathBuf)>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(folder_error("read", folder, source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| folder_error("read", folder, source))?.path();
        let extension = path.extension().and_then(|ext| ext.to_str());
        let base = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        match (extension, base) {
            (Some("log"), Some(base)) => files.push((base, path)),
            (Some("cleaned"), _) => std::fs::remove_file(&path).map_err(|e| folder_error("remove", &path, e))?,
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

fn recover_segment(
    base_offset: i64,
    path: PathBuf,
    is_last: bool,
    producers: &mut Producers,
) -> Result<Segment, Error> {
    let fail = |source| folder_error("read", &path, source);
    let file = OpenOptions::new().read(true).append(true).open(&path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let modified = metadata.modified().map(millis).map_err(fail)?;
    let created = metadata.created().map_or(modified, millis);
    let mut scan = Scan { index: Index::new(base_offset), end: 0, sound: true };
    scan.run(&file, modified, producers).map_err(fail)?;
    if !scan.sound {
        let position = scan.end;
        if !is_last || sound_batch_after(&file, position).map_err(fail)? {
            return Err(Error::Damaged { path, position, size: metadata.len() });
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
    /// Whether they end where the file ends.
    sound: bool,
}

impl Scan {
    fn run(&mut self, file: &File, now: i64, producers: &mut Producers) -> std::io::Result<()> {
        let mut input = BufReader::with_capacity(256 * 1024, file);
        let mut batch = Vec::new();
        loop {
            match next_batch(&mut input, &mut batch)? {
                Next::End => return Ok(()),
                Next::Bad => {
                    self.sound = false;
                    return Ok(());
                }
                Next::Batch(header) => {
                    if header.base_offset < self.index.next_offset {
                        self.sound = false;
                        return Ok(());
                    }
                    self.index.note(&header, self.end, now);
                    producers.record(&header, header.base_offset, now);
                    self.end += header.size as u64;
                }
            }
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

/// Whether a sound batch follows the bad one at `position`: then it was not a torn write, which ends the file.
fn sound_batch_after(file: &File, position: u64) -> std::io::Result<bool> {
    let mut input = BufReader::new(file);
    input.seek(SeekFrom::Start(position))?;
    let mut head = Vec::new();
    input.by_ref().take(HEADER as u64).read_to_end(&mut head)?;
    let Ok(bad) = BatchHeader::parse(&head) else {
        return Ok(false);
    };
    input.seek(SeekFrom::Start(position + bad.size as u64))?;
    Ok(matches!(next_batch(&mut input, &mut Vec::new())?, Next::Batch(_)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
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
        assert!(matches!(&error, Error::Damaged { position, .. } if *position == ends[0]), "{error:?}");
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
        assert!(matches!(recover(&log.folder), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_segment_whose_records_an_unfinished_compaction_already_holds_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder);
        let small = settings(&[("segment.bytes", "100")]);
        append(&log, &Batch::of(&[("a", Some("1"))]), &small);
        append(&log, &Batch::of(&[("b", Some("1"))]), &small);
        append(&log, &Batch::of(&[("c", Some("1"))]), &small);
        // Segments 0 and 1 merged into 0, and then the crash.
        let (first, second) = (segment_path(&log.folder, 0), segment_path(&log.folder, 1));
        let merged = [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()].concat();
        std::fs::write(&first, merged).unwrap();
        let log = open(&folder);
        assert_eq!(keys(&log), [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())]);
        assert!(!second.exists());
    }
}
