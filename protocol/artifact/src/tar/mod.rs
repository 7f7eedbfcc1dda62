//! A strict reader and writer of the tar dialect that artifacts use.
//!
//! ustar headers, PAX records for long names and large sizes, regular files only. Links, devices,
//! directories, sparse files and the GNU long-name records are errors: nothing that writes
//! artifacts needs them, and every one of them has been a way to write outside a directory.

mod encode;
mod pax;

pub(crate) use encode::{BLOCK, Entry as NewEntry, pad_bytes, write_end, write_entry_header};

use crate::error::{Error, check_limit};
use crate::limits::{PADDING_BYTES_MAX, PAX_BYTES_MAX};
use crate::source::{Bytes, clamp};

/// Largest number that eleven octal digits hold.
pub(crate) const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;

/// One regular file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    /// Bytes of content.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime_s: u64,
}

/// Reads the header of the next file; `None` at the end of the archive (an end block, which is
/// consumed, or the end of the stream where a header could start).
pub(crate) fn next_entry<B: Bytes>(bytes: &mut B, place: &str) -> Result<Option<Entry>, Error> {
    let Some(block) = next_block(bytes, place)? else {
        return Ok(None);
    };
    let header = RawHeader::parse(&block, place)?;
    if header.kind != b'x' {
        return header.into_entry(pax::Records::default(), place).map(Some);
    }
    check_limit(
        &format!("the size in bytes of the extended header in {place}"),
        header.size,
        PAX_BYTES_MAX,
    )?;
    let text = read_content(bytes, header.size, place)?;
    let records = pax::parse(&text, place)?;
    let Some(block) = next_block(bytes, place)? else {
        return Err(Error::malformed(
            place,
            "the archive ends after an extended header",
        ));
    };
    RawHeader::parse(&block, place)?
        .into_entry(records, place)
        .map(Some)
}

/// Reads the content of a small file, padding included.
pub(crate) fn read_file<B: Bytes>(
    bytes: &mut B,
    entry: &Entry,
    limit: u64,
    place: &str,
) -> Result<Vec<u8>, Error> {
    check_limit(
        &format!("the size in bytes of {}", entry.name),
        entry.size,
        limit,
    )?;
    read_content(bytes, entry.size, &inside(place, &entry.name))
}

fn read_content<B: Bytes>(bytes: &mut B, size: u64, place: &str) -> Result<Vec<u8>, Error> {
    // Capacity follows what really arrives, not what a header claims.
    let mut content = Vec::with_capacity(clamp(size, 64 * 1024));
    let mut rest = size;
    while rest > 0 {
        if bytes.ensure(1)? == 0 {
            return Err(bytes.truncated(place));
        }
        let piece = bytes.available();
        let count = clamp(rest, piece.len());
        content.extend_from_slice(&piece[..count]);
        bytes.consume(count);
        rest -= count as u64;
    }
    skip_padding(bytes, size, place)?;
    Ok(content)
}

/// Consumes the zero bytes that fill the last block of a file of `size` bytes.
pub(crate) fn skip_padding<B: Bytes>(bytes: &mut B, size: u64, place: &str) -> Result<(), Error> {
    let padding = pad_bytes(size);
    if bytes.ensure(padding)? < padding {
        return Err(bytes.truncated(place));
    }
    if bytes.available()[..padding].iter().any(|byte| *byte != 0) {
        return Err(Error::malformed(
            place,
            "the padding of the archive is not zero",
        ));
    }
    bytes.consume(padding);
    Ok(())
}

/// Consumes the rest of a stream, which may hold zero bytes only.
pub(crate) fn expect_only_zeros<B: Bytes>(bytes: &mut B, place: &str) -> Result<u64, Error> {
    let mut total = 0_u64;
    loop {
        if bytes.ensure(1)? == 0 {
            return Ok(total);
        }
        let piece = bytes.available();
        if piece.iter().any(|byte| *byte != 0) {
            return Err(Error::malformed(
                place,
                "there is data after the end of the archive",
            ));
        }
        let count = piece.len();
        total += count as u64;
        check_limit(
            &format!("the padding in bytes at the end of {place}"),
            total,
            PADDING_BYTES_MAX,
        )?;
        bytes.consume(count);
    }
}

/// "entry in archive".
pub(crate) fn inside(archive: &str, entry: &str) -> String {
    format!("{entry} in {archive}")
}

fn next_block<B: Bytes>(bytes: &mut B, place: &str) -> Result<Option<[u8; BLOCK]>, Error> {
    match bytes.ensure(BLOCK)? {
        0 => return Ok(None),
        have if have < BLOCK => {
            // A short rest that is not even zero is no tar at all; anything else was cut off.
            return Err(bytes.truncated(&format!("the headers of {place}")));
        }
        _ => {}
    }
    let mut block = [0_u8; BLOCK];
    block.copy_from_slice(&bytes.available()[..BLOCK]);
    bytes.consume(BLOCK);
    Ok((block.iter().any(|byte| *byte != 0)).then_some(block))
}

struct RawHeader {
    name: Vec<u8>,
    kind: u8,
    size: u64,
    mode: u32,
    mtime_s: u64,
}

impl RawHeader {
    fn parse(block: &[u8; BLOCK], place: &str) -> Result<Self, Error> {
        let bad = |problem: &str| Error::malformed(place, problem);
        let (magic, version) = (&block[257..263], &block[263..265]);
        let gnu = magic == b"ustar " && version == b" \0";
        if !(gnu || magic == b"ustar\0" && version == b"00") {
            return Err(bad("not a tar archive where one is expected"));
        }
        let stored = octal(&block[148..156]).ok_or_else(|| bad("a tar header has no checksum"))?;
        let summed: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u64::from(*byte)
                }
            })
            .sum();
        if stored != summed {
            return Err(bad(
                "the checksum of a tar header is wrong; the artifact is damaged",
            ));
        }
        let mut name = until_nul(&block[..100]).to_vec();
        let prefix = until_nul(&block[345..500]);
        // In the GNU dialect other fields stand in place of the prefix.
        if !gnu && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let number = |field: &[u8], what: &str| {
            number(field).ok_or_else(|| bad(&format!("a tar header has a bad {what}")))
        };
        let mode = number(&block[100..108], "mode")?;
        Ok(Self {
            name,
            kind: block[156],
            size: number(&block[124..136], "size")?,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            mtime_s: number(&block[136..148], "modification time")?,
        })
    }

    fn into_entry(self, records: pax::Records, place: &str) -> Result<Entry, Error> {
        let name = match records.path {
            Some(path) => path,
            None => String::from_utf8(self.name)
                .map_err(|_| Error::malformed(place, "a file name is not UTF-8"))?,
        };
        if name.is_empty() {
            return Err(Error::malformed(place, "a file has no name"));
        }
        let kind = match self.kind {
            b'0' | 0 => None,
            b'1' => Some("a hard link"),
            b'2' => Some("a symbolic link"),
            b'3' | b'4' => Some("a device"),
            b'5' => Some("a directory"),
            b'6' => Some("a FIFO"),
            b'x' => Some("a second extended header"),
            b'g' => Some("a global extended header"),
            b'L' | b'K' => Some("a GNU long-name record"),
            b'S' => Some("a sparse file"),
            _ => Some("of an unknown type"),
        };
        if let Some(kind) = kind {
            return Err(Error::malformed(
                place,
                format!("the entry {name:?} is {kind}; only regular files are permitted"),
            ));
        }
        let size = match records.size {
            None => self.size,
            // The plain field must agree where it can hold the number; writers put zero or all
            // ones there when it cannot.
            Some(size) if size <= OCTAL_SIZE_MAX && size == self.size => size,
            Some(size)
                if size > OCTAL_SIZE_MAX && [0, OCTAL_SIZE_MAX, size].contains(&self.size) =>
            {
                size
            }
            Some(size) => {
                return Err(Error::malformed(
                    inside(place, &name),
                    format!(
                        "the extended header gives the size {size}, the header {}",
                        self.size
                    ),
                ));
            }
        };
        Ok(Entry {
            name,
            size,
            mode: self.mode,
            mtime_s: records.mtime_s.unwrap_or(self.mtime_s),
        })
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits, optionally after spaces, ended by spaces, NUL or the end of the field. An empty
/// field is zero.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_start();
    let end = digits
        .iter()
        .position(|byte| *byte == 0 || *byte == b' ')
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|byte| *byte != 0 && *byte != b' ') {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Octal, or the big-endian binary form (first bit set) that large values use.
fn number(field: &[u8]) -> Option<u64> {
    match field.first()? {
        0x80 => field[1..].iter().try_fold(0_u64, |value, byte| {
            value.checked_mul(256)?.checked_add(u64::from(*byte))
        }),
        first if first & 0x80 != 0 => None,
        _ => octal(field),
    }
}

#[cfg(test)]
mod tests;
