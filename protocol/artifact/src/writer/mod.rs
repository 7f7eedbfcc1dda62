//! Writing an artifact of version 3, in the layout of the reference tool.
//!
//! The payload is read twice: once for its digests, which stand before it, and once for its
//! content. The size of the compressed data member is filled in afterwards, so nothing is buffered
//! and the output must be able to seek.

mod defaults;
mod json;
mod spec;

pub use defaults::{SoftwareVersion, rootfs_checksum_key};
pub use spec::{ArtifactSpec, Open, PayloadSource};

use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest as _, Sha256};

use crate::codec::{CompressionChoice, Encoder};
use crate::digest::Sha256Digest;
use crate::error::Error;
use crate::limits::CHUNK_BYTES;
use crate::manifest::{DATA_PREFIX, ManifestEntry};
use crate::signature::{self, SigningKey};
use crate::tar::{BLOCK, NewEntry, OCTAL_SIZE_MAX, pad_bytes, write_end, write_entry_header};
use crate::version::VERSION_3;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the artifact.
    pub bytes: u64,
    /// Lines of the manifest.
    pub manifest: Vec<ManifestEntry>,
}

/// A payload file after the first pass.
struct Measured<'a, 'b> {
    source: &'a PayloadSource<'b>,
    size: u64,
    sha256: Sha256Digest,
}

/// Writes an artifact to `out`, from where `out` stands. With `key` it is signed.
///
/// `progress` is told the bytes of payload that have been read since the last call; every payload
/// byte is read twice. The same input gives the same bytes, but for ECDSA implementations and
/// codecs of another version.
///
/// # Errors
/// [`Error::Specification`] when the format does not permit it, [`Error::Payload`] and
/// [`Error::Output`] from the files. What has been written by then is of no use.
pub fn write<W: Write + Seek>(
    spec: &ArtifactSpec,
    payload: &[PayloadSource<'_>],
    key: Option<&SigningKey>,
    mut out: W,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Error> {
    let measured = measure(spec, payload, progress)?;
    let start = out.stream_position().map_err(Error::Output)?;
    let manifest = write_front(spec, &measured, key, &mut out)?;
    write_data(spec, &measured, &mut out, progress)?;
    let output = |result: io::Result<()>| result.map_err(Error::Output);
    output(write_end(&mut out))?;
    output(out.flush())?;
    let bytes = out.stream_position().map_err(Error::Output)? - start;
    Ok(Written { bytes, manifest })
}

/// As [`write`], to an output that cannot seek, such as a connection. Writes the same bytes; the payload is
/// read and compressed once more, since the size of the compressed data stands before it.
///
/// # Errors
/// As [`write`].
pub fn write_streamed<W: Write>(
    spec: &ArtifactSpec,
    payload: &[PayloadSource<'_>],
    key: Option<&SigningKey>,
    out: W,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Error> {
    let measured = measure(spec, payload, progress)?;
    let mut sizer = Counting {
        out: io::sink(),
        bytes: 0,
    };
    write_content(spec, &measured, &mut sizer, progress)?;
    let mut out = Counting { out, bytes: 0 };
    let manifest = write_front(spec, &measured, key, &mut out)?;
    let name = data_name(spec);
    let entry = data_entry(spec, &name, sizer.bytes, archive_bytes(&measured)?);
    let output = |result: io::Result<()>| result.map_err(Error::Output);
    output(write_entry_header(&mut out, &entry))?;
    let before = out.bytes;
    write_content(spec, &measured, &mut out, progress)?;
    if out.bytes - before != sizer.bytes {
        return Err(Error::Output(io::Error::other(
            "compressing the same content twice gave different sizes",
        )));
    }
    output(out.write_all(&[0; BLOCK][..pad_bytes(sizer.bytes)]))?;
    output(write_end(&mut out))?;
    output(out.flush())?;
    Ok(Written {
        bytes: out.bytes,
        manifest,
    })
}

/// Counts what goes through.
struct Counting<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let count = self.out.write(content)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The first pass over the payload.
fn measure<'a, 'b>(
    spec: &ArtifactSpec,
    payload: &'a [PayloadSource<'b>],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Measured<'a, 'b>>, Error> {
    spec.check(payload)?;
    let mut measured = Vec::with_capacity(payload.len());
    for source in payload {
        let (size, sha256) = copy(source, &mut io::sink(), progress)?;
        measured.push(Measured {
            source,
            size,
            sha256,
        });
    }
    Ok(measured)
}

/// Writes all members before the data; returns the lines of the manifest.
fn write_front<W: Write>(
    spec: &ArtifactSpec,
    measured: &[Measured<'_, '_>],
    key: Option<&SigningKey>,
    out: &mut W,
) -> Result<Vec<ManifestEntry>, Error> {
    let header = header_member(spec, measured)?;
    let header_name = format!("header.tar{}", spec.compression.compression.suffix());
    let mut manifest: Vec<ManifestEntry> = measured
        .iter()
        .map(|file| ManifestEntry {
            name: format!("{DATA_PREFIX}{}", file.source.name),
            sha256: file.sha256,
        })
        .collect();
    manifest.push(ManifestEntry {
        name: header_name.clone(),
        sha256: Sha256Digest::of(&header),
    });
    manifest.push(ManifestEntry {
        name: "version".into(),
        sha256: Sha256Digest::of(VERSION_3),
    });
    let manifest_text: String = manifest
        .iter()
        .map(|entry| format!("{}  {}\n", entry.sha256, entry.name))
        .collect();
    let output = |result: io::Result<()>| result.map_err(Error::Output);
    output(write_small(out, "version", VERSION_3, 0))?;
    output(write_small(out, "manifest", manifest_text.as_bytes(), 0))?;
    if let Some(key) = key {
        let signature = signature::sign(key, manifest_text.as_bytes())?;
        output(write_small(out, "manifest.sig", signature.as_bytes(), 0))?;
    }
    output(write_small(out, &header_name, &header, spec.mtime_s))?;
    Ok(manifest)
}

fn data_name(spec: &ArtifactSpec) -> String {
    format!("data/0000.tar{}", spec.compression.compression.suffix())
}

/// The header of the data member. `content_bytes` is its size before compression.
fn data_entry<'a>(
    spec: &ArtifactSpec,
    name: &'a str,
    size: u64,
    content_bytes: u64,
) -> NewEntry<'a> {
    NewEntry {
        name,
        size,
        mode: 0o600,
        mtime_s: spec.mtime_s,
        // The codecs grow incompressible content by less than a thousandth.
        size_in_pax: content_bytes.saturating_add(content_bytes / 1000)
            > OCTAL_SIZE_MAX - 1024 * 1024,
    }
}

/// Writes the data member, then its size into its header.
fn write_data<W: Write + Seek>(
    spec: &ArtifactSpec,
    files: &[Measured<'_, '_>],
    out: &mut W,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let name = data_name(spec);
    let mut entry = data_entry(spec, &name, 0, archive_bytes(files)?);
    let header_at = out.stream_position().map_err(Error::Output)?;
    write_entry_header(out, &entry).map_err(Error::Output)?;
    let content_at = out.stream_position().map_err(Error::Output)?;
    write_content(spec, files, out, progress)?;
    let end = out.stream_position().map_err(Error::Output)?;
    entry.size = end - content_at;
    out.seek(SeekFrom::Start(header_at))
        .map_err(Error::Output)?;
    write_entry_header(out, &entry).map_err(Error::Output)?;
    out.seek(SeekFrom::Start(end)).map_err(Error::Output)?;
    out.write_all(&[0; BLOCK][..pad_bytes(entry.size)])
        .map_err(Error::Output)
}

/// Writes the data archive, compressed.
fn write_content<W: Write>(
    spec: &ArtifactSpec,
    files: &[Measured<'_, '_>],
    out: &mut W,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let content_bytes = archive_bytes(files)?;
    let mut encoder =
        Encoder::new(&mut *out, spec.compression, Some(content_bytes)).map_err(Error::Output)?;
    for file in files {
        write_entry_header(&mut encoder, &file.entry()).map_err(Error::Output)?;
        let (size, sha256) = copy(file.source, &mut encoder, progress)?;
        if (size, sha256) != (file.size, file.sha256) {
            return Err(Error::Payload {
                name: file.source.name.clone(),
                source: io::Error::other(
                    "the file changed while the artifact was being written; try again when it is complete",
                ),
            });
        }
        encoder
            .write_all(&[0; BLOCK][..pad_bytes(size)])
            .map_err(Error::Output)?;
    }
    write_end(&mut encoder).map_err(Error::Output)?;
    encoder.finish().map_err(Error::Output)?;
    Ok(())
}

/// Exact size of the data archive before compression.
fn archive_bytes(files: &[Measured<'_, '_>]) -> Result<u64, Error> {
    let mut total = 2 * BLOCK as u64;
    for file in files {
        let mut header = Vec::new();
        write_entry_header(&mut header, &file.entry()).map_err(Error::Output)?;
        total = total
            .saturating_add(header.len() as u64)
            .saturating_add(file.size)
            .saturating_add(pad_bytes(file.size) as u64);
    }
    Ok(total)
}

impl Measured<'_, '_> {
    fn entry(&self) -> NewEntry<'_> {
        NewEntry {
            name: &self.source.name,
            size: self.size,
            mode: self.source.mode,
            mtime_s: self.source.mtime_s,
            size_in_pax: false,
        }
    }
}

fn copy(
    source: &PayloadSource<'_>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<(u64, Sha256Digest), Error> {
    let failed = |error| Error::Payload {
        name: source.name.clone(),
        source: error,
    };
    let mut input = (source.open)().map_err(failed)?;
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut hasher = Sha256::new();
    let mut size = 0_u64;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok((size, Sha256Digest::finish(hasher))),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                out.write_all(&buffer[..count]).map_err(Error::Output)?;
                size += count as u64;
                progress(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// A member that is in memory.
pub(crate) fn write_small<W: Write>(
    out: &mut W,
    name: &str,
    content: &[u8],
    mtime_s: u64,
) -> io::Result<()> {
    write_member(out, name, content, 0o600, mtime_s)
}

fn write_member<W: Write>(
    out: &mut W,
    name: &str,
    content: &[u8],
    mode: u32,
    mtime_s: u64,
) -> io::Result<()> {
    let size = content.len() as u64;
    write_entry_header(
        out,
        &NewEntry {
            name,
            size,
            mode,
            mtime_s,
            size_in_pax: false,
        },
    )?;
    out.write_all(content)?;
    out.write_all(&[0; BLOCK][..pad_bytes(size)])
}

/// The header archive, compressed.
fn header_member(spec: &ArtifactSpec, files: &[Measured<'_, '_>]) -> Result<Vec<u8>, Error> {
    let type_info = spec.type_info(files.first().map(|file| file.sha256));
    let write = |out: &mut Vec<u8>| -> io::Result<()> {
        write_small(out, "header-info", &json::header_info(spec), 0)?;
        for script in &spec.scripts {
            write_member(
                out,
                &format!("scripts/{}", script.name),
                &script.content,
                0o755,
                spec.mtime_s,
            )?;
        }
        write_small(
            out,
            "headers/0000/type-info",
            &json::type_info(&type_info),
            0,
        )?;
        if let Some(meta_data) = json::meta_data(spec) {
            write_small(out, "headers/0000/meta-data", &meta_data, 0)?;
        }
        write_end(out)
    };
    let mut archive = Vec::new();
    write(&mut archive).map_err(Error::Output)?;
    let choice: CompressionChoice = spec.compression;
    let compress = || -> io::Result<Vec<u8>> {
        let mut encoder = Encoder::new(Vec::new(), choice, Some(archive.len() as u64))?;
        encoder.write_all(&archive)?;
        encoder.finish()
    };
    compress().map_err(Error::Output)
}
