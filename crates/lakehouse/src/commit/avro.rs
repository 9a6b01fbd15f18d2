//! Avro files of manifests, compressed: iceberg-rust 0.10.1 writes them with the codec `null`, and Iceberg's other
//! writers with `deflate`.
//!
//! In: an Avro object container file as iceberg-rust makes it. Out: the same header and records, in deflated blocks.
//! The schema's text is kept byte for byte: a parser that wrote it again could lose field ids.
//! Never: a record changed, added or left out.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

const MAGIC: &[u8] = b"Obj\x01";
const CODEC: &[u8] = b"avro.codec";
const SYNC: usize = 16;
/// Bytes of records that are compressed together: iceberg-rust's own blocks of 16 kB compress worse.
const BLOCK: usize = 256 << 10;

/// The file with deflated blocks. One that is compressed already stays as it is.
pub(super) fn deflated(file: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut input = Reader { bytes: file };
    if input.take(MAGIC.len())? != MAGIC {
        return Err(Malformed("it does not begin as an Avro file"));
    }
    let header = input.header()?;
    if header.iter().any(|(key, value)| *key == CODEC && *value != b"null") {
        return Ok(file.to_vec());
    }
    let sync = input.take(SYNC)?;
    let mut output = MAGIC.to_vec();
    let kept = header.into_iter().filter(|(key, _)| *key != CODEC);
    write_header(&mut output, kept.chain([(CODEC, b"deflate".as_slice())]));
    output.extend_from_slice(sync);
    let (mut records, mut data) = (0, Vec::new());
    while !input.bytes.is_empty() {
        records += input.long()?;
        let size = input.size()?;
        data.extend_from_slice(input.take(size)?);
        if input.take(SYNC)? != sync {
            return Err(Malformed("a block does not end with its sync marker"));
        }
        if data.len() >= BLOCK {
            write_block(&mut output, std::mem::take(&mut records), &data, sync)?;
            data.clear();
        }
    }
    if records > 0 {
        write_block(&mut output, records, &data, sync)?;
    }
    Ok(output)
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the Avro file cannot be compressed: {0}")]
pub(super) struct Malformed(&'static str);

/// Key and value of a file's header.
type HeaderEntry<'a> = (&'a [u8], &'a [u8]);

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A zigzag varint.
    fn long(&mut self) -> Result<i64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Malformed("a number is too long"))
    }

    fn size(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.long()?).map_err(|_| Malformed("a size is negative"))
    }

    /// The header's map of strings to bytes, in blocks as Avro writes maps.
    fn header(&mut self) -> Result<Vec<HeaderEntry<'a>>, Malformed> {
        let mut entries = Vec::new();
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(entries);
            }
            if count < 0 {
                // The block's size in bytes follows.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let key = self.size()?;
                let key = self.take(key)?;
                let value = self.size()?;
                entries.push((key, self.take(value)?));
            }
        }
    }
}

fn write_long(output: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        output.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    output.push(rest as u8);
}

fn write_bytes(output: &mut Vec<u8>, bytes: &[u8]) {
    write_long(output, bytes.len() as i64);
    output.extend_from_slice(bytes);
}

fn write_header<'a>(output: &mut Vec<u8>, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let entries: Vec<_> = entries.collect();
    write_long(output, entries.len() as i64);
    for (key, value) in entries {
        write_bytes(output, key);
        write_bytes(output, value);
    }
    write_long(output, 0);
}

fn write_block(output: &mut Vec<u8>, records: i64, data: &[u8], sync: &[u8]) -> Result<(), Malformed> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(data).and_then(|()| encoder.finish());
    let compressed = compressed.map_err(|_| Malformed("a block cannot be deflated"))?;
    write_long(output, records);
    write_bytes(output, &compressed);
    output.extend_from_slice(sync);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container(codec: Option<&[u8]>, blocks: &[(i64, Vec<u8>)]) -> Vec<u8> {
        let sync = [7; SYNC];
        let mut file = MAGIC.to_vec();
        let schema = [(b"avro.schema".as_slice(), b"{\"field-id\": 7}".as_slice())];
        write_header(&mut file, schema.into_iter().chain(codec.map(|codec| (CODEC, codec))));
        file.extend_from_slice(&sync);
        for (records, data) in blocks {
            write_long(&mut file, *records);
            write_bytes(&mut file, data);
            file.extend_from_slice(&sync);
        }
        file
    }

    /// All records' bytes, with their number.
    fn records(file: &[u8]) -> (i64, Vec<u8>) {
        let mut input = Reader { bytes: file };
        input.take(MAGIC.len()).unwrap();
        let header = input.header().unwrap();
        assert!(header.contains(&(b"avro.schema".as_slice(), b"{\"field-id\": 7}".as_slice())));
        assert!(header.contains(&(CODEC, b"deflate".as_slice())));
        input.take(SYNC).unwrap();
        let (mut count, mut data) = (0, Vec::new());
        while !input.bytes.is_empty() {
            count += input.long().unwrap();
            let size = input.size().unwrap();
            let block = input.take(size).unwrap();
            std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(block), &mut data).unwrap();
            input.take(SYNC).unwrap();
        }
        (count, data)
    }

    proptest! {
        #[test]
        fn a_compressed_file_has_the_same_records(
            blocks in prop::collection::vec((1..99i64, prop::collection::vec(any::<u8>(), 0..9000)), 0..60),
            codec in any::<bool>(),
        ) {
            let (codec, expected) = (codec.then_some(b"null".as_slice()), blocks.iter().map(|(count, _)| count).sum());
            let file = deflated(&container(codec, &blocks)).unwrap();
            let bytes: Vec<u8> = blocks.into_iter().flat_map(|(_, data)| data).collect();
            prop_assert_eq!(records(&file), (expected, bytes));
            prop_assert_eq!(deflated(&file).unwrap(), file);
        }

        #[test]
        fn a_cut_file_is_an_error(cut in 0..80usize) {
            let file = container(None, &[(3, vec![1; 20])]);
            prop_assume!(cut < file.len());
            // A file without its last block is a whole file.
            let whole = file.len() - 20 - SYNC - 2;
            prop_assert_eq!(deflated(file.get(..cut).unwrap()).is_ok(), cut == whole);
        }
    }
}
