//! Unfinished files: recorded before they exist, so that none stays for good, whatever happens.
//!
//! There are two kinds. One that nobody will finish has a name by chance and is removed at once, or after a
//! power cut at the next start. One that may be continued has a name by which the next try finds it; its
//! record lives until a moment that is the record's time of change.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ambidex_platform::confined::Folder;
use ambidex_platform::fs::{self, FsError};
use ambidex_wire::session::file as wire;

use super::claims::Claims;
use super::digest::Digest;

/// Below the agent's own directory.
const FOLDER: &str = "uploads";
/// Begins the name of every unfinished file: hidden, and known to be ours.
const PREFIX: &str = ".ambidex-upload-";
/// The same for files that may be continued.
const KEPT_PREFIX: &str = ".ambidex-resume-";
/// A path is never longer.
const RECORD_BYTES_MAX: u64 = 8192;
/// Digits of the hash in a name.
const NAME_DIGITS: usize = 32;
/// Files that wait to be continued; the one that would go first gives way to another one.
const KEPT_MAX: usize = 4;

/// A name for an unfinished file, which nobody can foresee.
pub(super) fn name() -> OsString {
    format!("{PREFIX}{:016x}", rand::random::<u64>()).into()
}

/// The name of an unfinished file that may be continued: always the same for the same content on its way to
/// the same place.
pub(super) fn kept_name(folder: &Path, target: &OsStr, size: u64, key: &str) -> OsString {
    let mut digest = Digest::default();
    for part in [folder.as_os_str().as_bytes(), target.as_bytes()] {
        digest.update(part);
        digest.update(&[0]);
    }
    digest.update(format!("{size} {key}").as_bytes());
    let mut name = digest.hex();
    name.truncate(NAME_DIGITS);
    format!("{KEPT_PREFIX}{name}").into()
}

/// The record of one unfinished file.
#[derive(Debug)]
pub(super) struct Record(PathBuf);

impl Record {
    /// Writes that `folder` is about to hold the unfinished file `name`.
    pub(super) fn write(state: &Path, folder: &Path, name: &OsStr) -> Result<Record, FsError> {
        let records = state.join(FOLDER);
        fs::create_dir(&records, 0o700)?;
        let record = records.join(name);
        fs::write_durable(&record, folder.as_os_str().as_bytes(), 0o600)?;
        Ok(Record(record))
    }

    /// The file may be continued for so long from now.
    pub(super) fn keep(&self, time: Duration) -> std::io::Result<()> {
        let file = File::options().write(true).open(&self.0)?;
        file.set_modified(SystemTime::now() + time)?;
        file.sync_all()
    }

    /// The file is gone, or complete.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_tree(&self.0) {
            log::debug!("{error}");
        }
    }
}

/// Which of the files that may be continued are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// Those whose time is over.
    Old,
    /// These too until one fits in.
    Crowded,
    /// All of them: the room is needed.
    All,
}

/// A file that may be continued, and until when.
struct Kept {
    record: PathBuf,
    name: OsString,
    left: Duration,
}

/// Removes every recorded file that nobody can continue. At a start, when nothing is being written.
pub(crate) fn remove(state: &Path) {
    let Ok(entries) = std::fs::read_dir(state.join(FOLDER)) else {
        // nothing was ever recorded
        return;
    };
    for record in entries.filter_map(Result::ok) {
        let name = record.file_name();
        if begins(&name, PREFIX) {
            discard(&record.path(), &name);
        } else if !begins(&name, KEPT_PREFIX) {
            log::debug!("'{}' is no record of ours", record.path().display());
            forget(&record.path());
        }
    }
    sweep(state, &Claims::default(), Sweep::Old);
}

/// Removes files that may be continued and that nobody is at work on. How long the first of those that stay may be
/// continued; `None` when there is none.
pub(super) fn sweep(state: &Path, claims: &Claims, which: Sweep) -> Option<Duration> {
    let entries = std::fs::read_dir(state.join(FOLDER)).ok()?;
    let now = SystemTime::now();
    let mut kept: Vec<Kept> = entries
        .filter_map(Result::ok)
        .filter(|record| begins(&record.file_name(), KEPT_PREFIX))
        .filter(|record| !claims.contains(&record.file_name()))
        .map(|record| Kept {
            record: record.path(),
            name: record.file_name(),
            left: left(&record, now),
        })
        .collect();
    kept.sort_by_key(|kept| kept.left);
    let surplus = match which {
        Sweep::Old => 0,
        Sweep::Crowded => (kept.len() + 1).saturating_sub(KEPT_MAX),
        Sweep::All => kept.len(),
    };
    let mut first = None;
    for (number, kept) in kept.iter().enumerate() {
        if number < surplus || kept.left.is_zero() {
            discard(&kept.record, &kept.name);
        } else if first.is_none() {
            first = Some(kept.left);
        }
    }
    first
}

/// For how long a file may still be continued. A clock that was set meanwhile ends it rather than to make
/// it live for ever.
fn left(record: &std::fs::DirEntry, now: SystemTime) -> Duration {
    let until = record.metadata().and_then(|found| found.modified());
    until
        .ok()
        .and_then(|until| until.duration_since(now).ok())
        .filter(|left| left.as_secs() <= wire::KEEP_SECONDS_MAX)
        .unwrap_or_default()
}

fn begins(name: &OsStr, prefix: &str) -> bool {
    name.as_bytes().starts_with(prefix.as_bytes())
}

/// Removes a file and its record.
fn discard(record: &Path, name: &OsStr) {
    let removed = fs::read_bounded(record, RECORD_BYTES_MAX)
        .map_err(|error| error.to_string())
        .and_then(|folder| {
            let folder = Path::new(OsStr::from_bytes(&folder)).to_owned();
            Folder::open(&folder)
                .and_then(|open| open.remove(name))
                // the directory itself may be gone
                .map_err(|error| format!("'{}': {error}", folder.display()))
                .map(|()| folder)
        });
    match removed {
        Ok(folder) => log::info!("an unfinished upload in '{}' was removed", folder.display()),
        Err(error) => log::debug!("{error}"),
    }
    forget(record);
}

fn forget(record: &Path) {
    if let Err(error) = fs::remove_tree(record) {
        log::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("target")).unwrap();
            Place { dir }
        }

        fn state(&self) -> PathBuf {
            self.dir.path().join("state")
        }

        fn target(&self) -> PathBuf {
            self.dir.path().join("target")
        }

        fn file(&self, name: &OsStr) -> Record {
            std::fs::write(self.target().join(name), "half").unwrap();
            Record::write(&self.state(), &self.target(), name).unwrap()
        }

        fn kept(&self, number: u8, seconds: u64) -> OsString {
            let name = kept_name(&self.target(), OsStr::new("f"), u64::from(number), "");
            let record = self.file(&name);
            record.keep(Duration::from_secs(seconds)).unwrap();
            name
        }

        fn files(&self) -> usize {
            let records = std::fs::read_dir(self.state().join(FOLDER)).unwrap();
            let files = std::fs::read_dir(self.target()).unwrap().count();
            assert_eq!(records.count(), files);
            files
        }
    }

    #[test]
    fn recorded_files_are_removed_and_nothing_else() {
        let place = Place::new();
        let (state, target) = (place.state(), place.target());
        let name = name();
        std::fs::write(target.join("kept"), "x").unwrap();
        place.file(&name);
        // a record that names somebody else's file removes nothing
        std::fs::write(
            state.join(FOLDER).join("kept"),
            target.as_os_str().as_bytes(),
        )
        .unwrap();
        Record::write(&state, &place.dir.path().join("gone"), &super::name()).unwrap();
        let waits = place.kept(1, 600);
        let late = place.kept(2, 0);
        remove(&state);
        for (name, there) in [
            (OsStr::new("kept"), true),
            (&name, false),
            (&waits, true),
            (&late, false),
        ] {
            assert_eq!(target.join(name).exists(), there, "{name:?}");
        }
        assert_eq!(std::fs::read_dir(state.join(FOLDER)).unwrap().count(), 1);
        remove(&place.dir.path().join("never"));
    }

    #[test]
    fn few_files_wait_and_none_for_ever() {
        let place = Place::new();
        let claims = Claims::default();
        let soon = place.kept(0, 100);
        let busy = place.kept(1, 50);
        let claim = claims.take(&busy).unwrap();
        for number in 2..=4 {
            place.kept(number, 1000);
        }
        place.kept(5, 2 * wire::KEEP_SECONDS_MAX);
        sweep(&place.state(), &claims, Sweep::Old);
        assert_eq!(place.files(), 5, "the one of a clock that was set is gone");
        sweep(&place.state(), &claims, Sweep::Crowded);
        assert_eq!(place.files(), 4);
        assert!(!place.target().join(&soon).exists());
        sweep(&place.state(), &claims, Sweep::All);
        assert_eq!(place.files(), 1);
        assert!(place.target().join(&busy).exists());
        drop(claim);
        sweep(&place.state(), &claims, Sweep::All);
        assert_eq!(place.files(), 0);
    }

    #[test]
    fn names_tell_apart_what_is_not_the_same() {
        let name = |folder: &str, target: &str, size, key| {
            kept_name(Path::new(folder), OsStr::new(target), size, key)
        };
        let first = name("/a", "f", 1, "x");
        assert_eq!(first, name("/a", "f", 1, "x"));
        for other in [
            name("/b", "f", 1, "x"),
            name("/a", "g", 1, "x"),
            name("/a", "f", 2, "x"),
            name("/a", "f", 1, "y"),
        ] {
            assert_ne!(first, other);
        }
    }
}
