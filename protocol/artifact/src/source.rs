//! Buffered input that knows its position.
//!
//! [`Bytes`] is what the archive parser reads from, three sources have it: the artifact itself
//! ([`Source`]), and a member of it after decompression ([`crate::codec::Decoded`]).

use std::io::{self, BufRead, Read};

use crate::error::Error;
use crate::limits::CHUNK_BYTES;

/// A stream of bytes with look-ahead.
pub(crate) trait Bytes {
    /// Makes `want` bytes available in one piece (at most [`CHUNK_BYTES`]) and returns how many
    /// there are: fewer only where the stream ends.
    fn ensure(&mut self, want: usize) -> Result<usize, Error>;
    /// What is available now.
    fn available(&self) -> &[u8];
    /// Drops the first `count` available bytes.
    fn consume(&mut self, count: usize);
    /// The error for a stream that ended inside `place`.
    fn truncated(&self, place: &str) -> Error;
}

/// A fixed buffer with a readable range.
pub(crate) struct Window {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Window {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            bytes: vec![0; capacity].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn readable(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "more consumed than available");
        self.start += count.min(self.len());
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Moves the readable range to the front when `want` bytes do not fit behind its start.
    pub(crate) fn make_room(&mut self, want: usize) {
        debug_assert!(want <= self.bytes.len(), "window too small for the request");
        if self.start > 0 && self.bytes.len() - self.start < want {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    pub(crate) fn writable(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count.min(self.bytes.len() - self.end);
    }
}

/// The artifact as it comes in.
pub(crate) struct Source<R> {
    input: R,
    window: Window,
    consumed: u64,
    ended: bool,
}

/// Twice the chunk: while one chunk is being hashed and written, short reads of a network stream
/// can be collected behind it without moving memory.
const SOURCE_BYTES: usize = 2 * CHUNK_BYTES;

impl<R: Read> Source<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            window: Window::new(SOURCE_BYTES),
            consumed: 0,
            ended: false,
        }
    }

    /// Bytes consumed since the start of the artifact.
    pub(crate) fn position(&self) -> u64 {
        self.consumed
    }
}

impl<R: Read> Bytes for Source<R> {
    fn ensure(&mut self, want: usize) -> Result<usize, Error> {
        if self.window.len() >= want || self.ended {
            return Ok(self.window.len());
        }
        self.window.make_room(want);
        while self.window.len() < want {
            match self.input.read(self.window.writable()) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.window.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Source(error)),
            }
        }
        Ok(self.window.len())
    }

    fn available(&self) -> &[u8] {
        self.window.readable()
    }

    fn consume(&mut self, count: usize) {
        self.window.consume(count);
        self.consumed += count as u64;
    }

    fn truncated(&self, place: &str) -> Error {
        // What is buffered by chance says nothing of where the input ends, unless it has ended.
        let rest = if self.ended { self.window.len() } else { 0 };
        Error::Truncated {
            place: place.to_owned(),
            offset: self.consumed + rest as u64,
        }
    }
}

/// One member of the artifact as a decoder sees it: it ends where the member ends, and an artifact
/// that ends earlier is an error.
pub(crate) struct Member<R> {
    source: Source<R>,
    remaining: u64,
    name: String,
}

impl<R: Read> Member<R> {
    pub(crate) fn new(source: Source<R>, size: u64, name: &str) -> Self {
        Self {
            source,
            remaining: size,
            name: name.to_owned(),
        }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(crate) fn into_source(self) -> Source<R> {
        self.source
    }

    /// Like [`Bytes::ensure`], within the member.
    pub(crate) fn ensure(&mut self, want: usize) -> Result<usize, Error> {
        let want = clamp(self.remaining, want);
        let have = self.source.ensure(want)?;
        if have < want {
            return Err(self.source.truncated(&self.name));
        }
        Ok(clamp(self.remaining, have))
    }

    pub(crate) fn available(&self) -> &[u8] {
        let bytes = self.source.available();
        &bytes[..clamp(self.remaining, bytes.len())]
    }

    pub(crate) fn drop_front(&mut self, count: usize) {
        let count = clamp(self.remaining, count);
        self.source.consume(count);
        self.remaining -= count as u64;
    }
}

/// The smaller of a 64-bit rest and a length in memory.
pub(crate) fn clamp(rest: u64, length: usize) -> usize {
    usize::try_from(rest).map_or(length, |rest| rest.min(length))
}

/// Carries our error unharmed through the decoders, which speak `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Carried(pub(crate) Error);

impl<R: Read> BufRead for Member<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.remaining > 0 {
            self.ensure(1).map_err(|error| {
                let kind = match &error {
                    Error::Source(source) => source.kind(),
                    _ => io::ErrorKind::UnexpectedEof,
                };
                io::Error::new(kind, Carried(error))
            })?;
        }
        Ok(self.available())
    }

    fn consume(&mut self, count: usize) {
        self.drop_front(count);
    }
}

impl<R: Read> Read for Member<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(out.len());
        out[..count].copy_from_slice(&bytes[..count]);
        BufRead::consume(self, count);
        Ok(count)
    }
}
