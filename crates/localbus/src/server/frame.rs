//! Frames: a length, then that many bytes.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Memory for a frame is taken as its bytes arrive, not as its length promises.
const FIRST_RESERVE: usize = 64 * 1024;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a request of {size} bytes exceeds the limit of {limit}")]
    TooLarge { size: i64, limit: usize },
    #[error("the connection broke inside a request")]
    Io(#[from] std::io::Error),
}

/// Only records are large: requests of every other type are shorter than this.
const WITHOUT_RECORDS: usize = 8 * 1024 * 1024;
const PRODUCE: &[u8] = &0i16.to_be_bytes();

/// The next frame; `None` if the peer closed the connection between two.
pub(super) async fn read_frame(
    input: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<Bytes>, FrameError> {
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        match input.read(&mut length[have..]).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            count => have += count,
        }
    }
    let size = i32::from_be_bytes(length);
    let length = match usize::try_from(size) {
        Ok(length) if length <= limit => length,
        _ => return Err(FrameError::TooLarge { size: i64::from(size), limit }),
    };
    let mut frame = BytesMut::with_capacity(length.min(FIRST_RESERVE));
    let mut input = input.take(length as u64);
    while frame.len() < length {
        if frame.len() == frame.capacity() {
            frame.reserve((length - frame.len()).min(frame.len().max(FIRST_RESERVE)));
        }
        if input.read_buf(&mut frame).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        if length > WITHOUT_RECORDS && frame.len() >= 2 && !frame.starts_with(PRODUCE) {
            return Err(FrameError::TooLarge { size: i64::from(size), limit: WITHOUT_RECORDS.min(limit) });
        }
    }
    Ok(Some(frame.freeze()))
}
