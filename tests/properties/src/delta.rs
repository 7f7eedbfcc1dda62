//! Differences between images of root file systems.
//!
//! - A difference leads from the old image to the new one, and from no other image to anything that is taken for it.
//! - Any bytes as a difference: what is handed on is never more than was announced and accepted, and what is said to be
//!   the new image has its digest.

use std::io::Cursor;

use ambidex_delta::{ApplyError, BLOCK_BYTES, Header, apply, diff};
use sha2::{Digest as _, Sha256};

use crate::allocation;
use crate::input::{Input, piece};

/// More is refused, as the agent refuses what its slot has no room for.
const NEW_BYTES_MAX: u64 = 1 << 20;
/// One piece, and the little beside it.
const MEMORY_MAX: usize = 256 << 10;
/// Blocks of an image that is made of an input.
const BLOCKS_MAX: usize = 24;

/// Refused because it is too large.
#[derive(Debug)]
struct TooLarge;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => there(input),
        1 => {
            let old = input.piece();
            anything(input.rest(), old);
        }
        _ => damaged(input),
    }
}

/// A block for each byte: 0 is the block of zeros. What does not fill a block comes last.
fn image(bytes: &[u8]) -> Vec<u8> {
    let (blocks, tail) = bytes.split_at(bytes.len().min(BLOCKS_MAX));
    let mut image: Vec<u8> = blocks
        .iter()
        .flat_map(|byte| std::iter::repeat_n(*byte, BLOCK_BYTES))
        .collect();
    image.extend_from_slice(tail);
    image
}

fn difference(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    let found = diff(
        &old,
        old.len() as u64,
        &mut Cursor::new(new),
        &mut delta,
        &mut |_| {},
    )
    .expect("memory can be read and written");
    assert_eq!(found.bytes, delta.len() as u64, "the length that is told");
    delta
}

fn there(mut input: Input<'_>) {
    let (old, new) = (image(input.piece()), image(input.piece()));
    let delta = difference(&old, &new);
    assert_eq!(applied(&delta, &old).as_ref(), Some(&new), "the new image");
    let mut other = image(input.piece());
    other.resize(old.len(), 0);
    if let Some(made) = applied(&delta, &other) {
        assert_eq!(made, new, "from another old image");
    }
}

/// A good difference with bytes of the input's laid over it somewhere.
fn damaged(mut input: Input<'_>) {
    let (old, new) = (image(input.piece()), image(input.piece()));
    let mut delta = difference(&old, &new);
    while !input.is_empty() {
        let at = usize::try_from(input.u64() % delta.len() as u64).expect("it is in memory");
        let over = input.piece();
        // behind the magic
        for (place, byte) in delta[at.max(8)..].iter_mut().zip(over) {
            *place = *byte;
        }
    }
    anything(&delta, &old);
}

fn anything(delta: &[u8], old: &[u8]) {
    allocation::at_most(MEMORY_MAX + 2 * NEW_BYTES_MAX as usize, || {
        applied(delta, old)
    });
}

/// The new image, if that is what came out.
fn applied(delta: &[u8], old: &[u8]) -> Option<Vec<u8>> {
    let mut accepted = 0;
    let mut made = Vec::new();
    let mut input = delta;
    let applied = apply(
        &mut input,
        &old,
        |header: &Header| {
            if header.new.bytes > NEW_BYTES_MAX {
                return Err(TooLarge);
            }
            accepted = header.new.bytes;
            Ok(())
        },
        |piece| {
            made.extend_from_slice(piece);
            Ok(())
        },
    );
    assert!(made.len() as u64 <= accepted, "more than was announced");
    match applied {
        Ok(header) => {
            assert!(input.is_empty(), "all of it was read");
            assert_eq!(made.len() as u64, header.new.bytes);
            assert_eq!(Sha256::digest(&made).as_slice(), header.new.sha256);
            Some(made)
        }
        Err(ApplyError::Taker(TooLarge)) => {
            assert!(made.is_empty(), "handed on although it was refused");
            None
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let there = |old: &[u8], new: &[u8], other: &[u8]| {
        [&[0][..], &piece(old), &piece(new), &piece(other)].concat()
    };
    let old = image(&[1, 2, 3]);
    let delta = difference(&old, &image(&[3, 0, 9, 1]));
    let over = |at: u64, bytes: &[u8]| [&at.to_le_bytes()[..], &piece(bytes)].concat();
    vec![
        there(&[1, 2, 3, 0, 0], &[3, 9, 0, 1], &[1, 2]),
        there(&[], &[7; 30], &[]),
        there(&[7; 30], &[], &[7]),
        [&[1][..], &piece(&old), &delta].concat(),
        [
            &[2][..],
            &piece(&[1, 2, 3]),
            &piece(&[2, 1, 4]),
            &over(88, &[1, 0xff, 0xff]),
        ]
        .concat(),
    ]
}
