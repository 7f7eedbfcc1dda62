//! Writes an image into a slot, touching only the blocks that differ.
//!
//! Each piece of the image is compared with what the slot holds, in blocks of [`BLOCK_BYTES`];
//! runs of differing blocks are written with one call each. That spares flash memory, and it
//! makes the repetition of an interrupted installation cheap. All writes start on a block
//! boundary whatever the decoder yields, so the kernel never has to read a page before it is
//! written. Dirty data is bounded by two windows of [`WINDOW_BYTES`]: one is being filled while
//! the one before is written back; then its pages are given back, so an installation does not
//! push the applications out of memory.

use ambidex_artifact::Sha256Digest;
use ambidex_platform::block::Slot;
use ambidex_platform::fs::FsError;
use sha2::{Digest as _, Sha256};

use crate::context::CancelFlag;
use crate::handler::HandlerError;

/// Granularity of the comparison: the page size of the kernel and the block size of the file
/// systems in use.
pub const BLOCK_BYTES: usize = 4096;

/// Largest piece compared at once: what the artifact reader yields, so that the piece is still
/// in the processor's cache after it was hashed.
const PIECE_BYTES: usize = 128 * 1024;

/// How much is written before write-back is asked for.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size of the image.
    pub image_bytes: u64,
    /// Bytes that differed and were written.
    pub written_bytes: u64,
}

/// An image on its way into a slot.
#[derive(Debug)]
pub struct BlockSink {
    slot: Slot,
    /// Image bytes compared and written so far.
    at: u64,
    /// Start of an incomplete block: what the last `write` left over.
    carry: Vec<u8>,
    /// What the slot holds where the image is compared.
    held: Vec<u8>,
    written: u64,
    window: Window,
}

impl BlockSink {
    /// Prepares a slot that was opened by the caller, who has checked that it may be written and
    /// is large enough.
    #[must_use]
    pub fn new(slot: Slot) -> Self {
        slot.expect_sequential();
        Self {
            slot,
            at: 0,
            carry: Vec::with_capacity(BLOCK_BYTES),
            held: vec![0; PIECE_BYTES],
            written: 0,
            window: Window::default(),
        }
    }

    /// Takes the next bytes of the image, any number of them.
    ///
    /// # Errors
    /// When the slot cannot be read or written, or ends.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), FsError> {
        if !self.carry.is_empty() {
            let wanted = BLOCK_BYTES - self.carry.len();
            let taken = bytes.len().min(wanted);
            self.carry.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.carry.len() < BLOCK_BYTES {
                return Ok(());
            }
            let block = std::mem::take(&mut self.carry);
            let placed = self.place(&block);
            self.carry = block;
            self.carry.clear();
            placed?;
        }
        let whole = bytes.len() - bytes.len() % BLOCK_BYTES;
        for piece in bytes[..whole].chunks(PIECE_BYTES) {
            self.place(piece)?;
        }
        self.carry.extend_from_slice(&bytes[whole..]);
        Ok(())
    }

    /// Writes what is left, makes everything durable and hands the slot back for a check.
    ///
    /// # Errors
    /// When the slot cannot be written or flushed.
    pub fn finish(mut self) -> Result<(Slot, Written), FsError> {
        let rest = std::mem::take(&mut self.carry);
        if !rest.is_empty() {
            self.place(&rest)?;
        }
        self.slot.sync()?;
        self.slot.forget(0, 0);
        Ok((
            self.slot,
            Written {
                image_bytes: self.at,
                written_bytes: self.written,
            },
        ))
    }

    /// Compares a piece that starts on a block boundary with the slot and writes what differs.
    fn place(&mut self, piece: &[u8]) -> Result<(), FsError> {
        let held = &mut self.held[..piece.len()];
        self.slot.read_at(held, self.at)?;
        if held != piece {
            for (start, end) in differing_runs(piece, held) {
                self.slot
                    .write_at(&piece[start..end], self.at + start as u64)?;
                self.written += (end - start) as u64;
                self.window.dirty = true;
            }
        }
        self.at += piece.len() as u64;
        if self.at - self.window.start >= WINDOW_BYTES {
            self.window.turn(&self.slot, self.at)?;
        }
        Ok(())
    }
}

/// Reads the image back from the slot and compares its checksum. The pages were given back after
/// the flush, so this reads the device and not the memory of what was written.
///
/// # Errors
/// `None` when cancelled, otherwise what is wrong.
pub(crate) fn verify(
    slot: &Slot,
    image_bytes: u64,
    expected: Sha256Digest,
    cancel: &CancelFlag,
) -> Result<(), Option<HandlerError>> {
    let mut held = vec![0; PIECE_BYTES];
    let mut hasher = Sha256::new();
    let mut at = 0;
    while at < image_bytes {
        if cancel.is_cancelled() {
            return Err(None);
        }
        let length =
            usize::try_from(image_bytes - at).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        slot.read_at(&mut held[..length], at)
            .map_err(|error| Some(error.into()))?;
        hasher.update(&held[..length]);
        at += length as u64;
        if at % WINDOW_BYTES == 0 {
            slot.forget(0, at);
        }
    }
    slot.forget(0, 0);
    let actual: [u8; 32] = hasher.finalize().into();
    if actual[..] == expected.as_bytes()[..] {
        return Ok(());
    }
    Err(Some(HandlerError::State(format!(
        "{} does not hold what was written to it: the storage is defective, replace it",
        slot.path().display()
    ))))
}

/// Byte ranges of successive blocks that differ, in order.
fn differing_runs<'a>(new: &'a [u8], held: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut blocks = new
        .chunks(BLOCK_BYTES)
        .zip(held.chunks(BLOCK_BYTES))
        .enumerate()
        .map(|(index, (new, held))| (index * BLOCK_BYTES, new.len(), new != held))
        .peekable();
    std::iter::from_fn(move || {
        let (start, length, _) = blocks.find(|(.., differs)| *differs)?;
        let mut end = start + length;
        while let Some((at, length, _)) = blocks.next_if(|(.., differs)| *differs) {
            end = at + length;
        }
        Some((start, end))
    })
}

/// The stretch being filled, and the one before it that is on its way to the device.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    dirty: bool,
    before: Option<(u64, u64, bool)>,
}

impl Window {
    fn turn(&mut self, slot: &Slot, end: u64) -> Result<(), FsError> {
        let bytes = end - self.start;
        if self.dirty {
            slot.start_write_back(self.start, bytes)?;
        }
        if let Some((start, bytes, dirty)) = self.before.take() {
            if dirty {
                slot.wait_write_back(start, bytes)?;
            }
            slot.forget(start, bytes);
        }
        self.before = Some((self.start, bytes, self.dirty));
        self.start = end;
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot_with(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slot");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn pass(path: &std::path::Path, image: &[u8], cuts: &[usize]) -> Written {
        let mut sink = BlockSink::new(Slot::open(path).unwrap());
        let mut rest = image;
        for cut in cuts {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            sink.write(piece).unwrap();
            rest = after;
        }
        sink.write(rest).unwrap();
        sink.finish().unwrap().1
    }

    #[test]
    fn runs_are_coalesced_and_equal_blocks_left_out() {
        let held = vec![0; 5 * BLOCK_BYTES + 100];
        let mut new = held.clone();
        for at in [
            BLOCK_BYTES,
            2 * BLOCK_BYTES + 7,
            4 * BLOCK_BYTES,
            5 * BLOCK_BYTES + 99,
        ] {
            new[at] = 1;
        }
        let runs: Vec<_> = differing_runs(&new, &held).collect();
        assert_eq!(
            runs,
            [
                (BLOCK_BYTES, 3 * BLOCK_BYTES),
                (4 * BLOCK_BYTES, 5 * BLOCK_BYTES + 100)
            ]
        );
        assert_eq!(differing_runs(&held, &held).count(), 0);
    }

    #[test]
    fn an_image_over_several_windows_arrives_and_the_second_time_nothing_is_written() {
        let size = 3 * WINDOW_BYTES as usize + 12_345;
        let image: Vec<u8> = (0..size).map(|n| (n / 997) as u8).collect();
        let (_dir, path) = slot_with(&vec![0xA5; size + 5_000]);
        let cuts = vec![PIECE_BYTES; size / PIECE_BYTES];
        let first = pass(&path, &image, &cuts);
        assert_eq!(first.image_bytes, size as u64);
        let content = std::fs::read(&path).unwrap();
        assert!(content[..size] == image && content[size..].iter().all(|byte| *byte == 0xA5));
        assert_eq!(pass(&path, &image, &cuts).written_bytes, 0);
        let mut changed = image;
        changed[WINDOW_BYTES as usize + 1] ^= 1;
        assert_eq!(
            pass(&path, &changed, &cuts).written_bytes,
            BLOCK_BYTES as u64
        );
    }

    #[test]
    fn a_slot_that_ends_is_an_error_that_names_it() {
        let (_dir, path) = slot_with(&[0; BLOCK_BYTES]);
        let mut sink = BlockSink::new(Slot::open(&path).unwrap());
        let text = sink.write(&[1; 2 * BLOCK_BYTES]).unwrap_err().to_string();
        assert!(text.contains("slot"), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_pieces_give_the_image(
            image in prop::collection::vec(0u8..3, 0..40_000),
            cuts in prop::collection::vec(0usize..9_000, 0..12),
            extra in 0usize..5_000,
        ) {
            let (_dir, path) = slot_with(&vec![1; image.len() + extra]);
            let written = pass(&path, &image, &cuts);
            let content = std::fs::read(&path).unwrap();
            prop_assert!(content[..image.len()] == image[..]);
            prop_assert!(content[image.len()..].iter().all(|byte| *byte == 1));
            prop_assert_eq!(written.image_bytes, image.len() as u64);
        }
    }
}
