//! The body of a batch, unpacked: never to more than a bound, whatever a few bytes may claim to hold.

use std::io::{Cursor, Read};

use bytes::{Buf, Bytes};
use kafka_protocol::records::Compression;

use super::batch::BadBatch;

/// Larger bodies are refused, as larger requests are.
const LARGEST: usize = 100 * 1024 * 1024;
/// Snappy as Java's clients frame it begins so; two version numbers follow.
const XERIAL: &[u8] = b"\x82SNAPPY\0";

/// The records of a body that is packed as its batch's attributes say.
pub(super) fn unpack(body: Bytes, attributes: i16) -> Result<Bytes, BadBatch> {
    const NONE: i16 = Compression::None as i16;
    const GZIP: i16 = Compression::Gzip as i16;
    const SNAPPY: i16 = Compression::Snappy as i16;
    const LZ4: i16 = Compression::Lz4 as i16;
    const ZSTD: i16 = Compression::Zstd as i16;
    let bad = |_| BadBatch::Inconsistent;
    let packed = Cursor::new(body.clone());
    match attributes & 7 {
        NONE => Ok(body),
        GZIP => bounded(flate2::read::GzDecoder::new(packed), LARGEST),
        SNAPPY => snappy(body, LARGEST),
        LZ4 => bounded(lz4::Decoder::new(packed).map_err(bad)?, LARGEST),
        ZSTD => bounded(zstd::Decoder::with_buffer(packed).map_err(bad)?, LARGEST),
        _ => Err(BadBatch::Inconsistent),
    }
}

fn bounded(reader: impl Read, largest: usize) -> Result<Bytes, BadBatch> {
    let mut out = Vec::new();
    reader.take(largest as u64 + 1).read_to_end(&mut out).map_err(|_| BadBatch::Inconsistent)?;
    if out.len() > largest { Err(BadBatch::Inconsistent) } else { Ok(out.into()) }
}

fn snappy(mut body: Bytes, largest: usize) -> Result<Bytes, BadBatch> {
    let mut out = Vec::new();
    if !body.starts_with(XERIAL) {
        snappy_block(&body, &mut out, largest)?;
        return Ok(out.into());
    }
    let bad = |_| BadBatch::Inconsistent;
    body.try_get_u64().and_then(|_| body.try_get_u64()).map_err(bad)?;
    while body.has_remaining() {
        let length = body.try_get_u32().map_err(bad)? as usize;
        if length > body.len() {
            return Err(BadBatch::Inconsistent);
        }
        snappy_block(&body.split_to(length), &mut out, largest)?;
    }
    Ok(out.into())
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>, largest: usize) -> Result<(), BadBatch> {
    let bad = |_| BadBatch::Inconsistent;
    let from = out.len();
    let length = snap::raw::decompress_len(block).map_err(bad)?;
    if length > largest - from {
        return Err(BadBatch::Inconsistent);
    }
    out.resize(from + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[from..]).map_err(bad)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_that_would_fill_the_memory_are_refused() {
        let zeros = || std::io::repeat(0).take(LARGEST as u64 + 1);
        let mut gzip = flate2::read::GzEncoder::new(zeros(), flate2::Compression::fast());
        let mut packed = Vec::new();
        gzip.read_to_end(&mut packed).unwrap();
        assert_eq!(unpack(packed.into(), Compression::Gzip as i16), Err(BadBatch::Inconsistent));
        let packed = zstd::encode_all(zeros(), 1).unwrap();
        assert!(packed.len() < 100_000);
        assert_eq!(unpack(packed.into(), Compression::Zstd as i16), Err(BadBatch::Inconsistent));
        // A block of snappy says its length first: 4 GiB.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert_eq!(unpack(Bytes::copy_from_slice(&claim), Compression::Snappy as i16), Err(BadBatch::Inconsistent));
    }

    #[test]
    fn snappy_comes_bare_or_as_java_frames_it() {
        let block = |text: &[u8]| snap::raw::Encoder::new().compress_vec(text).unwrap();
        assert_eq!(unpack(block(b"records").into(), Compression::Snappy as i16).unwrap(), "records");
        let framed = [b"rec", b"ord"].map(|part| {
            let block = block(part);
            [&(block.len() as u32).to_be_bytes()[..], &block].concat()
        });
        let framed = [XERIAL, &[0, 0, 0, 1, 0, 0, 0, 1], &framed.concat()].concat();
        assert_eq!(unpack(framed.clone().into(), Compression::Snappy as i16).unwrap(), "record");
        for cut in XERIAL.len()..framed.len() {
            let _ = unpack(Bytes::copy_from_slice(&framed[..cut]), Compression::Snappy as i16);
        }
    }
}
