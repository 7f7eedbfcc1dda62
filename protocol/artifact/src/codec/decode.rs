//! A member after decompression.
//!
//! Uncompressed members are handed out from the input buffer itself. The others are decoded into
//! one buffer of [`CHUNK_BYTES`], which is what the caller sees: the decoder's output is hashed and
//! written from where it was decoded to.

use std::io::{self, BufRead as _, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

use crate::codec::Compression;
use crate::error::Error;
use crate::limits::{CHUNK_BYTES, Limits};
use crate::source::{Bytes, Carried, Member, Source, Window};

pub(crate) struct Decoded<R: Read> {
    decoder: Decoder<R>,
    window: Window,
    ended: bool,
    name: String,
    limits: Limits,
    stored_bytes: u64,
}

enum Decoder<R: Read> {
    Plain(Member<R>),
    Gzip(Box<MultiGzDecoder<Member<R>>>),
    Zstd(Box<Zstd<R>>),
    Xz(Box<XzReader<Member<R>>>),
}

struct Zstd<R: Read> {
    member: Member<R>,
    decoder: ZstdDecoder<'static>,
    /// Whether a frame has begun and not ended.
    in_frame: bool,
    /// Whether any frame has begun.
    begun: bool,
}

impl<R: Read> Decoded<R> {
    /// Decodes the member that `source` stands at, which has `size` stored bytes.
    pub(crate) fn new(
        source: Source<R>,
        size: u64,
        name: &str,
        compression: Compression,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let member = Member::new(source, size, name);
        let decoder = match compression {
            Compression::None => Decoder::Plain(member),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(member))),
            Compression::Zstd => Decoder::Zstd(Box::new(Zstd::new(member, limits, name)?)),
            Compression::Xz => {
                let reader = XzReader::new_mem_limit(member, true, limits.xz_memory_kib_max);
                Decoder::Xz(Box::new(reader))
            }
        };
        let window_bytes = if compression == Compression::None {
            0
        } else {
            CHUNK_BYTES
        };
        Ok(Self {
            decoder,
            window: Window::new(window_bytes),
            ended: false,
            name: name.to_owned(),
            limits: *limits,
            stored_bytes: size,
        })
    }

    /// Size of the member as stored.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Gives the input back, positioned after the member. The caller has read to the end.
    pub(crate) fn into_source(self) -> Result<Source<R>, Error> {
        let member = match self.decoder {
            Decoder::Plain(member) => member,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.member,
            Decoder::Xz(decoder) => decoder.into_inner(),
        };
        if member.remaining() > 0 {
            return Err(Error::malformed(
                self.name,
                "there is data after the end of the compressed stream",
            ));
        }
        Ok(member.into_source())
    }

    fn decode_error(&self, error: io::Error) -> Error {
        let error = match error.downcast::<Carried>() {
            Ok(Carried(error)) => return error,
            Err(error) => error,
        };
        let codec = match self.decoder {
            Decoder::Plain(_) => "tar",
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
            Decoder::Xz(_) => "xz",
        };
        let too_large = error.kind() == io::ErrorKind::OutOfMemory
            || error.to_string().contains("requires too much memory");
        if too_large {
            return Error::Unsupported(format!(
                "{} needs more memory for {codec} than the limit of {}; compress the artifact with a \
                 smaller dictionary",
                self.name,
                match self.decoder {
                    Decoder::Xz(_) => format!("{} KiB", self.limits.xz_memory_kib_max),
                    _ => format!("a window of 2^{} bytes", self.limits.zstd_window_log_max),
                }
            ));
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Error::malformed(&*self.name, format!("the {codec} stream ends too early"));
        }
        Error::malformed(&*self.name, format!("not valid {codec} data ({error})"))
    }
}

impl<R: Read> Bytes for Decoded<R> {
    fn ensure(&mut self, want: usize) -> Result<usize, Error> {
        if let Decoder::Plain(member) = &mut self.decoder {
            return member.ensure(want);
        }
        if self.window.len() >= want || self.ended {
            return Ok(self.window.len());
        }
        self.window.make_room(want);
        while self.window.len() < want {
            let room = self.window.writable();
            let decoded = match &mut self.decoder {
                Decoder::Plain(_) => Ok(0),
                Decoder::Gzip(decoder) => decoder.read(room),
                Decoder::Zstd(decoder) => decoder.read(room),
                Decoder::Xz(decoder) => decoder.read(room),
            };
            match decoded {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.window.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.decode_error(error)),
            }
        }
        Ok(self.window.len())
    }

    fn available(&self) -> &[u8] {
        match &self.decoder {
            Decoder::Plain(member) => member.available(),
            _ => self.window.readable(),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.decoder {
            Decoder::Plain(member) => member.drop_front(count),
            _ => self.window.consume(count),
        }
    }

    fn truncated(&self, place: &str) -> Error {
        // The artifact went on, so it is the archive inside the member that is too short.
        Error::malformed(&*self.name, format!("the archive ends inside {place}"))
    }
}

impl<R: Read> Zstd<R> {
    fn new(member: Member<R>, limits: &Limits, name: &str) -> Result<Self, Error> {
        let unusable =
            |error: io::Error| Error::malformed(name, format!("no zstd decoder ({error})"));
        let mut decoder = ZstdDecoder::new().map_err(unusable)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(
                limits.zstd_window_log_max.clamp(10, 31),
            ))
            .map_err(unusable)?;
        Ok(Self {
            member,
            decoder,
            in_frame: false,
            begun: false,
        })
    }

    /// Decodes into `room`, over frame borders; 0 at the end of the last frame.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.member.fill_buf()?;
            let at_end = input.is_empty();
            if at_end && !self.in_frame {
                return if self.begun {
                    Ok(0)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            let status = self.decoder.run_on_buffers(input, room)?;
            self.member.drop_front(status.bytes_read);
            self.begun = true;
            self.in_frame = status.remaining != 0;
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if self.in_frame && status.bytes_read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]

    use std::io::Write as _;

    use super::*;
    use crate::codec::{CompressionChoice, Encoder};

    fn compress(choice: CompressionChoice, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), choice, Some(bytes.len() as u64)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn expand(stored: &[u8], compression: Compression, limits: &Limits) -> Result<Vec<u8>, Error> {
        let source = Source::new(stored);
        let mut stream = Decoded::new(source, stored.len() as u64, "m", compression, limits)?;
        let mut out = Vec::new();
        loop {
            if stream.ensure(CHUNK_BYTES)? == 0 {
                break;
            }
            out.extend_from_slice(stream.available());
            let count = stream.available().len();
            stream.consume(count);
        }
        stream.into_source()?;
        Ok(out)
    }

    fn sample() -> Vec<u8> {
        let mut state = 1_u32;
        (0..700_000_u32)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 3 == 0 {
                    (state >> 24) as u8
                } else {
                    (at / 1000) as u8
                }
            })
            .collect()
    }

    #[test]
    fn several_members_frames_and_streams_are_one_content() {
        let content = sample();
        for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
            let choice = CompressionChoice {
                compression,
                level: Some(1),
            };
            let (front, back) = content.split_at(300_000);
            let stored = [compress(choice, front), compress(choice, back)].concat();
            let read = expand(&stored, compression, &Limits::default()).unwrap();
            assert!(read == content, "{compression}");
        }
    }

    #[test]
    fn cut_and_extended_streams_are_refused() {
        let content = sample();
        for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
            let stored = compress(
                CompressionChoice {
                    compression,
                    level: Some(1),
                },
                &content,
            );
            for cut in [1, 4, 8, stored.len() / 2, stored.len() - 1, stored.len()] {
                let error = expand(
                    &stored[..stored.len() - cut],
                    compression,
                    &Limits::default(),
                );
                assert!(error.is_err(), "{compression} without its last {cut} bytes");
            }
            let longer = [&stored[..], b"trailing"].concat();
            assert!(
                expand(&longer, compression, &Limits::default()).is_err(),
                "{compression} with a tail"
            );
        }
    }

    #[test]
    fn memory_at_and_past_the_limit() {
        let content = vec![0_u8; 3 << 20];
        // Without a pledged size the frame asks for the whole window: level 19 takes 2^23 bytes.
        let mut encoder = Encoder::new(
            Vec::new(),
            CompressionChoice {
                compression: Compression::Zstd,
                level: Some(19),
            },
            None,
        )
        .unwrap();
        encoder.write_all(&content).unwrap();
        let stored = encoder.finish().unwrap();
        let limits = |log| Limits {
            zstd_window_log_max: log,
            ..Limits::default()
        };
        assert!(expand(&stored, Compression::Zstd, &limits(23)).is_ok());
        let error = expand(&stored, Compression::Zstd, &limits(22)).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported(text) if text.contains("2^22")),
            "{error}"
        );

        let choice = CompressionChoice {
            compression: Compression::Xz,
            level: Some(6),
        };
        let stored = compress(choice, &content[..1000]);
        let limits = |kib| Limits {
            xz_memory_kib_max: kib,
            ..Limits::default()
        };
        assert!(expand(&stored, Compression::Xz, &limits(9 * 1024)).is_ok());
        let error = expand(&stored, Compression::Xz, &limits(8 * 1024)).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported(text) if text.contains("8192 KiB")),
            "{error}"
        );
    }
}
