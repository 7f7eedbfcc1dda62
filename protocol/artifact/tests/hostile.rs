//! Damaged artifacts: never a panic, never another content under the same manifest.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::Cursor;
use std::sync::LazyLock;

use ambidex_artifact::{
    ArtifactSpec, Compression, CompressionChoice, Error, Header, Limits, Payload, PayloadSource,
    ReadOptions, Reader, Script, Summary, Verification, write,
};
use proptest::prelude::*;

fn build(compression: Compression, content: &[u8]) -> Vec<u8> {
    let mut spec = ArtifactSpec::new(Payload::Module("app".into()), "app-1", vec!["qemu".into()]);
    spec.compression = CompressionChoice {
        compression,
        level: Some(1),
    };
    spec.type_provides.insert("app.version".into(), "1".into());
    spec.scripts.push(Script {
        name: "ArtifactInstall_Enter_01".into(),
        content: b"#!/bin/sh\nexit 0\n".to_vec(),
    });
    let files = [
        PayloadSource::from_bytes("one", content),
        PayloadSource::from_bytes("two", b"second"),
    ];
    let mut out = Cursor::new(Vec::new());
    write(&spec, &files, None, &mut out, &mut |_| {}).unwrap();
    out.into_inner()
}

static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let content: Vec<u8> = (0..6000_u32).map(|at| (at * at / 7) as u8).collect();
    Compression::ALL
        .into_iter()
        .map(|compression| build(compression, &content))
        .collect()
});

fn read(bytes: &[u8]) -> Result<(Header, Summary), Error> {
    let reader = Reader::open(bytes, &ReadOptions::inspect(Verification::Ignore))?;
    let header = reader.header().clone();
    Ok((header, reader.finish()?))
}

/// Everything that a device acts on.
#[derive(Debug, PartialEq)]
struct Meaning {
    header_info: Vec<u8>,
    type_info: Vec<u8>,
    meta_data: Vec<u8>,
    scripts: Vec<Script>,
    files: Vec<(String, String, u64)>,
}

fn meaning((header, summary): &(Header, Summary)) -> Meaning {
    let files = summary
        .files
        .iter()
        .map(|file| (file.name.clone(), file.sha256.to_string(), file.size));
    Meaning {
        header_info: header.header_info_raw.clone(),
        type_info: header.type_info_raw.clone(),
        meta_data: header.meta_data_raw.clone(),
        scripts: header.scripts.clone(),
        files: files.collect(),
    }
}

/// Where the data member's header begins.
fn data_at(artifact: &[u8]) -> usize {
    artifact
        .windows(10)
        .position(|window| window == b"data/0000.")
        .unwrap_or_else(|| {
            panic!("no data member");
        })
}

#[test]
fn every_cut_is_an_error() {
    for artifact in GOOD.iter() {
        // The end marker of the archive says nothing that the manifest has not said already.
        for cut in 0..artifact.len() - 1024 {
            let error = read(&artifact[..cut]).map(|_| ()).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { .. } | Error::Malformed { .. }),
                "cut at {cut} of {}: {error}",
                artifact.len()
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_means_nothing() {
    for artifact in GOOD.iter() {
        let good = meaning(&read(artifact).unwrap());
        for at in 0..artifact.len() {
            let mut damaged = artifact.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(outcome) = read(&damaged) {
                // Such as a leading zero of a number that becomes a blank.
                assert_eq!(meaning(&outcome), good, "byte {at}");
            }
        }
    }
}

/// A connection that brings one byte at a time.
struct OneByOne<'a>(&'a [u8]);
impl std::io::Read for OneByOne<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else {
            return Ok(0);
        };
        out[0] = *first;
        self.0 = rest;
        Ok(1)
    }
}

#[test]
fn one_byte_at_a_time_is_the_same() {
    for artifact in GOOD.iter() {
        let reader = Reader::open(
            OneByOne(artifact),
            &ReadOptions::inspect(Verification::Ignore),
        )
        .unwrap();
        let header = reader.header().clone();
        let summary = reader.finish().unwrap();
        let expected = read(artifact).unwrap();
        assert_eq!((header, summary), expected);
    }
}

#[test]
fn where_it_ends_is_told_the_same_however_it_arrives() {
    for artifact in GOOD.iter() {
        let mut ended = artifact[..data_at(artifact)].to_vec();
        ended.resize(ended.len() + 1024, 0);
        ended.extend_from_slice(&artifact[data_at(artifact)..]);
        let whole = read(&ended).unwrap_err().to_string();
        let options = ReadOptions::inspect(Verification::Ignore);
        let pieces = Reader::open(OneByOne(&ended), &options)
            .and_then(Reader::finish)
            .unwrap_err();
        assert_eq!(pieces.to_string(), whole);
    }
}

#[test]
fn data_after_the_end_is_an_error() {
    for artifact in GOOD.iter() {
        let mut longer = artifact.clone();
        longer.extend_from_slice(&[0; 10_240]);
        assert!(read(&longer).is_ok());
        longer.push(1);
        assert!(matches!(read(&longer), Err(Error::Malformed { .. })));
        let twice = [&artifact[..], &artifact[..]].concat();
        assert!(read(&twice).is_err());
    }
}

#[test]
fn limits_at_and_past() {
    let artifact = &GOOD[0];
    let with = |limits: Limits| {
        let options = ReadOptions {
            limits,
            ..ReadOptions::device(Verification::Ignore)
        };
        Reader::open(&artifact[..], &options).and_then(Reader::finish)
    };
    let (header, _) = read(artifact).unwrap();
    let base = Limits::default();
    let manifest: u64 = header
        .manifest
        .iter()
        .map(|entry| 64 + 2 + entry.name.len() as u64 + 1)
        .sum();
    let unpacked: u64 = (header.header_info_raw.len()
        + header.type_info_raw.len()
        + header
            .scripts
            .iter()
            .map(|script| script.content.len())
            .sum::<usize>()) as u64;
    let script = header.scripts[0].content.len() as u64;
    let cases: [(Limits, Limits); 6] = [
        (
            Limits {
                manifest_bytes_max: manifest,
                ..base
            },
            Limits {
                manifest_bytes_max: manifest - 1,
                ..base
            },
        ),
        (
            Limits {
                header_unpacked_bytes_max: unpacked,
                ..base
            },
            Limits {
                header_unpacked_bytes_max: unpacked - 1,
                ..base
            },
        ),
        (
            Limits {
                script_bytes_max: script,
                ..base
            },
            Limits {
                script_bytes_max: script - 1,
                ..base
            },
        ),
        (
            Limits {
                script_count_max: 1,
                ..base
            },
            Limits {
                script_count_max: 0,
                ..base
            },
        ),
        (
            Limits {
                payload_files_max: 2,
                ..base
            },
            Limits {
                payload_files_max: 1,
                ..base
            },
        ),
        (
            Limits {
                payload_file_bytes_max: 6000,
                ..base
            },
            Limits {
                payload_file_bytes_max: 5999,
                ..base
            },
        ),
    ];
    for (at, past) in cases {
        assert!(with(at).is_ok(), "{at:?}");
        assert!(matches!(with(past), Err(Error::Limit { .. })), "{past:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn random_damage(
        which in 0..4_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut damaged = GOOD[which].clone();
        for (at, value) in &edits {
            let at = at.index(damaged.len());
            damaged[at] = *value;
        }
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        if let Ok(outcome) = read(&damaged) {
            prop_assert_eq!(meaning(&outcome), meaning(&read(&GOOD[which]).unwrap()));
        }
    }

    /// The payload member alone, where damage is deepest: behind valid tar headers and digests.
    #[test]
    fn random_damage_inside_the_compressed_payload(
        which in 1..4_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut damaged = GOOD[which].clone();
        let start = data_at(&damaged) + 512;
        for (at, value) in &edits {
            let at = start + at.index(damaged.len() - 1024 - start);
            damaged[at] = *value;
        }
        if let Ok(outcome) = read(&damaged) {
            prop_assert_eq!(meaning(&outcome), meaning(&read(&GOOD[which]).unwrap()));
        }
    }

    #[test]
    fn noise_is_no_artifact(noise in prop::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert!(read(&noise).is_err());
    }
}

/// An artifact with two payloads under a manifest that is right.
#[test]
fn two_payloads_are_refused() {
    use sha2::{Digest as _, Sha256};
    let kind = "abcdefghijklmn";
    let spec_type = Payload::Module(kind.into());
    let mut spec = ArtifactSpec::new(spec_type, "app-1", vec!["qemu".into()]);
    spec.compression = CompressionChoice::of(Compression::None);
    let mut out = Cursor::new(Vec::new());
    let files = [PayloadSource::from_bytes("one", b"content")];
    write(&spec, &files, None, &mut out, &mut |_| {}).unwrap();
    let mut bytes = out.into_inner();
    read(&bytes).unwrap();

    let find = |bytes: &[u8], what: &[u8]| {
        let found = bytes.windows(what.len()).position(|window| window == what);
        found.unwrap_or_else(|| panic!("{} is missing", String::from_utf8_lossy(what)))
    };
    let member = |bytes: &[u8]| {
        let at = find(bytes, b"header.tar\0");
        let size = std::str::from_utf8(&bytes[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        at + 512..at + 512 + size
    };
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(&bytes[member(bytes)]));
    let before = digest(&bytes);
    // as long as the one type, so that nothing moves
    let two = br#"a"},{"type":"a"#;
    let at = find(&bytes, format!("[{{\"type\":\"{kind}").as_bytes()) + br#"[{"type":""#.len();
    assert_eq!(two.len(), kind.len());
    bytes[at..at + two.len()].copy_from_slice(two);
    let (at, after) = (find(&bytes, before.as_bytes()), digest(&bytes));
    bytes[at..at + after.len()].copy_from_slice(after.as_bytes());

    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("2 payloads"), "{error}");
}
