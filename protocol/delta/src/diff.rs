//! From two images to their difference.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read, Seek, Write};

use sha2::{Digest as _, Sha256};

use crate::header::{Header, Image};
use crate::{BLOCK_BYTES, Base, step};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// New bytes that are gathered into one step.
const DATA_BYTES_MAX: usize = 1 << 20;
/// Read at once when an image is read from its beginning.
const PIECE_BYTES: usize = 256 * BLOCK_BYTES;

/// Why there is no difference.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The old image.
    #[error("the old image cannot be read: {0}")]
    Old(io::Error),
    /// The new image.
    #[error("the new image cannot be read: {0}")]
    New(io::Error),
    /// It was read twice, with different content.
    #[error("the new image changes while it is read")]
    Changing,
    /// The difference.
    #[error("the difference cannot be written: {0}")]
    Output(io::Error),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The two images.
    pub header: Header,
    /// Bytes of the new image that the old one does not have.
    pub new_bytes: u64,
    /// Length of the difference in bytes.
    pub bytes: u64,
}

/// Writes what leads from `old`, of `old_bytes`, to `new`, which is read twice. `progress` is told how many more
/// bytes of either have been read. Memory: some 40 bytes for each block of the old image.
///
/// # Errors
/// [`DiffError`].
pub fn diff(
    old: &impl Base,
    old_bytes: u64,
    new: &mut (impl Read + Seek),
    output: &mut impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Found, DiffError> {
    let (index, old_image) = Index::of(old, old_bytes, progress).map_err(DiffError::Old)?;
    let new_image = digest(new, progress).map_err(DiffError::New)?;
    new.rewind().map_err(DiffError::New)?;
    let header = Header {
        old: old_image,
        new: new_image,
    };
    let mut steps = Steps {
        output,
        pending: Step::None,
        written: 0,
        new_bytes: 0,
    };
    steps.put(&header.encode())?;
    let mut search = Search {
        old,
        old_bytes,
        index,
        block: vec![0; BLOCK_BYTES],
    };
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    let mut hasher = Sha256::new();
    loop {
        let length = fill(new, &mut piece).map_err(DiffError::New)?;
        let read = piece.get(..length).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        hasher.update(read);
        for block in read.chunks(BLOCK_BYTES) {
            if block.iter().all(|byte| *byte == 0) {
                steps.zeros(block.len() as u64)?;
            } else {
                match search.find(block, at, steps.end_of_copy())? {
                    Some(offset) => steps.copy(offset, block.len() as u64)?,
                    None => steps.data(block)?,
                }
            }
            at += block.len() as u64;
        }
        progress(length as u64);
    }
    let again: [u8; 32] = hasher.finalize().into();
    if again != header.new.sha256 || at != header.new.bytes {
        return Err(DiffError::Changing);
    }
    steps.flush()?;
    steps.put(&[step::END])?;
    Ok(Found {
        header,
        new_bytes: steps.new_bytes,
        bytes: steps.written,
    })
}

/// Reads until `buffer` is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn digest(input: &mut impl Read, progress: &mut dyn FnMut(u64)) -> io::Result<Image> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    loop {
        let length = fill(input, &mut piece)?;
        let read = piece.get(..length).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        hasher.update(read);
        bytes += length as u64;
        progress(length as u64);
    }
    Ok(Image {
        bytes,
        sha256: hasher.finalize().into(),
    })
}

/// Where the old image has a block of some content; the first place of each.
struct Index(HashMap<u64, u64>);

impl Index {
    fn of(old: &impl Base, bytes: u64, progress: &mut dyn FnMut(u64)) -> io::Result<(Self, Image)> {
        let mut blocks = HashMap::new();
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < bytes {
            let length =
                usize::try_from(bytes - at).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
            let Some(part) = piece.get_mut(..length) else {
                break;
            };
            old.read_exact_at(part, at)?;
            hasher.update(&*part);
            for block in part.chunks_exact(BLOCK_BYTES) {
                blocks.entry(hash(block)).or_insert(at);
                at += BLOCK;
            }
            // the rest of an image that does not end with a block is found by its neighbours only
            at += (length % BLOCK_BYTES) as u64;
            progress(length as u64);
        }
        let image = Image {
            bytes,
            sha256: hasher.finalize().into(),
        };
        Ok((Self(blocks), image))
    }
}

fn hash(block: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(block);
    hasher.finish()
}

struct Search<'a, B> {
    old: &'a B,
    old_bytes: u64,
    index: Index,
    block: Vec<u8>,
}

impl<B: Base> Search<'_, B> {
    /// Where the old image has this block: behind the part that was found last, at the same place, or anywhere.
    fn find(
        &mut self,
        block: &[u8],
        at: u64,
        behind: Option<u64>,
    ) -> Result<Option<u64>, DiffError> {
        let elsewhere = self.index.0.get(&hash(block)).copied();
        for offset in [behind, Some(at), elsewhere].into_iter().flatten() {
            if self.has(block, offset)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn has(&mut self, block: &[u8], offset: u64) -> Result<bool, DiffError> {
        let within = offset
            .checked_add(block.len() as u64)
            .is_some_and(|end| end <= self.old_bytes);
        let Some(held) = self.block.get_mut(..block.len()).filter(|_| within) else {
            return Ok(false);
        };
        self.old
            .read_exact_at(held, offset)
            .map_err(DiffError::Old)?;
        Ok(held == block)
    }
}

/// The step that may still grow.
enum Step {
    None,
    Copy { offset: u64, length: u64 },
    Zeros { length: u64 },
    Data(Vec<u8>),
}

struct Steps<'a, W> {
    output: &'a mut W,
    pending: Step,
    written: u64,
    new_bytes: u64,
}

impl<W: Write> Steps<'_, W> {
    fn end_of_copy(&self) -> Option<u64> {
        match self.pending {
            Step::Copy { offset, length } => Some(offset + length),
            _ => None,
        }
    }

    fn copy(&mut self, from: u64, count: u64) -> Result<(), DiffError> {
        if let Step::Copy { offset, length } = &mut self.pending
            && *offset + *length == from
        {
            *length += count;
            return Ok(());
        }
        self.begin(Step::Copy {
            offset: from,
            length: count,
        })
    }

    fn zeros(&mut self, count: u64) -> Result<(), DiffError> {
        if let Step::Zeros { length } = &mut self.pending {
            *length += count;
            return Ok(());
        }
        self.begin(Step::Zeros { length: count })
    }

    fn data(&mut self, block: &[u8]) -> Result<(), DiffError> {
        self.new_bytes += block.len() as u64;
        if let Step::Data(bytes) = &mut self.pending
            && bytes.len() < DATA_BYTES_MAX
        {
            bytes.extend_from_slice(block);
            return Ok(());
        }
        self.begin(Step::Data(block.to_vec()))
    }

    fn begin(&mut self, next: Step) -> Result<(), DiffError> {
        self.flush()?;
        self.pending = next;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiffError> {
        match std::mem::replace(&mut self.pending, Step::None) {
            Step::None => Ok(()),
            Step::Copy { offset, length } => {
                self.put(&[step::COPY])?;
                self.put(&offset.to_le_bytes())?;
                self.put(&length.to_le_bytes())
            }
            Step::Zeros { length } => {
                self.put(&[step::ZEROS])?;
                self.put(&length.to_le_bytes())
            }
            Step::Data(bytes) => {
                self.put(&[step::DATA])?;
                self.put(&(bytes.len() as u64).to_le_bytes())?;
                self.put(&bytes)
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DiffError> {
        self.written += bytes.len() as u64;
        self.output.write_all(bytes).map_err(DiffError::Output)
    }
}
