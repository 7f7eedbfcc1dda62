//! The archive that `backup` writes and `restore` reads.
//!
//! A tar file compressed with zstd: what it is, the database, the keys, the artifacts that the database names, and
//! at last the size and checksum of each of them. An archive without its last entry is incomplete and refused.
//!
//! The database is one moment of it, taken while the server goes on writing; artifacts never change, so that those
//! which the moment names are what belongs to it. (One that is deleted in between makes the backup start again.)

mod progress;
mod read;
mod stage;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use progress::size;
pub(crate) use read::verify;
pub(crate) use stage::{Stage, is_empty};
pub(crate) use write::{Source, write};

/// The first entry.
const ABOUT: &str = "ambidex-backup.json";
/// The database, as one file.
const DATABASE: &str = "server.db";
/// Directory of the signing keys and secrets.
const KEYS: &str = "keys";
/// Directory of the artifacts, each under its key.
const ARTIFACTS: &str = "artifacts";
/// The last entry.
const CHECKSUMS: &str = "checksums.json";
/// The form of the archive. A reader refuses a higher one.
const FORMAT: u32 = 1;

/// What an archive is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    format: u32,
    /// Version of the program that wrote it.
    pub(crate) version: String,
    /// RFC 3339.
    pub(crate) created: String,
}

/// Size and checksum of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checksum {
    bytes: u64,
    sha256: String,
}

type Checksums = BTreeMap<String, Checksum>;

/// What was written or found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) database_bytes: u64,
    pub(crate) artifacts: u64,
    pub(crate) artifact_bytes: u64,
}

impl Totals {
    fn count(&mut self, path: &str, bytes: u64) {
        if path == DATABASE {
            self.database_bytes += bytes;
        } else if path.starts_with("artifacts/") {
            self.artifacts += 1;
            self.artifact_bytes += bytes;
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a database of {}, keys, {} artifacts of {}",
            size(self.database_bytes),
            self.artifacts,
            size(self.artifact_bytes)
        )
    }
}
