//! Lengths that a frame only claims.
//!
//! In: a frame's bytes. Out: the same bytes to kafka-protocol's decoders, which reserve memory for an array before they
//! read it. A length beyond the bytes left is refused here, so that a small frame never takes much memory.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// What decoders answer to with "negative length".
const REFUSED: i32 = -2;
/// Longer arrays are reserved for only if the machine has that much.
const MANY: usize = 1_000_000;
/// About what a decoded element takes.
const ELEMENT: usize = 256;

/// Decodes a message, once to see that its lengths are true, once for its values.
pub(super) fn decode<T: Decodable>(frame: &mut Bytes, version: i16) -> Result<T, String> {
    // The first pass spoils large numbers that are no lengths, so its values are of no use.
    T::decode(&mut Guard::new(frame.clone()), version).map_err(|error| error.to_string())?;
    T::decode(frame, version).map_err(|error| error.to_string())
}

/// A frame that refuses to give out lengths it cannot hold.
struct Guard {
    left: Bytes,
    /// The variable-length number that is being read: its value so far and its next bit.
    varint: (u64, u32),
}

impl Guard {
    fn new(left: Bytes) -> Self {
        Self { left, varint: (0, 0) }
    }

    fn holds(&self, length: usize) -> bool {
        let room = || Vec::<[u8; ELEMENT]>::new().try_reserve_exact(length).is_ok();
        length <= self.left.len() && (length <= MANY || room())
    }

    /// In every request these are lengths plus one, tags or booleans: never more than the bytes left.
    fn see(&mut self, byte: u8) -> Result<(), TryGetError> {
        let (value, shift) = self.varint;
        let value = value | u64::from(byte & 0x7f) << shift;
        if byte & 0x80 != 0 && shift < 28 {
            self.varint = (value, shift + 7);
            return Ok(());
        }
        self.varint = (0, 0);
        let length = usize::try_from(value.saturating_sub(1)).unwrap_or(usize::MAX);
        if self.holds(length) { Ok(()) } else { Err(TryGetError { requested: length, available: self.left.len() }) }
    }
}

impl Buf for Guard {
    fn remaining(&self) -> usize {
        self.left.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.left.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.left.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.left.try_get_u8()?;
        self.see(byte).map(|()| byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.left.try_get_i32()?;
        let fits = usize::try_from(value).is_ok_and(|length| self.holds(length));
        Ok(if fits || value == -1 { value } else { REFUSED })
    }
}

impl ByteBuf for Guard {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.left.peek_bytes(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.left.get_bytes(size)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    use super::*;

    fn encoded(message: &impl Encodable, version: i16) -> BytesMut {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes, version).unwrap();
        bytes
    }

    #[test]
    fn numbers_that_are_no_lengths_may_be_as_large_as_they_like() {
        let request = FetchRequest::default().with_max_wait_ms(i32::MAX).with_min_bytes(i32::MAX).with_max_bytes(-7);
        for version in 4..=16 {
            let mut bytes = encoded(&request, version).freeze();
            assert_eq!(decode::<FetchRequest>(&mut bytes, version), Ok(request.clone()), "version {version}");
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn an_array_longer_than_its_frame_is_refused_before_it_is_reserved_for() {
        // Hundreds of gigabytes, if they were reserved.
        for length in [2, 1_000, i32::MAX] {
            let mut old = Bytes::copy_from_slice(&length.to_be_bytes());
            decode::<MetadataRequest>(&mut old, 1).unwrap_err();
        }
        for length in [&[3][..], &[0xff, 0xff, 3], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 9]] {
            decode::<MetadataRequest>(&mut Bytes::copy_from_slice(length), 12).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn garbage_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), version in 3i16..14) {
            let _ = decode::<ProduceRequest>(&mut Bytes::from(body.clone()), version);
            let _ = decode::<FetchRequest>(&mut Bytes::from(body), version.max(4));
        }
    }
}
