//! What is written is read again, whatever it is, and is the same bytes each time.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use ambidex_artifact::{
    ArtifactSpec, CHUNK_BYTES, Compression, CompressionChoice, Error, Payload, PayloadSource,
    ReadOptions, Reader, Script, SoftwareVersion, Verification, write, write_streamed,
};
use proptest::prelude::*;

fn make(spec: &ArtifactSpec, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let sources: Vec<PayloadSource<'_>> = files
        .iter()
        .map(|(name, content)| PayloadSource::from_bytes(name.clone(), content))
        .collect();
    let mut out = Cursor::new(Vec::new());
    let written = write(spec, &sources, None, &mut out, &mut |_| {}).unwrap();
    assert_eq!(written.bytes, out.get_ref().len() as u64);
    // Where the output cannot seek, the same bytes come.
    let mut streamed = Vec::new();
    let told = write_streamed(spec, &sources, None, &mut streamed, &mut |_| {}).unwrap();
    assert_eq!(told, written);
    assert!(streamed == *out.get_ref(), "streamed bytes differ");
    out.into_inner()
}

/// Reads at most `step` bytes at a time.
struct Slow<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.rest.len().min(out.len()).min(self.step);
        out[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        Ok(count)
    }
}

fn content(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            // Half of it repeats, so that the codecs have something to find.
            if at % 64 < 32 {
                (state >> 11) as u8
            } else {
                (at / 64) as u8
            }
        })
        .collect()
}

fn module_spec(compression: Compression) -> ArtifactSpec {
    let mut spec = ArtifactSpec::new(Payload::Module("app".into()), "app-1", vec!["qemu".into()]);
    spec.compression = CompressionChoice {
        compression,
        level: Some(1),
    };
    spec
}

#[test]
fn contents_around_the_chunk_size_in_every_codec() {
    let lengths = [
        0,
        1,
        511,
        512,
        513,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        5 * CHUNK_BYTES / 2,
    ];
    let files: Vec<(String, Vec<u8>)> = lengths
        .iter()
        .map(|length| (format!("file-{length}"), content(*length, 7)))
        .collect();
    for compression in Compression::ALL {
        let artifact = make(&module_spec(compression), &files);
        for step in [usize::MAX, 4096, 1000] {
            let input = Slow {
                rest: &artifact,
                step,
            };
            let mut reader =
                Reader::open(input, &ReadOptions::device(Verification::Ignore)).unwrap();
            let mut met = 0;
            while let Some(mut file) = reader.next_file().unwrap() {
                let (name, expected) = &files[met];
                assert_eq!(
                    (file.name(), file.size()),
                    (name.as_str(), expected.len() as u64)
                );
                let mut at = 0;
                while let Some(chunk) = file.chunk().unwrap() {
                    assert!(
                        chunk == &expected[at..at + chunk.len()],
                        "{compression} {name} at {at}"
                    );
                    assert!(
                        chunk.len() == CHUNK_BYTES || at + chunk.len() == expected.len(),
                        "a chunk of {} bytes in the middle of {name}",
                        chunk.len()
                    );
                    at += chunk.len();
                }
                assert_eq!(at, expected.len());
                assert!(file.chunk().unwrap().is_none(), "the end stays the end");
                met += 1;
            }
            assert_eq!(met, files.len());
            let summary = reader.finish().unwrap();
            assert_eq!(summary.bytes_read, artifact.len() as u64);
            assert_eq!(summary.compression, compression);
        }
    }
}

#[test]
fn reading_and_chunks_mix_and_skipped_files_are_verified() {
    let files = vec![
        ("a".to_owned(), content(300_000, 1)),
        ("b".to_owned(), content(300_000, 2)),
    ];
    let artifact = make(&module_spec(Compression::Zstd), &files);
    let mut reader =
        Reader::open(&artifact[..], &ReadOptions::device(Verification::Ignore)).unwrap();
    {
        let mut file = reader.next_file().unwrap().unwrap();
        let mut got = vec![0; 1000];
        file.read_exact(&mut got).unwrap();
        got.extend_from_slice(file.chunk().unwrap().unwrap());
        assert_eq!(got.len(), CHUNK_BYTES);
        file.read_to_end(&mut got).unwrap();
        assert!(got == files[0].1);
    }
    assert_eq!(reader.next_file().unwrap().unwrap().name(), "b");
    assert_eq!(reader.finish().unwrap().files.len(), 2);

    // One wrong byte in a file that nobody looks at is noticed all the same.
    let plain = make(&module_spec(Compression::None), &files);
    let mut damaged = plain.clone();
    let at = plain.len() - 2048 - 100_000;
    damaged[at] ^= 1;
    let error = Reader::open(&damaged[..], &ReadOptions::device(Verification::Ignore))
        .unwrap()
        .finish()
        .unwrap_err();
    assert!(
        matches!(&error, Error::Checksum { place, .. } if place == "data/0000/b"),
        "{error}"
    );
}

#[test]
fn errors_of_the_input_come_back_as_they_were() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::ConnectionReset,
                    "the cable was pulled",
                ));
            }
            self.0.read(out)
        }
    }
    for compression in Compression::ALL {
        let artifact = make(
            &module_spec(compression),
            &[("a".into(), content(400_000, 3))],
        );
        for cut in [100, 2000, artifact.len() / 2, artifact.len() - 1] {
            let outcome = Reader::open(
                Broken(&artifact[..cut]),
                &ReadOptions::device(Verification::Ignore),
            )
            .and_then(Reader::finish);
            let Err(Error::Source(error)) = outcome else {
                panic!("{compression} {cut}: {outcome:?}")
            };
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            assert_eq!(error.to_string(), "the cable was pulled");
        }
    }
}

#[test]
fn after_an_error_the_reader_says_nothing_more() {
    let files = vec![
        ("a".to_owned(), content(3000, 1)),
        ("b".to_owned(), content(3000, 2)),
    ];
    let mut artifact = make(&module_spec(Compression::None), &files);
    let at = artifact.len() - 1024 - 1024 - 3584 - 512 - 100;
    artifact[at] ^= 0x40;
    let mut reader =
        Reader::open(&artifact[..], &ReadOptions::device(Verification::Ignore)).unwrap();
    let first = {
        let mut file = reader.next_file().unwrap().unwrap();
        while let Ok(Some(_)) = file.chunk() {}
        file.chunk().unwrap_err()
    };
    assert!(matches!(first, Error::Failed), "{first}");
    assert!(matches!(reader.next_file(), Err(Error::Failed)));
    assert!(matches!(reader.finish(), Err(Error::Failed)));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 <>&äö._-]{1,40}".prop_map(|text| text)
}

fn spec() -> impl Strategy<Value = ArtifactSpec> {
    let provides = prop::collection::btree_map("[a-z]{1,8}\\.[a-z]{1,8}", text(), 0..4);
    let depends =
        prop::collection::btree_map("[a-z]{1,8}\\.x", prop::collection::vec(text(), 1..3), 0..3);
    let names = || prop::collection::vec(text(), 0..3);
    let scripts = prop::collection::btree_map(
        "Artifact(Install|Commit|Failure)_(Enter|Leave|Error)_[0-9]{2}(_[a-z]{1,5})?",
        prop::collection::vec(any::<u8>(), 0..2000),
        0..4,
    );
    let meta_data = prop::option::of(prop::collection::btree_map(text(), text(), 1..4));
    (
        (
            text(),
            prop::option::of(text()),
            prop::collection::vec(text(), 1..4),
        ),
        (names(), names(), provides, depends),
        (
            prop::option::of(prop::collection::vec(text(), 0..3)),
            scripts,
            meta_data,
        ),
        (
            0..Compression::ALL.len(),
            prop::option::of("[a-z]{1,10}"),
            0_u64..4_000_000_000,
        ),
    )
        .prop_map(|(who, relations, rest, how)| {
            let payload = how.1.map_or(Payload::RootfsImage, Payload::Module);
            let mut spec = ArtifactSpec::new(payload, who.0, who.2);
            spec.group = who.1;
            (
                spec.depends_names,
                spec.depends_groups,
                spec.type_provides,
                spec.type_depends,
            ) = relations;
            spec.clears_provides = rest.0;
            spec.scripts = rest
                .1
                .into_iter()
                .map(|(name, content)| Script { name, content })
                .collect();
            spec.meta_data = rest.2.map(|map| {
                map.into_iter()
                    .map(|(key, value)| (key, value.into()))
                    .collect()
            });
            spec.compression = CompressionChoice {
                compression: Compression::ALL[how.0],
                level: Some(1),
            };
            spec.mtime_s = how.2;
            spec
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_specification_survives(
        spec in spec(),
        files in prop::collection::btree_map("[a-zA-Z0-9_.,-]{3,90}", prop::collection::vec(any::<u8>(), 0..3000), 0..4),
    ) {
        let mut files: Vec<(String, Vec<u8>)> = files.into_iter().collect();
        if spec.payload == Payload::RootfsImage {
            files.resize(1, ("image".to_owned(), b"content".to_vec()));
        }
        let artifact = make(&spec, &files);
        prop_assert!(artifact == make(&spec, &files), "not deterministic");

        let mut reader = Reader::open(&artifact[..], &ReadOptions::device(Verification::Ignore)).unwrap();
        let header = reader.header().clone();
        prop_assert_eq!(&header.name, &spec.name);
        prop_assert_eq!(&header.group, &spec.group);
        prop_assert_eq!(&header.device_types, &spec.device_types);
        prop_assert_eq!(&header.depends_names, &spec.depends_names);
        prop_assert_eq!(&header.depends_groups, &spec.depends_groups);
        prop_assert_eq!(&header.payload, &spec.payload);
        prop_assert_eq!(&header.type_provides, &spec.type_provides);
        prop_assert_eq!(&header.type_depends, &spec.type_depends);
        prop_assert_eq!(&header.clears_provides, &spec.clears_provides);
        prop_assert_eq!(&header.scripts, &spec.scripts);
        prop_assert_eq!(&header.meta_data, &spec.meta_data.map(Into::into));
        prop_assert_eq!(header.compression, spec.compression.compression);
        let mut read = BTreeMap::new();
        while let Some(mut file) = reader.next_file().unwrap() {
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            read.insert(file.name().to_owned(), content);
        }
        prop_assert_eq!(read, files.into_iter().collect::<BTreeMap<_, _>>());
        reader.finish().unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let file = [PayloadSource::from_bytes("a", b"x")];
    let twice = [
        PayloadSource::from_bytes("a", b"x"),
        PayloadSource::from_bytes("a", b"y"),
    ];
    let bad_name = [PayloadSource::from_bytes("a b", b"x")];
    let script = |name: &str| Script {
        name: name.into(),
        content: Vec::new(),
    };
    type Change = Box<dyn Fn(&mut ArtifactSpec)>;
    let cases: [(Change, &[PayloadSource<'_>], &str); 14] = [
        (Box::new(|_| {}), &twice, "two payload files"),
        (Box::new(|_| {}), &bad_name, "not permitted"),
        (
            Box::new(|spec| spec.name = String::new()),
            &file,
            "artifact name is empty",
        ),
        (
            Box::new(|spec| spec.name = "n".repeat(257)),
            &file,
            "257 bytes",
        ),
        (
            Box::new(|spec| spec.device_types.clear()),
            &file,
            "no device type",
        ),
        (
            Box::new(|spec| spec.device_types = vec!["q".into(); 201]),
            &file,
            "201 device types",
        ),
        (
            Box::new(|spec| spec.payload = Payload::Module("a/b".into())),
            &file,
            "payload type",
        ),
        (
            Box::new(|spec| spec.payload = Payload::RootfsImage),
            &[],
            "one file",
        ),
        (
            Box::new(|spec| spec.payload = Payload::RootfsImage),
            &twice,
            "one file",
        ),
        (
            Box::new(|spec| spec.payload = Payload::Empty),
            &file,
            "no files",
        ),
        (
            Box::new(move |spec| spec.scripts = vec![script("Download_Enter_00")]),
            &file,
            "not a state",
        ),
        (
            Box::new(move |spec| {
                spec.scripts = vec![
                    script("ArtifactCommit_Enter_00"),
                    script("ArtifactCommit_Enter_00"),
                ];
            }),
            &file,
            "twice",
        ),
        (
            Box::new(|spec| {
                spec.type_provides
                    .insert("artifact_name".into(), "x".into());
            }),
            &file,
            "provided by the artifact itself",
        ),
        (
            Box::new(|spec| {
                spec.type_provides.insert("x".into(), "y".repeat(300_000));
            }),
            &file,
            "type-info has",
        ),
    ];
    for (change, files, why) in cases {
        let mut spec = module_spec(Compression::None);
        change(&mut spec);
        let mut out = Cursor::new(Vec::new());
        let error = write(&spec, files, None, &mut out, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, Error::Specification(_)) && error.to_string().contains(why),
            "{error}"
        );
        assert!(
            out.get_ref().is_empty(),
            "something was written for: {error}"
        );
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_noticed() {
    let reads = std::cell::Cell::new(0_u8);
    let source = PayloadSource {
        name: "a".into(),
        mode: 0o644,
        mtime_s: 0,
        open: Box::new(|| {
            reads.set(reads.get() + 1);
            Ok(Box::new(Cursor::new(vec![reads.get(); 10])))
        }),
    };
    let error = write(
        &module_spec(Compression::None),
        &[source],
        None,
        Cursor::new(Vec::new()),
        &mut |_| {},
    )
    .unwrap_err();
    let Error::Payload { name, source } = &error else {
        panic!("{error}")
    };
    assert!(
        name == "a" && source.to_string().contains("changed"),
        "{source}"
    );
}

#[test]
fn defaults_of_the_reference_tool() {
    // Row "rootfs-image" of the reference's table, read back from the artifact.
    let mut spec = ArtifactSpec::new(Payload::RootfsImage, "release-1", vec!["qemu".into()])
        .with_rootfs_checksum(false);
    SoftwareVersion::default().apply(
        &spec.payload,
        &spec.name,
        &mut spec.type_provides,
        &mut spec.clears_provides,
    );
    let artifact = make(&spec, &[("rootfs.ext4".into(), b"image".to_vec())]);
    let reader = Reader::open(&artifact[..], &ReadOptions::device(Verification::Ignore)).unwrap();
    let header = reader.header();
    assert_eq!(
        String::from_utf8(header.type_info_raw.clone()).unwrap(),
        "{\"type\":\"rootfs-image\",\"artifact_provides\":{\"rootfs-image.checksum\":\
         \"6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d\",\"rootfs-image.version\":\"release-1\"},\
         \"clears_artifact_provides\":[\"artifact_group\",\"rootfs_image_checksum\",\"rootfs-image.*\"]}"
    );
    assert_eq!(
        String::from_utf8(header.header_info_raw.clone()).unwrap(),
        "{\"payloads\":[{\"type\":\"rootfs-image\"}],\"artifact_provides\":{\"artifact_name\":\"release-1\"},\
         \"artifact_depends\":{\"device_type\":[\"qemu\"]}}"
    );
}
