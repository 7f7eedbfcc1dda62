//! Reader and writer of the artifact container, format version 3 (version 2 is read only).
//!
//! [`Reader`] pulls an artifact from any [`std::io::Read`] and verifies while it streams: nothing
//! of the payload is kept. [`write()`] makes an artifact, [`sign`] adds a signature to one, and
//! [`provides`] holds the rules of what an artifact needs from a device and changes on it.
//!
//! This crate opens no file, reads no clock and talks to no network. What it does not do: key
//! stores outside of PEM files, writing of version 2 and of augmented artifacts.
//!
//! # Strictness
//! A reader accepts what the reference tool writes, and refuses everything that could mean two
//! things to two readers: members out of order, links, names that leave a directory, files not
//! listed or listed and missing, unknown keys where the reference server refuses them, data after
//! the end. Where implementations differ, `docs/decisions/0003-artifact-strictness.md` says what
//! was chosen.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod codec;
mod digest;
mod error;
mod header;
pub mod limits;
mod manifest;
pub mod names;
pub mod provides;
mod reader;
mod sign;
mod signature;
mod source;
mod tar;
mod version;
mod writer;

pub use codec::{Compression, CompressionChoice, UnknownCompression};
pub use digest::{DigestTextError, Sha256Digest};
pub use error::{Error, ErrorKind};
pub use header::{Augment, ExpectedFile, Header, Payload, ROOTFS_IMAGE, Script};
pub use limits::{CHUNK_BYTES, Limits};
pub use manifest::ManifestEntry;
pub use reader::{FileSummary, PayloadFile, ReadOptions, Reader, Summary};
pub use sign::sign;
pub use signature::{KeyError, SignatureState, SigningKey, Verification, VerifyKey};
pub use writer::{
    ArtifactSpec, Open, PayloadSource, SoftwareVersion, Written, rootfs_checksum_key, write,
    write_streamed,
};
