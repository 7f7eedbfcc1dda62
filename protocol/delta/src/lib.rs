//! The difference between two images of root file systems, as a stream.
//!
//! [`diff`] finds the blocks of the new image that the old one has too, wherever they lie there; [`apply`] puts the
//! new image together from the old one and the difference, in one pass and with memory that does not depend on
//! either. File systems put files at block boundaries, so what did not change between two builds is found although
//! it has moved. What is new is stored as it is: the artifact around the difference compresses it.
//!
//! # Format
//! Integers are little-endian and have 64 bits.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `AMBXDLT1` |
//! | 8, 32 | size of the old image and its SHA-256 |
//! | 8, 32 | size of the new image and its SHA-256 |
//! | 1, ... | steps, each begins with its kind |
//!
//! | kind | follows | adds to the new image |
//! |---|---|---|
//! | 0 | nothing | nothing: the end, where all of the new image must be there |
//! | 1 | offset, length | that part of the old image |
//! | 2 | length, as many bytes | these bytes |
//! | 3 | length | zeros |
//!
//! This crate opens no file. Whether the old image is the right one is known by its digest before
//! (`rootfs-image.checksum`), whether the new one came out right by its own after the last step.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod apply;
mod diff;
mod header;

pub use apply::{ApplyError, apply};
pub use diff::{DiffError, Found, diff};
pub use header::{Digest, HEADER_BYTES, Header, HeaderError, Image};

/// Payload type of an artifact whose one file is a difference between images of root file systems.
pub const ROOTFS_DELTA: &str = "rootfs-delta";

/// Granularity of the search: the block size of the file systems in use.
pub const BLOCK_BYTES: usize = 4096;

/// The old image, read at any place.
pub trait Base {
    /// Reads exactly `buffer.len()` bytes.
    ///
    /// # Errors
    /// When the storage fails or ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()>;
}

impl Base for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let part = range.and_then(|range| self.get(range));
        let part = part.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

impl Base for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// Kinds of steps.
mod step {
    pub(crate) const END: u8 = 0;
    pub(crate) const COPY: u8 = 1;
    pub(crate) const DATA: u8 = 2;
    pub(crate) const ZEROS: u8 = 3;
}

#[cfg(test)]
mod tests;
