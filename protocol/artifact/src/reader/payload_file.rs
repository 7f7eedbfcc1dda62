//! The payload file that is being read.

use std::io::{self, Read};

use super::{Current, Reader, Stage};
use crate::digest::Sha256Digest;
use crate::error::Error;
use crate::source::Bytes as _;

/// A payload file. It lends its content chunk by chunk; each chunk is hashed before it is lent, and
/// the digest of the whole is checked before the end is announced.
pub struct PayloadFile<'a, R: Read> {
    pub(super) reader: &'a mut Reader<R>,
}

impl<R: Read> std::fmt::Debug for PayloadFile<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadFile")
            .field("name", &self.name())
            .field("size", &self.size())
            .finish()
    }
}

impl<R: Read> PayloadFile<'_, R> {
    fn current(&self) -> &Current {
        self.reader
            .current
            .as_ref()
            .expect("invariant: a payload file exists only while it is the current one")
    }

    /// Bare file name: letters, digits, `_`, `-`, `.`, `,`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.current().entry.name
    }

    /// Bytes that it has when unpacked.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.current().entry.size
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.current().entry.mode
    }

    /// Time of the last change, seconds since 1970.
    #[must_use]
    pub fn mtime(&self) -> u64 {
        self.current().entry.mtime_s
    }

    /// Digest that the manifest promises.
    #[must_use]
    pub fn sha256_expected(&self) -> Sha256Digest {
        self.reader.header.files[self.current().index].sha256
    }

    /// The next bytes, without copying: exactly [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES) of
    /// them, fewer only at the end of the file. `None` means that the whole content has the size
    /// and the digest that it should have; until then it must not be put to use.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Checksum`] at the end.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.reader.lend()? == 0 {
            return Ok(None);
        }
        // Taking everything now keeps the slice in the buffer until the next call.
        let from = self.current().taken;
        if let Some(current) = &mut self.reader.current {
            current.taken = current.lent;
        }
        match (&self.reader.current, &self.reader.stage) {
            (Some(current), Stage::Data(archive)) => {
                Ok(Some(&archive.available()[from..current.lent]))
            }
            _ => Err(Error::Failed),
        }
    }
}

impl<R: Read> Read for PayloadFile<'_, R> {
    /// Copies; [`PayloadFile::chunk`] does not. An artifact error comes as the source of an
    /// `io::Error`, the input's own error as it is.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        match self.reader.lend() {
            Ok(0) => Ok(0),
            Ok(_) => {
                let lent = self.reader.lent();
                let count = lent.len().min(out.len());
                out[..count].copy_from_slice(&lent[..count]);
                if let Some(current) = &mut self.reader.current {
                    current.taken += count;
                }
                Ok(count)
            }
            Err(Error::Source(error)) => Err(error),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}
