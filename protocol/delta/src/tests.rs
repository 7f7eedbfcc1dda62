#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::convert::Infallible;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn difference(old: &[u8], new: &[u8]) -> (Vec<u8>, Found) {
    let mut output = Vec::new();
    let mut read = 0;
    let found = diff(
        &old,
        old.len() as u64,
        &mut Cursor::new(new),
        &mut output,
        &mut |bytes| read += bytes,
    )
    .unwrap();
    assert_eq!(
        read,
        (old.len() + 2 * new.len()) as u64,
        "progress to its end"
    );
    assert_eq!(found.bytes, output.len() as u64);
    (output, found)
}

fn applied(delta: &[u8], old: &[u8]) -> Result<Vec<u8>, ApplyError<Infallible>> {
    let mut new = Vec::new();
    apply(
        &mut &*delta,
        &old,
        |_| Ok(()),
        |piece| {
            new.extend_from_slice(piece);
            Ok(())
        },
    )?;
    Ok(new)
}

/// Blocks of content that differs between numbers; 0 is the block of zeros.
fn image(blocks: &[u8], tail: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = blocks
        .iter()
        .flat_map(|number| {
            (0..BLOCK_BYTES)
                .map(move |at| number.wrapping_mul((at % 251) as u8).wrapping_add(*number))
        })
        .collect();
    bytes.extend((0..tail).map(|at| (at % 13) as u8 + 1));
    bytes
}

#[test]
fn what_moved_is_found_and_what_is_new_is_carried() {
    let old = image(&[1, 2, 3, 4, 5, 0, 0], 0);
    let new = image(&[4, 5, 9, 0, 0, 0, 1, 2, 3], 100);
    let (delta, found) = difference(&old, &new);
    assert_eq!(found.new_bytes, BLOCK_BYTES as u64 + 100);
    // copy, data, zeros, copy, data, end
    let steps = 2 * 17 + 2 * 9 + 9 + 1;
    assert_eq!(
        delta.len(),
        HEADER_BYTES + steps + BLOCK_BYTES + 100,
        "one step for each stretch"
    );
    assert!(applied(&delta, &old).unwrap() == new);
}

#[test]
fn equal_images_differ_in_nothing() {
    let old = image(&[1, 2, 3], 77);
    let (delta, found) = difference(&old, &old);
    assert_eq!((found.new_bytes, delta.len()), (0, HEADER_BYTES + 17 + 1));
    assert!(applied(&delta, &old).unwrap() == old);
    let (delta, _) = difference(&old, &[]);
    assert!(applied(&delta, &old).unwrap().is_empty());
    let (delta, _) = difference(&[], &old);
    assert!(applied(&delta, &[]).unwrap() == old);
}

#[test]
fn an_old_image_that_was_written_to_is_noticed() {
    let old = image(&[1, 2, 3], 0);
    let (delta, _) = difference(&old, &image(&[3, 2], 0));
    let mut other = old;
    other[BLOCK_BYTES + 5] ^= 1;
    let error = applied(&delta, &other).unwrap_err();
    assert!(matches!(error, ApplyError::OtherOld), "{error}");
}

#[test]
fn a_header_is_refused_before_the_first_piece() {
    let old = image(&[1], 0);
    let (delta, _) = difference(&old, &image(&[2], 0));
    let refused = apply(
        &mut &*delta,
        &old.as_slice(),
        |header| Err(header.new.bytes),
        |_| unreachable!("nothing is handed on"),
    );
    assert!(matches!(refused, Err(ApplyError::Taker(4096))));
}

#[test]
fn what_breaks_the_rules_is_named() {
    let old = image(&[1, 2], 0);
    let (good, found) = difference(&old, &image(&[2, 7], 0));
    let head = good[..HEADER_BYTES].to_vec();
    let with = |steps: &[u8]| [&head, steps].concat();
    let copy = |offset: u64, length: u64| {
        [&[1][..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    };
    let zeros = |length: u64| [&[3][..], &length.to_le_bytes()].concat();
    for (delta, word) in [
        (b"AMBXDLT2".repeat(20), "no difference"),
        (good[..40].to_vec(), "cannot be read"),
        (good[..good.len() - 1].to_vec(), "cannot be read"),
        (with(&[0]), "less than"),
        (with(&[9]), "unknown kind"),
        (with(&zeros(0)), "empty step"),
        (with(&zeros(u64::MAX)), "more than"),
        (with(&copy(u64::MAX, 5)), "beyond the end"),
        (with(&copy(1, found.header.old.bytes)), "beyond the end"),
        ([&good[..], &[0]].concat(), "after the end"),
    ] {
        let error = applied(&delta, &old).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_two_images(
        old in prop::collection::vec(0u8..6, 0..40), old_tail in 0usize..BLOCK_BYTES,
        new in prop::collection::vec(0u8..8, 0..40), new_tail in 0usize..BLOCK_BYTES,
    ) {
        let (old, new) = (image(&old, old_tail), image(&new, new_tail));
        let (delta, _) = difference(&old, &new);
        prop_assert!(applied(&delta, &old).unwrap() == new);
    }

    /// A damaged difference ends in an error or in the image that its digest names, and hands on no more than it says.
    #[test]
    fn damage_is_noticed(at in 0usize..400, bit in 0u8..8) {
        let old = image(&[1, 2, 3], 0);
        let new = image(&[2, 0, 3], 30);
        let (mut delta, _) = difference(&old, &new);
        let at = at % delta.len();
        delta[at] ^= 1 << bit;
        if let Ok(came) = applied(&delta, &old) {
            prop_assert!(came == new);
        }
    }
}
