//! Compressing a member.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};

use crate::codec::{Compression, CompressionChoice};

/// Compresses what is written to it into `W`.
pub(crate) enum Encoder<W: Write> {
    Plain(W),
    Gzip(Box<GzEncoder<W>>),
    Xz(Box<XzWriter<W>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    /// `content_bytes` is the exact number of bytes that will be written, where it is known: zstd
    /// records it and small contents then need small windows on the device.
    pub(crate) fn new(
        out: W,
        choice: CompressionChoice,
        content_bytes: Option<u64>,
    ) -> io::Result<Self> {
        let level = choice
            .level
            .map(|level| level.min(CompressionChoice::level_max(choice.compression)));
        Ok(match choice.compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip => {
                let level = flate2::Compression::new(level.unwrap_or(6).into());
                Self::Gzip(Box::new(GzEncoder::new(out, level)))
            }
            Compression::Xz => {
                let options = XzOptions::with_preset(level.unwrap_or(6).into());
                Self::Xz(Box::new(XzWriter::new(out, options)?))
            }
            Compression::Zstd => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(out, level.unwrap_or(3).into())?;
                encoder.include_checksum(true)?;
                if content_bytes.is_some() {
                    encoder.set_pledged_src_size(content_bytes)?;
                }
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    /// Ends the stream and gives the output back.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
