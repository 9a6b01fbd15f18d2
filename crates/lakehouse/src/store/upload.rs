//! A file that is written piece by piece, as a Parquet writer does it.
//!
//! In: bytes, from a thread that may block. Out: the file, whole and durable. Never: a half-written file under its name.

use std::io::Write;

use object_store::{MultipartUpload, WriteMultipart};

use super::sync;
use crate::error::{LakehouseError, Result};

/// Parts under way at once: beyond this a writer waits in [`NewFile::ready`].
const PARTS: usize = 4;

/// A file being written: it appears with [`NewFile::finish`], and not at all if it is dropped.
#[derive(Debug)]
pub struct NewFile {
    location: String,
    upload: WriteMultipart,
    bytes: u64,
}

impl NewFile {
    pub(super) fn new(location: &str, upload: Box<dyn MultipartUpload>) -> Self {
        Self { location: location.to_owned(), upload: WriteMultipart::new(upload), bytes: 0 }
    }

    /// Where it will be.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until more may be written: memory is bounded by what a few parts hold.
    pub async fn ready(&mut self) -> Result<()> {
        let waited = self.upload.wait_for_capacity(PARTS).await;
        waited.map_err(|e| LakehouseError::object("write", &self.location, e))
    }

    /// Ends the file: whole and durable when this returns. Its size.
    pub async fn finish(self) -> Result<u64> {
        let finished = self.upload.finish().await;
        finished.map_err(|e| LakehouseError::object("write", &self.location, e))?;
        sync(&self.location).await?;
        Ok(self.bytes)
    }
}

/// Within a tokio runtime's context (`spawn_blocking` has it): parts are sent from tasks.
impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.upload.write(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
