//! The file of an upload until it is complete.
//!
//! It lies beside its target under a hidden name, readable by the agent alone, and gets owner, permissions
//! and its name only when everything is on the disk. Every other end removes it, unless its sender wants to
//! continue and has only lost the connection; then it waits, for a limited time.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambidex_platform::confined::{self, Folder};
use ambidex_platform::fs;
use ambidex_wire::session::{Props, file as wire};

use super::FileError;
use super::claims::Claim;
use super::digest::{self, Digest};
use super::leftovers::{self, Record, Sweep};
use super::limits::Target;
use crate::Shared;

/// Where nothing else is asked for: as long as a command line tries by itself.
const KEEP_SECONDS: u64 = 600;

/// What a sender tells of content that it may send in several tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    size: u64,
    key: String,
    keep: Duration,
}

impl Announced {
    /// `None` where the sender knows nothing of that.
    pub(super) fn of(put: &wire::PutFile, props: &Props) -> Option<Announced> {
        let key = props
            .text(wire::RESUME_KEY)
            .filter(|text| digest::is_hex(text));
        let keep = props.int(wire::KEEP_SECONDS).map(u64::try_from);
        let keep = keep.and_then(Result::ok).unwrap_or(KEEP_SECONDS);
        Some(Announced {
            size: put.size?,
            key: key?.to_owned(),
            keep: Duration::from_secs(keep.min(wire::KEEP_SECONDS_MAX)),
        })
    }
}

/// What becomes of the file when it is dropped.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Removed,
    Kept,
    Complete,
}

/// The file while it is not complete.
pub(super) struct Unfinished<'a> {
    folder: Folder,
    /// Where that is.
    pub(super) place: PathBuf,
    name: OsString,
    pub(super) file: File,
    record: Option<Record>,
    /// Only where it may be continued.
    pub(super) resumable: Option<Resumable<'a>>,
    fate: Fate,
}

/// What is needed to continue.
pub(super) struct Resumable<'a> {
    announced: Announced,
    pub(super) claim: Claim<'a>,
    /// Of what is in the file when it is opened.
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

impl<'a> Unfinished<'a> {
    /// Opens what an earlier try has left, or makes a new file.
    pub(super) fn open(
        shared: &'a Shared,
        target: Target,
        announced: Option<Announced>,
    ) -> Result<(Unfinished<'a>, Ending), FileError> {
        let Target {
            folder,
            name,
            mode,
            uid,
            gid,
        } = target;
        let place = folder
            .path()
            .map_err(|error| FileError(error.to_string()))?;
        let ending = Ending {
            name,
            mode,
            uid,
            gid,
        };
        let claimed = announced.and_then(|announced| {
            let name = leftovers::kept_name(&place, &ending.name, announced.size, &announced.key);
            // who is busy with the same content goes on; this one begins for itself
            shared
                .claims
                .take(&name)
                .map(|claim| (announced, claim, name))
        });
        let Some((announced, claim, name)) = claimed else {
            let name = leftovers::name();
            let (file, record) = create(shared, &folder, &place, &name)?;
            let unfinished = Unfinished {
                folder,
                place,
                name,
                file,
                record,
                resumable: None,
                fate: Fate::Removed,
            };
            return Ok((unfinished, ending));
        };
        let (file, record, digest, bytes) = match earlier(&folder, &name, announced.size) {
            Some((file, digest, bytes)) => {
                let record = record(shared, &place, &name);
                (file, record, digest, bytes)
            }
            None => {
                leftovers::sweep(&shared.settings.state, &shared.claims, Sweep::Crowded);
                // what has this name and is not ours is in the way
                folder
                    .remove(&name)
                    .map_err(|error| FileError::at("store a file in", &shown(&place), &error))?;
                let (file, record) = create(shared, &folder, &place, &name)?;
                (file, record, Digest::default(), 0)
            }
        };
        if let Some(record) = &record
            && let Err(error) = record.keep(announced.keep)
        {
            log::warn!("an unfinished upload cannot be kept: {error}");
        }
        let unfinished = Unfinished {
            folder,
            place,
            name,
            file,
            record,
            resumable: Some(Resumable {
                announced,
                claim,
                digest,
                bytes,
            }),
            fate: Fate::Removed,
        };
        Ok((unfinished, ending))
    }

    /// Bytes that are there already.
    pub(super) fn bytes(&self) -> u64 {
        self.resumable
            .as_ref()
            .map_or(0, |resumable| resumable.bytes)
    }

    /// The sender is gone and may come back. Only while it takes no more room than it leaves.
    pub(super) fn leave(mut self, written: u64) {
        let room = fs::free_bytes(&self.place).is_ok_and(|free| free >= written);
        let kept = match (&self.resumable, &self.record) {
            (Some(resumable), Some(record)) if written > 0 && room => {
                record.keep(resumable.announced.keep).is_ok()
            }
            _ => false,
        };
        if kept {
            self.fate = Fate::Kept;
        }
    }

    /// Everything is there: gives it what it is to have, last of all its name.
    pub(super) fn finish(mut self, ending: &Ending) -> std::io::Result<()> {
        // the owner first: changing it takes set-id bits away
        confined::set_owner(&self.file, ending.uid, ending.gid)?;
        self.file
            .set_permissions(Permissions::from_mode(ending.mode))?;
        self.file.sync_all()?;
        self.folder.rename(&self.name, &ending.name)?;
        self.fate = Fate::Complete;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let gone = match self.fate {
            Fate::Kept => false,
            Fate::Complete => true,
            Fate::Removed => self.folder.remove(&self.name).is_ok(),
        };
        if let Some(record) = self.record.take().filter(|_| gone) {
            record.remove();
        }
    }
}

/// What the file becomes.
pub(super) struct Ending {
    name: OsString,
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
}

fn shown(place: &Path) -> String {
    place.display().to_string()
}

fn record(shared: &Shared, place: &Path, name: &OsStr) -> Option<Record> {
    Record::write(&shared.settings.state, place, name)
        .inspect_err(|error| {
            log::warn!("{error}; after a power cut now, an unfinished file stays");
        })
        .ok()
}

fn create(
    shared: &Shared,
    folder: &Folder,
    place: &Path,
    name: &OsStr,
) -> Result<(File, Option<Record>), FileError> {
    let record = record(shared, place, name);
    match folder.create(name) {
        Ok(file) => Ok((file, record)),
        Err(error) => {
            if let Some(record) = record {
                record.remove();
            }
            Err(FileError::at("store a file in", &shown(place), &error))
        }
    }
}

/// The file of an earlier try with what is in it; whatever is wrong with it, a new one will do.
fn earlier(folder: &Folder, name: &OsStr, size: u64) -> Option<(File, Digest, u64)> {
    let mut file = folder.reopen(name).ok()??;
    let bytes = file.metadata().ok()?.len();
    if bytes > size {
        return None;
    }
    let digest = Digest::of(&file, bytes, || true).ok()??;
    file.seek(SeekFrom::Start(bytes)).ok()?;
    Some((file, digest, bytes))
}
