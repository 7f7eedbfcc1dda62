//! Writing archive entries: ustar, PAX where ustar cannot say it.

use std::io::{self, Write};

/// Tar works in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;

/// Header of a file to be written. Owner is root without a name, so that the same input gives the
/// same bytes wherever it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub name: &'a str,
    pub size: u64,
    pub mode: u32,
    pub mtime_s: u64,
    /// Write the size as a PAX record even where the plain field could hold it: the header keeps
    /// its length when the size is filled in later.
    pub size_in_pax: bool,
}

/// Zero bytes after `size` bytes of content.
pub(crate) fn pad_bytes(size: u64) -> usize {
    const BLOCK_U64: u64 = BLOCK as u64;
    let over = size % BLOCK_U64;
    // At most 511, which every usize holds.
    usize::try_from((BLOCK_U64 - over) % BLOCK_U64).unwrap_or_default()
}

/// Writes the header of an entry, preceded by an extended header where needed.
pub(crate) fn write_entry_header<W: Write>(out: &mut W, entry: &Entry<'_>) -> io::Result<()> {
    let long_name = entry.name.len() > 100;
    let large = entry.size > super::OCTAL_SIZE_MAX;
    let late = entry.mtime_s > super::OCTAL_SIZE_MAX;
    if long_name || large || late || entry.size_in_pax {
        let mut records = Vec::new();
        if late {
            record(&mut records, "mtime", &entry.mtime_s.to_string());
        }
        if long_name {
            record(&mut records, "path", entry.name);
        }
        if large || entry.size_in_pax {
            // Twenty digits hold every 64-bit size, so the length never depends on it.
            record(&mut records, "size", &format!("{:020}", entry.size));
        }
        let name = format!(
            "PaxHeaders.0/{}",
            short(entry.name.rsplit('/').next().unwrap_or(entry.name), 80)
        );
        out.write_all(&block(&name, records.len() as u64, 0o600, 0, b'x'))?;
        out.write_all(&records)?;
        out.write_all(&[0; BLOCK][..pad_bytes(records.len() as u64)])?;
    }
    let size = if large { 0 } else { entry.size };
    let mtime_s = if late { 0 } else { entry.mtime_s };
    out.write_all(&block(
        short(entry.name, 100),
        size,
        entry.mode,
        mtime_s,
        b'0',
    ))
}

/// Writes the two zero blocks that end an archive.
pub(crate) fn write_end<W: Write>(out: &mut W) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// The longest start of `name` that fits `length` bytes and is whole characters.
fn short(name: &str, length: usize) -> &str {
    let mut end = name.len().min(length);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
}

fn block(name: &str, size: u64, mode: u32, mtime_s: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{:07o}", mode & 0o7777));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, &format!("{mtime_s:011o}"));
    put(257, "ustar\0");
    put(263, "00");
    put(329, "0000000");
    put(337, "0000000");
    block[156] = kind;
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
