//! What a copy does on this machine: the file that is sent, and what a received one becomes.

use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ambidex_wire::session::file;
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Set-id and sticky bits are only kept when asked for.
pub const PERMISSIONS: u32 = 0o777;
pub const ALL_PERMISSIONS: u32 = 0o7777;
const BLOCK_BYTES: usize = 128 << 10;
/// The beginning of a file that it is known by.
const KEY_BYTES: u64 = 64 << 10;

/// What a file is known by that is sent in several tries: its beginning, its size and its time of change. Not by
/// the whole content, which would have to be read before anything is sent; that is compared in the end.
pub fn key(file: &mut File, meta: &Metadata) -> anyhow::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut digest, _) = hashed(file, KEY_BYTES).context("cannot read the file")?;
    let known_by = format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec());
    digest.update(known_by);
    Ok(hex::encode(digest.finalize()))
}

/// Reads on in a file, at most `bytes`; what was read, as a hash and a number.
pub fn hashed(file: &mut File, bytes: u64) -> io::Result<(Sha256, u64)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut input = file.take(bytes);
    let mut total = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok((digest, total)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..count]);
        total += count as u64;
    }
}

/// Reads from the disk what was written.
pub fn written(file: &mut File) -> anyhow::Result<String> {
    file.sync_all().context("cannot write the file")?;
    file.seek(SeekFrom::Start(0))?;
    let (digest, _) = hashed(file, u64::MAX).context("cannot read the file back")?;
    Ok(hex::encode(digest.finalize()))
}

/// Whether this is standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Gives a downloaded file what it has on the device.
pub fn dress(target: &File, info: &file::FileInfo, all: bool) -> anyhow::Result<()> {
    if all {
        if info.uid.is_some() || info.gid.is_some() {
            fchown(target, info.uid, info.gid)
                .context("cannot keep the owner; without -p it becomes yours")?;
        }
        if let Some(time) = info.modtime.and_then(moment) {
            target
                .set_times(FileTimes::new().set_modified(time))
                .context("cannot keep the time of change")?;
        }
    }
    // After the owner: changing that clears set-id bits.
    if let Some(mode) = info.mode {
        let kept = if all { ALL_PERMISSIONS } else { PERMISSIONS };
        let mode = file::unix_permissions(mode) & kept;
        target
            .set_permissions(Permissions::from_mode(mode))
            .context("cannot set the permissions of the new file")?;
    }
    Ok(())
}

fn moment(time: file::Timestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, time.nanos))
}
