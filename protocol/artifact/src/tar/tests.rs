#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use super::*;
use crate::source::Source;

fn archive(entries: &[(NewEntry<'_>, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (entry, content) in entries {
        write_entry_header(&mut out, entry).unwrap();
        out.extend_from_slice(content);
        out.resize(out.len() + pad_bytes(content.len() as u64), 0);
    }
    write_end(&mut out).unwrap();
    out
}

fn new_entry(name: &str, size: u64) -> NewEntry<'_> {
    NewEntry {
        name,
        size,
        mode: 0o644,
        mtime_s: 1_700_000_000,
        size_in_pax: false,
    }
}

fn refusal(bytes: &[u8]) -> String {
    let mut source = Source::new(bytes);
    next_entry(&mut source, "test.tar").unwrap_err().to_string()
}

fn with_checksum(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u32 = block[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn what_is_written_is_read_again() {
    let long = "n".repeat(300);
    for name in ["a", &long, &"b".repeat(100), &"c".repeat(101), "ä/ö"] {
        for size_in_pax in [false, true] {
            let entry = NewEntry {
                size_in_pax,
                ..new_entry(name, 3)
            };
            let bytes = archive(&[(entry, b"abc"), (new_entry("last", 0), b"")]);
            let mut source = Source::new(&bytes[..]);
            let read = next_entry(&mut source, "t").unwrap().unwrap();
            assert_eq!((read.name.as_str(), read.size, read.mode), (name, 3, 0o644));
            assert_eq!(read.mtime_s, 1_700_000_000);
            assert_eq!(read_file(&mut source, &read, 3, "t").unwrap(), b"abc");
            assert_eq!(next_entry(&mut source, "t").unwrap().unwrap().name, "last");
            assert_eq!(next_entry(&mut source, "t").unwrap(), None);
            assert_eq!(expect_only_zeros(&mut source, "t").unwrap(), 512);
        }
    }
}

#[test]
fn sizes_beyond_eight_gibibytes_survive() {
    for size in [OCTAL_SIZE_MAX, OCTAL_SIZE_MAX + 1, u64::MAX] {
        let mut bytes = Vec::new();
        write_entry_header(&mut bytes, &new_entry("large", size)).unwrap();
        let mut source = Source::new(&bytes[..]);
        assert_eq!(next_entry(&mut source, "t").unwrap().unwrap().size, size);
    }
}

#[test]
fn binary_sizes_are_read() {
    let mut block = archive(&[(new_entry("a", 0), b"")]);
    block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]);
    let block = with_checksum(block);
    let mut source = Source::new(&block[..]);
    assert_eq!(
        next_entry(&mut source, "t").unwrap().unwrap().size,
        0x2_0000_0001
    );
}

#[test]
fn disagreeing_sizes_are_refused() {
    let mut bytes = Vec::new();
    write_entry_header(
        &mut bytes,
        &NewEntry {
            size_in_pax: true,
            ..new_entry("a", 5)
        },
    )
    .unwrap();
    let mut last = bytes.split_off(2 * BLOCK);
    last[124..135].copy_from_slice(b"00000000006");
    bytes.extend_from_slice(&with_checksum(last));
    assert!(refusal(&bytes).contains("extended header gives the size 5"));
}

#[test]
fn everything_but_regular_files_is_refused() {
    for kind in *b"1234567xgLKS@" {
        let mut block = archive(&[(new_entry("a", 0), b"")]);
        block[156] = kind;
        let message = refusal(&with_checksum(block));
        assert!(
            message.contains("only regular files") || message.contains("ends after"),
            "{message}"
        );
    }
}

#[test]
fn damage_is_named() {
    let good = archive(&[(new_entry("a", 600), &[7; 600])]);
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    assert!(refusal(&flipped).contains("checksum of a tar header"));
    assert!(refusal(&good[..100]).contains("truncated"));
    assert!(refusal(b"#!/bin/sh\n").contains("truncated"));
    assert!(refusal(&[b'x'; 1024]).contains("not a tar archive"));

    let mut source = Source::new(&good[..BLOCK + 599]);
    let entry = next_entry(&mut source, "t").unwrap().unwrap();
    assert!(matches!(
        read_file(&mut source, &entry, 600, "t"),
        Err(Error::Truncated { offset: 1111, .. })
    ));

    let mut source = Source::new(&good[..]);
    let entry = next_entry(&mut source, "t").unwrap().unwrap();
    assert!(matches!(
        read_file(&mut source, &entry, 599, "t"),
        Err(Error::Limit {
            actual: 600,
            limit: 599,
            ..
        })
    ));

    let mut dirty = good;
    dirty[BLOCK + 601] = 1;
    let mut source = Source::new(&dirty[..]);
    let entry = next_entry(&mut source, "t").unwrap().unwrap();
    assert!(
        read_file(&mut source, &entry, 600, "t")
            .unwrap_err()
            .to_string()
            .contains("padding")
    );
}

#[test]
fn padding_at_and_past_the_limit() {
    let zeros = vec![0_u8; usize::try_from(PADDING_BYTES_MAX).unwrap() + 1];
    assert!(expect_only_zeros(&mut Source::new(&zeros[1..]), "t").is_ok());
    assert!(expect_only_zeros(&mut Source::new(&zeros[..]), "t").is_err());
}
