//! Adding a signature to an artifact that exists.

use std::io::{self, Read, Write};

use crate::error::Error;
use crate::limits::{
    MANIFEST_BYTES_MAX, PAYLOAD_FILES_MAX, SIGNATURE_BYTES_MAX, VERSION_BYTES_MAX,
};
use crate::manifest::Manifest;
use crate::signature::{self, SigningKey};
use crate::source::{Bytes, Source};
use crate::tar::{self, BLOCK, NewEntry, pad_bytes, write_entry_header};
use crate::version;

/// Copies the artifact `input` to `out` with a signature over its manifest. All other members are
/// copied byte for byte; the payload is not verified: read the artifact first when it may be
/// damaged. Returns the bytes written.
///
/// # Errors
/// [`Error::Signing`] when it is signed already and `replace` is not set; otherwise as in reading
/// and writing.
pub fn sign<R: Read, W: Write>(
    input: R,
    mut out: W,
    key: &SigningKey,
    replace: bool,
) -> Result<u64, Error> {
    let mut source = Source::new(input);
    let place = "the artifact";
    let mut written = 0_u64;

    // The two members before the signature are parsed strictly and so have one possible encoding
    // of their content; their headers are copied as they are.
    let (version_raw, head) = member(&mut source, "version", VERSION_BYTES_MAX)?;
    version::parse(&version_raw, true)?;
    let (manifest_raw, manifest_head) = member(&mut source, "manifest", MANIFEST_BYTES_MAX)?;
    let manifest = Manifest::parse(&manifest_raw, PAYLOAD_FILES_MAX)?;
    manifest.check("version", &version_raw)?;
    for part in [&head, &manifest_head] {
        out.write_all(part).map_err(Error::Output)?;
        written += part.len() as u64;
    }

    let text = signature::sign(key, &manifest_raw)?;
    let mut block = Vec::with_capacity(4 * BLOCK);
    let entry = NewEntry {
        name: "manifest.sig",
        size: text.len() as u64,
        mode: 0o644,
        mtime_s: 0,
        size_in_pax: false,
    };
    write_entry_header(&mut block, &entry).map_err(Error::Output)?;
    block.extend_from_slice(text.as_bytes());
    block.resize(block.len() + pad_bytes(text.len() as u64), 0);
    out.write_all(&block).map_err(Error::Output)?;
    written += block.len() as u64;

    // What comes next is either an old signature or the rest.
    let have = source.ensure(BLOCK)?;
    if have < BLOCK {
        return Err(source.truncated(place));
    }
    if source.available().starts_with(b"manifest.sig\0") {
        if !replace {
            return Err(Error::Signing(
                "it is signed already; replace the signature with --force".into(),
            ));
        }
        member(&mut source, "manifest.sig", SIGNATURE_BYTES_MAX)?;
    }
    loop {
        if source.ensure(1)? == 0 {
            break;
        }
        let piece = source.available();
        out.write_all(piece).map_err(Error::Output)?;
        let count = piece.len();
        source.consume(count);
        written += count as u64;
    }
    out.flush().map_err(Error::Output)?;
    Ok(written)
}

/// Reads the next member, which must be `name`, and returns its content and all of its bytes.
fn member<R: Read>(
    source: &mut Source<R>,
    name: &str,
    limit: u64,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut copying = Copying {
        source,
        copy: Vec::new(),
    };
    let entry = match tar::next_entry(&mut copying, "the artifact")? {
        Some(entry) if entry.name == name => entry,
        Some(entry) => {
            return Err(Error::malformed(
                "the artifact",
                format!("the member {:?} is where {name} is expected", entry.name),
            ));
        }
        None => return Err(copying.source.truncated(name)),
    };
    let content = tar::read_file(&mut copying, &entry, limit, "the artifact")?;
    Ok((content, copying.copy))
}

/// Keeps what is consumed.
struct Copying<'a, R> {
    source: &'a mut Source<R>,
    copy: Vec<u8>,
}

impl<R: io::Read> Bytes for Copying<'_, R> {
    fn ensure(&mut self, want: usize) -> Result<usize, Error> {
        self.source.ensure(want)
    }

    fn available(&self) -> &[u8] {
        self.source.available()
    }

    fn consume(&mut self, count: usize) {
        self.copy
            .extend_from_slice(&self.source.available()[..count]);
        self.source.consume(count);
    }

    fn truncated(&self, place: &str) -> Error {
        self.source.truncated(place)
    }
}
