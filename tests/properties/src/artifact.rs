//! The artifact reader.
//!
//! - However the bytes arrive and however the payload is taken, the verdict is the same, and so is what is told of
//!   a good artifact.
//! - What a good verdict lets through has the digests of the manifest, and its names are safe as file names.
//! - Limits of memory hold.
//!
//! Checksums stand before everything of interest, so an input may be more than the bytes of an artifact: see [`Form`].

mod build;

use std::io::{Cursor, Read};

use ambidex_artifact::{
    ArtifactSpec, Compression, CompressionChoice, Error, Header, Limits, Payload, PayloadSource,
    ReadOptions, Reader, Script, Summary, Verification, names, write,
};
use sha2::{Digest as _, Sha256};

use crate::{allocation, input::Input, seeds};

/// Memory of one reading under [`limits`]: the buffers of artifact, header and data, a decoder's dictionary, and the
/// header as bytes and as what they mean.
const MEMORY_MAX: usize = 12 << 20;

/// What the bytes behind the first one are.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// An artifact.
    Raw,
    /// An artifact whose checksums of archive headers and digests of members are to be corrected first.
    Repaired,
    /// The texts and files of an artifact, to be put together.
    Parts,
}

impl Form {
    const ALL: [Self; 3] = [Self::Raw, Self::Repaired, Self::Parts];
}

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let form = Form::ALL[usize::from(input.byte()) % Form::ALL.len()];
    let step = usize::from(input.byte()) + 1;
    let artifact = match form {
        Form::Raw => input.rest().to_vec(),
        Form::Repaired => build::repaired(input.rest()),
        Form::Parts => build::from_parts(input),
    };
    for options in [
        ReadOptions::device(Verification::Ignore),
        ReadOptions::inspect(Verification::Ignore),
    ] {
        let options = ReadOptions {
            limits: limits(),
            ..options
        };
        keeps(&artifact, &options, step);
    }
}

/// Small, so that little input is enough to reach them.
fn limits() -> Limits {
    Limits {
        manifest_bytes_max: 64 << 10,
        header_stored_bytes_max: 256 << 10,
        header_unpacked_bytes_max: 256 << 10,
        meta_data_bytes_max: 32 << 10,
        script_bytes_max: 64 << 10,
        script_count_max: 8,
        payload_files_max: 16,
        payload_file_bytes_max: 1 << 20,
        zstd_window_log_max: 20,
        xz_memory_kib_max: 4 << 10,
    }
}

/// Everything that a reading tells.
#[derive(Debug, PartialEq)]
struct Told {
    header: Header,
    summary: Summary,
    contents: Vec<Content>,
}

/// A payload file as it was handed out.
#[derive(Debug, PartialEq)]
struct Content {
    name: String,
    size: u64,
    sha256: String,
}

impl Content {
    fn new(name: &str, size: u64, hasher: Sha256) -> Self {
        Self {
            name: name.to_owned(),
            size,
            sha256: hex::encode(hasher.finalize()),
        }
    }
}

fn keeps(artifact: &[u8], options: &ReadOptions, step: usize) {
    let whole = allocation::at_most(MEMORY_MAX, || by_chunks(artifact, options));
    let pieces = by_chunks(
        Pieces {
            rest: artifact,
            step,
        },
        options,
    );
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "arriving in pieces"),
        // of two faults a decoder may meet either first: it looks as far ahead as there is input
        (Err(_), Err(_)) => {}
        _ => panic!(
            "another verdict when it arrives in pieces: {:?} and {:?}",
            whole.err(),
            pieces.err()
        ),
    }
    let skipped = Reader::open(artifact, options).and_then(Reader::finish);
    let copied = by_copying(artifact, options, step);
    let Ok(told) = whole else {
        assert!(skipped.is_err(), "accepted when its payload is passed over");
        assert!(copied.is_none(), "accepted when its payload is copied");
        return;
    };
    let skipped = skipped.expect("it was accepted before");
    assert_eq!(skipped, told.summary, "passing over the payload");
    assert_eq!(copied.as_ref(), Some(&told.contents), "copying the payload");
    is_covered(&told, artifact.len());
}

/// Nothing was let through that the manifest does not answer for.
fn is_covered(told: &Told, length: usize) {
    let Told {
        header,
        summary,
        contents,
    } = told;
    assert_eq!(summary.bytes_read, length as u64, "a rest was not read");
    assert_eq!(summary.files.len(), header.files.len());
    assert_eq!(contents.len(), header.files.len());
    for (Content { name, size, sha256 }, file) in contents.iter().zip(&summary.files) {
        assert_eq!((name, *size), (&file.name, file.size));
        names::check_payload_name(name).expect("names are checked");
        assert_eq!(*sha256, file.sha256.to_string());
        let line = format!("data/0000/{name}");
        let listed = header
            .manifest
            .iter()
            .chain(header.augment.iter().flat_map(|part| &part.manifest))
            .find(|entry| entry.name == line);
        assert_eq!(
            listed.map(|entry| entry.sha256),
            Some(file.sha256),
            "{name} is not in the manifest"
        );
    }
    names::check_artifact_name(&header.name).expect("names are checked");
    if let Payload::Module(kind) = &header.payload {
        names::check_payload_type(kind).expect("payload types are checked");
    }
    for Script { name, .. } in &header.scripts {
        names::check_script_name(name).expect("names of scripts are checked");
    }
    assert!(header.scripts.len() <= limits().script_count_max);
    // what the device compares and stores can be told
    let _ = (
        header.provides(),
        header.depends(),
        header.conflicting_provides(),
    );
}

fn by_chunks(input: impl Read, options: &ReadOptions) -> Result<Told, Error> {
    let mut reader = Reader::open(input, options)?;
    let header = reader.header().clone();
    let mut contents = Vec::new();
    while let Some(mut file) = reader.next_file()? {
        let name = file.name().to_owned();
        let (mut size, mut hasher) = (0, Sha256::new());
        while let Some(chunk) = file.chunk()? {
            size += chunk.len() as u64;
            hasher.update(chunk);
        }
        contents.push(Content::new(&name, size, hasher));
    }
    let summary = reader.finish()?;
    Ok(Told {
        header,
        summary,
        contents,
    })
}

/// What `Read` hands out, `step` bytes at a time; `None` with an error.
fn by_copying(artifact: &[u8], options: &ReadOptions, step: usize) -> Option<Vec<Content>> {
    let mut reader = Reader::open(artifact, options).ok()?;
    let mut contents = Vec::new();
    let mut buffer = vec![0; step];
    while let Some(mut file) = reader.next_file().ok()? {
        let name = file.name().to_owned();
        let (mut size, mut hasher) = (0, Sha256::new());
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                count => {
                    size += count as u64;
                    hasher.update(&buffer[..count]);
                }
            }
        }
        contents.push(Content::new(&name, size, hasher));
    }
    reader.finish().ok()?;
    Some(contents)
}

/// A connection that brings `step` bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.step.min(out.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(count);
        out[..count].copy_from_slice(piece);
        self.rest = rest;
        Ok(count)
    }
}

/// The collected artifacts of other tools, ours in every compression, and parts.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut artifacts: Vec<Vec<u8>> = ["valid", "variant", "invalid"]
        .into_iter()
        .flat_map(|folder| seeds::files(&format!("protocol/artifact/tests/vectors/{folder}")))
        .collect();
    artifacts.extend(Compression::ALL.into_iter().map(written));
    let mut all: Vec<Vec<u8>> = artifacts
        .iter()
        .flat_map(|artifact| {
            [Form::Raw, Form::Repaired]
                .map(|form| [&[form as u8, 60][..], artifact.as_slice()].concat())
        })
        .collect();
    all.extend(
        build::seeds()
            .into_iter()
            .map(|parts| [&[Form::Parts as u8, 9][..], &parts].concat()),
    );
    all
}

/// Small, and with everything in it.
fn written(compression: Compression) -> Vec<u8> {
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
        PayloadSource::from_bytes("one", b"first"),
        PayloadSource::from_bytes("two", b"second"),
    ];
    let mut out = Cursor::new(Vec::new());
    write(&spec, &files, None, &mut out, &mut |_| {}).expect("it can be written");
    out.into_inner()
}
