//! Reading an artifact from start to end, once, without holding a payload.

mod members;
mod payload_file;

pub use payload_file::PayloadFile;

use std::io::Read;

use sha2::{Digest as _, Sha256};

use crate::codec::{Compression, Decoded};
use crate::digest::Sha256Digest;
use crate::error::{Error, check_limit};
use crate::header::{self, Header, StoredHeader};
use crate::limits::{CHUNK_BYTES, Limits, SIGNATURE_BYTES_MAX, VERSION_BYTES_MAX};
use crate::manifest::Manifest;
use crate::signature::{self, Verification};
use crate::source::{Bytes as _, Source, clamp};
use crate::tar::{self, Entry};
use crate::{names, version};
use members::Members;

/// What a reader takes.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// What to do about signatures.
    pub verify: Verification,
    /// Whether to take format version 2. Devices of today do not.
    pub accept_v2: bool,
    /// Whether to take augmented artifacts, whose second manifest no signature covers. Never on a
    /// device.
    pub accept_augmented: bool,
    /// How much an artifact may ask for.
    pub limits: Limits,
}

impl ReadOptions {
    /// For a device: version 3 only, nothing augmented.
    #[must_use]
    pub fn device(verify: Verification) -> Self {
        Self {
            verify,
            accept_v2: false,
            accept_augmented: false,
            limits: Limits::default(),
        }
    }

    /// For a server or a tool, which store and show whatever is valid.
    #[must_use]
    pub fn inspect(verify: Verification) -> Self {
        Self {
            verify,
            accept_v2: true,
            accept_augmented: true,
            limits: Limits::default(),
        }
    }
}

/// A payload file that has been read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSummary {
    /// Bare file name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the content, equal to the manifest's.
    pub sha256: Sha256Digest,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Permission bits.
    pub mode: u32,
}

/// What there is to say at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the artifact, to its end.
    pub bytes_read: u64,
    /// The payload files in the order of the archive.
    pub files: Vec<FileSummary>,
    /// Compression of the data member.
    pub compression: Compression,
}

/// Reads an artifact.
///
/// [`Reader::open`] returns when everything up to the payload has been verified. After an error the
/// reader only returns [`Error::Failed`].
pub struct Reader<R: Read> {
    header: Header,
    limits: Limits,
    stage: Stage<R>,
    current: Option<Current>,
    seen: Vec<bool>,
    files: Vec<FileSummary>,
    compression: Compression,
}

enum Stage<R: Read> {
    /// Before the data member.
    BeforeData(Source<R>),
    /// Inside it.
    Data(Box<Decoded<R>>),
    /// After it.
    AfterData(Source<R>),
    /// An error has been returned, or everything was read.
    Over,
}

impl<R: Read> std::fmt::Debug for Stage<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BeforeData(_) => "BeforeData",
            Self::Data(_) => "Data",
            Self::AfterData(_) => "AfterData",
            Self::Over => "Over",
        })
    }
}

impl<R: Read> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.header.name)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// The payload file being read.
struct Current {
    entry: Entry,
    /// Index in the header's list.
    index: usize,
    /// `None` once the digest has been checked.
    hasher: Option<Sha256>,
    /// Bytes that have not been handed out.
    rest: u64,
    /// Bytes handed out and still in the buffer.
    lent: usize,
    /// Of these, how many the caller has taken.
    taken: usize,
}

impl<R: Read> Reader<R> {
    /// Reads and verifies everything before the payload: version, manifest, signature, header.
    ///
    /// # Errors
    /// Any [`Error`]. With [`Verification::Require`] an unsigned or wrongly signed artifact is
    /// refused before its header is looked at.
    pub fn open(input: R, options: &ReadOptions) -> Result<Self, Error> {
        let limits = options.limits;
        let mut members = Members::new(Source::new(input));
        members.begin()?;

        let version_raw = members.read("version", VERSION_BYTES_MAX)?;
        let version = version::parse(&version_raw, options.accept_v2)?;
        let manifest_raw = members.read("manifest", limits.manifest_bytes_max)?;
        let signature = members.read_if("manifest.sig", SIGNATURE_BYTES_MAX)?;
        let state = signature::check(&options.verify, &manifest_raw, signature.as_deref())?;
        let manifest = Manifest::parse(&manifest_raw, limits.payload_files_max)?;
        manifest.check("version", &version_raw)?;

        let augment_raw = members.read_if("manifest-augment", limits.manifest_bytes_max)?;
        if augment_raw.is_some() && (version != 3 || !options.accept_augmented) {
            return Err(Error::Unsupported(
                "unsupported feature: the artifact is augmented, and its second manifest is not covered by the \
                 signature; write an artifact without augmentation"
                    .into(),
            ));
        }
        let manifest_augment = augment_raw
            .map(|raw| Manifest::parse_augment(&raw, limits.payload_files_max))
            .transpose()?;

        let (name, compression, bytes) = members.read_header(&manifest, &limits)?;
        let augment = match &manifest_augment {
            Some(manifest) => Some(members.read_header(manifest, &limits)?),
            None => None,
        };
        let context = header::Context {
            version,
            manifest: &manifest,
            manifest_augment: manifest_augment.as_ref(),
            signed: signature.is_some(),
            signature: state,
            limits: &limits,
        };
        let augment = augment
            .as_ref()
            .map(|(name, compression, bytes)| StoredHeader {
                name,
                compression: *compression,
                bytes,
            });
        let header = header::unpack(
            context,
            &StoredHeader {
                name: &name,
                compression,
                bytes: &bytes,
            },
            augment.as_ref(),
        )?;
        let seen = vec![false; header.files.len()];
        Ok(Self {
            header,
            limits,
            stage: Stage::BeforeData(members.source),
            current: None,
            seen,
            files: Vec::new(),
            compression,
        })
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Goes to the next payload file; `None` after the last, when the data member has been read to
    /// its end and every file of the manifest has been met. A file that was not read to its end is
    /// read and verified first.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn next_file(&mut self) -> Result<Option<PayloadFile<'_, R>>, Error> {
        match self.find_file() {
            Ok(true) => Ok(Some(PayloadFile { reader: self })),
            Ok(false) => Ok(None),
            Err(error) => {
                self.stage = Stage::Over;
                Err(error)
            }
        }
    }

    /// Reads and verifies the rest of the artifact.
    ///
    /// # Errors
    /// Any [`Error`]; among them data after the end.
    pub fn finish(mut self) -> Result<Summary, Error> {
        while self.next_file()?.is_some() {}
        let Stage::AfterData(mut source) = self.stage else {
            return Err(Error::Failed);
        };
        match tar::next_entry(&mut source, "the artifact")? {
            None => {}
            Some(entry) => {
                return Err(Error::malformed(
                    "the artifact",
                    format!(
                        "the member {:?} comes after the data, where nothing is expected",
                        entry.name
                    ),
                ));
            }
        }
        tar::expect_only_zeros(&mut source, "the artifact")?;
        Ok(Summary {
            bytes_read: source.position(),
            files: self.files,
            compression: self.compression,
        })
    }

    fn find_file(&mut self) -> Result<bool, Error> {
        while self.current.is_some() && self.advance()? > 0 {}
        self.current = None;
        if let Stage::BeforeData(_) = self.stage {
            self.open_data()?;
        }
        let archive = match &mut self.stage {
            Stage::Data(archive) => archive,
            Stage::AfterData(_) => return Ok(false),
            Stage::BeforeData(_) | Stage::Over => return Err(Error::Failed),
        };
        let Some(entry) = tar::next_entry(&mut **archive, "data/0000.tar")? else {
            self.close_data()?;
            return Ok(false);
        };
        let bad = |problem: String| Error::malformed("data/0000.tar", problem);
        names::check_payload_name(&entry.name).map_err(bad)?;
        let index = self
            .header
            .files
            .iter()
            .position(|file| file.name == entry.name)
            .ok_or_else(|| {
                bad(format!(
                    "the file {:?} is not listed in the manifest",
                    entry.name
                ))
            })?;
        if std::mem::replace(&mut self.seen[index], true) {
            return Err(bad(format!("the file {:?} is there twice", entry.name)));
        }
        check_limit(
            &format!("the size in bytes of the payload file {:?}", entry.name),
            entry.size,
            self.limits.payload_file_bytes_max,
        )?;
        let rest = entry.size;
        self.current = Some(Current {
            entry,
            index,
            hasher: Some(Sha256::new()),
            rest,
            lent: 0,
            taken: 0,
        });
        Ok(true)
    }

    fn open_data(&mut self) -> Result<(), Error> {
        let Stage::BeforeData(source) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(Error::Failed);
        };
        let mut members = Members::new(source);
        let entry = members.take()?.ok_or_else(|| {
            members
                .source
                .truncated("data/0000.tar, which every artifact has")
        })?;
        let compression = Compression::of_member(&entry.name, "data/0000").ok_or_else(|| {
            Error::malformed(
                "the artifact",
                format!(
                    "the member {:?} is where data/0000.tar is expected",
                    entry.name
                ),
            )
        })?;
        self.compression = compression;
        let archive = Decoded::new(
            members.source,
            entry.size,
            &entry.name,
            compression,
            &self.limits,
        )?;
        self.stage = Stage::Data(Box::new(archive));
        Ok(())
    }

    /// After the last entry: reads the data member to its end and checks that nothing is missing.
    fn close_data(&mut self) -> Result<(), Error> {
        let Stage::Data(mut archive) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(Error::Failed);
        };
        tar::expect_only_zeros(&mut *archive, "data/0000.tar")?;
        let stored_bytes = archive.stored_bytes();
        let mut source = archive.into_source()?;
        tar::skip_padding(&mut source, stored_bytes, "the artifact")?;
        if let Some(missing) = self.seen.iter().position(|seen| !seen) {
            return Err(Error::malformed(
                "data/0000.tar",
                format!(
                    "the file {:?} is in the manifest and not in the archive",
                    self.header.files[missing].name
                ),
            ));
        }
        self.stage = Stage::AfterData(source);
        Ok(())
    }

    /// Lends the next chunk of the current file and returns its length; 0 once the file has been
    /// verified.
    fn advance(&mut self) -> Result<usize, Error> {
        let (Some(current), Stage::Data(archive)) = (&mut self.current, &mut self.stage) else {
            return Err(Error::Failed);
        };
        let Some(hasher) = &mut current.hasher else {
            return Ok(0);
        };
        archive.consume(current.lent);
        current.lent = 0;
        current.taken = 0;
        if current.rest > 0 {
            let want = clamp(current.rest, CHUNK_BYTES);
            let have = archive.ensure(want)?;
            if have < want {
                return Err(archive.truncated(&current.entry.name));
            }
            hasher.update(&archive.available()[..want]);
            current.rest -= want as u64;
            current.lent = want;
            return Ok(want);
        }
        let actual = current
            .hasher
            .take()
            .map(Sha256Digest::finish)
            .ok_or(Error::Failed)?;
        let expected = self.header.files[current.index].sha256;
        if actual != expected {
            return Err(Error::Checksum {
                place: format!("data/0000/{}", current.entry.name),
                expected,
                actual,
            });
        }
        tar::skip_padding(&mut **archive, current.entry.size, "data/0000.tar")?;
        self.files.push(FileSummary {
            name: current.entry.name.clone(),
            size: current.entry.size,
            sha256: actual,
            mtime: current.entry.mtime_s,
            mode: current.entry.mode,
        });
        Ok(0)
    }

    /// Like `advance`, but first what a partial `read` left over.
    fn lend(&mut self) -> Result<usize, Error> {
        if let Some(current) = &self.current
            && current.taken < current.lent
        {
            return Ok(current.lent - current.taken);
        }
        self.advance().inspect_err(|_| self.stage = Stage::Over)
    }

    /// The bytes that `lend` spoke of.
    fn lent(&self) -> &[u8] {
        match (&self.current, &self.stage) {
            (Some(current), Stage::Data(archive)) => {
                &archive.available()[current.taken..current.lent]
            }
            _ => &[],
        }
    }
}
